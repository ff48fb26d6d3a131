//! Two problems in the plane with one state and a known Q, so that what a policy
//! should become is known too (`docs/toys.md`).
//!
//! 1. [`Toy`]: Q, pi_old, the target and exact samples of it;
//! 2. [`Learner`]: an actor of SMFP or of SAC, by the code that trains on tasks,
//!    with Q in place of the critics;
//! 3. [`Measures`]: how far its samples are from the target.

mod learner;
mod measure;
mod toy;

pub use learner::{Actor, Drawn, Learner};
pub use measure::{Measures, shares, wasserstein_2};
pub use toy::{Mode, PriorIn, Toy};

/// A point in the plane, in the toy's own units.
pub type Point = [f64; 2];
