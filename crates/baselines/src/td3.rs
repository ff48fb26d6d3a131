//! Twin Delayed DDPG (Fujimoto et al. 2018): a deterministic policy, delayed
//! updates and smoothed targets.

use crate::config::{ActorConfig, choose};
use agent::{
    ActMode, Agent, Aggregate, Batch, CriticConfig, CriticLearner, Measured, Random, in_range,
    repeat_rows,
};
use networks::{
    Adam, CriticKind, Linear, Mlp, Params, ParamsBuilder, StateError, load_state, merge_state,
    normal,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("td3.toml");

/// Everything that shapes TD3. `td3.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Td3Config {
    pub critic: CriticConfig,
    pub actor: ActorConfig,
    pub noise: NoiseConfig,
}

/// `[noise]`: exploration and target policy smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct NoiseConfig {
    pub exploration: f64,
    pub target: f64,
    pub target_clip: f64,
}

impl Td3Config {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        in_range("noise.exploration", self.noise.exploration, 0.0, 10.0)?;
        in_range("noise.target", self.noise.target, 0.0, 10.0)?;
        in_range("noise.target_clip", self.noise.target_clip, 0.0, 1e9)
    }
}

/// The network: a trunk and tanh of a linear head.
struct Policy {
    network: Mlp,
    act_dim: i64,
}

impl Policy {
    fn new(
        config: &ActorConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let ActorConfig { width, depth, activation, .. } = *config;
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", obs_dim, width, depth, activation, rng, |b, rng| {
            vec![Linear::new(b, "mean", width, act_dim, rng)]
        });
        (Self { network, act_dim }, builder.build(Kind::Float, device))
    }

    /// (B, obs) -> (B, act), in (-1, 1).
    fn action(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.network.forward(p, obs).tanh()
    }
}

/// A deterministic policy and its critics.
pub struct Td3 {
    config: Td3Config,
    policy: Policy,
    actor: Params,
    /// The policy of the target; None where the critics have no targets either.
    actor_target: Option<Params>,
    actor_adam: Adam,
    critic: CriticLearner,
    device: Device,
}

/// Noise of one update.
pub struct Td3Noise {
    /// Standard-normal noise of the next actions in the target: (B, act).
    pub next: Tensor,
}

impl Td3 {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &Td3Config,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, actor) = Policy::new(&config.actor, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self {
            config: config.clone(),
            policy,
            actor_target: (config.critic.kind != CriticKind::CrossQ).then(|| actor.duplicate()),
            actor_adam: Adam::new(config.actor.adam(), &actor),
            actor,
            critic,
            device,
        }
    }

    /// One update with the given noise; every `actor.update_every`-th is one of
    /// the actor and of its target, too.
    pub fn update_with(&mut self, batch: &Batch, noise: &Td3Noise) -> Measured {
        let next_action = {
            let _guard = tch::no_grad_guard();
            let p = self.actor_target.as_ref().unwrap_or(&self.actor).frozen();
            let clip = self.config.noise.target_clip;
            let smoothing = (&noise.next * self.config.noise.target).clamp(-clip, clip);
            (self.policy.action(p, &batch.next_obs) + smoothing).clamp(-1.0, 1.0)
        };
        let critic = self.critic.update(batch, &next_action, None);
        let due = self.critic.updates() % self.config.actor.update_every == 0;
        Measured {
            critic_loss: Some(critic.loss),
            q_mean: Some(critic.q_mean),
            ..if due { self.update_actor(batch) } else { Measured::default() }
        }
    }

    /// One step on E [-Q_1(s, pi(s))]: of the first critic, as published.
    fn update_actor(&mut self, batch: &Batch) -> Measured {
        let action = self.policy.action(self.actor.trainable(), &batch.obs);
        let loss = -self.critic.value_by(Aggregate::First, &batch.obs, &action).mean(Kind::Float);
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);
        if let Some(target) = &mut self.actor_target {
            target.polyak(&self.actor, self.config.critic.tau);
        }
        Measured {
            actor_loss: Some(loss.detach()),
            grad_norm: Some(gradient.norm()),
            ..Measured::default()
        }
    }
}

impl Agent for Td3 {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let action = self.policy.action(self.actor.frozen(), obs);
        let k = match mode {
            ActMode::Deterministic => return action,
            ActMode::BestOf(k) => k as i64,
            ActMode::Explore | ActMode::Stochastic => 1,
        };
        let noise = normal(rng, &[obs.size()[0] * k, self.policy.act_dim], self.device);
        let proposals = repeat_rows(&action, k) + noise * self.config.noise.exploration;
        choose(&self.critic, &repeat_rows(obs, k), &proposals.clamp(-1.0, 1.0), k)
    }

    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Measured {
        let next = normal(rng, &[batch.len(), self.policy.act_dim], self.device);
        self.update_with(batch, &Td3Noise { next })
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let target = self.actor_target.as_ref();
        merge_state([
            self.actor.named("actor"),
            target.map(|target| target.named("actor_target")).unwrap_or_default(),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
        ])
    }

    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.state(), saved)
    }
}
