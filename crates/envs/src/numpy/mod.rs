//! NumPy's random streams and sums, to the last bit.
//!
//! Gymnasium draws every initial state with `numpy.random.Generator(PCG64(SeedSequence(seed)))`
//! and adds up costs with NumPy's pairwise summation; both have to be the same here for a run to
//! be the same. The algorithms and constants are those of NumPy 2 (`numpy/random/src` and
//! `numpy/_core/src/umath`), whose streams NumPy promises to keep only within a version: the
//! tests compare with recorded output of the version that `scripts/parity.py` installs.

mod generator;
mod scalar;
mod seed_sequence;
mod sum;
mod ziggurat;

pub use generator::Generator;
pub use scalar::{norm, squared};
pub use seed_sequence::SeedSequence;
pub use sum::{Float, sum_of, sum_of_squares};
