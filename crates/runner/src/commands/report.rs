//! `runner report`: from run folders to tables, figures and a page (`docs/report.md`).

use crate::base::console::{self, message};
use crate::base::failure::{Failure, Outcome};
use crate::train::run_folder::check_is_folder;
use clap::Args;
use report::{Options, Output, Study};
use std::path::PathBuf;

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
    /// Algorithm whose score is 1 on every task.
    #[arg(long, value_name = "ALGO", default_value = "sac")]
    reference: String,
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
}

/// Reads a finite number.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number, such as 0.5".into())
}

/// The command: writes the report and prints the rows of `scores.csv`.
///
/// # Errors
/// No runs, a file with something else in it, a folder for the report that holds other files.
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
    let mut runs = report::read_folders(&args.folders)?;
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
    let options =
        Options { at: args.at, reference: args.reference.clone(), threshold: args.threshold };
    let study = Study::new(runs, options, times);
    let page = output.write(&study)?;
    for line in study.remarks() {
        message(line);
    }
    message(format!("wrote {} and the tables and figures next to it", page.display()));
    console::rows(&report::scores(&study))
}
