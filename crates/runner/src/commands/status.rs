//! `runner status`: the progress of the runs of a manifest.

use crate::base::console;
use crate::base::failure::Outcome;
use crate::base::text::{duration, number};
use crate::sweep::manifest;
use crate::train::run_spec::RunSpec;
use crate::train::run_status::{RunStatus, count};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Args)]
pub struct StatusArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// An entry of `runner status --json`.
#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    algo: &'a str,
    name: Option<&'a str>,
    env: &'a str,
    seed: u64,
    folder: PathBuf,
    #[serde(flatten)]
    status: RunStatus,
}

/// The command.
///
/// # Errors
/// The manifest can't be used.
pub fn status(args: &StatusArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    let statuses: Vec<RunStatus> = runs.iter().map(RunStatus::of).collect();
    console::data(if args.json { json(&runs, statuses) } else { table(&runs, &statuses) })
}

fn json(runs: &[RunSpec], statuses: Vec<RunStatus>) -> String {
    let entry = |(index, (run, status)): (usize, (&'_ RunSpec, RunStatus))| {
        let entry = Entry {
            index,
            algo: &run.algo,
            name: run.name.as_deref(),
            env: run.task(),
            seed: run.seed,
            folder: run.folder(),
            status,
        };
        serde_json::to_value(entry).expect("numbers and words")
    };
    let entries: Vec<_> = runs.iter().zip(statuses).enumerate().map(entry).collect();
    serde_json::to_string_pretty(&entries).expect("numbers and words") + "\n"
}

fn table(runs: &[RunSpec], statuses: &[RunStatus]) -> String {
    let mut text = format!(
        "{:>5}  {:8} {:>10} {:>10} {:>9} {:>10}  run\n",
        "index", "state", "step", "of", "return", "left"
    );
    for (index, (run, status)) in runs.iter().zip(statuses).enumerate() {
        let reason = status.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!(
            "{index:>5}  {:8} {:>10} {:>10} {:>9} {:>10}  {}{reason}\n",
            status.state.word(),
            status.step,
            status.steps,
            number(status.last_return, 1),
            status.left_s.map_or("-".into(), duration),
            run.label(),
        );
    }
    text + &count(statuses.iter().map(|status| status.state)) + "\n"
}
