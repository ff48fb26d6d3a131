//! The command line.

use crate::train::settings;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Train and evaluate off-policy agents on MuJoCo.
#[derive(Parser)]
#[command(name = "runner", version, about, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true, after_help = "Without a command, `train` is meant.")]
#[command(after_long_help = settings::help())]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: Option<TrainArgs>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train an agent (the default command).
    #[command(after_long_help = settings::help())]
    Train(TrainArgs),
    /// Evaluate a run's checkpoint; prints a CSV table.
    Eval(EvalArgs),
    /// Plan a sweep: prints a manifest, one resolved run a line.
    Plan(PlanArgs),
    /// Train one run of a manifest; does nothing if it is finished.
    Run(RunArgs),
    /// Train the runs of a manifest here, a process each, several at once.
    Sweep(SweepArgs),
    /// Say how far the runs of a manifest are.
    Status(StatusArgs),
    /// Show the runs below a folder as they go; without a terminal, print how far they are.
    Watch(WatchArgs),
    /// Submit the runs of a manifest to Slurm as an array job.
    Slurm(SlurmArgs),
    /// Replay actions from a file and write what the task answers.
    Trace(TraceArgs),
    /// Measure speed.
    #[command(subcommand, arg_required_else_help = false)]
    Bench(BenchCommand),
    /// Learn a toy with a known Q: what the policy can express, what an update reaches.
    Toy(ToyArgs),
    /// Compare runs: tables, figures, and a page that works offline.
    Report(ReportArgs),
    /// Show versions and paths of all that is needed, what is wrong, and the mend.
    Doctor,
}

/// Flags that one run and all runs of a plan have alike.
#[derive(Args)]
pub struct SharedArgs {
    /// Environment steps (short for --set train.steps=N).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// Where networks live: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of a run (default: as many as there are processors; in a sweep its share of
    /// them). They change the speed, and no number.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Preset of hyperparameters.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub preset: String,
    /// TOML file whose keys go over the preset's (a run's config.toml will do).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, such as objective.lambda=0.3; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub set: Vec<String>,
    /// Name of a variant, added to the algorithm's folder; a grid's values come after it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder for results.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// Write TensorBoard event files too (short for --set train.tensorboard=true).
    #[arg(long)]
    pub tensorboard: bool,
}

// The group says that `train` is meant; clap leaves it empty where others are flattened in.
#[derive(Args)]
#[group(multiple = true, args = ["env", "seed", "envs", "model", "resume", "restart", "steps",
        "threads", "config", "set", "name", "tensorboard"])]
pub struct TrainArgs {
    /// Task, such as Ant-v4.
    #[arg(long, value_name = "ID")]
    pub env: String,
    /// Master seed of every random stream of the run.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: u64,
    /// Algorithm.
    #[arg(long, default_value = "smfp")]
    pub algo: String,
    #[command(flatten)]
    pub shared: SharedArgs,
    /// Environments that step side by side (short for --set train.envs=N).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub envs: Option<u64>,
    /// A MJCF file of your own instead of the task's; its sizes must fit.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Go on with a stopped run, and refuse to begin one. Without it, the same command
    /// begins a run or goes on with it, as the folder says.
    #[arg(long, conflicts_with = "restart")]
    pub resume: bool,
    /// Begin anew where the folder holds a run; the old one is kept beside it.
    #[arg(long)]
    pub restart: bool,
}

#[derive(Args)]
pub struct EvalArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Episodes.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub episodes: u64,
    /// Seed of the evaluation environments and of the policy's noise; without
    /// it, those of the run's own evaluations.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Best of K candidates under the critics.
    #[arg(long, value_name = "K", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=1024), conflicts_with = "stochastic")]
    pub candidates: Option<u64>,
    /// With the head's noise.
    #[arg(long)]
    pub stochastic: bool,
    /// Where networks live: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

#[derive(Args)]
pub struct TraceArgs {
    /// Task, such as Ant-v4.
    #[arg(long, value_name = "ID")]
    pub env: String,
    /// Seed of the first reset.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: u64,
    /// Actions: a .npy file of float32 of shape (T, act_dim), in the task's units.
    #[arg(long, value_name = "A.npy")]
    pub actions: PathBuf,
    /// What to write: an .npz file with obs, reset_obs, reward, terminated, truncated.
    #[arg(long, value_name = "T.npz")]
    pub out: PathBuf,
    /// A MJCF file of your own instead of the task's.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Steps per second of a task, beside the limit: MuJoCo alone on the same steps.
    Env(BenchEnvArgs),
    /// Time of an update on a random batch of the task's sizes.
    Update(BenchAgentArgs),
    /// Time of an action at batch 1, as an algorithm explores.
    Act(BenchAgentArgs),
}

#[derive(Args)]
pub struct BenchAgentArgs {
    /// Task whose sizes are used.
    #[arg(long, value_name = "ID", default_value = "HalfCheetah-v4")]
    pub env: String,
    /// Algorithm, or all.
    #[arg(long, default_value = "all")]
    pub algo: String,
    /// Preset of hyperparameters.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub preset: String,
    /// Set one key, such as train.batch_size=64; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub set: Vec<String>,
    /// Where networks live: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Rounds, of which the median is printed.
    #[arg(long, value_name = "R", default_value_t = 5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Print JSON instead of lines.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ToyArgs {
    /// Toy: three-modes or two-bumps.
    #[arg(value_name = "NAME")]
    pub toy: String,
    /// Seeds: a list of numbers and ranges, such as 0-2,7.
    #[arg(long, value_name = "LIST", default_value = "0-2", value_parser = seeds)]
    pub seeds: Seeds,
    /// Actor updates of every variant (default: what crates/runner/toys.toml says).
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub updates: Option<u64>,
    /// Pictures, separated by commas, each with its variants (default: all of
    /// crates/runner/toys.toml).
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "variants")]
    pub pictures: Vec<String>,
    /// Variants, separated by commas (default: all of crates/runner/toys.toml).
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub variants: Vec<String>,
    /// Folder for the tables and the pictures.
    #[arg(long, value_name = "DIR", default_value = "results/toy")]
    pub out: PathBuf,
    /// Threads. They change the speed, and no number.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
}

#[derive(Args)]
pub struct PlanArgs {
    /// Algorithms, separated by commas.
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "smfp")]
    pub algos: Vec<String>,
    /// Tasks, separated by commas, such as Ant-v4,Hopper-v4.
    #[arg(long, value_name = "X,Y", value_delimiter = ',', required = true)]
    pub envs: Vec<String>,
    /// Seeds: a list of numbers and ranges, such as 0-4,7.
    #[arg(long, value_name = "LIST", default_value = "0", value_parser = seeds)]
    pub seeds: Seeds,
    /// Plan each of several values of a key, such as objective.lambda=0.1,0.3; grids multiply.
    #[arg(long, value_name = "KEY=V1,V2", allow_hyphen_values = true)]
    pub grid: Vec<String>,
    #[command(flatten)]
    pub shared: SharedArgs,
}

#[derive(Args)]
pub struct RunArgs {
    /// Manifest that `runner plan` printed.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Which line of it, counted from 0.
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub index: usize,
    /// Threads, instead of what the line says.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Args)]
pub struct SweepArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    pub manifest: PathBuf,
    /// Runs at once (default: processors over the threads of a run).
    #[arg(long, value_name = "J", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Only these lines of the manifest, counted from 0, such as 0-3,8.
    #[arg(long, value_name = "LIST", value_parser = seeds)]
    pub indices: Option<Seeds>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    pub manifest: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct WatchArgs {
    /// Folder of results, of an algorithm, of a task or of a run.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

#[derive(Args)]
pub struct SlurmArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    pub manifest: PathBuf,
    /// Most array tasks at once.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub array_limit: Option<u16>,
    /// Share of a GPU for each run, such as 1 or 0.25: then four runs are one array task.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub gpus_per_run: Option<f64>,
    /// Processors for each run (default: the threads of its line, or 1).
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cpus_per_run: Option<u16>,
    /// Memory for each run, such as 4G (a number of K, M, G or T; default: the cluster's).
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// Time limit of an array task, as sbatch reads it; a run that needs more is queued again.
    #[arg(long, value_name = "T")]
    pub time: Option<String>,
    /// Seconds before the time limit at which runs write their checkpoints and stop.
    #[arg(long, value_name = "S", default_value_t = 180, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(10..))]
    pub stop_before: u16,
    /// Partition.
    #[arg(long, value_name = "P")]
    pub partition: Option<String>,
    /// Print the job's script, and submit nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder of runs: DIR/ALGORITHM/TASK/seed-N.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Folder for the report (default: DIR/report).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Step to compare at (default: the furthest that more than half of a task's algorithms reach).
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    pub at: Option<u64>,
    /// Algorithm whose score is 1 on every task.
    #[arg(long, value_name = "ALGO", default_value = "sac")]
    pub reference: String,
    /// Normalised score whose first reaching is timed.
    #[arg(long, value_name = "SCORE", default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = finite)]
    pub threshold: f64,
    /// Mapping file of others' curves (docs/report.md); may be repeated.
    #[arg(long, value_name = "MAP.toml")]
    pub curves: Vec<PathBuf>,
    /// Table of times of actions, as results/bench/act.csv.
    #[arg(long, value_name = "FILE.csv")]
    pub act_times: Option<PathBuf>,
}

/// Reads a number that is one.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number, such as 0.5".into())
}

/// Seeds in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Seeds(pub Vec<u64>);

/// Most seeds of a list.
const MOST_SEEDS: u64 = 1000;

/// Reads `0-2,7`.
fn seeds(text: &str) -> Result<Seeds, String> {
    let fail = || format!("expected numbers and ranges, such as 0-2,7 (at most {MOST_SEEDS})");
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| fail());
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first >= MOST_SEEDS {
            return Err(fail());
        }
        all.extend((first..=last).filter(|seed| !all.contains(seed)).collect::<Vec<_>>());
    }
    Ok(Seeds(all))
}

#[derive(Args)]
pub struct BenchEnvArgs {
    /// Task, such as Ant-v4, or all.
    #[arg(long, value_name = "ID", default_value = "all")]
    pub env: String,
    /// Environments of the batch.
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub envs: u16,
    /// Threads of the batch that is measured beside one on a single thread; without it, as many
    /// as there are processors.
    #[arg(long, value_name = "T", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Steps per measurement, over all environments together.
    #[arg(long, value_name = "S", default_value_t = 4000, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub steps: u32,
    /// Rounds; each measures everything once, in turn, and the medians are printed.
    #[arg(long, value_name = "R", default_value_t = 5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_and_ranges_each_once_in_their_order() {
        assert_eq!(seeds("0-2"), Ok(Seeds(vec![0, 1, 2])));
        assert_eq!(seeds("7,0-2,1"), Ok(Seeds(vec![7, 0, 1, 2])));
        for wrong in ["", "a", "2-0", "-1", "0-", "0-5000", "1,,2", "1.5"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
