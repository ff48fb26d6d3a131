//! `runner eval`: evaluates a run's checkpoint on environments of its own.

use crate::base::console;
use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use crate::train::checkpoint::{self, Identity};
use crate::train::evaluator::{Evaluator, mode_name};
use crate::train::run_model::{Recorded, compiled};
use crate::train::{self, settings};
use agent::ActMode;
use clap::Args;
use report::EvalRow;
use std::path::PathBuf;
use toml_edit::DocumentMut;

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
          value_parser = clap::value_parser!(u64).range(1..=1024), conflicts_with = "stochastic")]
    candidates: Option<u64>,
    /// With the noise of the policy's head.
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
    let path = args.run.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::Usage(format!("{}: {error}; --run expects the folder of a run", path.display()))
    })?;
    let origin = path.display().to_string();
    let damaged = |what: &str| Failure::Usage(format!("{origin}: {what}"));
    let record: DocumentMut = text.parse().map_err(|_| damaged("not valid TOML"))?;
    let word = |key: &str| {
        let item = record.get("run").and_then(|run| run.get(key));
        item.and_then(|item| item.as_str()).ok_or_else(|| damaged(&format!("run.{key} is missing")))
    };
    let (algo, env) = (word("algo")?, word("env")?);
    let recorded = Recorded::of(&record);
    let model = match &args.model {
        None => recorded.find(&args.run)?,
        Some(model) => {
            let (_, sum) = compiled(env, Some(model))?;
            if recorded.sha256.is_some_and(|trained| trained != sum) {
                let other = "is not the model that the run was trained on";
                console::message(format!("warning: {} {other}", model.display()));
            }
            Some(model.clone())
        }
    };
    let number = |table: &str, key: &str| record.get(table)?.get(key)?.as_integer();
    let run_seed = number("run", "seed").ok_or_else(|| damaged("run.seed is missing"))? as u64;
    let settings = settings::of_run(algo, &record, &origin)?;

    let device = device::available(&args.device)?;
    device::use_threads(1);
    let seed = args.seed.unwrap_or(run_seed);
    let mut evaluator =
        Evaluator::new(env, model.as_deref(), args.episodes as usize, 1, seed, device)?;
    let spec = evaluator.spec().clone();
    let mut agent = train::make_agent(settings.algorithm.as_ref(), &spec, run_seed, device);
    let identity = Identity::new(algo, env, run_seed);
    let step = checkpoint::load_agent(&args.run, &identity, agent.as_mut())?;
    let mode = match args.candidates {
        Some(k) => ActMode::BestOf(k as usize),
        None if args.stochastic => ActMode::Stochastic,
        None => ActMode::Deterministic,
    };
    let begun = std::time::Instant::now();
    let never = Stop::default();
    let found = evaluator.run(agent.as_ref(), mode, &never)?.expect("no stop is requested");
    if let Some(remark) = found.remark() {
        console::message(format!("warning: {remark}"));
    }
    let row =
        EvalRow::summarise(step, mode_name(mode), &found.episodes, begun.elapsed().as_secs_f64());
    console::rows(&[row])
}
