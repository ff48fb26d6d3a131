//! `runner eval`: evaluates a run's checkpoint on environments of its own.

use crate::base::console;
use crate::base::device;
use crate::base::failure::Outcome;
use crate::base::stop::Stop;
use crate::train::saved_run::SavedRun;
use agent::ActMode;
use clap::Args;
use report::EvalRow;
use std::path::PathBuf;

#[derive(Args)]
pub struct EvalArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Episodes.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    episodes: u64,
    /// Seed of the evaluation environments and of the policy's noise (default: those of the
    /// run's own evaluations).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Best of K candidates under the critics.
    #[arg(long, value_name = "K", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=1024),
          conflicts_with_all = ["stochastic", "mode"])]
    candidates: Option<u64>,
    /// Mode: deterministic (the default), mean (no noise at all: the latent is zero),
    /// stochastic or best-of-K.
    #[arg(long, conflicts_with = "stochastic")]
    mode: Option<ActMode>,
    /// With the noise of the policy's head: --mode stochastic.
    #[arg(long)]
    stochastic: bool,
    /// A model of your own instead of the run's: an MJCF file, or a run's model.mjb.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Device of the networks: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// The command: prints a header and a row of `eval.csv`'s schema.
///
/// # Errors
/// The folder holds no run, or its checkpoint can't be used.
pub fn eval(args: &EvalArgs) -> Outcome<()> {
    let run = SavedRun::open(&args.run, args.model.as_deref())?;
    let device = device::available(&args.device)?;
    device::use_threads(1);
    let mut evaluator = run.evaluator(args.episodes as usize, args.seed, device)?;
    let (agent, step) = run.agent(evaluator.spec(), device)?;
    let mode = match args.candidates {
        Some(k) => ActMode::BestOf(k as usize),
        None if args.stochastic => ActMode::Stochastic,
        None => args.mode.unwrap_or(ActMode::Deterministic),
    };
    let begun = std::time::Instant::now();
    let never = Stop::default();
    let found = evaluator.run(agent.as_ref(), mode, &never)?.expect("no stop is requested");
    if let Some(remark) = found.remark() {
        console::message(format!("warning: {remark}"));
    }
    let row =
        EvalRow::summarise(step, mode.to_string(), &found.episodes, begun.elapsed().as_secs_f64());
    console::rows(&[row])
}
