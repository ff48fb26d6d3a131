//! `runner slurm`: submits the runs of a manifest as an array job.

use crate::base::console::{self, message};
use crate::base::failure::Outcome;
use crate::sweep::manifest;
use crate::sweep::slurm::{Job, Resources};
use crate::train::run_spec::check_task;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct SlurmArgs {
    /// Manifest that `runner plan` printed.
    #[arg(value_name = "FILE")]
    manifest: PathBuf,
    /// Most array tasks at a time.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    array_limit: Option<u16>,
    /// Share of a GPU for each run, such as 1 or 0.25 (four runs in one array task).
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    gpus_per_run: Option<f64>,
    /// Processors for each run (default: the threads of its line, or 1).
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus_per_run: Option<u16>,
    /// Memory for each run, such as 4G (a number of K, M, G or T; default: the cluster's).
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Time limit of an array task, as sbatch reads it; a run that needs more is queued again.
    #[arg(long, value_name = "T")]
    time: Option<String>,
    /// Seconds before the time limit at which runs write their checkpoints and stop.
    #[arg(long, value_name = "S", default_value_t = 180, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(10..))]
    stop_before: u16,
    /// Partition.
    #[arg(long, value_name = "P")]
    partition: Option<String>,
    /// Print the job's script, and submit nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The command.
///
/// # Errors
/// A damaged manifest, a share of a GPU that does not fit it, a job that Slurm refuses.
pub fn slurm(args: SlurmArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    runs.iter().try_for_each(|run| check_task(&run.env))?;
    let resources = Resources {
        array_limit: args.array_limit,
        gpus_per_run: args.gpus_per_run,
        cpus_per_run: args.cpus_per_run,
        mem: args.mem,
        time: args.time,
        stop_before: args.stop_before,
        partition: args.partition,
    };
    let Some(job) = Job::new(&args.manifest, &runs, &resources)? else {
        message(format!("all {} runs are done or running: nothing to submit", runs.len()));
        return Ok(());
    };
    if args.dry_run {
        return console::data(job.script);
    }
    job.submit()?;
    message(format!(
        "{} array tasks submitted; their output goes to {}",
        job.tasks,
        job.logs.display()
    ));
    Ok(())
}
