//! `runner trace`: replays actions from a file and writes what the task returns.

use crate::base::failure::{Failure, Outcome};
use clap::Args;
use std::fs;
use std::path::PathBuf;

#[derive(Args)]
pub struct TraceArgs {
    /// Task, such as Ant-v4 or path/to/task.toml.
    #[arg(long, value_name = "ID")]
    env: String,
    /// Seed of the first reset.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: u64,
    /// Actions: a .npy file of float32 of shape (T, act_dim), in the task's units.
    #[arg(long, value_name = "A.npy")]
    actions: PathBuf,
    /// Output: an .npz file with obs, reset_obs, reward, terminated, truncated.
    #[arg(long, value_name = "T.npz")]
    out: PathBuf,
    /// A MJCF file of your own instead of the task's.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// The command.
///
/// # Errors
/// An unknown task, actions of another shape, a file that can't be read or written.
pub fn trace(args: &TraceArgs) -> Outcome<()> {
    let mut env = match &args.model {
        Some(model) => envs::Env::make_with_model(&args.env, model)?,
        None => envs::Env::make(&args.env)?,
    };
    let actions = envs::trace::read_npy(&args.actions)?;
    // What is there may be the actions, a model, or anything else.
    if fs::symlink_metadata(&args.out).is_ok() {
        return Err(Failure::Usage(format!(
            "--out {}: exists; delete it or name another",
            args.out.display()
        )));
    }
    let trace = envs::trace::replay(&mut env, args.seed, actions.view())?;
    report::whole(&args.out, |file| envs::trace::write_npz(file, &trace))
        .map_err(|error| Failure::file(&args.out, "write", error))
}
