//! `runner sweep`: the runs of a manifest on this machine.

use super::flags::{NumberList, number_list};
use crate::base::console::{self, message};
use crate::base::failure::{Failure, Outcome};
use crate::sweep::local::SweepPlan;
use crate::sweep::manifest;
use crate::train::run_spec::check_task;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct SweepArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
    /// Runs at a time (default: processors divided by the threads of a run).
    #[arg(long, value_name = "J", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Only these lines of the manifest, counted from 0, such as 0-3,8.
    #[arg(long, value_name = "LIST", value_parser = number_list)]
    indices: Option<NumberList>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The command.
///
/// # Errors
/// A damaged manifest, a run that failed, a stop.
pub fn sweep(args: &SweepArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    let chosen = chosen(args, runs.len())?;
    let plan = SweepPlan::new(&args.manifest, &runs, chosen, args.jobs.map(usize::from));
    if !args.dry_run {
        runs.iter().try_for_each(|run| check_task(&run.env))?;
        return plan.run();
    }
    message(plan.summary());
    plan.commands().iter().try_for_each(|line| console::data(format!("{line}\n")))
}

/// The indices of the runs, in a manifest of `lines` lines.
fn chosen(args: &SweepArgs, lines: usize) -> Outcome<Vec<usize>> {
    let Some(NumberList(indices)) = &args.indices else { return Ok((0..lines).collect()) };
    match indices.iter().find(|index| **index >= lines as u64) {
        None => Ok(indices.iter().map(|index| *index as usize).collect()),
        Some(index) => Err(Failure::Usage(format!(
            "--indices {index}: {} has the indices 0 to {}",
            args.manifest.display(),
            lines - 1
        ))),
    }
}
