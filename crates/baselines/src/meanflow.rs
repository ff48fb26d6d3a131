//! MeanFlow Q-learning (arXiv 2511.13035), online: a one-step policy a = g(s, z, 1) without a
//! stochastic head, hence without entropy. The replay replaces the published fixed data set.
//!
//! ```text
//! L = -E Q(s, g(s, z, 1)) / S + lambda L_flow + bound penalty
//! L_flow = E w ||g(s, x_t, t) - g*||^2,   g* = clip(x_t - (v - t du/dt))
//! x_t = (1 - t) b + t e,   v = e - b,   b the replay's action,   e ~ N(0, I)
//! ```
//!
//! with g(s, x, t) = x - u(s, x, t), u the mean velocity from t to 0.

use agent::candidates::repeat_rows;
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CandidatesConfig, CriticConfig, CriticLearner,
    GraphBuilder, Idle, Metrics, Noise, ObjectiveConfig, ObsNorm, Random, Scale, idle_where,
    in_range,
};
use networks::{
    Adam, Linear, Mlp, Params, ParamsBuilder, TimeEmbedding, merge_state, normal, uniform,
};
use policy::{Graph, Op};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("meanflow.toml");

/// Everything that shapes MeanFlow Q-learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanFlowConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// Proposals per state.
    pub candidates: CandidatesConfig,
    /// The weight of the regression, and the units of Q.
    pub objective: ObjectiveConfig,
    /// The flow.
    pub flow: FlowConfig,
}

/// `[flow]`: the network's time input and the regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Frequencies of the time embedding.
    pub frequencies: i64,
    /// Weight of mean relu(|a| - 1), which keeps actions in bounds.
    pub bound_penalty: f64,
    /// The regression's target is clipped to +- this.
    pub target_clip: f64,
    /// p of the adaptive weights 1 / (err^2 + c)^p.
    pub adaptive_power: f64,
    /// c of the adaptive weights.
    pub adaptive_constant: f64,
}

impl AgentConfig for MeanFlowConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, candidates, objective, flow } = self;
        critic.validate()?;
        actor.validate()?;
        candidates.validate()?;
        objective.validate()?;
        in_range("flow.bound_penalty", flow.bound_penalty, 0.0, 1e9)?;
        in_range("flow.frequencies", flow.frequencies as f64, 1.0, 1024.0)?;
        in_range("flow.target_clip", flow.target_clip, 1.0, 1e9)?;
        in_range("flow.adaptive_power", flow.adaptive_power, 0.0, 10.0)?;
        in_range("flow.adaptive_constant", flow.adaptive_constant, 1e-12, 1e9)
    }

    fn idle(&self) -> Vec<Idle> {
        let keys = &["flow.adaptive_constant"];
        let own = idle_where(&[(self.flow.adaptive_power == 0.0, keys, "flow.adaptive_power = 0")]);
        [self.critic.idle(), self.objective.idle(), own].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(MeanFlow::new(self, obs_dim, act_dim, device, rng))
    }
}

/// The network u(s, x, t) and the one-step map g that it is the residual of. All methods take
/// raw observations.
pub struct MeanFlowPolicy {
    obs_norm: ObsNorm,
    network: Mlp,
    times: TimeEmbedding,
    /// temb(1), the embedding of the one-step map: (1, 2 K).
    one: Tensor,
    obs_dim: i64,
    act_dim: i64,
}

impl MeanFlowPolicy {
    /// Lays out the network in the given precision and draws its parameters.
    /// The head starts at zero: the policy starts as a = z.
    pub fn new(
        actor: &ActorConfig,
        flow: &FlowConfig,
        obs_dim: i64,
        act_dim: i64,
        kind: Kind,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let times = TimeEmbedding::new(flow.frequencies);
        let inputs = obs_dim + act_dim + times.dim();
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", inputs, actor.hidden(), rng, |b, _| {
            vec![Linear::constant(b, "velocity", actor.width, act_dim, 0.0)]
        });
        let one = times.forward(&Tensor::ones([1, 1], (kind, device)));
        let obs_norm = ObsNorm::new(actor.normalise, obs_dim, (kind, device));
        (Self { obs_norm, network, times, one, obs_dim, act_dim }, builder.build(kind, device))
    }

    /// Adds the observations (B, obs) of a minibatch to the statistics that normalise them.
    pub fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    /// The state next to the parameters: those statistics.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.obs_norm.state()
    }

    /// g(s, z, 1), an action before clipping: one call of the network.
    pub fn one_step(&self, p: &[Tensor], obs: &Tensor, z: &Tensor) -> Tensor {
        let time = self.one.expand([obs.size()[0], -1], false);
        z - self.network.forward(p, &Tensor::cat(&[&self.obs_norm.apply(obs), z, &time], 1))
    }

    /// The policy as a graph.
    pub fn graph(&self, p: &[Tensor]) -> Graph {
        let mut g = GraphBuilder::new(self.obs_dim, self.act_dim, 0);
        let obs = g.observation(&self.obs_norm);
        let input = g.push(Op::Concat(obs, GraphBuilder::Z));
        let layers = g.layers(&self.network, p, self.one.size()[1]);
        let velocity = g.call(&layers, input, Some(&layers.shift(&self.one)));
        let raw = g.push(Op::Sub(GraphBuilder::Z, velocity));
        g.push(Op::Clip(raw, -1.0, 1.0));
        g.finish()
    }

    /// g(s, x, t) for times t of shape (B, 1).
    pub fn map(&self, p: &[Tensor], obs: &Tensor, x: &Tensor, t: &Tensor) -> Tensor {
        let obs = self.obs_norm.apply(obs);
        x - self.network.forward(p, &Tensor::cat(&[&obs, x, &self.times.forward(t)], 1))
    }

    /// The regression's input and target for the data b (B, act): x_t and
    /// g* = x_t - (v - t du/dt), du/dt being the derivative along x' = v,
    /// t' = 1 (MeanFlow's identity for r = 0).
    pub fn target(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        b: &Tensor,
        e: &Tensor,
        t: &Tensor,
    ) -> (Tensor, Tensor) {
        let (x, v) = ((1.0 - t) * b + t * e, e - b);
        let (embedding, embedding_tangent) = self.times.jvp(t);
        let obs = self.obs_norm.apply(obs);
        let input = Tensor::cat(&[&obs, &x, &embedding], 1);
        let tangent = Tensor::cat(&[&obs.zeros_like(), &v, &embedding_tangent], 1);
        let (_, derivative) = self.network.jvp(p, &input, &tangent);
        let map = &x - v + t * derivative;
        (x, map)
    }
}

/// A MeanFlow policy without a head, and its critics.
pub struct MeanFlow {
    config: MeanFlowConfig,
    policy: MeanFlowPolicy,
    actor: Params,
    actor_adam: Adam,
    critic: CriticLearner,
    scale: Scale,
    device: Device,
}

/// Noise of one update over a batch of B transitions.
pub struct MeanFlowNoise {
    /// Latents of the K_t candidates for the next action: (B K_t, act).
    pub next: Tensor,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<MeanFlowActorNoise>,
}

/// Noise of an actor update.
pub struct MeanFlowActorNoise {
    /// Latents of the actions: (B, act).
    pub z: Tensor,
    /// The flow's noise end: (B, act).
    pub e: Tensor,
    /// Flow times: (B, 1) in [0, 1).
    pub t: Tensor,
}

impl Noise for MeanFlowNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let actor = self.actor.iter_mut().flat_map(|a| [&mut a.z, &mut a.e, &mut a.t]);
        std::iter::once(&mut self.next).chain(actor).collect()
    }
}

impl MeanFlow {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &MeanFlowConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let MeanFlowConfig { actor, flow, objective, .. } = config;
        let (policy, params) =
            MeanFlowPolicy::new(actor, flow, obs_dim, act_dim, Kind::Float, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self {
            config: config.clone(),
            policy,
            actor_adam: Adam::new(actor.adam(), &params),
            actor: params,
            critic,
            scale: Scale::new(objective, device),
            device,
        }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &MeanFlowNoise) -> Metrics {
        self.policy.observe(&batch.obs);
        let next_action = {
            let _guard = tch::no_grad_guard();
            let k = self.config.candidates.target;
            let rows = repeat_rows(&batch.next_obs, k);
            let proposals = self.policy.one_step(self.actor.frozen(), &rows, &noise.next);
            self.critic.choose_for_target(&rows, &proposals.clamp(-1.0, 1.0), k)
        };
        let mut metrics = self.critic.update(batch, &next_action, None);
        if let Some(noise) = &noise.actor {
            metrics.extend(self.update_actor(batch, noise));
        }
        metrics
    }

    /// One step of the actor.
    fn update_actor(&mut self, batch: &Batch, noise: &MeanFlowActorNoise) -> Metrics {
        let action = self.policy.one_step(self.actor.trainable(), &batch.obs, &noise.z);
        let q = self.critic.value(&batch.obs, &action.clamp(-1.0, 1.0));
        let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
        self.scale.update(&value, &batch.obs, &batch.action, &q.detach());
        let flow = self.flow_loss(batch, noise);
        let bound = (action.abs() - 1.0).relu().mean(Kind::Float);
        let loss = (-q / self.scale.get()).mean(Kind::Float)
            + bound * self.config.flow.bound_penalty
            + &flow * self.config.objective.lambda;
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);
        Metrics::from([
            ("actor_loss", &loss),
            ("mirror_loss", &flow),
            ("grad_norm", &gradient.norm()),
        ])
    }

    /// L_flow, a scalar. As published, ||.||^2 is the mean over the action's
    /// dimensions.
    fn flow_loss(&self, batch: &Batch, noise: &MeanFlowActorNoise) -> Tensor {
        let FlowConfig { target_clip, adaptive_power, adaptive_constant, .. } = self.config.flow;
        let MeanFlowActorNoise { e, t, .. } = noise;
        let (x, target) = {
            let _guard = tch::no_grad_guard();
            self.policy.target(self.actor.frozen(), &batch.obs, &batch.action, e, t)
        };
        let map = self.policy.map(self.actor.trainable(), &batch.obs, &x, t);
        let error = (map - target.clamp(-target_clip, target_clip)).square();
        let error = error.mean_dim(&[1i64][..], false, None);
        let weight = (error.detach() + adaptive_constant).pow_tensor_scalar(-adaptive_power);
        (weight * error).mean(Kind::Float)
    }
}

impl Agent for MeanFlow {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(self.config.candidates.act);
        let rows = repeat_rows(obs, k);
        let shape = [rows.size()[0], self.policy.act_dim];
        let z = match mode {
            ActMode::Mean => Tensor::zeros(shape, (Kind::Float, self.device)),
            _ => normal(rng, &shape, self.device),
        };
        let proposals = self.policy.one_step(self.actor.frozen(), &rows, &z).clamp(-1.0, 1.0);
        self.critic.choose(&rows, &proposals, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let (act_dim, cpu) = (self.policy.act_dim, Device::Cpu);
        let next = normal(rng, &[rows * self.config.candidates.target, act_dim], cpu);
        let actor = with_actor.then(|| MeanFlowActorNoise {
            z: normal(rng, &[rows, act_dim], cpu),
            e: normal(rng, &[rows, act_dim], cpu),
            t: uniform(rng, &[rows, 1], cpu),
        });
        Box::new(MeanFlowNoise { next, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        self.critic.branches()
    }

    fn graph(&self) -> Graph {
        self.policy.graph(self.actor.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
            self.scale.state(),
            self.policy.state(),
        ])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }
}
