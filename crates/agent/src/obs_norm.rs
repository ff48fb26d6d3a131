//! Normalised observations for a policy.

use networks::{Tally, standardised, track_moments};
use tch::{Device, Kind, Tensor};

/// Added to the variance.
const EPSILON: f64 = 1e-5;
/// Normalised observations are clipped to +- this.
const CLIP: f64 = 10.0;
/// Smallest weight of a minibatch in the running statistics.
const MIN_WEIGHT: f64 = 1e-3;

/// (s - mean) / sqrt(var + 1e-5), clipped to +-10, with running statistics of the observations in
/// the minibatches, which are constants of every derivative. Switched off, it returns the
/// observations unchanged and has no state.
pub struct ObsNorm(Option<Statistics>);

/// Running averages over minibatches, in which the n-th has the weight max(1/n, 1/1000).
struct Statistics {
    /// Mean of every entry: (obs).
    mean: Tensor,
    /// Variance within a minibatch: (obs).
    var: Tensor,
    /// Minibatches so far.
    batches: Tally,
}

impl ObsNorm {
    /// Initial statistics (mean 0, variance 1), or none if `on` is false.
    pub fn new(on: bool, obs_dim: i64, options: (Kind, Device)) -> Self {
        Self(on.then(|| Statistics {
            mean: Tensor::zeros([obs_dim], options),
            var: Tensor::ones([obs_dim], options),
            batches: Tally::new(options.1),
        }))
    }

    /// Normalised observations: (N, obs) -> (N, obs).
    pub fn apply(&self, obs: &Tensor) -> Tensor {
        let Some(Statistics { mean, var, .. }) = &self.0 else { return obs.shallow_clone() };
        standardised(obs, mean, var, EPSILON, CLIP)
    }

    /// What [`apply`](Self::apply) subtracts, multiplies by and clips to, (obs), (obs) and a
    /// number; None if normalisation is off.
    pub(crate) fn affine(&self) -> Option<(Tensor, Tensor, f64)> {
        let Statistics { mean, var, .. } = self.0.as_ref()?;
        Some((mean.shallow_clone(), (var + EPSILON).rsqrt(), CLIP))
    }

    /// Adds the observations (B, obs) of a minibatch to the statistics.
    pub fn update(&mut self, obs: &Tensor) {
        let Some(Statistics { mean, var, batches }) = &mut self.0 else { return };
        batches.increment();
        track_moments(obs, mean, var, batches, MIN_WEIGHT);
    }

    /// The state by name; empty if normalisation is off.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let Some(Statistics { mean, var, batches }) = &self.0 else { return Vec::new() };
        vec![
            ("obs_norm.mean".to_string(), mean.shallow_clone()),
            ("obs_norm.var".to_string(), var.shallow_clone()),
            ("obs_norm.batches".to_string(), batches.tensor()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).unsqueeze(1)
    }

    #[test]
    fn the_first_batches_have_equal_weights_and_later_ones_a_thousandth() {
        let mut norm = ObsNorm::new(true, 1, (Kind::Float, Device::Cpu));
        for shift in [0.0, 3.0, 6.0] {
            norm.update(&column(&[shift - 2.0, shift + 2.0]));
        }
        // Mean 3, variance 4.
        let seen = norm.apply(&column(&[3.0, 5.0, 1000.0]));
        assert!(seen.allclose(&column(&[0.0, 1.0, 10.0]), 1e-5, 1e-5, false), "{seen}");

        let mut old = ObsNorm::new(true, 1, (Kind::Float, Device::Cpu));
        let named = [("mean", Tensor::from_slice(&[1f32])), ("var", Tensor::from_slice(&[4f32]))];
        for ((_, tensor), (_, value)) in old.state().iter().zip(named) {
            tensor.shallow_clone().copy_(&value);
        }
        old.state()[2].1.shallow_clone().copy_(&Tensor::from(5000i64));
        old.update(&column(&[11.0, 11.0]));
        let state = old.state();
        assert!((state[0].1.double_value(&[0]) - 1.01).abs() < 1e-6);
        assert!((state[1].1.double_value(&[0]) - 3.996).abs() < 1e-6);
        assert_eq!(state[2].1.int64_value(&[]), 5001);
    }

    #[test]
    fn switched_off_it_changes_nothing_and_has_no_state() {
        let mut norm = ObsNorm::new(false, 1, (Kind::Float, Device::Cpu));
        norm.update(&column(&[1.0, 2.0]));
        assert_eq!(norm.apply(&column(&[1e6])), column(&[1e6]));
        assert!(norm.state().is_empty());
    }
}
