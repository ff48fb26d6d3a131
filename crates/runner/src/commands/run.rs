//! `runner run`: one run of a manifest.

use crate::base::failure::{Failure, Outcome};
use crate::sweep::manifest;
use crate::train::{self, run_status};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct RunArgs {
    /// Manifest that `runner plan` printed.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Line of the manifest, counted from 0.
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    index: usize,
    /// Threads, instead of those of the line.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// The command, which schedulers build on: a run that is already finished is no error.
///
/// # Errors
/// A damaged line, a folder with another run, a run that failed or was stopped.
pub fn run(args: &RunArgs) -> Outcome<()> {
    let mut spec = manifest::read_one(&args.manifest, args.index)?;
    spec.threads = args.threads.or(spec.threads);
    let outcome = train::run(&spec);
    match &outcome {
        Ok(()) | Err(Failure::Stopped(_)) => {}
        Err(failure) => run_status::note_failure(&spec, failure.message()),
    }
    outcome
}
