//! `numpy.random.RandomState`: the Mersenne Twister with NumPy's legacy distributions.
//!
//! The generator is that of Matsumoto and Nishimura (1998), with their `init_genrand` for a seed
//! of 32 bits. Normal numbers are drawn in pairs by the polar method (`legacy_gauss` of
//! `numpy/random/src/legacy/legacy-distributions.c`).

/// Words of state.
const N: usize = 624;
/// Distance of the words that are combined.
const M: usize = 397;

/// A random stream identical to that of `numpy.random.RandomState(seed)`.
///
/// NumPy takes seeds of 32 bits only; a larger one is here that of `RandomState([low, high])`.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomState {
    words: [u32; N],
    /// Words of the current block that were used.
    used: usize,
    /// The second number of a pair, which the next call returns.
    spare: Option<f64>,
}

impl RandomState {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let words = match u32::try_from(seed) {
            Ok(seed) => from_seed(seed),
            Err(_) => from_key([seed as u32, (seed >> 32) as u32]),
        };
        Self { words, used: N, spare: None }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == N {
            for i in 0..N {
                let [next, far] = [1, M].map(|distance| self.words[(i + distance) % N]);
                let joined = self.words[i] & 0x8000_0000 | next & 0x7fff_ffff;
                let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[i] = far ^ joined >> 1 ^ odd;
            }
            self.used = 0;
        }
        let mut x = self.words[self.used];
        self.used += 1;
        x ^= x >> 11;
        x ^= x << 7 & 0x9d2c_5680;
        x ^= x << 15 & 0xefc6_0000;
        x ^ x >> 18
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub fn next_f64(&mut self) -> f64 {
        let [high, low] = [self.next_u32() >> 5, self.next_u32() >> 6];
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A number in [low, high), as by `RandomState.uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next_f64()
    }

    /// A standard normal number, as by `RandomState.randn()`.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let [x, y] = [2.0 * self.next_f64() - 1.0, 2.0 * self.next_f64() - 1.0];
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(factor * x);
                return factor * y;
            }
        }
    }

    /// The state: words, words used, whether there is a spare number, that number.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.words.iter().copied().chain([self.used as u32]);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        bytes.push(u8::from(self.spare.is_some()));
        bytes.extend(self.spare.unwrap_or(0.0).to_le_bytes());
        bytes
    }

    /// The stream with the state of [`to_bytes`](Self::to_bytes); nothing if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.split_at_checked(4 * N)?;
        let (used, rest) = rest.split_first_chunk()?;
        let (&has_spare, spare) = rest.split_first()?;
        let spare = f64::from_le_bytes(spare.try_into().ok()?);
        let used = u32::from_le_bytes(*used) as usize;
        let mut read = words.chunks_exact(4).map(|word| word.try_into().map(u32::from_le_bytes));
        let mut words = [0; N];
        for word in &mut words {
            *word = read.next()?.ok()?;
        }
        let spare = (has_spare == 1).then_some(spare);
        (used <= N).then_some(Self { words, used, spare })
    }
}

/// `init_genrand`.
fn from_seed(seed: u32) -> [u32; N] {
    let mut words = [seed; N];
    for i in 1..N {
        let mixed = words[i - 1] ^ words[i - 1] >> 30;
        words[i] = mixed.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
    }
    words
}

/// `init_by_array`.
fn from_key(key: [u32; 2]) -> [u32; N] {
    let mut words = from_seed(19_650_218);
    let mut i = 1;
    let mut mix = |words: &mut [u32; N], multiplier: u32, change: &dyn Fn(u32, usize) -> u32| {
        let before = words[i - 1];
        let mixed = words[i] ^ (before ^ before >> 30).wrapping_mul(multiplier);
        words[i] = change(mixed, i);
        i += 1;
        if i == N {
            words[0] = words[N - 1];
            i = 1;
        }
    };
    for j in 0..N {
        let add = key[j % 2].wrapping_add((j % 2) as u32);
        mix(&mut words, 1_664_525, &|mixed, _| mixed.wrapping_add(add));
    }
    for _ in 1..N {
        mix(&mut words, 1_566_083_941, &|mixed, i| mixed.wrapping_sub(i as u32));
    }
    words[0] = 0x8000_0000;
    words
}
