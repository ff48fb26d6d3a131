//! The experiment runner: training, sweeps and their views, as a library and a command line.
//!
//! Each module uses only those below it:
//!
//! ```text
//! commands                  the command line, a file for each command
//! sweep   watch   toy       many runs; the live view of them; the toys
//! export  video             a trained policy for other programs; videos of it
//! train                     one run: settings, folder, training loop, checkpoints
//! base                      errors, printing, devices, versions, checksums, signals, text
//! ```
//!
//! A run without the command line:
//!
//! ```no_run,standalone_crate
//! use runner::train::run_spec::RunSpec;
//! use runner::train::settings::{Sources, resolve};
//!
//! let (algo, env) = ("sac", "Hopper-v4");
//! let sources =
//!     Sources { algo, env, preset: "default", steps: Some(20_000), ..Sources::default() };
//! let spec = RunSpec::new(algo, env, 0, resolve(&sources)?);
//! runner::train::run(&spec)?; // writes results/sac/Hopper-v4/seed-0/
//! # Ok::<(), runner::base::failure::Failure>(())
//! ```

pub mod base;
mod commands;
mod export;
pub mod sweep;
mod toy;
pub mod train;
#[cfg(feature = "video")]
mod video;
mod watch;

pub use commands::main;

/// The names of all algorithms, as `--algo` takes them.
pub fn algorithms() -> Vec<&'static str> {
    train::registry::ALGORITHMS.iter().map(|algorithm| algorithm.name).collect()
}
