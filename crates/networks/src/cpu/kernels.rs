//! Loops over numbers, compiled for AVX2 too and dispatched at run time
//! (`multiversion`).

use super::lanes::{LANES, Lane};
use crate::mlp::Activation;
use crate::pool;
use multiversion::multiversion;

/// e^x to 2 units in the last place, for x in [-87, 88]; beyond, the value there.
///
/// x = k log 2 + r with |r| <= log 2 / 2; e^r by its Taylor polynomial of degree
/// 7 (its remainder is below 6e-9), times 2^k by the exponent's bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting this rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    /// log 2 in two parts, the first with room for k in its last bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    p * f32::from_bits(exponent)
}

/// Value and slope of Mish: with e = exp(x) and n = e (e + 2), tanh(softplus(x)) =
/// n / (n + 2), and its derivative is 4 e (e + 1) / (n + 2)^2.
#[inline(always)]
fn mish(x: f32) -> (f32, f32) {
    // Beyond 20 the ratio is 1 in f32, and n stays finite.
    let e = exp(x.min(20.0));
    let n = e * (e + 2.0);
    let inverse = 1.0 / (n + 2.0);
    let ratio = n * inverse;
    (x * ratio, ratio + x * 4.0 * e * (e + 1.0) * inverse * inverse)
}

/// Value and slope of x sigmoid(x).
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// Value and slope of tanh(x).
#[inline(always)]
fn tanh(x: f32) -> (f32, f32) {
    // Near zero 1 - 2 / (e^2x + 1) loses its digits; Taylor has them.
    let square = x * x;
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    let y = if square < 0.04 { near } else { far };
    (y, 1.0 - y * y)
}

/// y <- f(y); `slope`, where it is not empty, gets f'(y). (The slope of ReLU needs
/// no memory: it is the sign of its value.)
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn activate(y: &mut [f32], activation: Activation, slope: &mut [f32]) {
    match activation {
        // (`max` would turn NaN into 0.)
        Activation::Relu => y.iter_mut().for_each(|y| *y = if *y <= 0.0 { 0.0 } else { *y }),
        Activation::Mish => smooth(y, slope, mish),
        Activation::Silu => smooth(y, slope, silu),
        Activation::Tanh => smooth(y, slope, tanh),
    }
}

#[inline(always)]
fn smooth(y: &mut [f32], slope: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    if slope.is_empty() {
        y.iter_mut().for_each(|y| *y = f(*y).0);
    } else {
        y.iter_mut().zip(slope).for_each(|(y, slope)| (*y, *slope) = f(*y));
    }
}

/// d <- d f', from the activation's values (ReLU) or slopes (others).
#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn through_activation(d: &mut [f32], activated: &[f32], slope: &[f32]) {
    if slope.is_empty() {
        for (d, y) in d.iter_mut().zip(activated) {
            // All ones where y > 0, from the sign of -y's bits as an integer: a
            // comparison would become a conditional store, which is slow on
            // some processors. (Values of ReLU are never -0.)
            let keep = (y.to_bits() as i32).wrapping_neg() >> 31;
            *d = f32::from_bits(d.to_bits() & keep as u32);
        }
    } else {
        for (d, slope) in d.iter_mut().zip(slope) {
            *d *= slope;
        }
    }
}

/// A matrix in memory: where it begins, and how many numbers later each row does.
#[derive(Clone, Copy)]
pub(super) struct Rows<T> {
    pub first: T,
    pub stride: usize,
}

/// Columns become lines: to[l][j] = from[j][l], for up to 16 lanes of a panel. Lines
/// that no lane fills are zero from there on.
pub(super) fn transpose(to: &mut [Lane], from: &[Lane]) {
    assert_eq!(to.len(), LANES);
    if from.len() < LANES {
        to.fill([0.0; LANES]);
    }
    let (count, stride) = (from.len(), LANES);
    let from = Rows { first: from.as_flattened(), stride };
    turn(Rows { first: to.as_flattened_mut(), stride }, from, count, LANES);
}

/// out (columns, rows) = the transpose of `columns` columns from `first` on, of a
/// matrix whose rows have `width` numbers.
pub(super) fn transpose_matrix(out: &mut [f32], matrix: &[f32], width: usize, first: usize) {
    let rows = matrix.len() / width;
    let columns = out.len() / rows;
    for row in (0..rows).step_by(LANES) {
        for column in (0..columns).step_by(LANES) {
            let (high, wide) = (LANES.min(rows - row), LANES.min(columns - column));
            let from = Rows { first: &matrix[row * width + first + column..], stride: width };
            turn(Rows { first: &mut out[column * rows + row..], stride: rows }, from, high, wide);
        }
    }
}

/// Up to 16 rows of up to 16 numbers, turned.
pub(super) fn turn(to: Rows<&mut [f32]>, from: Rows<&[f32]>, rows: usize, columns: usize) {
    assert!(from.first.len() >= (rows - 1) * from.stride + columns);
    assert!(to.first.len() >= (columns - 1) * to.stride + rows);
    #[cfg(target_arch = "x86_64")]
    if rows == LANES && columns == LANES && is_x86_feature_detected!("avx2") {
        let from = Rows { first: from.first.as_ptr(), stride: from.stride };
        let to = Rows { first: to.first.as_mut_ptr(), stride: to.stride };
        // SAFETY: the processor has AVX2, and 16 rows of 16 numbers are there.
        return unsafe { turn_square(to, from) };
    }
    for column in 0..columns {
        for row in 0..rows {
            to.first[column * to.stride + row] = from.first[row * from.stride + column];
        }
    }
}

/// Four blocks of 8 x 8, each by interleaving pairs of rows, then pairs of pairs,
/// then halves.
///
/// # Safety
/// Both matrices have 16 rows of 16 numbers, and nobody else writes to `to`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn turn_square(to: Rows<*mut f32>, from: Rows<*const f32>) {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    const HALF: usize = LANES / 2;
    for (down, across) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
        let row = |i: usize| -> __m256 {
            // SAFETY: the caller's.
            unsafe { _mm256_loadu_ps(from.first.add((down + i) * from.stride + across)) }
        };
        let pair = |i: usize| {
            let (a, b) = (row(i), row(i + 1));
            (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
        };
        let four = |i: usize| {
            let ((a_low, a_high), (b_low, b_high)) = (pair(i), pair(i + 2));
            [
                _mm256_shuffle_ps::<0x44>(a_low, b_low),
                _mm256_shuffle_ps::<0xee>(a_low, b_low),
                _mm256_shuffle_ps::<0x44>(a_high, b_high),
                _mm256_shuffle_ps::<0xee>(a_high, b_high),
            ]
        };
        for (i, (a, b)) in four(0).into_iter().zip(four(4)).enumerate() {
            let halves =
                [_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)];
            for (half, numbers) in halves.into_iter().enumerate() {
                let line = (across + 4 * half + i) * to.stride + down;
                // SAFETY: the caller's.
                unsafe { _mm256_storeu_ps(to.first.add(line), numbers) };
            }
        }
    }
}

/// What one step of Adam needs beside its vectors.
#[derive(Clone, Copy)]
pub(crate) struct AdamStep {
    /// 1 - beta1.
    pub mean_rate: f32,
    /// 1 - beta2.
    pub square_rate: f32,
    /// 1 / sqrt(1 - beta2^t).
    pub square_correction: f32,
    /// learning rate / (1 - beta1^t).
    pub step: f32,
    /// Added to the denominator.
    pub epsilon: f32,
}

/// Numbers of a vector that one job of an optimiser's step works on.
const PART: usize = 1 << 15;

/// One step of Adam over equally long vectors: parameters, gradient, and the
/// two moments.
pub(crate) fn adam(
    p: &mut [f32],
    g: &[f32],
    (mean, square): (&mut [f32], &mut [f32]),
    s: AdamStep,
) {
    let moments = mean.chunks_mut(PART).zip(square.chunks_mut(PART));
    let parts = p.chunks_mut(PART).zip(g.chunks(PART)).zip(moments);
    pool::run(
        parts.map(|((p, g), (mean, square))| move || adam_part(p, g, mean, square, s)).collect(),
    );
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn adam_part(p: &mut [f32], g: &[f32], mean: &mut [f32], square: &mut [f32], s: AdamStep) {
    let moments = mean.iter_mut().zip(square.iter_mut());
    for ((p, g), (mean, square)) in p.iter_mut().zip(g).zip(moments) {
        *mean += (g - *mean) * s.mean_rate;
        *square += (g * g - *square) * s.square_rate;
        *p -= s.step * *mean / (square.sqrt() * s.square_correction + s.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_has_columns_for_rows() {
        for (rows, width, first, columns) in [(16, 16, 0, 16), (40, 37, 0, 37), (5, 33, 7, 20)] {
            let matrix: Vec<f32> = (0..rows * width).map(|i| i as f32).collect();
            let mut out = vec![0.0; columns * rows];
            transpose_matrix(&mut out, &matrix, width, first);
            for (i, number) in out.iter().enumerate() {
                assert_eq!(*number, matrix[i % rows * width + first + i / rows], "{rows} {width}");
            }
        }
    }

    #[test]
    fn exp_is_good_to_two_units_in_the_last_place_and_saturates_beyond() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "x = {x}: relative error {error:e}");
        }
        assert!(exp(f32::INFINITY).is_finite() && exp(-1e9) > 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    /// Compares value and slope with the exact function and its central difference.
    fn check(ours: fn(f32) -> (f32, f32), exact: impl Fn(f64) -> f64) {
        for i in -4000..4000 {
            let x = i as f32 / 200.0;
            let wide = f64::from(x);
            let (y, slope) = ours(x);
            let value = exact(wide);
            let derivative = (exact(wide + 1e-5) - exact(wide - 1e-5)) / 2e-5;
            assert!((f64::from(y) - value).abs() <= 2e-6 * value.abs() + 1e-9, "value at {x}");
            assert!((f64::from(slope) - derivative).abs() < 2e-6, "slope at {x}");
        }
    }

    #[test]
    fn values_and_slopes_of_the_smooth_activations_are_those_of_f64() {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        check(mish, |x| x * softplus(x).tanh());
        check(silu, |x| x / (1.0 + (-x).exp()));
        check(tanh, f64::tanh);
    }
}
