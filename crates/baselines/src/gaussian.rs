//! A Gaussian policy squashed by tanh (SAC, Haarnoja et al. 2018b, appendix C).

use agent::Random;
use networks::{Activation, Linear, Mlp, Params, ParamsBuilder};
use std::f64::consts::{LN_2, PI};
use tch::{Device, Kind, Tensor};

/// Range of the head's log standard deviation, as in Stable-Baselines3.
const LOG_STD_RANGE: (f64, f64) = (-20.0, 2.0);

/// The network: a trunk with two linear heads.
pub struct GaussianPolicy {
    trunk: Mlp,
    mean: Linear,
    log_std: Linear,
    act_dim: i64,
}

/// Actions with their log densities.
pub struct Sample {
    /// (B, act), in (-1, 1).
    pub action: Tensor,
    /// log pi(a | s): (B).
    pub log_prob: Tensor,
}

impl GaussianPolicy {
    /// Lays out the network and draws its parameters.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        width: i64,
        depth: usize,
        activation: Activation,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let policy = Self {
            trunk: Mlp::new(&mut builder, "trunk", obs_dim, width, depth, activation, rng),
            mean: Linear::new(&mut builder, "mean", width, act_dim, rng),
            log_std: Linear::new(&mut builder, "log_std", width, act_dim, rng),
            act_dim,
        };
        (policy, builder.build(Kind::Float, device))
    }

    /// Size of an action.
    pub fn act_dim(&self) -> i64 {
        self.act_dim
    }

    /// The action without noise: tanh of the mean.
    pub fn mode(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.mean.forward(p, &self.trunk.forward(p, obs)).tanh()
    }

    /// An action drawn with the given noise (B, act).
    pub fn sample(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor) -> Sample {
        let features = self.trunk.forward(p, obs);
        let (low, high) = LOG_STD_RANGE;
        let log_std = self.log_std.forward(p, &features).clamp(low, high);
        let raw = self.mean.forward(p, &features) + log_std.exp() * noise;
        let gaussian = noise * noise * -0.5 - log_std - 0.5 * (2.0 * PI).ln();
        // log |d tanh(x) / dx| = 2 (log 2 - x - softplus(-2 x)), exact far from zero.
        let log_det = (LN_2 - &raw - (&raw * -2.0).softplus()) * 2.0;
        let log_prob = (gaussian - log_det).sum_dim_intlist(&[1i64][..], false, None);
        Sample { action: raw.tanh(), log_prob }
    }
}
