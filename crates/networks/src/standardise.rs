//! Numbers measured in deviations from their mean.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal;
    use rand::SeedableRng;
    use tch::Device;

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
