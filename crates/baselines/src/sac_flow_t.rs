//! SAC Flow-T (arXiv 2509.25756): a flow of K noisy steps whose velocity a small transformer
//! predicts, trained end to end by SAC's objective on the density of the whole path.
//!
//! ```text
//! x_0 ~ N(0, I),   h = 1/K,   t_k = k h
//! x_{k+1} = x_k + h (v_k + sigma_k xi_k),   a = tanh(x_K)
//! log p = log N(x_0; 0, I) + sum_k log N(x_{k+1}; x_k + h v_k, (h sigma_k)^2) - sum_j log(1 - a_j^2)
//! ```
//!
//! The decoder's sequence has length 1, where softmax is 1 and attention is its value and output
//! projections: queries, keys and heads have no effect, and are left out. The other token, the
//! embedded state, is the same at every step, hence is cross-attention.
//!
//! [`PathAgent`] has the objective.

use crate::path::{Path, PathAgent, PathConfig, PathObjective, PathPolicy};
use crate::sac_flow_g::{FlowConfig, in_log_std_range, log_std_in_graph, path_log_prob};
use agent::{
    ActorConfig, Agent, AgentConfig, CriticConfig, GraphBuilder, Idle, ObsNorm, Random,
    TemperatureConfig,
};
use networks::{
    Activation, BatchNorm, Hidden, LayerNorm, Linear, Mlp, NormMode, Params, ParamsBuilder,
};
use policy::{Graph, Op, Value};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("sac_flow_t.toml");

/// Everything that shapes SAC Flow-T. `sac_flow_t.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SacFlowTConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The transformer and its optimiser.
    pub actor: ActorConfig,
    /// The entropy's weight.
    pub temperature: TemperatureConfig,
    /// The flow.
    pub flow: FlowConfig,
    /// The density of its paths.
    pub density: DensityConfig,
}

/// `[density]`: the density of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DensityConfig {
    /// Whether it has the steps' deviations.
    pub exact: bool,
}

impl SacFlowTConfig {
    /// The sections that the agent shares with others.
    pub fn path(&self) -> PathConfig<'_> {
        let Self { critic, actor, temperature, .. } = self;
        let objective = PathObjective::SAC;
        PathConfig { critic, distribution: None, actor, temperature, objective }
    }

    /// An agent with new networks. The configuration must be valid.
    pub fn agent(&self, obs_dim: i64, act_dim: i64, device: Device, rng: &mut Random) -> PathAgent {
        let (policy, params) =
            TransformerFlow::new(self, obs_dim, act_dim, (Kind::Float, device), rng);
        PathAgent::new(&self.path(), (Box::new(policy), params), obs_dim, rng)
    }
}

impl AgentConfig for SacFlowTConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, temperature, flow, density: _ } = self;
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

/// The transformer: a token for x_k and t_k that attends to the state, through layers that all
/// steps share.
pub struct TransformerFlow {
    flow: FlowConfig,
    exact_density: bool,
    obs_norm: ObsNorm,
    stats: Params,
    /// Batch normalisations of s and of x_k for each k, if the configuration says so.
    input_norms: Option<(BatchNorm, Vec<BatchNorm>)>,
    /// The state's token.
    memory: Mlp,
    action: Linear,
    time: [Linear; 3],
    layers: Vec<Layer>,
    /// Heads of the velocity's mean and log deviation.
    heads: [Linear; 2],
    obs_dim: i64,
    act_dim: i64,
}

/// A decoder layer with normalisation after each of its three sums.
struct Layer {
    self_attention: Attention,
    cross_attention: Attention,
    feed_forward: Mlp,
    norms: [Norm; 3],
}

/// Attention to one token: its value and output projections.
struct Attention([Linear; 2]);

impl Attention {
    fn new(b: &mut ParamsBuilder, name: &str, width: i64, rng: &mut Random) -> Self {
        Self(
            ["value", "out"]
                .map(|part| Linear::new(b, &format!("{name}.{part}"), width, width, rng)),
        )
    }

    fn forward(&self, p: &[Tensor], token: &Tensor) -> Tensor {
        let [value, out] = &self.0;
        out.forward(p, &value.forward(p, token))
    }

    /// Both projections as one: weights (width, width) and biases (width), in f64.
    fn joined(&self, p: &[Tensor]) -> [Tensor; 2] {
        let [value, out] = self.0.each_ref().map(|part| {
            part.tensors(p).map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double))
        });
        [out[0].matmul(&value[0]), out[0].mv(&value[1]) + &out[1]]
    }
}

/// The normalisation within a layer.
enum Norm {
    Layer(LayerNorm),
    Batch(BatchNorm),
}

impl Norm {
    fn graph(&self, g: &mut GraphBuilder, p: &[Tensor], stats: &Params, x: Value) -> Value {
        match self {
            Self::Layer(norm) => g.layer_norm(x, norm.tensors(p)),
            Self::Batch(norm) => g.scaled_and_shifted(x, norm.running(p, stats.frozen())),
        }
    }
}

impl TransformerFlow {
    /// Lays out the networks and draws their parameters.
    pub fn new(
        config: &SacFlowTConfig,
        obs_dim: i64,
        act_dim: i64,
        (kind, device): (Kind, Device),
        rng: &mut Random,
    ) -> (Self, Params) {
        let (mut builder, mut stats) = (ParamsBuilder::new(), ParamsBuilder::new());
        let (b, s) = (&mut builder, &mut stats);
        let SacFlowTConfig { actor, flow, .. } = config;
        let ActorConfig { width, depth, activation, .. } = *actor;
        let momentum = flow.norm_momentum;
        let input_norms = flow.batch_norm.then(|| {
            let of_obs = BatchNorm::new(b, s, "norm_obs", obs_dim, momentum);
            let of_step = |k| BatchNorm::new(b, s, &format!("norm_x{k}"), act_dim, momentum);
            (of_obs, (0..flow.steps).map(of_step).collect())
        });
        let (half, quarter) = ((width / 2).max(1), (width / 4).max(1));
        let memory = Mlp::new(
            b,
            "memory",
            obs_dim,
            Hidden::new(half, 1, Activation::Swish),
            rng,
            |b, rng| vec![Linear::new(b, "memory.out", half, width, rng)],
        );
        let action = Linear::new(b, "action", act_dim, width, rng);
        let time = [("0", 1, quarter), ("1", quarter, half), ("2", half, width)]
            .map(|(i, inputs, outputs)| Linear::new(b, &format!("time.{i}"), inputs, outputs, rng));
        let layers = (0..depth).map(|i| {
            let name = |part: &str| format!("layer{i}.{part}");
            let self_attention = Attention::new(b, &name("self"), width, rng);
            let cross_attention = Attention::new(b, &name("cross"), width, rng);
            let (wide, inner) = (4 * width, name("inner"));
            let feed_forward =
                Mlp::new(b, &inner, width, Hidden::new(wide, 1, activation), rng, |b, rng| {
                    vec![Linear::new(b, &format!("{inner}.out"), wide, width, rng)]
                });
            let norms = [0, 1, 2].map(|n| {
                let name = name(&format!("norm_{n}"));
                match flow.batch_norm {
                    true => Norm::Batch(BatchNorm::new(b, s, &name, width, momentum)),
                    false => Norm::Layer(LayerNorm::new(b, &name, width)),
                }
            });
            Layer { self_attention, cross_attention, feed_forward, norms }
        });
        let layers = layers.collect();
        let heads = ["velocity", "std"].map(|name| Linear::new(b, name, width, act_dim, rng));
        let policy = Self {
            flow: flow.clone(),
            exact_density: config.density.exact,
            obs_norm: ObsNorm::new(actor.normalise, obs_dim, (kind, device)),
            stats: stats.build(kind, device),
            input_norms,
            memory,
            action,
            time,
            layers,
            heads,
            obs_dim,
            act_dim,
        };
        (policy, builder.build(kind, device))
    }

    /// The embedding of every t_k: (K, width).
    fn times(&self, p: &[Tensor]) -> Tensor {
        let options = (p[0].kind(), p[0].device());
        let t = Tensor::arange(self.flow.steps, options).unsqueeze(1) / self.flow.steps as f64;
        let [first, second, third] = &self.time;
        third.forward(p, &second.forward(p, &first.forward(p, &t).silu()).silu())
    }

    /// What each layer adds of the state: (B, width) each.
    fn memories(&self, p: &[Tensor], obs: &Tensor, mode: NormMode) -> Vec<Tensor> {
        let obs = match &self.input_norms {
            Some((norm, _)) => &norm.forward(p, self.stats.frozen(), obs, mode),
            None => obs,
        };
        let memory = self.memory.forward(p, obs);
        self.layers.iter().map(|layer| layer.cross_attention.forward(p, &memory)).collect()
    }

    /// Mean and log deviation of the velocity at x_k: (B, act) each.
    fn velocity(
        &self,
        p: &[Tensor],
        (k, x): (i64, &Tensor),
        time: &Tensor,
        memories: &[Tensor],
        mode: NormMode,
    ) -> (Tensor, Tensor) {
        let stats = self.stats.frozen();
        let x = match &self.input_norms {
            Some((_, norms)) => &norms[k as usize].forward(p, stats, x, mode),
            None => x,
        };
        let mut token = self.action.forward(p, x) + time;
        for (layer, memory) in self.layers.iter().zip(memories) {
            let normed = |i: usize, token: Tensor| match &layer.norms[i] {
                Norm::Layer(norm) => norm.forward(p, &token),
                Norm::Batch(norm) => norm.forward(p, stats, &token, mode),
            };
            token = normed(0, &token + layer.self_attention.forward(p, &token));
            token = normed(1, token + memory);
            token = normed(2, &token + layer.feed_forward.forward(p, &token));
        }
        let [mean, log_std] = self.heads.each_ref().map(|head| head.forward(p, &token));
        (mean, in_log_std_range(&log_std))
    }
}

impl PathPolicy for TransformerFlow {
    fn act_dim(&self) -> i64 {
        self.act_dim
    }

    fn steps(&self) -> i64 {
        self.flow.steps
    }

    fn draw(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor, mode: NormMode) -> Path {
        let h = 1.0 / self.flow.steps as f64;
        let times = self.times(p);
        let memories = self.memories(p, &self.obs_norm.apply(obs), mode);
        let mut x = noise.get(0);
        let mut states = vec![x.shallow_clone()];
        let mut log_stds = x.zeros_like();
        for k in 0..self.flow.steps {
            let (mean, log_std) = self.velocity(p, (k, &x), &times.get(k), &memories, mode);
            x = &x + (mean + log_std.exp() * noise.get(k + 1)) * h;
            if self.exact_density {
                log_stds = log_stds + log_std + h.ln();
            }
            states.push(x.shallow_clone());
        }
        let log_prob = path_log_prob(noise, &log_stds, &x);
        Path { states, action: x.tanh(), log_prob }
    }

    fn training_mode(&self, critic_updates: i64) -> NormMode {
        self.flow.training_mode(critic_updates)
    }

    fn steps_without_noise(&self) -> bool {
        true
    }

    fn graph(&self, p: &[Tensor]) -> Graph {
        let (steps, act) = (self.flow.steps, self.act_dim);
        let h = 1.0 / steps as f64;
        let mut g = GraphBuilder::new(self.obs_dim, act, steps * act);
        let mut obs = g.observation(&self.obs_norm);
        if let Some((norm, _)) = &self.input_norms {
            obs = g.scaled_and_shifted(obs, norm.running(p, self.stats.frozen()));
        }
        let memory = g.layers(&self.memory, p, 0);
        let memory = g.call(&memory, obs, None);
        let layers: Vec<_> = (self.layers.iter())
            .map(|layer| {
                let cross = g.linear(layer.cross_attention.joined(p));
                let cross = g.call(&cross, memory, None);
                let own = g.linear(layer.self_attention.joined(p));
                (layer, own, cross, g.layers(&layer.feed_forward, p, 0))
            })
            .collect();
        let action = g.linear(self.action.tensors(p));
        let [mean, log_std] = self.heads.each_ref().map(|head| g.linear(head.tensors(p)));
        let times = self.times(p);
        let mut x = GraphBuilder::Z;
        for k in 0..steps {
            let input = match &self.input_norms {
                Some((_, norms)) => {
                    g.scaled_and_shifted(x, norms[k as usize].running(p, self.stats.frozen()))
                }
                None => x,
            };
            let mut token = g.call(&action, input, Some(&times.get(k)));
            for (layer, own, cross, feed_forward) in &layers {
                for (i, norm) in layer.norms.iter().enumerate() {
                    let part = match i {
                        0 => g.call(own, token, None),
                        1 => *cross,
                        _ => g.call(feed_forward, token, None),
                    };
                    let sum = g.push(Op::Add(token, part));
                    token = norm.graph(&mut g, p, &self.stats, sum);
                }
            }
            let [mean, log_std] = [&mean, &log_std].map(|head| g.call(head, token, None));
            let log_std = log_std_in_graph(&mut g, log_std, act);
            let std = g.push(Op::Exp(log_std));
            let xi = g.push(Op::Slice(GraphBuilder::XI, (k * act) as u32, act as u32));
            let noise = g.push(Op::Mul(std, xi));
            let velocity = g.push(Op::Add(mean, noise));
            let part = g.scaled(velocity, h, act);
            x = g.push(Op::Add(x, part));
        }
        g.push(Op::Tanh(x));
        g.finish()
    }

    fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.obs_norm.state().into_iter().chain(self.stats.named("actor_stats")).collect()
    }
}
