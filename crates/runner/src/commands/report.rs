//! `runner report`: from run folders to tables, figures and a page (`docs/report.md`).

use super::show;
use crate::base::console::{self, message};
use crate::base::device;
use crate::base::failure::{Failure, Outcome, unknown};
use crate::train::checkpoint;
use crate::train::run_folder::check_is_folder;
use clap::Args;
use report::{Found, Options, Output, Replays, Study};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The reference where none is named.
const DEFAULT_REFERENCE: &str = "sac";

#[derive(Args)]
pub struct ReportArgs {
    /// Folders of runs, at any depth: .../ALGORITHM/TASK/seed-N.
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Folder for the report (default: DIR/report, if there is one DIR).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Step to compare at (default: the furthest that more than half of a task's algorithms reach).
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    at: Option<u64>,
    /// Algorithm whose score is 1 on every task (default: sac).
    #[arg(long, value_name = "ALGO")]
    reference: Option<String>,
    /// Normalised score; the report gives the steps until it is first reached.
    #[arg(long, value_name = "SCORE", default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = finite)]
    threshold: f64,
    /// Mapping file for curves of others (docs/report.md); may be repeated.
    #[arg(long, value_name = "MAP.toml")]
    curves: Vec<PathBuf>,
    /// Table of action times, such as results/bench/act.csv.
    #[arg(long, value_name = "FILE.csv")]
    act_times: Option<PathBuf>,
    /// Megabytes of the page for episodes in 3D, one per algorithm and task; 0 leaves them out.
    #[arg(long, value_name = "MB", default_value_t = 5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(0..=1000))]
    replays: u64,
}

/// Reads a finite number.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number, such as 0.5".into())
}

/// The command: writes the report and prints the rows of `scores.csv`.
///
/// # Errors
/// No run that can be read, a file of the options with something else in it, a folder for the report that
/// holds other files.
pub fn report(args: &ReportArgs) -> Outcome<()> {
    for folder in &args.folders {
        check_is_folder(folder)?;
    }
    let out = match (&args.out, args.folders.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [only]) => only.join("report"),
        (None, _) => {
            return Err(Failure::Usage(
                "several folders of runs: name the report's folder with --out DIR".into(),
            ));
        }
    };
    let output = Output::look(&out)?;
    let Found { mut runs, left_out } = report::read_folders(&args.folders)?;
    for mapping in &args.curves {
        for run in report::read_mapping(mapping)? {
            let same = |known: &report::Run| known.origin == report::Origin::Folder;
            if runs.iter().any(|known| same(known) && known.algorithm == run.algorithm) {
                return Err(Failure::Usage(format!(
                    "{}: '{}' is also the name of an algorithm with runs; give it another name",
                    mapping.display(),
                    run.algorithm
                )));
            }
            runs.push(run);
        }
    }
    let times = match &args.act_times {
        Some(path) => report::read_action_times(path)?,
        None => Vec::new(),
    };
    let algorithms: BTreeSet<&str> = runs.iter().map(|run| run.algorithm.as_str()).collect();
    if let Some(name) = args.reference.as_deref().filter(|name| !algorithms.contains(name)) {
        let algorithms: Vec<&str> = algorithms.into_iter().collect();
        return Err(unknown("algorithm of --reference", name, &algorithms));
    }
    let reference = args.reference.clone().unwrap_or_else(|| DEFAULT_REFERENCE.into());
    if !algorithms.contains(reference.as_str()) {
        message(format!(
            "no run of {reference}, so no score is normalised; --reference ALGO chooses another"
        ));
    }
    let options = Options { at: args.at, reference, threshold: args.threshold };
    let mut study = Study::new(runs, options, times);
    study.left_out = left_out.iter().map(ToString::to_string).collect();
    study.replays = replays(args.replays, &study);
    let page = output.write(&study)?;
    for line in study.remarks() {
        message(line);
    }
    message(format!("wrote {} and the tables and figures next to it", page.display()));
    console::rows(&report::scores(&study))
}

/// An episode of the first run of each algorithm and task that has a checkpoint, as far as they
/// fit. What is left out is remarked on: a report does not fail for its replays.
fn replays(most_mb: u64, study: &Study) -> Replays {
    if most_mb == 0 {
        return Replays::default();
    }
    let viewer = ::show::viewer();
    let most = (most_mb * 1_000_000) as usize;
    device::use_threads(1);
    let (mut size, mut left_out) = (viewer.len(), 0);
    let mut episodes = BTreeMap::new();
    for task in &study.tasks {
        for cell in &task.cells {
            let folder = |at: &usize| {
                let folder = study.runs[*at].folder.as_deref()?;
                folder.join(checkpoint::FOLDER).is_dir().then_some((*at, folder))
            };
            let Some((at, folder)) = cell.runs.iter().find_map(folder) else { continue };
            if size >= most {
                left_out += 1;
                continue;
            }
            match show::replay(folder) {
                Ok(episode) if size + episode.len() <= most => {
                    size += episode.len();
                    episodes.insert(at, episode);
                }
                Ok(_) => left_out += 1,
                Err(failure) => message(format!("warning: no replay: {}", failure.message())),
            }
        }
    }
    if left_out > 0 {
        message(format!(
            "{left_out} replays would make the page larger than {most_mb} MB and are left out; \
             --replays allows more"
        ));
    }
    Replays { viewer, episodes }
}
