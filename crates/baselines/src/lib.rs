//! The algorithms that SMFP is compared with, one file each. They share its
//! critics, replay, optimiser and training loop.

mod gaussian;
pub mod sac;

pub use gaussian::{GaussianPolicy, Sample};
