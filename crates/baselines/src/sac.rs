//! Soft Actor-Critic with automatic temperature (Haarnoja et al. 2018b), with
//! plain, LayerNorm or CrossQ critics.

use crate::config::{ActorConfig, choose};
use crate::gaussian::GaussianPolicy;
use agent::{
    ActMode, Agent, Batch, CriticConfig, CriticLearner, Measured, Random, Temperature, Value,
    in_range, repeat_rows,
};
use networks::{Adam, Params, StateError, load_state, merge_state, move_together, normal};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("sac.toml");

/// Everything that shapes SAC. `sac.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SacConfig {
    pub critic: CriticConfig,
    pub actor: ActorConfig,
    pub entropy: EntropyConfig,
}

/// `[entropy]`: the temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EntropyConfig {
    pub automatic: bool,
    pub alpha: f64,
    pub learning_rate: f64,
    pub target_per_dim: f64,
}

impl SacConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        self.entropy.validate()
    }
}

impl EntropyConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("entropy.alpha", self.alpha, 1e-12, 1e9)?;
        in_range("entropy.learning_rate", self.learning_rate, 0.0, 1.0)?;
        in_range("entropy.target_per_dim", self.target_per_dim, -100.0, 100.0)
    }
}

/// A Gaussian policy and its temperature, which learn from whatever tells them
/// Q(s, a): the critics of [`Sac`], or a function that is known.
pub struct SacActor {
    config: EntropyConfig,
    policy: GaussianPolicy,
    params: Params,
    adam: Adam,
    temperature: Temperature,
}

/// A Gaussian policy, its temperature and its critics.
pub struct Sac {
    config: SacConfig,
    actor: SacActor,
    critic: CriticLearner,
    device: Device,
}

/// Head noise of one update: (B, act) each.
pub struct SacNoise {
    /// Noise of the next actions in the target.
    pub next: Tensor,
    /// Noise of the actor's actions, where its update is due.
    pub actor: Option<Tensor>,
}

impl SacActor {
    /// Draws the network for the given sizes. The configuration must be valid; its
    /// `[critic]` is not used.
    pub fn new(
        config: &SacConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let ActorConfig { width, depth, activation, .. } = config.actor;
        let (policy, params) =
            GaussianPolicy::new(width, depth, activation, obs_dim, act_dim, device, rng);
        let EntropyConfig { alpha, learning_rate: alpha_rate, .. } = config.entropy;
        Self {
            config: config.entropy.clone(),
            policy,
            adam: Adam::new(config.actor.adam(), &params),
            params,
            temperature: Temperature::new(alpha, alpha_rate, device),
        }
    }

    /// The policy's architecture and parameters.
    pub fn policy(&self) -> (&GaussianPolicy, &Params) {
        (&self.policy, &self.params)
    }

    /// One step on E [alpha log pi(a|s) - Q(s, a)] in some states (B, obs) with
    /// noise (B, act), then of the temperature.
    pub fn update(&mut self, obs: &Tensor, noise: &Tensor, value: &Value) -> Measured {
        let alpha = self.temperature.alpha();
        let sample = self.policy.sample(self.params.trainable(), obs, noise);
        let q = value(obs, &sample.action);
        let loss = (&alpha * &sample.log_prob - q).mean(Kind::Float);
        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        let entropy = -sample.log_prob.detach().mean(Kind::Float);
        if self.config.automatic {
            let target = self.config.target_per_dim * self.policy.act_dim() as f64;
            self.temperature.update(&entropy, target);
        }
        Measured {
            actor_loss: Some(loss.detach()),
            entropy: Some(entropy),
            alpha: Some(alpha),
            grad_norm: Some(gradient.norm()),
            ..Measured::default()
        }
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.params.named("actor"),
            self.adam.named("actor_adam"),
            self.temperature.state(),
        ])
    }
}

impl Sac {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &SacConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let actor = SacActor::new(config, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self { config: config.clone(), actor, critic, device }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &SacNoise) -> Measured {
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let SacActor { policy, params, temperature, .. } = &self.actor;
            let next = policy.sample(params.frozen(), &batch.next_obs, &noise.next);
            (next.action, -next.log_prob * temperature.alpha())
        };
        let critic = self.critic.update(batch, &next_action, Some(&bonus));
        let actor = noise.actor.as_ref().map(|noise| {
            let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
            self.actor.update(&batch.obs, noise, &value)
        });
        Measured {
            critic_loss: Some(critic.loss),
            q_mean: Some(critic.q_mean),
            ..actor.unwrap_or_default()
        }
    }
}

impl Agent for Sac {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let SacActor { policy, params, .. } = &self.actor;
        let p = params.frozen();
        let k = match mode {
            ActMode::Deterministic => return policy.mode(p, obs),
            ActMode::BestOf(k) => k as i64,
            ActMode::Explore | ActMode::Stochastic => 1,
        };
        let rows = repeat_rows(obs, k);
        let noise = normal(rng, &[rows.size()[0], policy.act_dim()], self.device);
        let action = policy.action(p, &rows, &noise);
        choose(&self.critic, &rows, &action, k)
    }

    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Measured {
        let due = (self.critic.updates() + 1) % self.config.actor.update_every == 0;
        let shape = [batch.len(), self.actor.policy.act_dim()];
        let mut next = normal(rng, &shape, Device::Cpu);
        let mut actor = due.then(|| normal(rng, &shape, Device::Cpu));
        let mut both: Vec<&mut Tensor> = std::iter::once(&mut next).chain(&mut actor).collect();
        move_together(&mut both, self.device);
        self.update_with(batch, &SacNoise { next, actor })
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.actor.state(), self.critic.state()])
    }

    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.state(), saved)
    }
}
