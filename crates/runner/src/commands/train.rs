//! `runner train`, the default command.

use super::flags::RunFlags;
use crate::base::console::message;
use crate::base::failure::{Failure, Outcome};
use crate::train::run_folder::StartMode;
use crate::train::run_spec::{RunSpec, check_task};
use crate::train::run_status::note_failure;
use crate::train::settings::{self, Sources};
use clap::Args;
use std::path::Path;

// The group makes these flags mean `train` when no command is given; clap leaves out the
// flags of flattened structs, so they are listed here.
#[derive(Args)]
#[group(multiple = true, args = ["env", "seed", "envs", "model", "resume", "restart", "steps",
        "threads", "config", "set", "name", "tensorboard", "show_every"])]
pub struct TrainArgs {
    /// Task, such as Ant-v4 or path/to/task.toml (default: that of --config RUN/config.toml).
    #[arg(long, value_name = "ID", required_unless_present = "config")]
    env: Option<String>,
    /// Master seed of every random stream of the run (default: that of --config RUN/config.toml).
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        required_unless_present = "config"
    )]
    seed: Option<u64>,
    /// Algorithm (default: that of --config RUN/config.toml, or smfp).
    #[arg(long)]
    algo: Option<String>,
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
    let spec = args.spec()?;
    let outcome = crate::train::run(&spec);
    // Not wrong usage: it says nothing about the run in the folder.
    if let Err(Failure::Failed(message)) = &outcome {
        note_failure(&spec, message);
    }
    outcome
}

impl TrainArgs {
    fn spec(&self) -> Outcome<RunSpec> {
        let recorded = self.flags.recorded(self.env.is_none())?;
        let algo = self.algo.clone().or(recorded.algo).unwrap_or_else(|| "smfp".into());
        let missing = |flag: &str| {
            let config = self.flags.config.as_deref().unwrap_or(Path::new(""));
            let why = match (config.is_dir(), config.exists()) {
                (true, _) => "is a folder, expected a run's config.toml in it",
                (_, false) => "does not exist",
                _ => "is not a run's config.toml",
            };
            Failure::Usage(format!("{flag} is missing, and --config {} {why}", config.display()))
        };
        let env = self.env.clone().or(recorded.env).ok_or_else(|| missing("--env"))?;
        let seed = self.seed.or(recorded.seed).ok_or_else(|| missing("--seed"))?;
        // The task comes first: which settings a preset has depends on it.
        check_task(&env)?;
        let (envs, show_every) = (self.envs, self.show_every);
        let sources = Sources { envs, show_every, ..self.flags.sources(&algo, &env) };
        let settings = settings::resolve(&sources)?;
        settings.idle.iter().for_each(|line| message(format!("warning: {line}")));
        if !settings.train.eval_modes.iter().any(|mode| mode == "deterministic") {
            message(
                "warning: train.eval_modes has no \"deterministic\", the mode that a report compares",
            );
        }
        let spec = RunSpec {
            model: self.flags.model(&env)?,
            start: match (self.resume, self.restart) {
                (true, _) => StartMode::Resume,
                (_, true) => StartMode::Restart,
                _ => StartMode::BeginOrResume,
            },
            ..self.flags.spec(&algo, &env, seed, settings)
        };
        spec.checked()
    }
}
