//! `runner watch`: the runs below a folder, live.

use crate::base::console;
use crate::base::failure::Outcome;
use crate::watch::{Runs, show, table};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Args)]
pub struct WatchArgs {
    /// Folder of results, of an algorithm, of a task or of a run.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// The command. On a terminal the view is updated until the user quits; elsewhere a table is
/// printed once.
///
/// # Errors
/// No folder, or one without runs; a terminal that can't be used.
pub fn watch(args: &WatchArgs) -> Outcome<()> {
    let runs = Runs::find(&args.folder)?;
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if dumb || !std::io::stdout().is_terminal() {
        return console::data(table::text(runs.all()));
    }
    show(runs)
}
