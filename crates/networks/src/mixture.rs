//! A mixture of Gaussians squashed by tanh: actions of one component, with the density of all.

use crate::cpu;
use crate::gaussian::{Squash, gaussian_log_density, join, split, tanh_log_slope};
use crate::op::{Differentiable, Op, apply};
use crate::storage::{empty, values, values_mut};
use tch::Tensor;

/// tanh(mean_i + sigma_i noise) with its log density in a mixture of M + 1 equal parts: (A S, act)
/// in (-1, 1), and (A S), for A <= M + 1 actions in each of S states. Action i of a state is drawn
/// from component i: it is differentiated through that one, and its density through all of them
/// (Yin and Zhou 2018, semi-implicit distributions).
///
/// `heads` ((M + 1) S, 2 act) are mean and log sigma, which is clamped to `range`, of component 0 in
/// every state, then of component 1, and so on; `noise` (A S, act) is standard normal, action by
/// action.
pub fn squashed_mixture(
    heads: &Tensor,
    noise: &Tensor,
    states: i64,
    range: (f64, f64),
) -> (Tensor, Tensor) {
    let act_dim = noise.size()[1];
    let both = apply(Mixture { parts: Squash::new(heads, noise, range), states: states as usize });
    (both.narrow(1, 0, act_dim), both.select(1, act_dim))
}

/// log of the mean density of Gaussians (M + 1, S, act) at `raw` (A S, act): (A S).
pub fn mixture_log_density(raw: &Tensor, means: &Tensor, log_stds: &Tensor) -> Tensor {
    let (components, states, act_dim) = means.size3().expect("means are (M + 1, S, act)");
    let noise = (raw.view([-1, 1, states, act_dim]) - means) / log_stds.exp();
    let each = gaussian_log_density(&noise, log_stds).sum_dim_intlist(&[3i64][..], false, None);
    each.logsumexp(&[1i64][..], false).flatten(0, 1) - (components as f64).ln()
}

/// Actions and, in the last column, log densities: (A S, act + 1).
struct Mixture {
    parts: Squash,
    states: usize,
}

/// What the backward form needs.
struct Kept {
    /// The actions before tanh: A S act numbers.
    raw: Vec<f32>,
    /// The actions: A S act numbers.
    action: Vec<f32>,
    /// Each component's share of the density at each action: A (M + 1) S numbers.
    shares: Vec<f32>,
}

impl Mixture {
    /// Means and log deviations, (M + 1) S act numbers each, and the noise.
    fn numbers(&self) -> (Vec<f32>, Vec<f32>, &[f32]) {
        // SAFETY: nobody writes to the tensors meanwhile.
        #[expect(unsafe_code, reason = "reads the storage of tensors")]
        let (heads, noise) = unsafe { (values(&self.parts.heads), values(&self.parts.noise)) };
        let (means, log_stds) = split(heads, self.parts.act_dim(), self.parts.act_dim());
        (means, log_stds, noise)
    }
}

impl Op for Mixture {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        self.parts.inputs()
    }

    fn cpu(self) -> Tensor {
        self.forward().0
    }

    fn fallback(self) -> Tensor {
        let Squash { heads, noise, range: (low, high) } = self.parts;
        let (rows, act_dim) = (noise.size()[0], noise.size()[1]);
        let means = heads.narrow(1, 0, act_dim);
        let log_stds = heads.narrow(1, act_dim, act_dim).clamp(low, high);
        let raw = means.narrow(0, 0, rows) + log_stds.narrow(0, 0, rows).exp() * noise;
        let slope = tanh_log_slope(&raw).sum_dim_intlist(&[1i64][..], false, None);
        let by_state = |each: Tensor| each.reshape([-1, self.states as i64, act_dim]);
        let log_prob = mixture_log_density(&raw, &by_state(means), &by_state(log_stds)) - slope;
        Tensor::cat(&[raw.tanh(), log_prob.unsqueeze(1)], 1)
    }
}

impl Differentiable for Mixture {
    type Kept = Kept;

    fn forward(&self) -> (Tensor, Kept) {
        let (act_dim, range, states) = (self.parts.act_dim(), self.parts.range_f32(), self.states);
        let (means, log_stds, noise) = self.numbers();
        let size = states * act_dim;
        let mut raw = means[..noise.len()].to_vec();
        cpu::spread(&mut raw, &log_stds[..noise.len()], noise, range);
        let mut shares = Vec::with_capacity(means.len() / act_dim * (noise.len() / size));
        let mut density = vec![0.0; size];
        for raw in raw.chunks_exact(size) {
            for (mean, log_std) in means.chunks_exact(size).zip(log_stds.chunks_exact(size)) {
                density.copy_from_slice(mean);
                cpu::component(&mut density, log_std, raw, range);
                shares.extend(density.chunks_exact(act_dim).map(|row| row.iter().sum::<f32>()));
            }
        }
        let (mut action, mut log_slope) = (raw.clone(), vec![0.0; raw.len()]);
        cpu::tanh_with_log_slope(&mut action, &mut log_slope);

        let mut both = empty(noise.len() / act_dim, act_dim + 1);
        // SAFETY: `both` is new.
        #[expect(unsafe_code, reason = "writes the storage of a tensor")]
        let out = unsafe { values_mut(&mut both) };
        let components = means.len() / size;
        for (row, out) in out.chunks_exact_mut(act_dim + 1).enumerate() {
            let (action_of_state, state) = (row / states, row % states);
            let of_action =
                &mut shares[action_of_state * components * states..][..components * states];
            let highest =
                of_action[state..].iter().step_by(states).copied().fold(f32::MIN, f32::max);
            let mut sum = 0.0;
            for share in of_action[state..].iter_mut().step_by(states) {
                *share = (*share - highest).exp();
                sum += *share;
            }
            of_action[state..].iter_mut().step_by(states).for_each(|share| *share /= sum);
            let of_row = row * act_dim..(row + 1) * act_dim;
            let slope: f32 = log_slope[of_row.clone()].iter().sum();
            out[..act_dim].copy_from_slice(&action[of_row]);
            out[act_dim] = highest + (sum / components as f32).ln() - slope;
        }
        (both, Kept { raw, action, shares })
    }

    fn backward(&self, kept: &Kept, d_output: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        let (act_dim, range, states) = (self.parts.act_dim(), self.parts.range_f32(), self.states);
        let (means, log_stds, noise) = self.numbers();
        let (size, components) = (states * act_dim, means.len() / (states * act_dim));
        let d_output = d_output.contiguous();
        let mut d_heads = empty(means.len() / act_dim, 2 * act_dim);
        // SAFETY: `d_heads` is new, and nobody writes to the other meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (d_output, out) = unsafe { (values(&d_output), values_mut(&mut d_heads)) };
        let (d_action, d_log_prob) = split(d_output, act_dim, 1);

        // At the actions before tanh: by the action, by the slope, by every component.
        let mut d_raw: Vec<f32> = (d_action.iter().zip(&kept.action).enumerate())
            .map(|(i, (d, a))| d * (1.0 - a * a) + d_log_prob[i / act_dim] * 2.0 * a)
            .collect();
        let (mut d_means, mut d_log_stds) = (vec![0.0; means.len()], vec![0.0; means.len()]);
        let (mut mean, mut log_std, mut d) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
        for (i, shares) in kept.shares.chunks_exact(states).enumerate() {
            // The density of one action of every state in one component.
            let (action, component) = (i / components, i % components);
            let of_action = action * size..(action + 1) * size;
            let of_component = component * size..(component + 1) * size;
            mean.copy_from_slice(&means[of_component.clone()]);
            log_std.copy_from_slice(&log_stds[of_component.clone()]);
            let d_density = shares.iter().zip(&d_log_prob[action * states..]);
            for (d, (share, d_log_prob)) in d.chunks_exact_mut(act_dim).zip(d_density) {
                d.fill(share * d_log_prob);
            }
            cpu::component_backward(
                &mut mean,
                &mut log_std,
                &kept.raw[of_action.clone()],
                &d,
                range,
            );
            let add = |sums: &mut [f32], terms: &[f32], sign: f32| {
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += sign * term);
            };
            add(&mut d_raw[of_action], &mean, -1.0);
            add(&mut d_means[of_component.clone()], &mean, 1.0);
            add(&mut d_log_stds[of_component], &log_std, 1.0);
        }
        for (i, d) in d_raw.iter().enumerate() {
            d_means[i] += d;
            if (range.0..=range.1).contains(&log_stds[i]) {
                d_log_stds[i] += d * log_stds[i].exp() * noise[i];
            }
        }
        join(out, &d_means, &d_log_stds, act_dim);
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
        for (components, actions, states, act_dim, spread) in
            [(1, 1, 3, 2, 1.0), (2, 1, 7, 3, 1.0), (2, 2, 7, 3, 1.0), (5, 3, 64, 6, 3.0)]
        {
            let (shape, rows) = ([components * states, 2 * act_dim], actions * states);
            let heads = crate::normal(&mut rng, &shape, Device::Cpu) * spread;
            let noise = crate::normal(&mut rng, &[rows, act_dim], Device::Cpu);
            let weights = crate::normal(&mut rng, &[rows, act_dim + 1], Device::Cpu);
            let run = |explicit: bool| {
                let leaf = heads.copy().set_requires_grad(true);
                let parts = Squash::new(&leaf, &noise, (-3.0, 1.5));
                let op = Mixture { parts, states: states as usize };
                let both = if explicit { apply(op) } else { op.fallback() };
                let scalar = (&both * &weights).sum(Kind::Float);
                let gradient = Tensor::run_backward(&[scalar], &[leaf], false, false).remove(0);
                [both.detach(), gradient]
            };
            for (ours, theirs) in run(true).iter().zip(run(false)) {
                let close = ours.allclose(&theirs, 1e-4, 1e-5, false);
                let worst = (ours - &theirs).abs().max();
                assert!(
                    close,
                    "{components} components, {actions} actions in {states} states: {worst}"
                );
            }
        }
    }

    #[test]
    fn one_component_is_the_squashed_gaussian() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
        let heads = crate::normal(&mut rng, &[9, 4], Device::Cpu);
        let noise = crate::normal(&mut rng, &[9, 2], Device::Cpu);
        let (ours, theirs) = (
            squashed_mixture(&heads, &noise, 9, (-3.0, 1.5)),
            squashed_gaussian(&heads, &noise, (-3.0, 1.5)),
        );
        assert!(ours.0.allclose(&theirs.0, 1e-6, 1e-6, false));
        assert!(ours.1.allclose(&theirs.1, 1e-5, 1e-5, false));
    }
}
