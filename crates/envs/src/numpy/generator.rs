//! `numpy.random.Generator` with `PCG64`, as used by Gymnasium's resets.

use super::{SeedSequence, ziggurat};

/// The 128-bit multiplier of PCG64 (`PCG_DEFAULT_MULTIPLIER_128`).
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// A random stream identical to that of `numpy.random.default_rng(seed)`.
///
/// PCG64 is implemented here (it is the same generator as `rand_pcg::Pcg64`) because exact resume
/// needs its two words of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    state: u128,
    increment: u128,
}

impl Generator {
    /// The stream of `numpy.random.Generator(numpy.random.PCG64(numpy.random.SeedSequence(seed)))`.
    pub fn new(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] =
            SeedSequence::new(seed).generate_state::<4>();
        let increment = join(stream_high, stream_low) << 1 | 1;
        let mut generator = Self { state: 0, increment };
        generator.advance();
        generator.state = generator.state.wrapping_add(join(state_high, state_low));
        generator.advance();
        generator
    }

    /// The two words that determine all further draws: state and increment.
    pub fn words(&self) -> [u128; 2] {
        [self.state, self.increment]
    }

    /// The generator with these [`words`](Self::words).
    pub fn from_words([state, increment]: [u128; 2]) -> Self {
        Self { state, increment }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A number in [low, high), as by `Generator.uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next_f64()
    }

    /// A standard normal number, as by `Generator.standard_normal()`.
    pub fn standard_normal(&mut self) -> f64 {
        ziggurat::standard_normal(self)
    }

    fn advance(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }
}

fn join(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
