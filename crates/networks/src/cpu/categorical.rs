//! Loops of categorical values;
//! [`crate::categorical`] says what they compute. A row has one number for each bin.

use super::activation::exp;
use super::lanes::{LANES, Lane};
use crate::instructions::kernel;

/// What the bins are: their values, and the largest of them.
#[derive(Clone, Copy)]
pub(crate) struct Bins<'a> {
    pub values: &'a [f32],
    pub highest: f32,
}

impl Bins<'_> {
    fn per_unit(&self) -> f32 {
        (self.values.len() - 1) as f32 / (2.0 * self.highest)
    }
}

/// Reduces numbers with 16 partial results, the order that vector registers have.
#[inline(always)]
fn reduce(count: usize, start: f32, mut step: impl FnMut(f32, usize) -> f32) -> Lane {
    let mut lanes = [start; LANES];
    let whole = count / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane = step(*lane, first + l);
        }
    }
    for (lane, at) in lanes.iter_mut().zip(whole..count) {
        *lane = step(*lane, at);
    }
    lanes
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    reduce(a.len(), 0.0, |sum, i| sum + a[i] * b[i]).iter().sum()
}

/// p <- softmax of the logits; returns log sum exp.
#[inline(always)]
fn softmax(p: &mut [f32], logits: &[f32]) -> f32 {
    let logits = &logits[..p.len()];
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let lanes = reduce(logits.len(), f32::NEG_INFINITY, |max, i| larger(max, logits[i]));
    let max = lanes.into_iter().fold(f32::NEG_INFINITY, larger);
    p.iter_mut().zip(logits).for_each(|(p, x)| *p = exp(x - max));
    let p_read = &*p;
    let sum: f32 = reduce(p_read.len(), 0.0, |sum, i| sum + p_read[i]).iter().sum();
    let share = 1.0 / sum;
    p.iter_mut().for_each(|p| *p *= share);
    max + sum.ln()
}

kernel! {
    /// The mean of each row's distribution, from logits (rows, bins).
    pub(crate) fn means(out: &mut [f32], logits: &[f32], bins: &[f32]) {
        let mut p = vec![0.0; bins.len()];
        for (out, logits) in out.iter_mut().zip(logits.chunks_exact(bins.len())) {
            softmax(&mut p, logits);
            *out = dot(&p, bins);
        }
    }
}

kernel! {
    /// From the gradient at the means to that at the logits: d_k = p_k (z_k - mean) d.
    pub(crate) fn means_backward(out: &mut [f32], logits: &[f32], d_means: &[f32], bins: &[f32]) {
        let rows = out.chunks_exact_mut(bins.len()).zip(logits.chunks_exact(bins.len()));
        for ((out, logits), d) in rows.zip(d_means) {
            if *d == 0.0 {
                // Of a minimum over an ensemble that is every member but one.
                out.fill(0.0);
                continue;
            }
            softmax(out, logits);
            let mean = dot(out, bins);
            out.iter_mut().zip(bins).for_each(|(p, z)| *p *= (z - mean) * d);
        }
    }
}

/// Rows of the arguments of a cross-entropy.
pub(crate) struct Rows<'a> {
    /// Of every member: (rows, bins).
    pub logits: Vec<&'a [f32]>,
    pub next: Vec<&'a [f32]>,
    /// To every member's gradient.
    pub d_logits: Vec<&'a mut [f32]>,
    /// (rows) each.
    pub reward: &'a [f32],
    pub discount: &'a [f32],
    pub bonus: Option<&'a [f32]>,
    /// 1 / the rows of the whole batch.
    pub share: f32,
}

kernel! {
    /// The sum over members and rows of cross-entropies, and that of the means.
    pub(crate) fn cross_entropy(rows: Rows, bins: Bins) -> (f64, f64) {
        let Rows { logits, next, mut d_logits, reward, discount, bonus, share } = rows;
        let n = bins.values.len();
        let (per_unit, highest) = (bins.per_unit(), bins.highest);
        let [mut p, mut smallest, mut at, mut label] = [(); 4].map(|()| vec![0.0f32; n]);
        let (mut loss, mut mean_sum) = (0.0, 0.0);
        for (row, (reward, discount)) in reward.iter().zip(discount).enumerate() {
            let of_row = row * n..(row + 1) * n;
            let mut least = f32::INFINITY;
            for (member, next) in next.iter().enumerate() {
                softmax(&mut p, &next[of_row.clone()]);
                let mean = dot(&p, bins.values);
                if member == 0 || mean < least {
                    least = mean;
                    smallest.copy_from_slice(&p);
                }
            }
            let bonus = bonus.map_or(0.0, |bonus| bonus[row]);
            for (at, z) in at.iter_mut().zip(bins.values) {
                let y = reward + discount * (z + bonus);
                *at = (y.clamp(-highest, highest) + highest) * per_unit;
            }
            label.fill(0.0);
            for (p, at) in smallest.iter().zip(&at) {
                // (NaN is bin 0, and the label then.)
                let below = (*at as usize).min(n - 2);
                let above = (at - below as f32) * p;
                label[below] += p - above;
                label[below + 1] += above;
            }
            for (logits, d) in logits.iter().zip(&mut d_logits) {
                let (logits, d) = (&logits[of_row.clone()], &mut d[of_row.clone()]);
                let log_sum = softmax(d, logits);
                mean_sum += f64::from(dot(d, bins.values));
                // The label's numbers add up to 1.
                loss += f64::from(log_sum - dot(&label, logits));
                d.iter_mut().zip(&label).for_each(|(d, label)| *d = (*d - label) * share);
            }
        }
        (loss, mean_sum)
    }
}
