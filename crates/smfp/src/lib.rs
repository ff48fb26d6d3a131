//! Stochastic MeanFlow Policies (arXiv 2605.21282), in the order of `docs/algorithm.md`:
//!
//! 1. [`Policy`]: one network call from noise to action, equation (1);
//! 2. [`entropy`]: the tractable surrogate, equation (2);
//! 3. [`mirror`]: entropic mirror descent as a MeanFlow regression, (3) and (5);
//! 4. [`SmfpActor`]: the unified objective, equation (4), for any value;
//!    [`Smfp`]: with the critics of (6);
//! 5. [`PRESETS`]: every setting, per task.
//!
//! Equation numbers are those of that document.

mod actor;
mod config;
pub mod entropy;
pub mod mirror;
mod noise;
mod policy;
mod smfp;

pub use actor::SmfpActor;
pub use config::*;
pub use noise::{ActorNoise, MirrorNoise, UpdateNoise};
pub use policy::{Draw, Policy};
pub use smfp::Smfp;
