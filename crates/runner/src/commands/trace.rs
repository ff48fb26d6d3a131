//! `runner trace`: actions from a file, and what the task does.

use crate::base::failure::Outcome;
use crate::commands::cli::TraceArgs;

/// The command `trace`.
///
/// # Errors
/// An unknown task, actions that do not fit, a file that can't be used.
pub fn trace(args: &TraceArgs) -> Outcome<()> {
    let mut env = match &args.model {
        Some(model) => envs::Env::make_with_model(&args.env, model)?,
        None => envs::Env::make(&args.env)?,
    };
    let actions = envs::trace::read_npy(&args.actions)?;
    let trace = envs::trace::replay(&mut env, args.seed, actions.view())?;
    envs::trace::write_npz(&args.out, &trace)?;
    Ok(())
}
