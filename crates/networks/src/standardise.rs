//! Numbers measured in deviations from their mean.

use crate::counter::Tally;
use crate::op::{Op, run};
use crate::storage::{empty, values, values_mut};
use tch::Tensor;

/// (x - mean) / sqrt(var + epsilon), clipped to +-`clip`, outside of any graph: x (B, n) with a mean
/// and a variance (n) for each column, to (B, n). NaN stays NaN.
pub fn standardised(x: &Tensor, mean: &Tensor, var: &Tensor, epsilon: f64, clip: f64) -> Tensor {
    run(Standardise { x: x.contiguous(), mean, var, epsilon, clip })
}

struct Standardise<'a> {
    x: Tensor,
    mean: &'a Tensor,
    var: &'a Tensor,
    epsilon: f64,
    clip: f64,
}

impl Op for Standardise<'_> {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        vec![&self.x, self.mean, self.var]
    }

    fn cpu(self) -> Tensor {
        let (rows, width) = (self.x.size()[0] as usize, self.mean.numel());
        let mut out = empty(rows, width);
        // SAFETY: `out` is new, and nobody writes to the others meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (x, mean, var, to) =
            unsafe { (values(&self.x), values(self.mean), values(self.var), values_mut(&mut out)) };
        let (epsilon, clip) = (self.epsilon as f32, self.clip as f32);
        let scale: Vec<f32> = var.iter().map(|var| 1.0 / (var + epsilon).sqrt()).collect();
        for (to, x) in to.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for (((to, x), mean), scale) in to.iter_mut().zip(x).zip(mean).zip(&scale) {
                *to = ((x - mean) * scale).clamp(-clip, clip);
            }
        }
        out
    }

    fn fallback(self) -> Tensor {
        let scale = (self.var + self.epsilon).rsqrt();
        ((&self.x - self.mean) * scale).clamp(-self.clip, self.clip)
    }
}

/// Moves running averages, the mean and the variance (n) of each column, by 1 / `batches` or
/// `min_weight`, whichever is larger, towards those of a batch x (B, n), outside of any graph. The
/// batch is the first if the count is 1. The variance is the biased one.
pub fn track_moments(
    x: &Tensor,
    mean: &mut Tensor,
    var: &mut Tensor,
    batches: &Tally,
    min_weight: f64,
) {
    run(TrackMoments { x: x.contiguous(), mean, var, batches, min_weight });
}

struct TrackMoments<'a> {
    x: Tensor,
    mean: &'a mut Tensor,
    var: &'a mut Tensor,
    batches: &'a Tally,
    min_weight: f64,
}

impl Op for TrackMoments<'_> {
    type Output = ();

    fn inputs(&self) -> Vec<&Tensor> {
        vec![&self.x, self.mean, self.var]
    }

    fn cpu(self) {
        let (rows, width) = (self.x.size()[0] as usize, self.mean.numel());
        // SAFETY: the averages are borrowed mutably, and nobody writes to `x` meanwhile.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (x, mean, var) =
            unsafe { (values(&self.x), values_mut(self.mean), values_mut(self.var)) };
        let weight = (1.0 / self.batches.on_host() as f64).max(self.min_weight) as f32;
        let share = 1.0 / rows as f32;
        let mut center = vec![0.0; width];
        for row in x.chunks_exact(width) {
            center.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        center.iter_mut().for_each(|sum| *sum *= share);
        let mut square = vec![0.0; width];
        for row in x.chunks_exact(width) {
            for ((sum, x), center) in square.iter_mut().zip(row).zip(&center) {
                *sum += (x - center) * (x - center);
            }
        }
        for ((mean, var), (center, square)) in
            mean.iter_mut().zip(var).zip(center.iter().zip(&square))
        {
            *mean += weight * (center - *mean);
            *var += weight * (square * share - *var);
        }
    }

    fn fallback(self) {
        let rows: &[i64] = &[0];
        let center = self.x.mean_dim(rows, false, None);
        let square = (&self.x - &center).square_().mean_dim(rows, false, None);
        let weight = self.batches.scalar(self.x.kind()).reciprocal().clamp_min(self.min_weight);
        let _ = self.mean.lerp_tensor_(&center, &weight);
        let _ = self.var.lerp_tensor_(&square, &weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal;
    use rand::SeedableRng;
    use tch::Device;

    #[test]
    fn both_forms_of_running_moments_agree() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
        let x = normal(&mut rng, &[40, 23], Device::Cpu) * 9.0 + 100.0;
        let moments = |explicit: bool| {
            let [mut mean, mut var] =
                [0.0, 1.0].map(|value| Tensor::full([23], value, (tch::Kind::Float, Device::Cpu)));
            let mut batches = Tally::new(Device::Cpu);
            for rows in [40, 7, 40, 7] {
                batches.increment();
                let (mean, var, batches) = (&mut mean, &mut var, &batches);
                let x = x.narrow(0, 0, rows);
                let op = TrackMoments { x, mean, var, batches, min_weight: 0.3 };
                if explicit { op.cpu() } else { op.fallback() }
            }
            [mean, var]
        };
        for (ours, theirs) in moments(true).iter().zip(moments(false)) {
            assert!(ours.allclose(&theirs, 1e-5, 0.0, false), "{}", (ours - &theirs).abs().max());
        }
    }

    #[test]
    fn both_forms_agree() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
        let x = normal(&mut rng, &[40, 23], Device::Cpu) * 9.0;
        let mean = normal(&mut rng, &[23], Device::Cpu);
        let var = normal(&mut rng, &[23], Device::Cpu).square();
        let op = || Standardise {
            x: x.shallow_clone(),
            mean: &mean,
            var: &var,
            epsilon: 1e-5,
            clip: 10.0,
        };
        let (ours, theirs) = (op().cpu(), op().fallback());
        assert!(ours.allclose(&theirs, 1e-6, 0.0, false), "{}", (&ours - &theirs).abs().max());
        assert_eq!(ours.abs().max().double_value(&[]), 10.0, "some are clipped");
    }
}
