//! Mixes a seed into well distributed bits (`numpy/random/bit_generator.pyx`, after O'Neill's
//! `seed_seq_fe`).

const POOL: usize = 4;

/// NumPy's `SeedSequence` for one non-negative integer without a spawn key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedSequence {
    pool: [u32; POOL],
}

impl SeedSequence {
    /// Mixes `seed` into the pool, as `numpy.random.SeedSequence(seed)` does.
    pub fn new(seed: u64) -> Self {
        // NumPy takes as many 32-bit words as the integer needs and pads with zeros: the same pool.
        let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];

        let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
        let mut pool = entropy.map(|word| hash.mix(word));
        for source in 0..POOL {
            for target in (0..POOL).filter(|&target| target != source) {
                pool[target] = combine(pool[target], hash.mix(pool[source]));
            }
        }
        Self { pool }
    }

    /// The first `N` words of state, as by `generate_state(N, numpy.uint64)`.
    pub fn generate_state<const N: usize>(&self) -> [u64; N] {
        let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
        let mut pool = self.pool.iter().cycle();
        let mut next = || u64::from(hash.mix(*pool.next().expect("the pool is not empty")));
        std::array::from_fn(|_| {
            let low = next();
            low | next() << 32
        })
    }
}

/// A multiplicative hash whose constant changes with every word.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn mix(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        fold(word.wrapping_mul(self.constant))
    }
}

fn combine(x: u32, y: u32) -> u32 {
    fold(x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715)))
}

fn fold(x: u32) -> u32 {
    x ^ (x >> 16)
}
