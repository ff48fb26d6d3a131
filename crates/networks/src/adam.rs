//! Adam on one flat parameter vector.

use crate::counter::Tally;
use crate::instructions::kernel;
use crate::op::{Op, run};
use crate::params::Params;
use crate::pool;
use crate::storage::{values, values_mut};
use tch::{Kind, Tensor};

/// Settings of [`Adam`]; beta2 and epsilon are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients (0.9; CrossQ uses 0.5).
    pub beta1: f64,
}

/// Adam (Kingma and Ba 2015, algorithm 1), with PyTorch's placement of epsilon.
pub struct Adam {
    config: AdamConfig,
    mean: Tensor,
    square: Tensor,
    /// Steps taken.
    steps: Tally,
}

/// Decay of the mean of squared gradients.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl Adam {
    /// An optimiser at rest for the given parameters.
    pub fn new(config: AdamConfig, params: &Params) -> Self {
        Self {
            config,
            mean: params.flat().zeros_like(),
            square: params.flat().zeros_like(),
            steps: Tally::new(params.device()),
        }
    }

    /// One step along `-gradient` (flat, as [`Params::gradient`] returns it).
    pub fn step(&mut self, params: &mut Params, gradient: &Tensor) {
        self.steps.increment();
        run(Step {
            p: params.flat_mut(),
            gradient,
            mean: &mut self.mean,
            square: &mut self.square,
            steps: &self.steps,
            config: self.config,
        });
    }

    /// The moments and the step count, by name.
    pub fn named(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let (mean, square) = (self.mean.shallow_clone(), self.square.shallow_clone());
        [("mean", mean), ("square", square), ("steps", self.steps.tensor())]
            .map(|(name, tensor)| (format!("{prefix}.{name}"), tensor))
            .into()
    }
}

/// A step of Adam, in place.
struct Step<'a> {
    p: &'a mut Tensor,
    gradient: &'a Tensor,
    mean: &'a mut Tensor,
    square: &'a mut Tensor,
    /// t, the number of this step, from 1.
    steps: &'a Tally,
    config: AdamConfig,
}

/// Numbers of the vector that one job works on.
const PART: usize = 1 << 15;

impl Op for Step<'_> {
    type Output = ();

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.p, self.gradient, self.mean, self.square]
    }

    /// One loop over the four vectors instead of ten.
    fn cpu(self) {
        let AdamConfig { learning_rate, beta1 } = self.config;
        let t = self.steps.on_host() as i32;
        let constants = Constants {
            mean_rate: (1.0 - beta1) as f32,
            square_rate: (1.0 - BETA2) as f32,
            square_correction: (1.0 / (1.0 - BETA2.powi(t)).sqrt()) as f32,
            size: (learning_rate / (1.0 - beta1.powi(t))) as f32,
        };
        // SAFETY: parameters and moments are borrowed mutably from their owners, whose
        // views nobody uses meanwhile; a gradient shares no storage with them.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (p, g, mean, square) = unsafe {
            let moments = (values_mut(self.mean), values_mut(self.square));
            (values_mut(self.p), values(self.gradient), moments.0, moments.1)
        };
        let moments = mean.chunks_mut(PART).zip(square.chunks_mut(PART));
        let parts = p.chunks_mut(PART).zip(g.chunks(PART)).zip(moments);
        let jobs = parts.map(|((p, g), (mean, square))| {
            let constants = &constants;
            move || step_part(p, g, mean, square, constants)
        });
        pool::run(jobs.collect());
    }

    fn fallback(self) {
        let AdamConfig { learning_rate, beta1 } = self.config;
        let _ = self.mean.lerp_(self.gradient, 1.0 - beta1);
        let _ = self.square.g_mul_scalar_(BETA2);
        let _ = self.square.addcmul_(self.gradient, &(self.gradient * (1.0 - BETA2)));
        // 1 - beta^t by operations: a number of the host would be that of the captured step for ever.
        let t = self.steps.scalar(Kind::Double);
        let sum = |beta: f64| -> Tensor { 1.0 - Tensor::pow_scalar(beta, &t) };
        let (mean_sum, square_sum) = (sum(beta1), sum(BETA2));
        let mut denominator = self.square.sqrt();
        let _ = denominator.g_div_(&square_sum.sqrt()).g_add_scalar_(EPSILON);
        let step = &*self.mean * (mean_sum.reciprocal() * -learning_rate);
        let _ = self.p.addcdiv_(&step, &denominator);
    }
}

/// The scalars of a step in `f32`.
struct Constants {
    mean_rate: f32,
    square_rate: f32,
    square_correction: f32,
    size: f32,
}

kernel! {
    fn step_part(p: &mut [f32], g: &[f32], mean: &mut [f32], square: &mut [f32], c: &Constants) {
        let moments = mean.iter_mut().zip(square.iter_mut());
        for ((p, g), (mean, square)) in p.iter_mut().zip(g).zip(moments) {
            *mean += (g - *mean) * c.mean_rate;
            *square += (g * g - *square) * c.square_rate;
            *p -= c.size * *mean / (square.sqrt() * c.square_correction + EPSILON as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamsBuilder;
    use tch::{Device, Kind, nn, nn::OptimizerConfig};

    /// Parameters after thirty steps on a cubic, by our Adam and by LibTorch's.
    fn thirty_steps(kind: Kind) -> (Tensor, Tensor) {
        let mut builder = ParamsBuilder::new();
        builder.constant("x", &[4], 1.0);
        let mut ours = builder.build(kind, Device::Cpu);
        let config = AdamConfig { learning_rate: 3e-2, beta1: 0.5 };
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
        (ours.flat().to_kind(Kind::Float), theirs)
    }

    #[test]
    fn both_forms_follow_libtorchs_own_adam() {
        // `f32` takes the CPU form, `f64` the fallback.
        for kind in [Kind::Float, Kind::Double] {
            let (ours, theirs) = thirty_steps(kind);
            assert!(ours.allclose(&theirs, 1e-5, 1e-6, false), "{kind:?}: {ours} {theirs}");
        }
    }
}
