//! The experiment runner. Each room uses only rooms below it:
//!
//! ```text
//! commands                  the command line, a file for each command
//! sweep   watch   toy       many runs; the view of them; the toys
//! train                     one run: settings, folder, loop, checkpoints
//! base                      failures, devices, versions, digests, text
//! ```

mod base;
mod commands;
mod sweep;
mod toy;
mod train;
mod watch;

pub use commands::main;

/// The names of all algorithms, as `--algo` takes them.
pub fn algorithms() -> Vec<&'static str> {
    train::registry::ALGORITHMS.iter().map(|algorithm| algorithm.name).collect()
}
