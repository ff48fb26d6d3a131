//! NumPy's sums: the order of additions determines the last bits.

use std::ops::{Add, Mul};

/// `f32` or `f64`; a sum has the precision of its terms.
pub trait Float: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// Zero in this precision.
    const ZERO: Self;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
}
impl Float for f64 {
    const ZERO: Self = 0.0;
}

/// `numpy.sum(term(x))` of a contiguous array, for numbers of either precision.
pub fn sum_of<T: Float>(x: &[T], term: impl Fn(T) -> T + Copy) -> T {
    // The reduction starts from add's identity.
    T::ZERO + pairwise(x, term)
}

/// `numpy.sum(numpy.square(x))` of a contiguous array, for numbers of either precision.
pub fn sum_of_squares<T: Float>(x: &[T]) -> T {
    sum_of(x, |x| x * x)
}

/// Adds `term(x)` as `pairwise_sum` in NumPy's `loops_utils.h.src` does: sequentially below
/// eight numbers, in eight interleaved partial sums up to 128, and recursively by halves (rounded
/// down to a multiple of eight) beyond.
fn pairwise<T: Float>(x: &[T], term: impl Fn(T) -> T + Copy) -> T {
    const LANES: usize = 8;
    const BLOCK: usize = 128;

    if x.len() > BLOCK {
        let half = x.len() / 2;
        let (left, right) = x.split_at(half - half % LANES);
        return pairwise(left, term) + pairwise(right, term);
    }
    let rows = x.chunks_exact(LANES);
    let rest = rows.remainder();
    let start = if x.len() < LANES {
        T::ZERO
    } else {
        let mut lanes = [T::ZERO; LANES];
        for (i, row) in rows.enumerate() {
            for (lane, &x) in lanes.iter_mut().zip(row) {
                *lane = if i == 0 { term(x) } else { *lane + term(x) };
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    };
    rest.iter().fold(start, |sum, &x| sum + term(x))
}
