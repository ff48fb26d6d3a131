//! Two problems with one state, actions in the plane and a known Q, so that the target
//! policy is known too (`docs/toys.md`).
//!
//! 1. [`Toy`]: Q, pi_old, the target and exact samples of it;
//! 2. [`Learner`]: trains an algorithm's actor (SMFP, SAC, SAC Flow, DIME, FlowRL) with the code
//!    of training runs, with Q in place of the critics;
//! 3. [`Measures`]: modes and distance of its samples to the target.

mod learner;
mod measure;
mod toy;

pub use learner::{Actor, Drawn, Learner};
pub use measure::{Measures, shares, wasserstein_2};
pub use toy::{Mode, PriorIn, Toy};

/// A point in the plane, in the toy's own units.
pub type Point = [f64; 2];
