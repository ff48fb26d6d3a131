//! `runner train`, the default command.

use super::flags::RunFlags;
use crate::base::console::message;
use crate::base::failure::Outcome;
use crate::train::run_folder::StartMode;
use crate::train::run_spec::{RunSpec, check_task};
use crate::train::settings::{self, Sources};
use clap::Args;

// The group makes these flags mean `train` when no command is given; clap leaves out the
// flags of flattened structs, so they are listed here.
#[derive(Args)]
#[group(multiple = true, args = ["env", "seed", "envs", "model", "resume", "restart", "steps",
        "threads", "config", "set", "name", "tensorboard", "show_every"])]
pub struct TrainArgs {
    /// Task, such as Ant-v4 or path/to/task.toml.
    #[arg(long, value_name = "ID")]
    env: String,
    /// Master seed of every random stream of the run.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: u64,
    /// Algorithm.
    #[arg(long, default_value = "smfp")]
    algo: String,
    #[command(flatten)]
    flags: RunFlags,
    /// Environments that step in parallel (short for --set train.envs=N).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    envs: Option<u64>,
    /// Keep the policy every N environment steps, for `runner show --over-training` (short for
    /// --set train.show_every=N).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    show_every: Option<u64>,
    /// Resume a stopped run, and refuse to begin one. Without it, the same command
    /// begins a run or resumes it, depending on what its folder holds.
    #[arg(long, conflicts_with = "restart")]
    resume: bool,
    /// Begin again where the folder holds a run; the old run is renamed to seed-N.old-K.
    #[arg(long)]
    restart: bool,
}

/// The command.
///
/// # Errors
/// Invalid flags (found before a folder is touched), or as [`crate::train::run`].
pub fn train(args: &TrainArgs) -> Outcome<()> {
    crate::train::run(&args.spec()?)
}

impl TrainArgs {
    fn spec(&self) -> Outcome<RunSpec> {
        // The task comes first: which settings a preset has depends on it.
        check_task(&self.env)?;
        let (envs, show_every) = (self.envs, self.show_every);
        let sources = Sources { envs, show_every, ..self.flags.sources(&self.algo, &self.env) };
        let settings = settings::resolve(&sources)?;
        settings.idle.iter().for_each(|line| message(format!("warning: {line}")));
        let spec = RunSpec {
            model: self.flags.model(&self.env)?,
            start: match (self.resume, self.restart) {
                (true, _) => StartMode::Resume,
                (_, true) => StartMode::Restart,
                _ => StartMode::BeginOrResume,
            },
            ..self.flags.spec(&self.algo, &self.env, self.seed, settings)
        };
        spec.checked()
    }
}
