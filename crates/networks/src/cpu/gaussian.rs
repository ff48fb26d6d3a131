//! Loops of the squashed Gaussian;
//! [`crate::squashed_gaussian`] says what they compute. Every slice has a number for each
//! coordinate of each action.

use super::activation::{exp, tanh};
use crate::instructions::kernel;
use std::f32::consts::LN_2;

/// log(2 pi) / 2.
const HALF_LOG_TWO_PI: f32 = 0.918_938_5;

/// log(1 + e) for e in [0, 1], by the series of 2 atanh(e / (2 + e)).
#[inline(always)]
fn log_1p(e: f32) -> f32 {
    let z = e / (2.0 + e);
    let square = z * z; // at most 1/9: the first term left out is below 1e-8
    let p = 1.0 / 15.0;
    let p = p * square + 1.0 / 13.0;
    let p = p * square + 1.0 / 11.0;
    let p = p * square + 1.0 / 9.0;
    let p = p * square + 1.0 / 7.0;
    let p = p * square + 1.0 / 5.0;
    let p = p * square + 1.0 / 3.0;
    let p = p * square + 1.0;
    2.0 * z * p
}

/// log |d tanh(x) / dx| = 2 (log 2 - |x| - log(1 + exp(-2 |x|))).
#[inline(always)]
fn log_slope(x: f32) -> f32 {
    2.0 * (LN_2 - x.abs() - log_1p(exp(-2.0 * x.abs())))
}

kernel! {
    /// `mean` becomes the action, and `log_std` (clamped to `range`) the coordinate's part
    /// of the log density.
    pub(crate) fn squash(mean: &mut [f32], log_std: &mut [f32], noise: &[f32], range: (f32, f32)) {
        for ((mean, log_std), noise) in mean.iter_mut().zip(log_std).zip(noise) {
            let clamped = log_std.clamp(range.0, range.1);
            let x = *mean + exp(clamped) * noise;
            *mean = tanh(x).0;
            *log_std = -0.5 * noise * noise - clamped - HALF_LOG_TWO_PI - log_slope(x);
        }
    }
}

kernel! {
    /// `mean` becomes the action: the same bits as [`squash`]'s, without the density.
    pub(crate) fn squash_action(mean: &mut [f32], log_std: &[f32], noise: &[f32], range: (f32, f32)) {
        for ((mean, log_std), noise) in mean.iter_mut().zip(log_std).zip(noise) {
            *mean = tanh(*mean + exp(log_std.clamp(range.0, range.1)) * noise).0;
        }
    }
}

kernel! {
    /// The backward pass: gradients at action and log density become those at mean and log
    /// sigma.
    pub(crate) fn squash_backward(
        d_action: &mut [f32],
        d_log_prob: &mut [f32],
        action: &[f32],
        log_std: &[f32],
        noise: &[f32],
        range: (f32, f32),
    ) {
        let gradients = d_action.iter_mut().zip(d_log_prob.iter_mut());
        for (((d, d_log), action), (log_std, noise)) in
            gradients.zip(action).zip(log_std.iter().zip(noise))
        {
            // The log slope's derivative is -2 tanh(x).
            let d_x = *d * (1.0 - action * action) + *d_log * 2.0 * action;
            let inside = if *log_std >= range.0 && *log_std <= range.1 { 1.0 } else { 0.0 };
            *d = d_x;
            // (Clamped, because an infinite sigma times 0 would be NaN.)
            let sigma = exp(log_std.clamp(range.0, range.1));
            *d_log = (d_x * sigma * noise - *d_log) * inside;
        }
    }
}

kernel! {
    /// `mean` becomes the action before tanh.
    pub(crate) fn spread(mean: &mut [f32], log_std: &[f32], noise: &[f32], range: (f32, f32)) {
        for ((mean, log_std), noise) in mean.iter_mut().zip(log_std).zip(noise) {
            *mean += exp(log_std.clamp(range.0, range.1)) * noise;
        }
    }
}

kernel! {
    /// The log density at `x` of a component without squashing, in the place of its `mean`.
    pub(crate) fn component(mean: &mut [f32], log_std: &[f32], x: &[f32], range: (f32, f32)) {
        for ((mean, log_std), x) in mean.iter_mut().zip(log_std).zip(x) {
            let clamped = log_std.clamp(range.0, range.1);
            let z = (x - *mean) * exp(-clamped);
            *mean = -0.5 * z * z - clamped - HALF_LOG_TWO_PI;
        }
    }
}

kernel! {
    /// The backward pass of [`component`]: `mean` and `log_std` become the gradients there, for the
    /// gradient `d` at the density; the one at `x` is minus that at the mean.
    pub(crate) fn component_backward(
        mean: &mut [f32],
        log_std: &mut [f32],
        x: &[f32],
        d: &[f32],
        range: (f32, f32),
    ) {
        for ((mean, log_std), (x, d)) in mean.iter_mut().zip(log_std).zip(x.iter().zip(d)) {
            let inside = if *log_std >= range.0 && *log_std <= range.1 { 1.0 } else { 0.0 };
            let inverse = exp(-log_std.clamp(range.0, range.1));
            let z = (x - *mean) * inverse;
            *mean = d * z * inverse;
            *log_std = d * (z * z - 1.0) * inside;
        }
    }
}

kernel! {
    /// `x` becomes tanh x, and `slopes` its log slope.
    pub(crate) fn tanh_with_log_slope(x: &mut [f32], slopes: &mut [f32]) {
        for (x, slope) in x.iter_mut().zip(slopes) {
            *slope = log_slope(*x);
            *x = tanh(*x).0;
        }
    }
}
