//! `runner export`: writes a run's policy for programs without LibTorch.

use crate::base::failure::Outcome;
use crate::base::{console, device};
use crate::export::Export;
use crate::train::run_folder::DONE;
use crate::train::saved_run::SavedRun;
use clap::Args;
use std::path::PathBuf;
use tch::Device;

#[derive(Args)]
pub struct ExportArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Folder to write (default: the run's folder, export/). An export there is replaced; any
    /// other folder must be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A model of your own instead of the run's: an MJCF file, or a run's model.mjb.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// The command: writes the folder and prints the rows of its evaluations.
///
/// # Errors
/// The folder holds no run, its checkpoint can't be used, or the output can't be written.
pub fn export(args: &ExportArgs) -> Outcome<()> {
    let run = SavedRun::open(&args.run, args.model.as_deref())?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join("export"));
    Export::check(&out)?;
    device::use_threads(1);
    let export = Export::of(&run, Device::Cpu)?;
    if !args.run.join(DONE).exists() {
        console::message(format!(
            "{}: the run is not finished; this is its policy at step {}",
            args.run.display(),
            export.step
        ));
    }
    export.write(&out)?;
    console::message(format!("{}: written", out.display()));
    console::data(export.table())
}
