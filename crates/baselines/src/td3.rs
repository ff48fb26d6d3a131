//! Twin Delayed DDPG (Fujimoto et al. 2018): a deterministic policy, delayed
//! updates and smoothed targets.

use agent::candidates::repeat_rows;
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Aggregate, Batch, CriticConfig, CriticLearner,
    GraphBuilder, Idle, Metrics, Noise, ObsNorm, Random, idle_where, in_range,
};
use networks::{Adam, CriticKind, Linear, Mlp, Params, ParamsBuilder, merge_state, normal};
use policy::Op;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("td3.toml");

/// Everything that shapes TD3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Td3Config {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// Exploration and smoothing.
    pub noise: NoiseConfig,
}

/// `[noise]`: exploration and target policy smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// Deviation of the noise on actions while exploring.
    pub exploration: f64,
    /// Deviation of the noise on the target's next actions.
    pub target: f64,
    /// That noise is clipped to +- this.
    pub target_clip: f64,
}

impl AgentConfig for Td3Config {
    fn validate(&self) -> Result<(), String> {
        self.critic.validate()?;
        self.actor.validate()?;
        in_range("noise.exploration", self.noise.exploration, 0.0, 10.0)?;
        in_range("noise.target", self.noise.target, 0.0, 10.0)?;
        in_range("noise.target_clip", self.noise.target_clip, 0.0, 1e9)
    }

    fn idle(&self) -> Vec<Idle> {
        let keys = &["noise.target_clip"];
        let own = idle_where(&[(self.noise.target == 0.0, keys, "noise.target = 0")]);
        [self.critic.idle(), own].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(Td3::new(self, obs_dim, act_dim, device, rng))
    }
}

/// The network: a trunk and tanh of a linear head.
struct Policy {
    obs_norm: ObsNorm,
    network: Mlp,
    obs_dim: i64,
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
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", obs_dim, config.hidden(), rng, |b, rng| {
            vec![Linear::new(b, "mean", config.width, act_dim, rng)]
        });
        let obs_norm = ObsNorm::new(config.normalise, obs_dim, (Kind::Float, device));
        (Self { obs_norm, network, obs_dim, act_dim }, builder.build(Kind::Float, device))
    }

    /// Raw observations (B, obs) to actions (B, act) in (-1, 1).
    fn action(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.network.forward(p, &self.obs_norm.apply(obs)).tanh()
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
    /// Whether the actor and its target are updated, which needs no noise.
    pub with_actor: bool,
}

impl Noise for Td3Noise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        vec![&mut self.next]
    }
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

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &Td3Noise) -> Metrics {
        self.policy.obs_norm.update(&batch.obs);
        let next_action = {
            let _guard = tch::no_grad_guard();
            let p = self.actor_target.as_ref().unwrap_or(&self.actor).frozen();
            let clip = self.config.noise.target_clip;
            let smoothing = (&noise.next * self.config.noise.target).clamp(-clip, clip);
            (self.policy.action(p, &batch.next_obs) + smoothing).clamp(-1.0, 1.0)
        };
        let mut metrics = self.critic.update(batch, &next_action, None);
        if noise.with_actor {
            metrics.extend(self.update_actor(batch));
        }
        metrics
    }

    /// One step on E [-Q_1(s, pi(s))]: of the first critic, as published.
    fn update_actor(&mut self, batch: &Batch) -> Metrics {
        let action = self.policy.action(self.actor.trainable(), &batch.obs);
        let loss = -self.critic.value_by(Aggregate::First, &batch.obs, &action).mean(Kind::Float);
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);
        if let Some(target) = &mut self.actor_target {
            target.polyak(&self.actor, self.config.critic.tau);
        }
        Metrics::from([("actor_loss", &loss), ("grad_norm", &gradient.norm())])
    }
}

impl Agent for Td3 {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let action = self.policy.action(self.actor.frozen(), obs);
        if matches!(mode, ActMode::Deterministic | ActMode::Mean) {
            return action;
        }
        let k = mode.candidates(1);
        let noise = normal(rng, &[obs.size()[0] * k, self.policy.act_dim], self.device);
        let proposals = repeat_rows(&action, k) + noise * self.config.noise.exploration;
        self.critic.choose(&repeat_rows(obs, k), &proposals.clamp(-1.0, 1.0), k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let next = normal(rng, &[rows, self.policy.act_dim], Device::Cpu);
        Box::new(Td3Noise { next, with_actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        self.critic.branches()
    }

    fn graph(&self) -> policy::Graph {
        let Policy { obs_norm, network, obs_dim, act_dim } = &self.policy;
        let mut g = GraphBuilder::new(*obs_dim, 0, *act_dim);
        let obs = g.observation(obs_norm);
        let layers = g.layers(network, self.actor.frozen(), 0);
        let head = g.call(&layers, obs, None);
        let action = g.push(Op::Tanh(head));
        let noise = g.scaled(GraphBuilder::XI, self.config.noise.exploration, *act_dim);
        let noisy = g.push(Op::Add(action, noise));
        g.push(Op::Clip(noisy, -1.0, 1.0));
        g.finish()
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let target = self.actor_target.as_ref();
        merge_state([
            self.actor.named("actor"),
            target.map(|target| target.named("actor_target")).unwrap_or_default(),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
            self.policy.obs_norm.state(),
        ])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }
}
