//! `runner run`: one run of a manifest.

use crate::base::failure::{Failure, Outcome};
use crate::commands::cli::RunArgs;
use crate::sweep::manifest;
use crate::train::{self, run_status};

/// The command `run`, the primitive that schedulers need: to do what is done already is no
/// mistake.
///
/// # Errors
/// A damaged line, a folder with another run, a run that failed or was stopped.
pub fn run(args: &RunArgs) -> Outcome<()> {
    let mut request = manifest::read_one(&args.manifest, args.index)?;
    request.threads = args.threads.or(request.threads);
    run_status::forget_failure(&request)?;
    let outcome = train::train_request(&request);
    match &outcome {
        Ok(()) | Err(Failure::Stopped(_)) => {}
        Err(failure) => run_status::note_failure(&request, failure.message()),
    }
    outcome
}
