//! A Gaussian squashed by tanh, with its density.

use crate::cpu;
use crate::op::{Differentiable, Op, apply, run};
use crate::storage::{empty, values, values_mut};
use std::f64::consts::{E, LN_2, PI};
use tch::Tensor;

/// tanh(mean + sigma noise) with its log density (SAC, Haarnoja et al. 2018b,
/// appendix C): (B, act) in (-1, 1), and (B).
///
/// `heads` (B, 2 act) are the mean and then log sigma, which is clamped to `range`;
/// `noise` (B, act) is standard normal.
pub fn squashed_gaussian(heads: &Tensor, noise: &Tensor, range: (f64, f64)) -> (Tensor, Tensor) {
    let act_dim = noise.size()[1];
    let both = apply(Squash::new(heads, noise, range));
    (both.narrow(1, 0, act_dim), both.select(1, act_dim))
}

/// The same actions (B, act) without their density, outside of any graph: for acting,
/// where every operation counts.
pub fn squashed_action(heads: &Tensor, noise: &Tensor, range: (f64, f64)) -> Tensor {
    run(SquashAction(Squash::new(heads, noise, range)))
}

/// Actions and, in the last column, log densities: (B, act + 1).
pub(crate) struct Squash {
    pub heads: Tensor,
    pub noise: Tensor,
    pub range: (f64, f64),
}

impl Squash {
    pub fn new(heads: &Tensor, noise: &Tensor, range: (f64, f64)) -> Self {
        Self { heads: heads.contiguous(), noise: noise.detach().contiguous(), range }
    }

    pub fn act_dim(&self) -> usize {
        self.noise.size()[1] as usize
    }

    pub fn range_f32(&self) -> (f32, f32) {
        (self.range.0 as f32, self.range.1 as f32)
    }

    /// log sigma, and the action before squashing.
    fn operations(&self) -> (Tensor, Tensor) {
        let (act_dim, (low, high)) = (self.noise.size()[1], self.range);
        let log_std = self.heads.narrow(1, act_dim, act_dim).clamp(low, high);
        let raw = self.heads.narrow(1, 0, act_dim) + log_std.exp() * &self.noise;
        (log_std, raw)
    }
}

impl Op for Squash {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        vec![&self.heads, &self.noise]
    }

    fn cpu(self) -> Tensor {
        self.forward().0
    }

    fn fallback(self) -> Tensor {
        let (log_std, raw) = self.operations();
        let log_prob = squashed_log_prob(&self.noise, &log_std, &raw);
        Tensor::cat(&[raw.tanh(), log_prob.unsqueeze(1)], 1)
    }
}

impl Differentiable for Squash {
    /// The output.
    type Kept = Tensor;

    fn forward(&self) -> (Tensor, Tensor) {
        let act_dim = self.act_dim();
        let mut both = empty(self.noise.size()[0] as usize, act_dim + 1);
        // SAFETY: `both` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (heads, noise, out) =
            unsafe { (values(&self.heads), values(&self.noise), values_mut(&mut both)) };
        let (mut action, mut log_prob) = split(heads, act_dim, act_dim);
        cpu::squash(&mut action, &mut log_prob, noise, self.range_f32());
        let parts = action.chunks_exact(act_dim).zip(log_prob.chunks_exact(act_dim));
        for (row, (action, log_prob)) in out.chunks_exact_mut(act_dim + 1).zip(parts) {
            row[..act_dim].copy_from_slice(action);
            row[act_dim] = log_prob.iter().sum();
        }
        // (Kept as another tensor: a node must not own its own output.)
        let kept = both.detach();
        (both, kept)
    }

    fn backward(&self, both: &Tensor, d_output: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        let act_dim = self.act_dim();
        let d_output = d_output.contiguous();
        let mut d_heads = empty(self.noise.size()[0] as usize, 2 * act_dim);
        // SAFETY: `d_heads` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (heads, noise, both, d_output, out) = unsafe {
            (
                values(&self.heads),
                values(&self.noise),
                values(both),
                values(&d_output),
                values_mut(&mut d_heads),
            )
        };
        let (_, log_std) = split(heads, act_dim, act_dim);
        let (action, _) = split(both, act_dim, 1);
        let (mut d_mean, d_log_prob) = split(d_output, act_dim, 1);
        let mut d_log_std: Vec<f32> =
            d_log_prob.iter().flat_map(|d| std::iter::repeat_n(*d, act_dim)).collect();
        let range = self.range_f32();
        cpu::squash_backward(&mut d_mean, &mut d_log_std, &action, &log_std, noise, range);
        join(out, &d_mean, &d_log_std, act_dim);
        vec![Some(d_heads), None]
    }
}

/// The actions alone: (B, act).
struct SquashAction(Squash);

impl Op for SquashAction {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        self.0.inputs()
    }

    fn cpu(self) -> Tensor {
        let act_dim = self.0.act_dim();
        let mut out = empty(self.0.noise.size()[0] as usize, act_dim);
        // SAFETY: `out` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (heads, noise, action) =
            unsafe { (values(&self.0.heads), values(&self.0.noise), values_mut(&mut out)) };
        let (mean, log_std) = split(heads, act_dim, act_dim);
        action.copy_from_slice(&mean);
        cpu::squash_action(action, &log_std, noise, self.0.range_f32());
        out
    }

    fn fallback(self) -> Tensor {
        self.0.operations().1.tanh()
    }
}

/// The reverse of [`split`], for two parts of the same size.
pub(crate) fn join(rows: &mut [f32], a: &[f32], b: &[f32], size: usize) {
    let parts = a.chunks_exact(size).zip(b.chunks_exact(size));
    for (row, (a, b)) in rows.chunks_exact_mut(2 * size).zip(parts) {
        row[..size].copy_from_slice(a);
        row[size..].copy_from_slice(b);
    }
}

/// Rows of two parts as two vectors.
pub(crate) fn split(rows: &[f32], first: usize, second: usize) -> (Vec<f32>, Vec<f32>) {
    let count = rows.len() / (first + second);
    let (mut a, mut b) = (Vec::with_capacity(count * first), Vec::with_capacity(count * second));
    for row in rows.chunks_exact(first + second) {
        a.extend_from_slice(&row[..first]);
        b.extend_from_slice(&row[first..]);
    }
    (a, b)
}

/// The log density of tanh(raw), where raw (B, act) is `noise` deviations from the
/// mean: (B).
pub fn squashed_log_prob(noise: &Tensor, log_std: &Tensor, raw: &Tensor) -> Tensor {
    let each = gaussian_log_density(noise, log_std) - tanh_log_slope(raw);
    each.sum_dim_intlist(&[1i64][..], false, None)
}

/// log N(mean + sigma noise; mean, sigma) of every coordinate, in nats: noise and
/// log sigma of one shape (or shapes that broadcast) to that shape.
///
/// A density over actions is the sum over their last dimension.
pub fn gaussian_log_density(noise: &Tensor, log_std: &Tensor) -> Tensor {
    noise * noise * -0.5 - log_std - 0.5 * (2.0 * PI).ln()
}

/// log |d tanh(x) / dx| of every coordinate, in the shape of `raw` = x.
///
/// It equals log(1 - tanh(x)^2), written as 2 (log 2 - x - softplus(-2 x)), which
/// keeps its digits far from zero (Haarnoja et al. 2018b, appendix C).
pub fn tanh_log_slope(raw: &Tensor) -> Tensor {
    (LN_2 - raw - (raw * -2.0).softplus()) * 2.0
}

/// atanh of actions, which are first clamped to 0.001 from their bounds.
pub fn atanh_clamped(action: &Tensor) -> Tensor {
    const MARGIN: f64 = 1e-3;
    action.clamp(MARGIN - 1.0, 1.0 - MARGIN).atanh()
}

/// The entropy of a Gaussian of deviation 1 in one dimension, in nats.
pub fn unit_gaussian_entropy() -> f64 {
    0.5 * (2.0 * PI * E).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn both_forms_agree_in_values_and_gradients() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
        for (rows, act_dim, spread) in [(1, 1, 1.0), (7, 3, 1.0), (64, 6, 4.0)] {
            let heads = crate::normal(&mut rng, &[rows, 2 * act_dim], Device::Cpu) * spread;
            let noise = crate::normal(&mut rng, &[rows, act_dim], Device::Cpu);
            let weights = crate::normal(&mut rng, &[rows, act_dim + 1], Device::Cpu);
            let range = (-3.0, 1.5);
            let run = |explicit: bool| {
                let leaf = heads.copy().set_requires_grad(true);
                let op = Squash::new(&leaf, &noise, range);
                let both = if explicit { apply(op) } else { op.fallback() };
                let scalar = (&both * &weights).sum(Kind::Float);
                let gradient = Tensor::run_backward(&[scalar], &[leaf], false, false).remove(0);
                [both.detach(), gradient]
            };
            let (ours, theirs) = (run(true), run(false));
            for (ours, theirs) in ours.iter().zip(theirs) {
                let close = ours.allclose(&theirs, 1e-5, 1e-5, false);
                assert!(close, "{rows} x {act_dim}: {}", (ours - &theirs).abs().max());
            }
            // Acting has the same bits.
            let action = squashed_action(&heads, &noise, range);
            assert_eq!(action, ours[0].narrow(1, 0, act_dim), "{rows} x {act_dim}");
            let exact = SquashAction(Squash::new(&heads, &noise, range)).fallback();
            assert!(action.allclose(&exact, 1e-5, 1e-6, false), "{rows} x {act_dim}");
            // Far beyond the clamp, where sigma itself would be infinite, too.
            let _ = heads.narrow(1, act_dim, act_dim).fill_(100.0);
            let (ours, theirs) = (run(true), run(false));
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(ours.allclose(&theirs, 1e-5, 1e-5, false), "{rows} x {act_dim}");
            }
        }
    }

    #[test]
    fn element_wise_densities_are_those_of_their_definitions_in_f64() {
        let x = Tensor::linspace(-8.0, 8.0, 33, (Kind::Double, Device::Cpu));
        let exact: Tensor = 1.0 - x.tanh().square();
        let exact = exact.log();
        // (The definition itself loses digits to 1 - tanh^2 far from zero.)
        assert!(tanh_log_slope(&x).allclose(&exact, 1e-8, 1e-8, false));
        let log_std = Tensor::linspace(-3.0, 1.0, 33, (Kind::Double, Device::Cpu));
        let sigma = log_std.exp();
        let density = (x.square() * -0.5).exp() / (sigma * (2.0 * PI).sqrt());
        assert!(gaussian_log_density(&x, &log_std).exp().allclose(&density, 1e-12, 0.0, false));
    }
}
