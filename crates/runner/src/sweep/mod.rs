//! Many runs: their manifest, on this machine and on Slurm.

mod board;
pub mod local;
pub mod manifest;
pub mod slurm;
pub mod worker;
