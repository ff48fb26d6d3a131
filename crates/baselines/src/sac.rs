//! Soft Actor-Critic with automatic temperature (Haarnoja et al. 2018b).

use crate::gaussian::GaussianPolicy;
use agent::candidates::repeat_rows;
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CriticConfig, CriticLearner, Idle, Metrics,
    Noise, Random, Temperature, TemperatureConfig, Value,
};
use networks::{Adam, Params, merge_state, normal};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("sac.toml");

/// Everything that shapes SAC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SacConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// The entropy's weight.
    pub temperature: TemperatureConfig,
}

impl AgentConfig for SacConfig {
    fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        self.temperature.validate()
    }

    fn idle(&self) -> Vec<Idle> {
        [self.critic.idle(), self.temperature.idle()].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(Sac::new(self, obs_dim, act_dim, device, rng))
    }
}

/// A Gaussian policy, its temperature and their update for any value Q(s, a): the critics of
/// [`Sac`], or a known function.
pub struct SacActor {
    config: TemperatureConfig,
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

impl Noise for SacNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        std::iter::once(&mut self.next).chain(&mut self.actor).collect()
    }
}

impl SacActor {
    /// Draws the network for the given sizes. The configuration must be valid; its `[critic]` is
    /// not used.
    pub fn new(
        config: &SacConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, params) = GaussianPolicy::new(&config.actor, obs_dim, act_dim, device, rng);
        Self {
            config: config.temperature.clone(),
            policy,
            adam: Adam::new(config.actor.adam(), &params),
            params,
            temperature: config.temperature.start(device),
        }
    }

    /// The policy's architecture and parameters.
    pub fn policy(&self) -> (&GaussianPolicy, &Params) {
        (&self.policy, &self.params)
    }

    /// One step on E [alpha log pi(a|s) - Q(s, a)] in some states (B, obs) with
    /// noise (B, act), then of the temperature.
    pub fn update(&mut self, obs: &Tensor, noise: &Tensor, value: &Value) -> Metrics {
        let alpha = self.temperature.alpha();
        let sample = self.policy.sample(self.params.trainable(), obs, noise);
        let q = value(obs, &sample.action);
        let loss = (&alpha * &sample.log_prob - q).mean(Kind::Float);
        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        let entropy = -sample.log_prob.detach().mean(Kind::Float);
        self.config.step(&mut self.temperature, &entropy, self.policy.act_dim());
        Metrics::from([
            ("actor_loss", &loss),
            ("entropy", &entropy),
            ("alpha", &alpha),
            ("grad_norm", &gradient.norm()),
        ])
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.params.named("actor"),
            self.adam.named("actor_adam"),
            self.temperature.state(),
            self.policy.state(),
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
    pub fn update_with(&mut self, batch: &Batch, noise: &SacNoise) -> Metrics {
        self.actor.policy.observe(&batch.obs);
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let SacActor { policy, params, temperature, .. } = &self.actor;
            let next = policy.sample(params.frozen(), &batch.next_obs, &noise.next);
            let entropy = self.config.temperature.in_target;
            (next.action, entropy.then(|| -next.log_prob * temperature.alpha()))
        };
        let mut metrics = self.critic.update(batch, &next_action, bonus.as_ref());
        if let Some(noise) = &noise.actor {
            let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
            metrics.extend(self.actor.update(&batch.obs, noise, &value));
        }
        metrics
    }
}

impl Agent for Sac {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let SacActor { policy, params, .. } = &self.actor;
        let p = params.frozen();
        if matches!(mode, ActMode::Deterministic | ActMode::Mean) {
            return policy.mode(p, obs);
        }
        let k = mode.candidates(1);
        let rows = repeat_rows(obs, k);
        let noise = normal(rng, &[rows.size()[0], policy.act_dim()], self.device);
        let action = policy.action(p, &rows, &noise);
        self.critic.choose(&rows, &action, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let shape = [rows, self.actor.policy.act_dim()];
        let next = normal(rng, &shape, Device::Cpu);
        let actor = with_actor.then(|| normal(rng, &shape, Device::Cpu));
        Box::new(SacNoise { next, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        self.critic.branches()
    }

    fn graph(&self) -> policy::Graph {
        let (policy, params) = self.actor.policy();
        policy.graph(params.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.actor.state(), self.critic.state()])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }
}
