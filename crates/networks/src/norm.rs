//! Normalisation layers: LayerNorm, and batch (re)normalisation.

use crate::params::ParamsBuilder;
use tch::Tensor;

/// How a network with batch normalisation is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormMode {
    /// Normalise with the running statistics, which do not change.
    Running,
    /// Normalise with the batch's statistics and move the running ones.
    Batch(Option<Renorm>),
    /// Normalise with the batch's statistics; the running ones do not change.
    BatchOnly,
}

/// Limits of batch renormalisation (Ioffe 2017): the batch's statistics are
/// corrected towards the running ones by r and d, within these limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Renorm {
    /// r lies in [1/r_max, r_max].
    pub r_max: f64,
    /// d lies in [-d_max, d_max].
    pub d_max: f64,
}

impl Renorm {
    /// CrossQ's, as published.
    pub const CROSSQ: Self = Self { r_max: 3.0, d_max: 5.0 };
}

/// Batch normalisation over the rows of a matrix.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) mean: usize,
    pub(crate) var: usize,
    pub(crate) momentum: f64,
}

/// CrossQ's epsilon (Bhatt et al. 2024).
pub(crate) const BATCH_EPSILON: f64 = 1e-3;
/// PyTorch's epsilon for LayerNorm.
pub(crate) const LAYER_EPSILON: f64 = 1e-5;

impl BatchNorm {
    /// A layer over `features` columns. Scale and shift go to `params`, the
    /// running statistics to `stats`; in `NormMode::Batch` they become
    /// momentum running + (1 - momentum) batch.
    pub fn new(
        params: &mut ParamsBuilder,
        stats: &mut ParamsBuilder,
        name: &str,
        features: i64,
        momentum: f64,
    ) -> Self {
        Self {
            weight: params.constant(format!("{name}.weight"), &[features], 1.0),
            bias: params.constant(format!("{name}.bias"), &[features], 0.0),
            mean: stats.constant(format!("{name}.mean"), &[features], 0.0),
            var: stats.constant(format!("{name}.var"), &[features], 1.0),
            momentum,
        }
    }

    /// x (B, features) -> the same shape.
    ///
    /// In `NormMode::Batch` the running statistics in `stats` move in place.
    pub fn forward(&self, p: &[Tensor], stats: &[Tensor], x: &Tensor, mode: NormMode) -> Tensor {
        let (weight, bias) = (&p[self.weight], &p[self.bias]);
        let (mean, var) = (&stats[self.mean], &stats[self.var]);
        let native = |weight: &Tensor, bias: &Tensor, training: bool| {
            let moves = 1.0 - self.momentum;
            let running = mode != NormMode::BatchOnly;
            let (mean, var) = (running.then_some(mean), running.then_some(var));
            x.batch_norm(Some(weight), Some(bias), mean, var, training, moves, BATCH_EPSILON, false)
        };
        match mode {
            NormMode::Running => native(weight, bias, false),
            NormMode::Batch(None) | NormMode::BatchOnly => native(weight, bias, true),
            NormMode::Batch(Some(limits)) => {
                // y = (xhat r + d) weight + bias, with r and d constants of the
                // graph, is ordinary normalisation with another scale and shift.
                let (r, d) = correction(x, mean, var, limits);
                native(&(weight * r), &(weight * d + bias), true)
            }
        }
    }

    /// Scale and shift, (features) each, that [`NormMode::Running`] applies to x.
    pub fn running(&self, p: &[Tensor], stats: &[Tensor]) -> [Tensor; 2] {
        let scale = &p[self.weight] * (&stats[self.var] + BATCH_EPSILON).rsqrt();
        let shift = &p[self.bias] - &stats[self.mean] * &scale;
        [scale, shift]
    }
}

/// Renormalisation's r and d for a batch (Ioffe 2017, algorithm 1).
fn correction(x: &Tensor, mean: &Tensor, var: &Tensor, limits: Renorm) -> (Tensor, Tensor) {
    let _guard = tch::no_grad_guard();
    let (batch_var, batch_mean) = x.var_mean_dim(&[0i64][..], false, false);
    let running_std = (var + BATCH_EPSILON).sqrt();
    let r =
        ((batch_var + BATCH_EPSILON).sqrt() / &running_std).clamp(1.0 / limits.r_max, limits.r_max);
    let d = ((batch_mean - mean) / running_std).clamp(-limits.d_max, limits.d_max);
    (r, d)
}

/// Layer normalisation over the columns of a matrix (Ba et al. 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    features: i64,
}

impl LayerNorm {
    /// A layer over `features` columns.
    pub fn new(params: &mut ParamsBuilder, name: &str, features: i64) -> Self {
        Self {
            weight: params.constant(format!("{name}.weight"), &[features], 1.0),
            bias: params.constant(format!("{name}.bias"), &[features], 0.0),
            features,
        }
    }

    /// Scale and shift: (features) each.
    pub fn tensors(&self, p: &[Tensor]) -> [Tensor; 2] {
        [self.weight, self.bias].map(|at| p[at].shallow_clone())
    }

    /// x (B, features) -> the same shape.
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&p[self.weight]), Some(&p[self.bias]));
        x.layer_norm(self.features, weight, bias, LAYER_EPSILON, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::{Device, Kind};

    fn layer() -> (BatchNorm, crate::Params, crate::Params) {
        let (mut params, mut stats) = (ParamsBuilder::new(), ParamsBuilder::new());
        let norm = BatchNorm::new(&mut params, &mut stats, "n", 3, 0.99);
        (norm, params.build(Kind::Float, Device::Cpu), stats.build(Kind::Float, Device::Cpu))
    }

    fn batch() -> Tensor {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(5);
        crate::normal(&mut rng, &[64, 3], Device::Cpu) * 2.0 + 1.0
    }

    #[test]
    fn running_mode_leaves_the_statistics_alone_and_batch_mode_moves_them_by_one_percent() {
        let (norm, params, stats) = layer();
        let x = batch();
        let _ = norm.forward(params.frozen(), stats.frozen(), &x, NormMode::Running);
        assert_eq!(stats.frozen()[0].abs().max().double_value(&[]), 0.0);
        let _ = norm.forward(params.frozen(), stats.frozen(), &x, NormMode::Batch(None));
        let expected = x.mean_dim(&[0i64][..], false, Kind::Float) * 0.01;
        assert!(stats.frozen()[0].allclose(&expected, 1e-5, 1e-6, false));
    }

    #[test]
    fn renormalisation_within_its_limits_gives_the_output_of_the_running_statistics() {
        // r and d undo the batch's statistics where neither is clipped: the
        // defining property of the method.
        let (norm, params, stats) = layer();
        let x = batch();
        let _ = stats.flat().narrow(0, 0, 3).fill_(0.7);
        let _ = stats.flat().narrow(0, 3, 3).fill_(3.0);
        let running = norm.forward(params.frozen(), stats.frozen(), &x, NormMode::Running);
        let limits = Renorm { r_max: 3.0, d_max: 5.0 };
        let mode = NormMode::Batch(Some(limits));
        let renormalised = norm.forward(params.frozen(), stats.frozen(), &x, mode);
        assert!(renormalised.allclose(&running, 1e-4, 1e-5, false));
        let tight = NormMode::Batch(Some(Renorm { r_max: 1.0, d_max: 0.0 }));
        let plain = norm.forward(params.frozen(), stats.frozen(), &x, NormMode::Batch(None));
        let clipped = norm.forward(params.frozen(), stats.frozen(), &x, tight);
        assert!(clipped.allclose(&plain, 1e-5, 1e-6, false));
    }
}
