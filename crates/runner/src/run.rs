//! `runner run`: one run of a manifest, the primitive that schedulers need.

use crate::cli::RunArgs;
use crate::failure::Outcome;
use crate::{manifest, status, train};

/// The command. A finished run is none to train again, so that a scheduler may ask twice.
///
/// # Errors
/// A damaged line, a folder with other settings, a run that failed or was stopped.
pub fn run(args: &RunArgs) -> Outcome<()> {
    let mut request = manifest::read_one(&args.manifest, args.index)?;
    request.threads = args.threads.or(request.threads);
    if status::finished(&request)? {
        eprintln!("{}: finished before, in {}", request.label(), request.folder().display());
        return Ok(());
    }
    status::forget_failure(&request)?;
    let outcome = train::train_request(&request);
    if let Err(failure) = &outcome
        && failure.code() != 75
    {
        status::note_failure(&request, failure.message());
    }
    outcome
}
