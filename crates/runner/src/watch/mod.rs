//! `runner watch`: the runs below a folder as they go. On a terminal a view that keeps up
//! with them; elsewhere a table, once.
//!
//! It only reads: [`runs`] what runs write, of which [`view`] draws a picture that [`screen`]
//! shows.

mod curve;
mod run;
mod runs;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod view;

use crate::base::failure::Outcome;
use crate::base::text::print;
use crate::commands::cli::WatchArgs;
use runs::Runs;
use std::io::IsTerminal;

/// The command.
///
/// # Errors
/// No folder, or one without runs; a terminal that can't be used.
pub fn watch(args: &WatchArgs) -> Outcome<()> {
    let runs = Runs::find(&args.folder)?;
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if dumb || !std::io::stdout().is_terminal() {
        return print(&table::text(runs.all()));
    }
    screen::show(runs)
}
