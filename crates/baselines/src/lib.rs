//! The algorithms that SMFP is compared with, one file each. They share its
//! critics, replay, optimiser and training loop.

pub mod crossq;
pub mod diffusion;
pub mod dime;
pub mod dpmd;
pub mod flowrl;
mod gaussian;
pub mod mdpo;
pub mod meanflow;
pub mod path;
pub mod qvpo;
pub mod sac;
pub mod sac_flow_g;
pub mod sac_flow_t;
pub mod td3;

pub use gaussian::{Gaussian, GaussianPolicy, Sample};
