//! A Gaussian policy squashed by tanh (SAC, Haarnoja et al. 2018b, appendix C).

use agent::{ActorConfig, GraphBuilder, ObsNorm, Random};
use networks::{
    Linear, Mlp, Params, ParamsBuilder, squashed_action, squashed_gaussian, squashed_log_prob,
};
use policy::{Graph, Op};
use tch::{Device, Kind, Tensor};

/// Range of the head's log standard deviation, as in Stable-Baselines3.
const LOG_STD_RANGE: (f64, f64) = (-20.0, 2.0);

/// The network: hidden layers with two heads, mean and log standard deviation. All methods take
/// raw observations.
pub struct GaussianPolicy {
    obs_norm: ObsNorm,
    network: Mlp,
    obs_dim: i64,
    act_dim: i64,
}

/// The Gaussian of each state, before squashing: (B, act) each.
pub struct Gaussian {
    /// Its mean.
    pub mean: Tensor,
    /// The logarithm of its standard deviation.
    pub log_std: Tensor,
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
    pub fn new(
        actor: &ActorConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", obs_dim, actor.hidden(), rng, |b, rng| {
            ["mean", "log_std"].map(|name| Linear::new(b, name, actor.width, act_dim, rng)).into()
        });
        let obs_norm = ObsNorm::new(actor.normalise, obs_dim, (Kind::Float, device));
        let policy = Self { obs_norm, network, obs_dim, act_dim };
        (policy, builder.build(Kind::Float, device))
    }

    /// Adds the observations (B, obs) of a minibatch to the statistics that normalise them.
    pub fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    /// The state next to the parameters: those statistics.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.obs_norm.state()
    }

    /// The two heads, next to each other: (B, 2 act).
    fn heads(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.network.forward(p, &self.obs_norm.apply(obs))
    }

    /// Size of an action.
    pub fn act_dim(&self) -> i64 {
        self.act_dim
    }

    /// The Gaussian before squashing.
    pub fn gaussian(&self, p: &[Tensor], obs: &Tensor) -> Gaussian {
        let heads = self.heads(p, obs);
        let (low, high) = LOG_STD_RANGE;
        let log_std = heads.narrow(1, self.act_dim, self.act_dim).clamp(low, high);
        Gaussian { mean: heads.narrow(1, 0, self.act_dim), log_std }
    }

    /// The action without noise: tanh of the mean.
    pub fn mode(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.heads(p, obs).narrow(1, 0, self.act_dim).tanh()
    }

    /// An action drawn with the given noise (B, act).
    pub fn sample(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor) -> Sample {
        let heads = self.heads(p, obs);
        let (action, log_prob) = squashed_gaussian(&heads, noise, LOG_STD_RANGE);
        Sample { action, log_prob }
    }

    /// The action that [`sample`](Self::sample) draws, and nothing else; outside of any
    /// graph.
    pub fn action(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor) -> Tensor {
        squashed_action(&self.heads(p, obs), noise, LOG_STD_RANGE)
    }

    /// The policy as a graph.
    pub fn graph(&self, p: &[Tensor]) -> Graph {
        let act = self.act_dim;
        let mut g = GraphBuilder::new(self.obs_dim, 0, act);
        let obs = g.observation(&self.obs_norm);
        let layers = g.layers(&self.network, p, 0);
        let heads = g.call(&layers, obs, None);
        let mean = g.push(Op::Slice(heads, 0, act as u32));
        let raw = g.gaussian(mean, heads, act, LOG_STD_RANGE);
        g.push(Op::Tanh(raw));
        g.finish()
    }

    /// log pi(a | s) of actions tanh(raw), raw (B, act): (B).
    pub fn log_prob(&self, p: &[Tensor], obs: &Tensor, raw: &Tensor) -> Tensor {
        let gaussian = self.gaussian(p, obs);
        let noise = (raw - &gaussian.mean) / gaussian.log_std.exp();
        squashed_log_prob(&noise, &gaussian.log_std, raw)
    }
}

impl Gaussian {
    /// KL(self || other) per state: (B). Squashing changes nothing about it.
    pub fn kl(&self, other: &Self) -> Tensor {
        let variance = (&other.log_std * 2.0).exp() * 2.0;
        let square = (&self.log_std * 2.0).exp() + (&self.mean - &other.mean).square();
        let each = &other.log_std - &self.log_std + square / variance - 0.5;
        each.sum_dim_intlist(&[1i64][..], false, None)
    }
}
