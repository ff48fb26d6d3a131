//! `runner status`: how far the runs of a manifest are.

use crate::base::failure::Outcome;
use crate::base::text::{duration, number, print};
use crate::commands::cli::StatusArgs;
use crate::sweep::manifest;
use crate::train::run_spec::TrainRequest;
use crate::train::run_status::{Seen, count, look};
use serde::Serialize;
use std::path::PathBuf;

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
    seen: Seen,
}

/// The command.
///
/// # Errors
/// The manifest can't be used.
pub fn status(args: &StatusArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    let seen: Vec<Seen> = runs.iter().map(look).collect();
    print(&if args.json { json(&runs, seen) } else { table(&runs, &seen) })
}

fn json(runs: &[TrainRequest], seen: Vec<Seen>) -> String {
    let entry = |(index, (run, seen)): (usize, (&'_ TrainRequest, Seen))| {
        let entry = Entry {
            index,
            algo: &run.algo,
            name: run.name.as_deref(),
            env: &run.env,
            seed: run.seed,
            folder: run.folder(),
            seen,
        };
        serde_json::to_value(entry).expect("numbers and words")
    };
    let entries: Vec<_> = runs.iter().zip(seen).enumerate().map(entry).collect();
    serde_json::to_string_pretty(&entries).expect("numbers and words") + "\n"
}

fn table(runs: &[TrainRequest], seen: &[Seen]) -> String {
    let mut text = format!(
        "{:>5}  {:8} {:>10} {:>10} {:>9} {:>10}  run\n",
        "index", "state", "step", "of", "return", "left"
    );
    for (index, (run, seen)) in runs.iter().zip(seen).enumerate() {
        let reason = seen.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!(
            "{index:>5}  {:8} {:>10} {:>10} {:>9} {:>10}  {}{reason}\n",
            seen.state.word(),
            seen.step,
            seen.steps,
            number(seen.last_return, 1),
            seen.left_s.map_or("-".into(), duration),
            run.label(),
        );
    }
    text + &count(seen.iter().map(|seen| seen.state)) + "\n"
}
