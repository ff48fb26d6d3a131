//! The entropy's weight as a dual variable.

use crate::{Idle, idle_where, in_range};
use networks::{Adam, AdamConfig, Params, ParamsBuilder, merge_state};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// `[temperature]`: the entropy's weight in SAC's objective, and in those built on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemperatureConfig {
    /// Whether alpha is learned.
    pub automatic: bool,
    /// alpha, or its initial value.
    pub alpha: f64,
    /// Adam's learning rate for log alpha.
    pub learning_rate: f64,
    /// Target entropy per action dimension, in nats.
    pub target_per_dim: f64,
    /// Whether the critics' target holds the entropy.
    pub in_target: bool,
}

impl TemperatureConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("temperature.alpha", self.alpha, 1e-12, 1e9)?;
        in_range("temperature.learning_rate", self.learning_rate, 0.0, 1.0)?;
        in_range("temperature.target_per_dim", self.target_per_dim, -100.0, 100.0)
    }

    /// The keys that have no effect.
    pub fn idle(&self) -> Vec<Idle> {
        let keys = &["temperature.learning_rate", "temperature.target_per_dim"];
        idle_where(&[(!self.automatic, keys, "temperature.automatic = false")])
    }

    /// A temperature at its initial value.
    pub fn start(&self, device: Device) -> Temperature {
        Temperature::new(self.alpha, self.learning_rate, device)
    }

    /// One step of `temperature` for the policy's entropy (a scalar) in `act_dim` dimensions, if
    /// alpha is learned.
    pub fn step(&self, temperature: &mut Temperature, entropy: &Tensor, act_dim: i64) {
        if self.automatic {
            temperature.update(entropy, self.target_per_dim * act_dim as f64);
        }
    }
}

/// alpha = exp(x), learned so that the policy's entropy meets a target
/// (SAC, Haarnoja et al. 2018b, equation 18).
pub struct Temperature {
    log_alpha: Params,
    adam: Adam,
}

impl Temperature {
    /// Starts at `alpha`.
    pub fn new(alpha: f64, learning_rate: f64, device: Device) -> Self {
        let mut builder = ParamsBuilder::new();
        builder.constant("log_alpha", &[1], alpha.ln() as f32);
        let log_alpha = builder.build(Kind::Float, device);
        let config = AdamConfig { learning_rate, beta1: 0.9 };
        let adam = Adam::new(config, &log_alpha);
        Self { log_alpha, adam }
    }

    /// The weight, as a tensor of shape (1) outside the graph.
    pub fn alpha(&self) -> Tensor {
        self.log_alpha.flat().exp()
    }

    /// One step: up if the entropy is below its target, down if it is above.
    pub fn update(&mut self, entropy: &Tensor, target: f64) {
        // d/dx of exp(x) (H - H_target) without the factor exp(x), as in SAC's code.
        let gradient = (entropy.detach() - target).reshape([1]);
        self.adam.step(&mut self.log_alpha, &gradient);
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.log_alpha.named("temperature"), self.adam.named("temperature_adam")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_rises_while_the_entropy_is_too_small_and_falls_while_it_is_too_large() {
        let mut temperature = Temperature::new(0.1, 1e-2, Device::Cpu);
        temperature.update(&Tensor::from(-5.0f32), -3.0);
        let raised = temperature.alpha().double_value(&[0]);
        assert!((raised / 0.1 - 0.01f64.exp()).abs() < 1e-4, "{raised}");
        for _ in 0..50 {
            temperature.update(&Tensor::from(2.0f32), -3.0);
        }
        assert!(temperature.alpha().double_value(&[0]) < 0.1);
    }
}
