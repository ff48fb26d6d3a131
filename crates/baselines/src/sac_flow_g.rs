//! SAC Flow-G (arXiv 2509.25756): a flow of K noisy steps whose velocity is gated as in a GRU,
//! trained end to end by SAC's objective on the density of the whole path.
//!
//! ```text
//! x_0 ~ N(0, I),   h = 1/K,   t_k = k h
//! x_{k+1} = x_k + h u_k + sigma(s) xi_k,   u_k = z (c - x_k),   a = tanh(x_K)
//! z = sigmoid(gate(s, x_k, t_k)),   c = candidate(s, x_k, t_k)
//! log p = log N(x_0; 0, I) + sum_k log N(x_{k+1}; x_k + h u_k, sigma^2) - sum_j log(1 - a_j^2)
//! ```
//!
//! [`PathAgent`] has the objective.

use crate::path::{Path, PathAgent, PathConfig, PathObjective, PathPolicy};
use agent::{
    ActorConfig, Agent, AgentConfig, CriticConfig, GraphBuilder, Idle, ObsNorm, Random,
    TemperatureConfig, idle_where, in_range,
};
use networks::{
    Activation, BatchNorm, Hidden, Linear, Mlp, NormMode, Params, ParamsBuilder, Renorm,
    tanh_log_slope,
};
use policy::{Graph, Op, Value};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("sac_flow_g.toml");

/// Frequencies of the embedding of the time, each with sine and cosine.
const FREQUENCIES: i64 = 16;
/// Their smallest is about 1 over this.
const LONGEST: f64 = 10_000.0;
/// Range of log sigma.
const LOG_STD_RANGE: (f64, f64) = (-5.0, 2.0);
/// The gate starts at sigmoid(5) = 0.993.
const GATE_BIAS: f64 = 5.0;
/// Hidden layers of the network of sigma.
const STD_DEPTH: usize = 2;

/// Everything that shapes SAC Flow-G. `sac_flow_g.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SacFlowGConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's networks and their optimiser.
    pub actor: ActorConfig,
    /// The entropy's weight.
    pub temperature: TemperatureConfig,
    /// The flow.
    pub flow: FlowConfig,
}

/// `[flow]`: the path and its normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Steps K: network calls per action.
    pub steps: i64,
    /// Whether [s, x] passes through batch renormalisation.
    pub batch_norm: bool,
    /// Momentum m of its running statistics: running = m running + (1 - m) batch.
    pub norm_momentum: f64,
    /// Critic updates before renormalisation begins.
    pub renorm_warmup: i64,
}

impl FlowConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("flow.steps", self.steps as f64, 1.0, 1000.0)?;
        in_range("flow.norm_momentum", self.norm_momentum, 0.0, 1.0)?;
        in_range("flow.renorm_warmup", self.renorm_warmup as f64, 0.0, 1e12)
    }

    /// The keys that have no effect.
    pub fn idle(&self) -> Vec<Idle> {
        let keys = &["flow.norm_momentum", "flow.renorm_warmup"];
        idle_where(&[(!self.batch_norm, keys, "flow.batch_norm = false")])
    }

    /// How the networks are called in an update of the actor.
    pub(crate) fn training_mode(&self, critic_updates: i64) -> NormMode {
        if !self.batch_norm {
            return NormMode::Running;
        }
        NormMode::Batch((critic_updates > self.renorm_warmup).then_some(Renorm::CROSSQ))
    }
}

impl SacFlowGConfig {
    /// The sections that the agent shares with others.
    pub fn path(&self) -> PathConfig<'_> {
        let Self { critic, actor, temperature, .. } = self;
        PathConfig { critic, distribution: None, actor, temperature, objective: PathObjective::SAC }
    }

    /// An agent with new networks. The configuration must be valid.
    pub fn agent(&self, obs_dim: i64, act_dim: i64, device: Device, rng: &mut Random) -> PathAgent {
        let (policy, params) =
            GatedFlow::new(&self.actor, &self.flow, obs_dim, act_dim, (Kind::Float, device), rng);
        PathAgent::new(&self.path(), (Box::new(policy), params), obs_dim, rng)
    }
}

impl AgentConfig for SacFlowGConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, temperature, flow } = self;
        critic.validate()?;
        actor.validate()?;
        temperature.validate()?;
        flow.validate()
    }

    fn idle(&self) -> Vec<Idle> {
        let own = self.flow.idle();
        [self.critic.idle(), self.temperature.idle(), own].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(self.agent(obs_dim, act_dim, device, rng))
    }
}

/// The networks of gate, candidate, time and sigma.
pub struct GatedFlow {
    config: FlowConfig,
    obs_norm: ObsNorm,
    /// Of [s, x], with its running statistics.
    batch_norm: Option<(BatchNorm, Params)>,
    /// Sines and cosines of t_k for every k: (K, 32).
    times: Tensor,
    time: Mlp,
    gate: Mlp,
    candidate: Mlp,
    std: Mlp,
    obs_dim: i64,
    act_dim: i64,
}

impl GatedFlow {
    /// Lays out the networks and draws their parameters.
    pub fn new(
        actor: &ActorConfig,
        config: &FlowConfig,
        obs_dim: i64,
        act_dim: i64,
        (kind, device): (Kind, Device),
        rng: &mut Random,
    ) -> (Self, Params) {
        let (mut builder, mut stats) = (ParamsBuilder::new(), ParamsBuilder::new());
        let b = &mut builder;
        let (features, time_dim) = (obs_dim + act_dim, 2 * FREQUENCIES);
        let batch_norm = config
            .batch_norm
            .then(|| BatchNorm::new(b, &mut stats, "norm_in", features, config.norm_momentum));
        let width = actor.width;
        let wide = 2 * time_dim;
        let time = Mlp::new(
            b,
            "time",
            time_dim,
            Hidden::new(wide, 1, Activation::Swish),
            rng,
            |b, rng| vec![Linear::new(b, "time.out", wide, time_dim, rng)],
        );
        let inputs = features + time_dim;
        let gate = Mlp::new(b, "gate", inputs, actor.hidden(), rng, |b, _| {
            vec![Linear::constant(b, "gate.out", width, act_dim, GATE_BIAS)]
        });
        let candidate = Mlp::new(b, "candidate", inputs, actor.hidden(), rng, |b, rng| {
            vec![Linear::new(b, "candidate.out", width, act_dim, rng)]
        });
        let relu = Activation::Relu;
        let std =
            Mlp::new(b, "std", obs_dim, Hidden::new(width, STD_DEPTH, relu), rng, |b, rng| {
                vec![Linear::new(b, "std.out", width, act_dim, rng)]
            });
        let policy = Self {
            config: config.clone(),
            obs_norm: ObsNorm::new(actor.normalise, obs_dim, (kind, device)),
            batch_norm: batch_norm.map(|norm| (norm, stats.build(kind, device))),
            times: sinusoids(config.steps, (kind, device)),
            time,
            gate,
            candidate,
            std,
            obs_dim,
            act_dim,
        };
        (policy, builder.build(kind, device))
    }

    /// log sigma(s) of (normalised) observations.
    fn log_std(&self, p: &[Tensor], obs: &Tensor) -> Tensor {
        in_log_std_range(&self.std.forward(p, obs))
    }

    /// [s, x], normalised if the configuration says so.
    fn normed(&self, p: &[Tensor], obs: &Tensor, x: &Tensor, mode: NormMode) -> Tensor {
        let input = Tensor::cat(&[obs, x], 1);
        match &self.batch_norm {
            Some((norm, stats)) => norm.forward(p, stats.frozen(), &input, mode),
            None => input,
        }
    }
}

impl PathPolicy for GatedFlow {
    fn act_dim(&self) -> i64 {
        self.act_dim
    }

    fn steps(&self) -> i64 {
        self.config.steps
    }

    fn draw(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor, mode: NormMode) -> Path {
        let (steps, rows) = (self.config.steps, obs.size()[0]);
        let obs = self.obs_norm.apply(obs);
        let log_std = self.log_std(p, &obs);
        let std = log_std.exp();
        let times = self.time.forward(p, &self.times);
        let mut x = noise.get(0);
        let mut states = vec![x.shallow_clone()];
        for k in 0..steps {
            let time = times.narrow(0, k, 1).expand([rows, -1], false);
            let input = Tensor::cat(&[self.normed(p, &obs, &x, mode), time], 1);
            let z = self.gate.forward(p, &input).sigmoid();
            let velocity = z * (self.candidate.forward(p, &input) - &x);
            x = x + velocity / steps as f64 + &std * noise.get(k + 1);
            states.push(x.shallow_clone());
        }
        let log_prob = path_log_prob(noise, &(log_std * steps as f64), &x);
        Path { states, action: x.tanh(), log_prob }
    }

    fn training_mode(&self, critic_updates: i64) -> NormMode {
        self.config.training_mode(critic_updates)
    }

    fn steps_without_noise(&self) -> bool {
        true
    }

    fn graph(&self, p: &[Tensor]) -> Graph {
        let (steps, act) = (self.config.steps, self.act_dim);
        let mut g = GraphBuilder::new(self.obs_dim, act, steps * act);
        let obs = g.observation(&self.obs_norm);
        let std = g.layers(&self.std, p, 0);
        let log_std = g.call(&std, obs, None);
        let log_std = log_std_in_graph(&mut g, log_std, act);
        let std = g.push(Op::Exp(log_std));
        let times = self.time.forward(p, &self.times);
        let [gate, candidate] =
            [&self.gate, &self.candidate].map(|network| g.layers(network, p, times.size()[1]));
        let mut x = GraphBuilder::Z;
        for k in 0..steps {
            let mut input = g.push(Op::Concat(obs, x));
            if let Some((norm, stats)) = &self.batch_norm {
                input = g.scaled_and_shifted(input, norm.running(p, stats.frozen()));
            }
            let mut call = |network| g.call(network, input, Some(&network.shift(&times.get(k))));
            let [z, c] = [&gate, &candidate].map(&mut call);
            let away = g.push(Op::Sub(c, x));
            let velocity = g.gated(away, z, act);
            let part = g.scaled(velocity, 1.0 / steps as f64, act);
            let mean = g.push(Op::Add(x, part));
            let xi = g.push(Op::Slice(GraphBuilder::XI, (k * act) as u32, act as u32));
            let noise = g.push(Op::Mul(std, xi));
            x = g.push(Op::Add(mean, noise));
        }
        g.push(Op::Tanh(x));
        g.finish()
    }

    fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let stats = self.batch_norm.iter().flat_map(|(_, stats)| stats.named("actor_stats"));
        self.obs_norm.state().into_iter().chain(stats).collect()
    }
}

/// [sin(f_i t_k), cos(f_i t_k)] at t_k = k/K, with frequencies f_i from 1 down to 1/10,000 in
/// equal ratios: (K, 32).
fn sinusoids(steps: i64, options: (Kind, Device)) -> Tensor {
    let last = (FREQUENCIES - 1) as f64;
    let frequencies = (Tensor::arange(FREQUENCIES, options) * (-LONGEST.ln() / last)).exp();
    let times = Tensor::arange(steps, options).unsqueeze(1) / steps as f64;
    let angles = times * frequencies;
    Tensor::cat(&[angles.sin(), angles.cos()], 1)
}

/// Any numbers to [`LOG_STD_RANGE`], through tanh.
pub(crate) fn in_log_std_range(x: &Tensor) -> Tensor {
    let (low, high) = LOG_STD_RANGE;
    (x.tanh() + 1.0) * (0.5 * (high - low)) + low
}

/// [`in_log_std_range`] of a vector of length `n` in a graph.
pub(crate) fn log_std_in_graph(g: &mut GraphBuilder, x: Value, n: i64) -> Value {
    let (low, high) = LOG_STD_RANGE;
    let tanh = g.push(Op::Tanh(x));
    let one = g.full(1.0, n);
    let positive = g.push(Op::Add(tanh, one));
    let scaled = g.scaled(positive, 0.5 * (high - low), n);
    let low = g.full(low, n);
    g.push(Op::Add(scaled, low))
}

/// log p of paths whose noise is (K + 1, B, act), from the sums over their K steps of log
/// deviations and from x_K, (B, act) each: (B).
pub(crate) fn path_log_prob(noise: &Tensor, log_stds: &Tensor, last: &Tensor) -> Tensor {
    let count = noise.size()[0] as f64;
    // log N(m + sigma xi; m, sigma^2) = log N(xi; 0, 1) - log sigma.
    let squares = noise.square().sum_dim_intlist(&[0i64][..], false, None);
    let each = squares * -0.5 - count * 0.5 * (2.0 * PI).ln() - log_stds - tanh_log_slope(last);
    each.sum_dim_intlist(&[1i64][..], false, None)
}
