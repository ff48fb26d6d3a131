//! `runner report`: from run folders to tables, figures and a page (`docs/report.md`).

use crate::base::failure::{Failure, Outcome};
use crate::commands::cli::ReportArgs;
use crate::train::run_folder::must_be;
use report::{Options, Output, Problem, Study};

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Input(message) => Self::Usage(message),
            Problem::System(message) => Self::Failed(message),
        }
    }
}

/// The command `report`: writes the report, prints the rows of `scores.csv`.
///
/// # Errors
/// No runs, a file that is not what it should be, a folder that is not ours.
pub fn report(args: &ReportArgs) -> Outcome<()> {
    let folder = &args.folder;
    must_be(folder)?;
    let output = Output::look(args.out.as_ref().unwrap_or(&folder.join("report")))?;
    let mut runs = report::read_folder(folder)?;
    for mapping in &args.curves {
        for run in report::read_mapping(mapping)? {
            let same = |known: &report::Run| known.origin == report::Origin::Folder;
            if runs.iter().any(|known| same(known) && known.algorithm == run.algorithm) {
                return Err(Failure::Usage(format!(
                    "{}: '{}' is also a folder of {}; name the algorithm otherwise",
                    mapping.display(),
                    run.algorithm,
                    folder.display()
                )));
            }
            runs.push(run);
        }
    }
    if runs.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: no runs found; expected {}/ALGORITHM/TASK/seed-N/eval.csv",
            folder.display(),
            folder.display()
        )));
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
        eprintln!("{line}");
    }
    eprintln!("wrote {} and the tables and figures beside it", page.display());
    report::write(std::io::stdout(), &report::scores(&study))
        .map_err(|error| Failure::Failed(format!("stdout: {error}")))
}
