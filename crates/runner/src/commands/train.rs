//! `runner train`, the default command.

use crate::base::failure::Outcome;
use crate::commands::cli::TrainArgs;
use crate::train::run_spec::TrainRequest;
use crate::train::train_request;

/// The command `train`.
///
/// # Errors
/// Wrong input, a folder that can't be used, a diverged run.
pub fn train(args: &TrainArgs) -> Outcome<()> {
    train_request(&TrainRequest::resolve(args)?)
}
