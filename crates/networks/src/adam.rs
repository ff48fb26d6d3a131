//! Adam on one flat parameter vector.

use crate::counter::Counter;
use crate::cpu;
use crate::params::{Params, StateError, load_state};
use tch::Tensor;

/// Settings of [`Adam`]; epsilon is PyTorch's 1e-8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients (0.9; CrossQ uses 0.5).
    pub beta1: f64,
    /// Decay of the mean of squared gradients (0.999).
    pub beta2: f64,
}

/// Adam (Kingma and Ba 2015, algorithm 1), with PyTorch's placement of epsilon.
pub struct Adam {
    config: AdamConfig,
    mean: Tensor,
    square: Tensor,
    /// Steps taken.
    steps: Counter,
}

const EPSILON: f64 = 1e-8;

impl Adam {
    /// An optimiser at rest for the given parameters.
    pub fn new(config: AdamConfig, params: &Params) -> Self {
        Self {
            config,
            mean: params.flat().zeros_like(),
            square: params.flat().zeros_like(),
            steps: Counter::default(),
        }
    }

    /// One step along `-gradient` (flat, as [`Params::gradient`] gives it).
    pub fn step(&mut self, params: &mut Params, gradient: &Tensor) {
        let _guard = tch::no_grad_guard();
        let AdamConfig { learning_rate, beta1, beta2 } = self.config;
        let t = self.steps.raise() as i32;
        let correction = (1.0 - beta2.powi(t)).sqrt();
        let step = learning_rate / (1.0 - beta1.powi(t));
        if cpu::handles(gradient) && cpu::handles(params.flat()) {
            let constants = cpu::AdamStep {
                mean_rate: (1.0 - beta1) as f32,
                square_rate: (1.0 - beta2) as f32,
                square_correction: (1.0 / correction) as f32,
                step: step as f32,
                epsilon: EPSILON as f32,
            };
            let moments = (cpu::values_mut(&mut self.mean), cpu::values_mut(&mut self.square));
            let (p, g) = (cpu::values_mut(params.flat_mut()), cpu::values(gradient));
            return cpu::adam(p, g, moments, constants);
        }
        let _ = self.mean.lerp_(gradient, 1.0 - beta1);
        let _ = self.square.g_mul_scalar_(beta2);
        let _ = self.square.addcmul_(gradient, &(gradient * (1.0 - beta2)));
        let mut denominator = self.square.sqrt();
        let _ = denominator.g_div_scalar_(correction).g_add_scalar_(EPSILON);
        let _ = params.flat().shallow_clone().addcdiv_(&(&self.mean * -step), &denominator);
    }

    /// The moments and the step count, by name.
    pub fn named(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let (mean, square) = (self.mean.shallow_clone(), self.square.shallow_clone());
        [("mean", mean), ("square", square), ("steps", self.steps.tensor())]
            .map(|(name, tensor)| (format!("{prefix}.{name}"), tensor))
            .into()
    }

    /// Takes moments and step count out of a saved list.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape; nothing is changed then.
    pub fn load(&mut self, prefix: &str, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.named(prefix), saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamsBuilder;
    use tch::{Device, Kind, nn, nn::OptimizerConfig};

    #[test]
    fn thirty_steps_follow_libtorchs_own_adam() {
        let mut builder = ParamsBuilder::new();
        builder.constant("x", &[4], 1.0);
        let mut ours = builder.build(Kind::Float, Device::Cpu);
        let config = AdamConfig { learning_rate: 3e-2, beta1: 0.5, beta2: 0.999 };
        let mut adam = Adam::new(config, &ours);

        let store = nn::VarStore::new(Device::Cpu);
        let theirs = store.root().ones("x", &[4]);
        let mut optimiser = nn::Adam { beta1: 0.5, beta2: 0.999, ..Default::default() }
            .build(&store, 3e-2)
            .unwrap();

        let target = Tensor::from_slice(&[3f32, -2.0, 1.5, 0.2]);
        let loss = |x: &Tensor| ((x - &target) * (x - &target) * x).sum(Kind::Float);
        for _ in 0..30 {
            let gradient = ours.gradient(&loss(&ours.trainable()[0]));
            adam.step(&mut ours, &gradient);
            optimiser.backward_step(&loss(&theirs));
        }
        assert!(ours.flat().allclose(&theirs, 1e-5, 1e-6, false), "{} {}", ours.flat(), theirs);
    }
}
