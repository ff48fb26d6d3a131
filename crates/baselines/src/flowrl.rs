//! FlowRL (arXiv 2506.12811): a flow policy by one midpoint step, with the replay's actions that
//! are better than its own as a second source.
//!
//! ```text
//! a = tanh(x_1),   x' = v(s, x, t) from x_0 = clamp(N(0, I), -1, 1),   midpoint steps
//! L = E [-Q(s, a) + w |v(s, x_t, t) - (b - x_0)|^2],   x_t = t b + (1 - t) x_0
//! w = clip(lambda exp(d - mean d), 0.001, 1),   d = relu(Q_b(s, b) - Q(s, a))
//! y_b = r + gamma (1 - terminated) V_b(s'),   V_b the upper expectile of Q_b(s, b)
//! ```
//!
//! b is the replay's action before squashing, Q_b its value under the best of the replay, and
//! |.|^2 the mean over the action's dimensions. There is no entropy.
//!
//! Q_b has layer normalisation and target networks, as published, whatever the kind of the policy's
//! critics: CrossQ has no targets because it normalises (s, a) together with the next pair that y is
//! computed from, and Q_b has no next pair.

use agent::candidates::repeat_rows;
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CriticConfig, CriticLearner, GraphBuilder,
    Idle, Metrics, Noise, ObsNorm, Random, Value, in_range,
};
use networks::{
    Activation, Adam, AdamConfig, CriticKind, Hidden, Linear, Mlp, Params, ParamsBuilder,
    atanh_clamped, merge_state, normal, uniform,
};
use policy::{Graph, Op};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("flowrl.toml");

/// Range of the weights w.
const WEIGHT_RANGE: (f64, f64) = (1e-3, 1.0);

/// Everything that shapes FlowRL. `flowrl.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRlConfig {
    /// The critics of the policy.
    pub critic: CriticConfig,
    /// The critics of the replay's actions.
    pub replay_critic: ReplayCriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// The flow.
    pub flow: FlowRlFlowConfig,
}

/// `[replay_critic]`: the critics Q_b, whose sizes, rates and discount are those of `[critic]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayCriticConfig {
    /// Polyak rate of the target networks.
    pub tau: f64,
    /// Updates between two steps of the target networks.
    pub target_interval: i64,
}

/// `[flow]`: the integration, and the regression to the replay's actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRlFlowConfig {
    /// Midpoint steps: two network calls each.
    pub steps: i64,
    /// Expectile of Q_b that V_b learns.
    pub expectile: f64,
    /// Weight lambda of the regression.
    pub weight: f64,
    /// Whether each transition has its own weight; if not, all have the mean.
    pub weight_each: bool,
    /// Whether the regression's actions are those before squashing.
    pub unsquash: bool,
}

impl AgentConfig for FlowRlConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, replay_critic, actor, flow } = self;
        critic.validate()?;
        in_range("replay_critic.tau", replay_critic.tau, 0.0, 1.0)?;
        let interval = replay_critic.target_interval as f64;
        in_range("replay_critic.target_interval", interval, 1.0, 1e9)?;
        actor.validate()?;
        in_range("flow.steps", flow.steps as f64, 1.0, 1000.0)?;
        in_range("flow.expectile", flow.expectile, 0.0, 1.0)?;
        in_range("flow.weight", flow.weight, 0.0, 1e9)
    }

    fn idle(&self) -> Vec<Idle> {
        self.critic.idle()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(FlowRl::new(self, obs_dim, act_dim, device, rng))
    }
}

impl FlowRlConfig {
    /// The critics Q_b.
    fn of_replay(&self) -> CriticConfig {
        let ReplayCriticConfig { tau, target_interval } = self.replay_critic;
        let kind = CriticKind::LayerNorm;
        CriticConfig { kind, tau, target_interval, ..self.critic.clone() }
    }
}

/// The network v(s, x, t). All methods take raw observations.
struct Policy {
    obs_norm: ObsNorm,
    network: Mlp,
    steps: i64,
    obs_dim: i64,
    act_dim: i64,
}

impl Policy {
    fn new(
        actor: &ActorConfig,
        steps: i64,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let (b, inputs) = (&mut builder, obs_dim + act_dim + 1);
        let network = Mlp::new(b, "trunk", inputs, actor.hidden().layer_normed(), rng, |b, rng| {
            vec![Linear::new(b, "velocity", actor.width, act_dim, rng)]
        });
        let obs_norm = ObsNorm::new(actor.normalise, obs_dim, (Kind::Float, device));
        (Self { obs_norm, network, steps, obs_dim, act_dim }, builder.build(Kind::Float, device))
    }

    /// v of normalised observations, at times t (B, 1).
    fn velocity(&self, p: &[Tensor], obs: &Tensor, x: &Tensor, t: &Tensor) -> Tensor {
        self.network.forward(p, &Tensor::cat(&[obs, x, t], 1))
    }

    /// Actions (B, act) in (-1, 1) from x_0 (B, act).
    fn action(&self, p: &[Tensor], obs: &Tensor, start: &Tensor) -> Tensor {
        let obs = self.obs_norm.apply(obs);
        let (h, mut x) = (1.0 / self.steps as f64, start.shallow_clone());
        let at = |t: f64| Tensor::full([obs.size()[0], 1], t, (obs.kind(), obs.device()));
        for i in 0..self.steps {
            let t = i as f64 * h;
            let middle = &x + self.velocity(p, &obs, &x, &at(t)) * (0.5 * h);
            x = &x + self.velocity(p, &obs, &middle, &at(t + 0.5 * h)) * h;
        }
        x.tanh()
    }

    /// The policy as a graph.
    fn graph(&self, p: &[Tensor]) -> Graph {
        let (h, act) = (1.0 / self.steps as f64, self.act_dim);
        let mut g = GraphBuilder::new(self.obs_dim, act, 0);
        let obs = g.observation(&self.obs_norm);
        let layers = g.layers(&self.network, p, 1);
        let mut x = g.push(Op::Clip(GraphBuilder::Z, -1.0, 1.0));
        for i in 0..self.steps {
            // From x by a length, along the velocity at a place and a time.
            let mut step = |at, t: f64, length| {
                let input = g.push(Op::Concat(obs, at));
                let shift = layers.shift(&Tensor::from_slice(&[t]));
                let velocity = g.call(&layers, input, Some(&shift));
                let part = g.scaled(velocity, length, act);
                g.push(Op::Add(x, part))
            };
            let t = i as f64 * h;
            let middle = step(x, t, 0.5 * h);
            x = step(middle, t + 0.5 * h, h);
        }
        g.push(Op::Tanh(x));
        g.finish()
    }

    /// |v(s, x_t, t) - (b - x_0)|^2 of each row: (B).
    fn errors(&self, p: &[Tensor], obs: &Tensor, b: &Tensor, x0: &Tensor, t: &Tensor) -> Tensor {
        let x = t * b + (1.0 - t) * x0;
        let velocity = self.velocity(p, &self.obs_norm.apply(obs), &x, t);
        (velocity - (b - x0)).square().mean_dim(&[1i64][..], false, None)
    }
}

/// V_b(s): an upper expectile of Q_b(s, b) over the replay's actions.
struct StateValue {
    network: Mlp,
    params: Params,
    adam: Adam,
    expectile: f64,
}

impl StateValue {
    fn new(
        critic: &CriticConfig,
        expectile: f64,
        obs_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let mut builder = ParamsBuilder::new();
        let CriticConfig { width, depth, learning_rate, beta1, .. } = *critic;
        let (b, relu) = (&mut builder, Activation::Relu);
        let network = Mlp::new(
            b,
            "trunk",
            obs_dim,
            Hidden::new(width, depth, relu).layer_normed(),
            rng,
            |b, rng| vec![Linear::new(b, "value", width, 1, rng)],
        );
        let params = builder.build(Kind::Float, device);
        let adam = Adam::new(AdamConfig { learning_rate, beta1 }, &params);
        Self { network, params, adam, expectile }
    }

    /// (B, obs) -> (B).
    fn value(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        self.network.forward(p, obs).squeeze_dim(1)
    }

    /// One step on E |expectile - 1(q < V)| (q - V)^2 (Kostrikov et al. 2022, equation 5). Returns
    /// the loss.
    fn update(&mut self, obs: &Tensor, q: &Tensor) -> Tensor {
        let error = q - self.value(self.params.trainable(), obs);
        let above = error.detach().ge(0.0).to_kind(error.kind());
        let weight = above * (2.0 * self.expectile - 1.0) + (1.0 - self.expectile);
        let loss = (weight * error.square()).mean(Kind::Float);
        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        loss
    }
}

/// A flow policy and its update for any values Q(s, a) and Q_b(s, b): the critics of [`FlowRl`], or
/// known functions.
pub struct FlowRlActor {
    config: FlowRlFlowConfig,
    policy: Policy,
    params: Params,
    adam: Adam,
}

/// A flow policy, its critics, and the values of the replay's actions.
pub struct FlowRl {
    config: FlowRlConfig,
    actor: FlowRlActor,
    critic: CriticLearner,
    /// Q_b.
    replay_critic: CriticLearner,
    /// V_b.
    replay_v: StateValue,
    device: Device,
}

/// Noise of one update over a batch of B transitions.
pub struct FlowRlNoise {
    /// x_0 of the next actions in the target, standard normal: (B, act).
    pub next: Tensor,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<FlowRlActorNoise>,
}

/// Noise of an actor update.
pub struct FlowRlActorNoise {
    /// x_0 of the actions, standard normal: (B, act).
    pub start: Tensor,
    /// x_0 of the regression, standard normal: (B, act).
    pub flow_start: Tensor,
    /// Flow times: (B, 1) in [0, 1).
    pub t: Tensor,
}

impl Noise for FlowRlNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let actor = self.actor.iter_mut();
        let actor = actor.flat_map(|a| [&mut a.start, &mut a.flow_start, &mut a.t]);
        std::iter::once(&mut self.next).chain(actor).collect()
    }
}

impl FlowRlActorNoise {
    /// Noise for a minibatch, on the CPU.
    pub fn draw(rows: i64, act_dim: i64, rng: &mut Random) -> Self {
        let (shape, cpu) = ([rows, act_dim], Device::Cpu);
        Self {
            start: normal(rng, &shape, cpu),
            flow_start: normal(rng, &shape, cpu),
            t: uniform(rng, &[rows, 1], cpu),
        }
    }
}

/// x_0 from standard-normal noise.
fn start(noise: &Tensor) -> Tensor {
    noise.clamp(-1.0, 1.0)
}

impl FlowRlActor {
    /// Draws the network for the given sizes. The configuration must be valid; its critics are not
    /// used.
    pub fn new(
        config: &FlowRlConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let FlowRlConfig { actor, flow, .. } = config;
        let (policy, params) = Policy::new(actor, flow.steps, obs_dim, act_dim, device, rng);
        Self { config: flow.clone(), policy, adam: Adam::new(actor.adam(), &params), params }
    }

    /// Actions (B, act) for raw observations, from standard-normal noise of x_0 (B, act). Outside
    /// of any graph.
    pub fn act(&self, obs: &Tensor, noise: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        self.policy.action(self.params.frozen(), obs, &start(noise))
    }

    /// One step in some states (B, obs), with the replay's actions there (B, act): `value` is Q, and
    /// `replay_q` Q_b.
    pub fn update(
        &mut self,
        obs: &Tensor,
        replay_action: &Tensor,
        noise: &FlowRlActorNoise,
        value: &Value,
        replay_q: &Value,
    ) -> Metrics {
        let FlowRlFlowConfig { weight, weight_each, unsquash, .. } = self.config;
        let p = self.params.trainable();
        let action = self.policy.action(p, obs, &start(&noise.start));
        let q = value(obs, &action);
        let weights = {
            let _guard = tch::no_grad_guard();
            let better = replay_q(obs, replay_action) - q.detach();
            let better = better.relu();
            let (low, high) = WEIGHT_RANGE;
            ((&better - better.mean(Kind::Float)).exp() * weight).clamp(low, high)
        };
        let b = match unsquash {
            true => atanh_clamped(replay_action),
            false => replay_action.shallow_clone(),
        };
        let errors = self.policy.errors(p, obs, &b, &start(&noise.flow_start), &noise.t);
        let mean = weights.mean(Kind::Float);
        let flow = match weight_each {
            true => (&weights * errors).mean(Kind::Float),
            false => errors.mean(Kind::Float) * &mean,
        };
        let loss = &flow - q.mean(Kind::Float);
        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        Metrics::from([
            ("actor_loss", &loss),
            ("flow_loss", &flow),
            ("flow_weight", &mean),
            ("grad_norm", &gradient.norm()),
        ])
    }
}

impl FlowRl {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &FlowRlConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let FlowRlConfig { critic, flow, .. } = config;
        let of_replay = config.of_replay();
        Self {
            config: config.clone(),
            actor: FlowRlActor::new(config, obs_dim, act_dim, device, rng),
            critic: CriticLearner::new(critic, obs_dim, act_dim, device, rng),
            replay_critic: CriticLearner::new(&of_replay, obs_dim, act_dim, device, rng),
            replay_v: StateValue::new(critic, flow.expectile, obs_dim, device, rng),
            device,
        }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &FlowRlNoise) -> Metrics {
        self.actor.policy.obs_norm.update(&batch.obs);
        let next_action = self.actor.act(&batch.next_obs, &noise.next);
        let mut metrics = self.critic.update(batch, &next_action, None);
        metrics.extend(self.update_replay_values(batch));
        if let Some(noise) = &noise.actor {
            let q = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
            let q_b = |obs: &Tensor, action: &Tensor| self.replay_critic.value(obs, action);
            metrics.extend(self.actor.update(&batch.obs, &batch.action, noise, &q, &q_b));
        }
        metrics
    }

    /// One step of V_b and of Q_b.
    fn update_replay_values(&mut self, batch: &Batch) -> Metrics {
        let y = {
            let _guard = tch::no_grad_guard();
            let next = self.replay_v.value(self.replay_v.params.frozen(), &batch.next_obs);
            let discount = (1.0 - &batch.terminated) * self.config.critic.gamma;
            &batch.reward + discount * next
        };
        let q = self.replay_critic.target_value(&batch.obs, &batch.action);
        let value_loss = self.replay_v.update(&batch.obs, &q);
        let mut metrics = Metrics::from([("replay_value_loss", &value_loss)]);
        let critic = self.replay_critic.regress(&batch.obs, &batch.action, &y);
        metrics.extend(critic.renamed(|name| match name {
            "critic_loss" => "replay_critic_loss",
            _ => "replay_q_mean",
        }));
        metrics
    }
}

impl Agent for FlowRl {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(1);
        let rows = repeat_rows(obs, k);
        let shape = [rows.size()[0], self.actor.policy.act_dim];
        let noise = match mode {
            ActMode::Mean => Tensor::zeros(shape, (Kind::Float, self.device)),
            _ => normal(rng, &shape, self.device),
        };
        let proposals = self.actor.act(&rows, &noise);
        self.critic.choose(&rows, &proposals, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let act_dim = self.actor.policy.act_dim;
        Box::new(FlowRlNoise {
            next: normal(rng, &[rows, act_dim], Device::Cpu),
            actor: with_actor.then(|| FlowRlActorNoise::draw(rows, act_dim, rng)),
        })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        let mut branches = self.critic.branches();
        branches.extend(self.replay_critic.branches());
        branches
    }

    fn calls_per_action(&self) -> u32 {
        2 * self.config.flow.steps as u32
    }

    fn graph(&self) -> Graph {
        self.actor.policy.graph(self.actor.params.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let StateValue { params, adam, .. } = &self.replay_v;
        let of_replay = self.replay_critic.state().into_iter();
        merge_state([
            self.actor.params.named("actor"),
            self.actor.adam.named("actor_adam"),
            self.critic.state(),
            of_replay.map(|(name, tensor)| (format!("replay_{name}"), tensor)).collect(),
            params.named("replay_value"),
            adam.named("replay_value_adam"),
            self.actor.policy.obs_norm.state(),
        ])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }
}
