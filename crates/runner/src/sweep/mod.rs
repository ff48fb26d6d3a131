//! Many runs: their manifest, and running it on this machine or on Slurm.

pub mod local;
pub mod manifest;
mod progress;
pub mod slurm;
mod worker;
