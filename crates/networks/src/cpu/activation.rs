//! Activations with their slopes.

use crate::instructions::kernel;
use crate::layout::{Activation, GELU_CUBIC, GELU_SCALE};

/// e^x to 2 units in the last place, for x in [-87, 88]; beyond, the value there.
///
/// x = k log 2 + r with |r| <= log 2 / 2; e^r by its Taylor polynomial of degree
/// 7 (its remainder is below 6e-9), times 2^k by the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
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

/// Value and slope of x sigmoid(u(x)), from u and its slope.
#[inline(always)]
fn gated(x: f32, u: f32, slope: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-u));
    (x * s, s + x * s * (1.0 - s) * slope)
}

/// Value and slope of Swish.
#[inline(always)]
fn swish(x: f32) -> (f32, f32) {
    gated(x, x, 1.0)
}

/// Value and slope of GELU.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const SCALE: f32 = 2.0 * GELU_SCALE as f32;
    const CUBIC: f32 = GELU_CUBIC as f32;
    let square = x * x;
    gated(x, SCALE * x * (1.0 + CUBIC * square), SCALE * (1.0 + 3.0 * CUBIC * square))
}

/// Value and slope of ELU.
#[inline(always)]
fn elu(x: f32) -> (f32, f32) {
    let below = x.min(0.0);
    let slope = exp(below);
    // Near zero exp(x) - 1 loses its digits; Taylor has them.
    let near = 1.0 + below * (1.0 / 6.0 + below * (1.0 / 24.0 + below * (1.0 / 120.0))) * 2.0;
    let near = below + 0.5 * below * below * near;
    let y = if below > -0.2 { near } else { slope - 1.0 };
    (if x <= 0.0 { y } else { x }, slope) // NaN stays NaN
}

/// Value and slope of tanh(x).
#[inline(always)]
pub(super) fn tanh(x: f32) -> (f32, f32) {
    // Near zero 1 - 2 / (e^2x + 1) loses its digits; Taylor has them.
    let square = x * x;
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    let y = if square < 0.04 { near } else { far };
    (y, 1.0 - y * y)
}

kernel! {
    /// y <- f(y); `slope`, where it is not empty, gets f'(y). (The slope of ReLU needs
    /// no memory: it is the sign of its value.)
    pub(super) fn activate(y: &mut [f32], activation: Activation, slope: &mut [f32]) {
        match activation {
            // (`max` would turn NaN into 0.)
            Activation::Relu => y.iter_mut().for_each(|y| *y = if *y <= 0.0 { 0.0 } else { *y }),
            Activation::Mish => smooth(y, slope, mish),
            Activation::Swish => smooth(y, slope, swish),
            Activation::Gelu => smooth(y, slope, gelu),
            Activation::Elu => smooth(y, slope, elu),
        }
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

kernel! {
    /// The backward pass: d <- d f', from the activation's values (ReLU) or slopes
    /// (others).
    pub(super) fn activate_backward(d: &mut [f32], activated: &[f32], slope: &[f32]) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let derivative = (exact(wide + 1e-6) - exact(wide - 1e-6)) / 2e-6;
            assert!((f64::from(y) - value).abs() <= 2e-6 * value.abs() + 1e-9, "value at {x}");
            assert!((f64::from(slope) - derivative).abs() < 2e-6, "slope at {x}");
        }
    }

    #[test]
    fn values_and_slopes_of_the_smooth_activations_are_those_of_f64() {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        check(mish, |x| x * softplus(x).tanh());
        check(tanh, f64::tanh);
        check(swish, |x| x / (1.0 + (-x).exp()));
        let u = |x: f64| GELU_SCALE * (x + GELU_CUBIC * x.powi(3));
        check(gelu, |x| x / (1.0 + (-2.0 * u(x)).exp()));
        check(elu, |x| if x > 0.0 { x } else { x.exp_m1() });
    }
}
