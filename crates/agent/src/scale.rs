//! Running averages, and S, the scale of Q that is one.

use crate::{Idle, Value, idle_where, in_range};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Smallest scale.
const MIN_SCALE: f64 = 1e-6;

/// A bias-corrected exponential moving average: weights decay^(n-i), normalised to sum 1, as
/// Adam's corrected moments.
pub struct RunningMean {
    decay: f64,
    /// Weighted sum, and sum of the weights: (2).
    sums: Tensor,
}

impl RunningMean {
    /// An average without numbers.
    pub fn new(decay: f64, device: Device) -> Self {
        Self { decay, sums: Tensor::zeros([2], (Kind::Float, device)) }
    }

    /// Adds a scalar.
    pub fn update(&mut self, now: &Tensor) {
        let now = now.detach().reshape([1]);
        let entry = Tensor::cat(&[&now, &now.ones_like()], 0);
        let _guard = tch::no_grad_guard();
        let _ = self.sums.g_mul_scalar_(self.decay).g_add_(&(entry * (1.0 - self.decay)));
    }

    /// The average: (1); zero before the first number.
    pub fn get(&self) -> Tensor {
        self.sums.narrow(0, 0, 1) / self.sums.narrow(0, 1, 1).clamp_min(1e-12)
    }

    /// The state by name.
    pub fn named(&self, name: &str) -> Vec<(String, Tensor)> {
        vec![(name.to_string(), self.sums.shallow_clone())]
    }

    /// Checks the decay of a running average.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn check_decay(key: &str, decay: f64) -> Result<(), String> {
        in_range(key, decay, 0.0, 0.999_999)
    }
}

/// `[objective]`: the weight of the mirror term, and the units of Q.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Weight of the mirror term, in units of the scale.
    pub lambda: f64,
    /// S, the scale of Q.
    pub q_scale: QScale,
    /// Decay of the running scale, per actor update.
    pub q_scale_decay: f64,
}

impl ObjectiveConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("objective.lambda", self.lambda, 0.0, 1e9)?;
        RunningMean::check_decay("objective.q_scale_decay", self.q_scale_decay)
    }

    /// The keys that have no effect.
    pub fn idle(&self) -> Vec<Idle> {
        let because = "objective.q_scale = \"none\"";
        idle_where(&[(self.q_scale == QScale::None, &["objective.q_scale_decay"], because)])
    }
}

/// S, the scale of Q in a policy's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QScale {
    /// Running standard deviation of Q(s, b) - Q(s, a), b the replay's action
    /// and a the policy's: a one-sample advantage.
    AdvantageStd,
    /// Running mean of |Q|.
    MeanAbsQ,
    /// Nothing.
    None,
}

/// S, the running scale of Q: it makes the weights of a loss's other terms independent of the
/// units of reward.
pub struct Scale {
    kind: QScale,
    mean: RunningMean,
}

impl Scale {
    /// A scale without data.
    pub fn new(config: &ObjectiveConfig, device: Device) -> Self {
        Self { kind: config.q_scale, mean: RunningMean::new(config.q_scale_decay, device) }
    }

    /// Adds a batch: states (B, obs), the replay's actions there (B, act), and `q` (B), the value
    /// of the policy's actions.
    pub fn update(&mut self, value: &Value, obs: &Tensor, replay: &Tensor, q: &Tensor) {
        let _guard = tch::no_grad_guard();
        match self.kind {
            QScale::AdvantageStd => self.mean.update(&(value(obs, replay) - q).std(false)),
            QScale::MeanAbsQ => self.mean.update(&q.abs().mean(Kind::Float)),
            QScale::None => {}
        }
    }

    /// S: (1), above zero.
    pub fn get(&self) -> Tensor {
        let mean = self.mean.get();
        match self.kind {
            QScale::None => mean.ones_like(),
            _ => mean.clamp_min(MIN_SCALE),
        }
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.mean.named("q_scale")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_mean_weighs_its_numbers_by_the_powers_of_the_decay() {
        let mut mean = RunningMean::new(0.9, Device::Cpu);
        for x in [4.0f32, 1.0, 2.0] {
            mean.update(&Tensor::from(x));
        }
        let expected = (0.81 * 4.0 + 0.9 * 1.0 + 2.0) / (0.81 + 0.9 + 1.0);
        assert!((mean.get().double_value(&[0]) - expected).abs() < 1e-6);
        let mut forgetful = RunningMean::new(0.0, Device::Cpu);
        forgetful.update(&Tensor::from(4f32));
        forgetful.update(&Tensor::from(3f32));
        assert_eq!(forgetful.get().double_value(&[0]), 3.0);
    }
}
