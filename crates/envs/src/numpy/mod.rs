//! NumPy's random streams and sums, bit for bit.
//!
//! Gymnasium draws every initial state with `numpy.random.Generator(PCG64(SeedSequence(seed)))`
//! and adds up costs with NumPy's pairwise summation; both must be identical here for identical
//! runs. The algorithms and constants are those of NumPy 2 (`numpy/random/src` and
//! `numpy/_core/src/umath`). NumPy guarantees its streams only within a version, so the tests
//! compare with recorded output of the version that `scripts/parity.py` installs.

mod generator;
mod random_state;
mod scalar;
mod seed_sequence;
mod stream;
mod sum;
mod ziggurat;

pub use generator::Generator;
pub use random_state::RandomState;
pub use scalar::{norm, squared, vector_times_matrix};
pub use seed_sequence::SeedSequence;
pub use stream::Stream;
pub use sum::{Float, sum_of, sum_of_squares};
