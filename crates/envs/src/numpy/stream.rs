//! A random stream of either of NumPy's two kinds.

use super::{Generator, RandomState};

/// NumPy's `Generator` with `PCG64`, which Gymnasium uses, or its legacy `RandomState`, which
/// dm_control uses.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a reset must not allocate")]
pub enum Stream {
    /// `numpy.random.default_rng(seed)`.
    Pcg64(Generator),
    /// `numpy.random.RandomState(seed)`.
    Mt19937(RandomState),
}

impl Stream {
    /// The stream of `numpy.random.default_rng(seed)`.
    pub fn pcg64(seed: u64) -> Self {
        Self::Pcg64(Generator::new(seed))
    }

    /// The stream of `numpy.random.RandomState(seed)`.
    pub fn mt19937(seed: u64) -> Self {
        Self::Mt19937(RandomState::new(seed))
    }

    /// A number in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        match self {
            Self::Pcg64(random) => random.uniform(low, high),
            Self::Mt19937(random) => random.uniform(low, high),
        }
    }

    /// A standard normal number.
    pub fn standard_normal(&mut self) -> f64 {
        match self {
            Self::Pcg64(random) => random.standard_normal(),
            Self::Mt19937(random) => random.standard_normal(),
        }
    }

    /// The state, in a number of bytes that depends on the kind only.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Pcg64(random) => random.words().iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Mt19937(random) => random.to_bytes(),
        }
    }

    /// Sets the state to that of a stream of the same kind; nothing if the bytes are none.
    pub fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Pcg64(random) => {
                let (state, increment) = bytes.split_at_checked(16)?;
                let word = |bytes: &[u8]| bytes.try_into().ok().map(u128::from_le_bytes);
                *random = Generator::from_words([word(state)?, word(increment)?]);
            }
            Self::Mt19937(random) => *random = RandomState::from_bytes(bytes)?,
        }
        Some(())
    }
}
