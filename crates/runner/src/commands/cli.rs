//! The command line: the names of the commands. The flags of each are in its own file.

use super::bench::{BenchActArgs, BenchAgentArgs, BenchEnvArgs};
use super::eval::EvalArgs;
use super::export::ExportArgs;
use super::plan::PlanArgs;
use super::report::ReportArgs;
use super::run::RunArgs;
use super::show::ShowArgs;
use super::slurm::SlurmArgs;
use super::status::StatusArgs;
use super::sweep::SweepArgs;
use super::task::{TaskCheckArgs, TaskNewArgs};
use super::toy::ToyArgs;
use super::trace::TraceArgs;
use super::train::TrainArgs;
use super::video::VideoArgs;
use super::watch::WatchArgs;
use crate::train::settings;
use clap::{Parser, Subcommand};

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
    /// Write a run's policy as ONNX files and for the runtime of crates/policy, with a README.
    Export(ExportArgs),
    /// Show what policies do: writes a page with their episodes in 3D, which works offline.
    Show(ShowArgs),
    /// Write a video of a policy: MP4, GIF or PNG frames. Needs a build with --features video.
    Video(VideoArgs),
    /// Plan a sweep: prints a manifest, one resolved run per line.
    Plan(PlanArgs),
    /// Train one run of a manifest; does nothing if it is finished.
    Run(RunArgs),
    /// Train the runs of a manifest on this machine, several at a time, each in its own process.
    Sweep(SweepArgs),
    /// Show the progress of the runs of a manifest.
    Status(StatusArgs),
    /// Show the runs below a folder live; without a terminal, print their progress once.
    Watch(WatchArgs),
    /// Submit the runs of a manifest to Slurm as an array job.
    Slurm(SlurmArgs),
    /// Tasks of your own: a TOML file next to a model.
    #[command(subcommand, arg_required_else_help = false)]
    Task(TaskCommand),
    /// Replay actions from a file and write what the task returns.
    Trace(TraceArgs),
    /// Measure speed.
    #[command(subcommand, arg_required_else_help = false)]
    Bench(BenchCommand),
    /// Learn a toy with a known Q: what the policy can express, what an update reaches.
    Toy(ToyArgs),
    /// Compare runs: tables, figures, and a page that works offline.
    Report(ReportArgs),
    /// Check the installation: versions, paths, what is wrong and how to fix it.
    Doctor,
}

#[derive(Subcommand)]
pub enum TaskCommand {
    /// Check a task's file: sizes, names, and what a hundred random steps give.
    Check(TaskCheckArgs),
    /// Write a task's file for a model, with comments, to begin with.
    New(TaskNewArgs),
}

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Steps per second of a task, and of MuJoCo alone on the same steps (the limit).
    Env(BenchEnvArgs),
    /// Time of an update on a random batch of the task's sizes.
    Update(BenchAgentArgs),
    /// Time of an action at batch size 1, in the mode in which the algorithm explores, and by
    /// the runtime of exported policies.
    Act(BenchActArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_protocol_lists_every_command_with_every_flag() {
        let page = include_str!("../../../../docs/protocol.md");
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let begins = [format!("| `runner {name}"), format!("| `runner [{name}]")];
            let row = page.lines().find(|row| begins.iter().any(|begin| row.starts_with(begin)));
            let row = row.unwrap_or_else(|| panic!("docs/protocol.md has no `runner {name}`"));
            // Commands with subcommands have too many.
            let flags = command.get_arguments().filter(|_| !row.contains("[...]"));
            for flag in flags.filter_map(|flag| flag.get_long()) {
                assert!(
                    row.contains(&format!("--{flag}")),
                    "{name}: no --{flag} in docs/protocol.md"
                );
            }
        }
    }
}
