//! A mixture of Gaussians squashed by tanh: actions of one component, with the density of all.

use crate::cpu;
use crate::gaussian::{Squash, gaussian_log_density, join, split, tanh_log_slope};
use crate::op::{Differentiable, Op, apply};
use crate::storage::{empty, values, values_mut};
use tch::Tensor;

/// tanh(mean_0 + sigma_0 noise) with its log density in a mixture of equal parts: (B, act) in
/// (-1, 1), and (B). The action is differentiated through its own component, the first, and the
/// density through all of them (Yin and Zhou 2018, semi-implicit distributions).
///
/// `heads` ((M + 1) B, 2 act) are mean and log sigma, which is clamped to `range`, of component 0 for
/// every row, then of component 1, and so on; `noise` (B, act) is standard normal.
pub fn squashed_mixture(heads: &Tensor, noise: &Tensor, range: (f64, f64)) -> (Tensor, Tensor) {
    let act_dim = noise.size()[1];
    let both = apply(Mixture(Squash::new(heads, noise, range)));
    (both.narrow(1, 0, act_dim), both.select(1, act_dim))
}

/// log of the mean density of Gaussians (M + 1, B, act) at `raw` (B, act): (B).
pub fn mixture_log_density(raw: &Tensor, means: &Tensor, log_stds: &Tensor) -> Tensor {
    let noise = (raw.unsqueeze(0) - means) / log_stds.exp();
    let each = gaussian_log_density(&noise, log_stds).sum_dim_intlist(&[2i64][..], false, None);
    each.logsumexp(&[0i64][..], false) - (means.size()[0] as f64).ln()
}

/// Actions and, in the last column, log densities: (B, act + 1).
struct Mixture(Squash);

/// What the backward form needs.
struct Kept {
    /// The action before tanh: B act numbers.
    raw: Vec<f32>,
    /// The action: B act numbers.
    action: Vec<f32>,
    /// Each component's share of the density at the action: (M + 1) B numbers.
    shares: Vec<f32>,
}

impl Mixture {
    /// Means and log deviations, (M + 1) B act numbers each, and the noise.
    fn numbers(&self) -> (Vec<f32>, Vec<f32>, &[f32]) {
        // SAFETY: nobody writes to the tensors meanwhile.
        #[expect(unsafe_code, reason = "reads the storage of tensors")]
        let (heads, noise) = unsafe { (values(&self.0.heads), values(&self.0.noise)) };
        let (means, log_stds) = split(heads, self.0.act_dim(), self.0.act_dim());
        (means, log_stds, noise)
    }
}

impl Op for Mixture {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        self.0.inputs()
    }

    fn cpu(self) -> Tensor {
        self.forward().0
    }

    fn fallback(self) -> Tensor {
        let Squash { heads, noise, range: (low, high) } = self.0;
        let (rows, act_dim) = (noise.size()[0], noise.size()[1]);
        let heads = heads.view([-1, rows, 2 * act_dim]);
        let means = heads.narrow(2, 0, act_dim);
        let log_stds = heads.narrow(2, act_dim, act_dim).clamp(low, high);
        let raw = means.get(0) + log_stds.get(0).exp() * noise;
        let slope = tanh_log_slope(&raw).sum_dim_intlist(&[1i64][..], false, None);
        let log_prob = mixture_log_density(&raw, &means, &log_stds) - slope;
        Tensor::cat(&[raw.tanh(), log_prob.unsqueeze(1)], 1)
    }
}

impl Differentiable for Mixture {
    type Kept = Kept;

    fn forward(&self) -> (Tensor, Kept) {
        let (act_dim, range) = (self.0.act_dim(), self.0.range_f32());
        let (mut means, log_stds, noise) = self.numbers();
        let (size, rows) = (noise.len(), noise.len() / act_dim);
        let mut raw = means[..size].to_vec();
        cpu::spread(&mut raw, &log_stds[..size], noise, range);
        let mut shares = Vec::with_capacity(means.len() / act_dim);
        for (mean, log_std) in means.chunks_exact_mut(size).zip(log_stds.chunks_exact(size)) {
            cpu::component(mean, log_std, &raw, range);
            shares.extend(mean.chunks_exact(act_dim).map(|row| row.iter().sum::<f32>()));
        }
        let (mut action, mut log_slope) = (raw.clone(), vec![0.0; size]);
        cpu::tanh_with_log_slope(&mut action, &mut log_slope);

        let mut both = empty(rows, act_dim + 1);
        // SAFETY: `both` is new.
        #[expect(unsafe_code, reason = "writes the storage of a tensor")]
        let out = unsafe { values_mut(&mut both) };
        let components = (shares.len() / rows) as f32;
        for (b, out) in out.chunks_exact_mut(act_dim + 1).enumerate() {
            let highest = shares[b..].iter().step_by(rows).copied().fold(f32::MIN, f32::max);
            let mut sum = 0.0;
            for share in shares[b..].iter_mut().step_by(rows) {
                *share = (*share - highest).exp();
                sum += *share;
            }
            shares[b..].iter_mut().step_by(rows).for_each(|share| *share /= sum);
            let of_row = b * act_dim..(b + 1) * act_dim;
            let slope: f32 = log_slope[of_row.clone()].iter().sum();
            out[..act_dim].copy_from_slice(&action[of_row]);
            out[act_dim] = highest + (sum / components).ln() - slope;
        }
        (both, Kept { raw, action, shares })
    }

    fn backward(&self, kept: &Kept, d_output: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        let (act_dim, range) = (self.0.act_dim(), self.0.range_f32());
        let (mut means, mut log_stds, noise) = self.numbers();
        let size = noise.len();
        let d_output = d_output.contiguous();
        let mut d_heads = empty(means.len() / act_dim, 2 * act_dim);
        // SAFETY: `d_heads` is new, and nobody writes to the other meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (d_output, out) = unsafe { (values(&d_output), values_mut(&mut d_heads)) };
        let (d_action, d_log_prob) = split(d_output, act_dim, 1);
        let own: Vec<f32> = log_stds[..size].to_vec();

        // At the action before tanh: by the action, by the slope, by every component.
        let mut d_raw: Vec<f32> = (d_action.iter().zip(&kept.action).enumerate())
            .map(|(i, (d, a))| d * (1.0 - a * a) + d_log_prob[i / act_dim] * 2.0 * a)
            .collect();
        let parts = means.chunks_exact_mut(size).zip(log_stds.chunks_exact_mut(size));
        for ((mean, log_std), shares) in parts.zip(kept.shares.chunks_exact(size / act_dim)) {
            let d: Vec<f32> = (shares.iter().zip(&d_log_prob))
                .flat_map(|(share, d)| std::iter::repeat_n(share * d, act_dim))
                .collect();
            cpu::component_backward(mean, log_std, &kept.raw, &d, range);
            d_raw.iter_mut().zip(mean.iter()).for_each(|(d_raw, d_mean)| *d_raw -= d_mean);
        }
        for (i, d) in d_raw.iter().enumerate() {
            means[i] += d;
            if (range.0..=range.1).contains(&own[i]) {
                log_stds[i] += d * own[i].exp() * noise[i];
            }
        }
        join(out, &means, &log_stds, act_dim);
        vec![Some(d_heads), None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashed_gaussian;
    use rand::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn both_forms_agree_in_values_and_gradients() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
        for (components, rows, act_dim, spread) in [(1, 3, 2, 1.0), (2, 7, 3, 1.0), (5, 64, 6, 3.0)]
        {
            let shape = [components * rows, 2 * act_dim];
            let heads = crate::normal(&mut rng, &shape, Device::Cpu) * spread;
            let noise = crate::normal(&mut rng, &[rows, act_dim], Device::Cpu);
            let weights = crate::normal(&mut rng, &[rows, act_dim + 1], Device::Cpu);
            let run = |explicit: bool| {
                let leaf = heads.copy().set_requires_grad(true);
                let op = Mixture(Squash::new(&leaf, &noise, (-3.0, 1.5)));
                let both = if explicit { apply(op) } else { op.fallback() };
                let scalar = (&both * &weights).sum(Kind::Float);
                let gradient = Tensor::run_backward(&[scalar], &[leaf], false, false).remove(0);
                [both.detach(), gradient]
            };
            for (ours, theirs) in run(true).iter().zip(run(false)) {
                let close = ours.allclose(&theirs, 1e-4, 1e-5, false);
                let worst = (ours - &theirs).abs().max();
                assert!(close, "{components} components of {rows} x {act_dim}: {worst}");
            }
        }
    }

    #[test]
    fn one_component_is_the_squashed_gaussian() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
        let heads = crate::normal(&mut rng, &[9, 4], Device::Cpu);
        let noise = crate::normal(&mut rng, &[9, 2], Device::Cpu);
        let (ours, theirs) = (
            squashed_mixture(&heads, &noise, (-3.0, 1.5)),
            squashed_gaussian(&heads, &noise, (-3.0, 1.5)),
        );
        assert!(ours.0.allclose(&theirs.0, 1e-6, 1e-6, false));
        assert!(ours.1.allclose(&theirs.1, 1e-5, 1e-5, false));
    }
}
