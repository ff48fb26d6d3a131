//! The experiment runner: training, sweeps and their views, as a library and a command line.
//!
//! Each module uses only those below it:
//!
//! ```text
//! commands                  the command line, a file for each command
//! sweep   watch   toy       many runs; the live view of them; the toys
//! train                     one run: settings, folder, training loop, checkpoints
//! base                      errors, devices, versions, checksums, signals, text
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
