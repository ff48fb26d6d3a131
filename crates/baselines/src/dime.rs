//! DIME (arXiv 2502.02316): a diffusion policy of N Euler-Maruyama steps, trained end to end by
//! SAC's objective on a lower bound of the action's entropy.
//!
//! ```text
//! x_0 ~ N(0, s^2 I),   a = tanh(x_N)
//! x_{n+1} = x_n + eta_n (f(x_n, obs, n) - x_n / s^2) + sqrt(2 eta_n) xi_n
//! eta_{n,j} = softplus(delta) c(n) / softplus(phi_j)
//! R = log N(x_0; 0, s^2) - sum_j log(1 - a_j^2)
//!     + sum_n [log N(x_{n+1}; forward mean, 2 eta_n) - log N(x_n; x_{n+1} (1 - eta_n / s^2), 2 eta_n)]
//! E [-R] <= H(a | obs)
//! ```
//!
//! [`PathAgent`] has the objective, with R as log p.

use crate::path::{Path, PathAgent, PathConfig, PathObjective, PathPolicy};
use agent::{
    ActorConfig, Agent, AgentConfig, Aggregate, CriticConfig, DistributionConfig, GraphBuilder,
    Idle, ObsNorm, Random, TemperatureConfig, in_range,
};
use networks::{CriticKind, Hidden, Linear, Mlp, NormMode, Params, ParamsBuilder, tanh_log_slope};
use policy::{Graph, Op};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_PI_2, PI};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("dime.toml");

/// Frequencies of the embedding of n, each with sine and cosine.
const FREQUENCIES: i64 = 256;
/// The smallest and the largest of them, per step.
const FREQUENCY_RANGE: (f64, f64) = (0.1, 100.0);
/// Offset of the schedule c.
const COSINE_OFFSET: f64 = 0.008;
/// Smallest value of the schedule c.
const COSINE_FLOOR: f64 = 1e-3;

/// Everything that shapes DIME. `dime.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimeConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// The entropy's weight.
    pub temperature: TemperatureConfig,
    /// The chain, and the actor's update.
    pub diffusion: DimeDiffusionConfig,
    /// The critics as published.
    pub distribution: DistributionConfig,
}

/// `[diffusion]`: the chain, and the actor's update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimeDiffusionConfig {
    /// Steps N: network calls per action.
    pub steps: i64,
    /// Deviation s of the start of the chain.
    pub prior_std: f64,
    /// softplus(delta), the largest step, at the start of training.
    pub step_size: f64,
    /// Share of the batch that the actor learns from.
    pub batch_share: f64,
    /// Each entry of the actor's gradient is clipped to +- this.
    pub gradient_clip: f64,
}

impl DimeConfig {
    /// The sections that the agent shares with others.
    pub fn path(&self) -> PathConfig<'_> {
        let Self { critic, actor, temperature, diffusion, distribution } = self;
        let DimeDiffusionConfig { batch_share, gradient_clip, .. } = *diffusion;
        let value = if distribution.on { Aggregate::Mean } else { Aggregate::Min };
        let objective = PathObjective { batch_share, gradient_clip, value };
        let distribution = distribution.on.then_some(distribution);
        PathConfig { critic, distribution, actor, temperature, objective }
    }

    /// An agent with new networks. The configuration must be valid.
    pub fn agent(&self, obs_dim: i64, act_dim: i64, device: Device, rng: &mut Random) -> PathAgent {
        let options = (Kind::Float, device);
        let (policy, params) =
            Diffusion::new(&self.actor, &self.diffusion, obs_dim, act_dim, options, rng);
        PathAgent::new(&self.path(), (Box::new(policy), params), obs_dim, rng)
    }
}

impl AgentConfig for DimeConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, temperature, diffusion, distribution } = self;
        critic.validate()?;
        actor.validate()?;
        temperature.validate()?;
        in_range("diffusion.steps", diffusion.steps as f64, 1.0, 1000.0)?;
        in_range("diffusion.prior_std", diffusion.prior_std, 1e-3, 1e3)?;
        in_range("diffusion.step_size", diffusion.step_size, 1e-6, 1e2)?;
        let DimeDiffusionConfig { prior_std, step_size, .. } = *diffusion;
        if step_size >= 2.0 * prior_std.powi(2) {
            // There the drift of -x / s^2 alone overshoots, further each step.
            return Err(format!(
                "diffusion.step_size is {step_size}, expected less than 2 diffusion.prior_std^2, with \
                 diffusion.prior_std = {prior_std}"
            ));
        }
        in_range("diffusion.batch_share", diffusion.batch_share, 1e-3, 1.0)?;
        in_range("diffusion.gradient_clip", diffusion.gradient_clip, 1e-9, 1e9)?;
        if distribution.on && critic.kind == CriticKind::Xqc {
            return Err("distribution.on = true needs another critic.kind than \"xqc\", \
                        which has a distribution of its own"
                .into());
        }
        distribution.validate()
    }

    fn idle(&self) -> Vec<Idle> {
        let own = self.distribution.idle();
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

/// The networks of f and of its time input, and the steps' sizes.
pub struct Diffusion {
    steps: i64,
    prior_std: f64,
    obs_norm: ObsNorm,
    /// sin(w_k n) and cos(w_k n) for every step n: (N, 256) each.
    waves: [Tensor; 2],
    /// c(n): (N, 1).
    schedule: Tensor,
    /// Positions of delta (1), phi (act) and of the phases of the waves (256).
    delta: usize,
    phi: usize,
    phases: usize,
    time: Mlp,
    /// Position of the first layer's weights for the embedded time: (width, width).
    time_weight: usize,
    /// f without the columns of the time.
    trunk: Mlp,
    obs_dim: i64,
    act_dim: i64,
}

/// What all steps of a draw have in common: for each of them (N, act) and (N, width).
struct Steps {
    eta: Tensor,
    /// What the time adds to the first layer.
    shift: Tensor,
}

impl Diffusion {
    /// Lays out the networks and draws their parameters. f starts at zero.
    pub fn new(
        actor: &ActorConfig,
        config: &DimeDiffusionConfig,
        obs_dim: i64,
        act_dim: i64,
        (kind, device): (Kind, Device),
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let b = &mut builder;
        let ActorConfig { width, activation, .. } = *actor;
        let delta = b.constant("delta", &[1], inverse_softplus(config.step_size) as f32);
        let phi = b.constant("phi", &[act_dim], inverse_softplus(1.0) as f32);
        let phases = b.constant("phases", &[FREQUENCIES], 0.0);
        let time = Mlp::new(
            b,
            "time",
            2 * FREQUENCIES,
            Hidden::new(width, 1, activation),
            rng,
            |b, rng| vec![Linear::new(b, "time.out", width, width, rng)],
        );
        // (Of a layer that has all columns.)
        let inputs = obs_dim + act_dim;
        let bound = 1.0 / ((inputs + width) as f64).sqrt();
        let time_weight = b.uniform("trunk.time.weight", &[width, width], bound, rng);
        let trunk = Mlp::new(b, "trunk", inputs, actor.hidden(), rng, |b, _| {
            vec![Linear::constant(b, "trunk.out", width, act_dim, 0.0)]
        });
        let of_steps = |value: &dyn Fn(i64) -> f64, columns: i64| {
            let every: Vec<f64> = (0..config.steps * columns).map(value).collect();
            Tensor::from_slice(&every).view([config.steps, columns]).to_kind(kind).to_device(device)
        };
        // In f64: the angles reach 1,500.
        let angle = |i: i64| frequency(i % FREQUENCIES) * (i / FREQUENCIES) as f64;
        let policy = Self {
            steps: config.steps,
            prior_std: config.prior_std,
            obs_norm: ObsNorm::new(actor.normalise, obs_dim, (kind, device)),
            waves: [
                of_steps(&|i| angle(i).sin(), FREQUENCIES),
                of_steps(&|i| angle(i).cos(), FREQUENCIES),
            ],
            schedule: of_steps(&|n| schedule(n, config.steps), 1),
            delta,
            phi,
            phases,
            time,
            time_weight,
            trunk,
            obs_dim,
            act_dim,
        };
        (policy, builder.build(kind, device))
    }

    fn steps(&self, p: &[Tensor]) -> Steps {
        let (sin, cos) = (p[self.phases].sin(), p[self.phases].cos());
        // sin(w n + phase) and cos(w n + phase).
        let [sin_wave, cos_wave] = &self.waves;
        let waves = [sin_wave * &cos + cos_wave * &sin, cos_wave * &cos - sin_wave * &sin];
        let time = self.time.forward(p, &Tensor::cat(&waves, 1));
        Steps {
            eta: p[self.delta].softplus() / p[self.phi].softplus() * &self.schedule,
            shift: time.linear(&p[self.time_weight], None::<&Tensor>),
        }
    }

    /// f(x, obs, n): (B, act).
    fn drift(&self, p: &[Tensor], shift: &Tensor, obs: &Tensor, x: &Tensor) -> Tensor {
        self.trunk.forward_shifted(p, shift, &Tensor::cat(&[x, obs], 1))
    }

    /// The Gaussian of x_{n+1} given x_n = x: its mean (B, act) and variance (act).
    pub fn transition(&self, p: &[Tensor], obs: &Tensor, x: &Tensor, n: i64) -> (Tensor, Tensor) {
        let Steps { eta, shift } = self.steps(p);
        let eta = eta.get(n);
        let f = self.drift(p, &shift.get(n), &self.obs_norm.apply(obs), x);
        (x + &eta * (f - x / self.prior_std.powi(2)), eta * 2.0)
    }
}

impl PathPolicy for Diffusion {
    fn act_dim(&self) -> i64 {
        self.act_dim
    }

    fn steps(&self) -> i64 {
        self.steps
    }

    fn draw(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor, _: NormMode) -> Path {
        let obs = self.obs_norm.apply(obs);
        let variance = self.prior_std.powi(2);
        let Steps { eta, shift } = self.steps(p);
        let deviation = (&eta * 2.0).sqrt();
        let mut x = noise.get(0) * self.prior_std;
        let prior = noise.get(0).square() * -0.5 - 0.5 * (2.0 * PI * variance).ln();
        let mut each = prior;
        let mut states = vec![x.shallow_clone()];
        for n in 0..self.steps {
            let (xi, deviation) = (noise.get(n + 1), deviation.get(n));
            let f = self.drift(p, &shift.get(n), &obs, &x);
            let next = &x + eta.get(n) * (&f - &x / variance) + &deviation * &xi;
            // Forward and backward kernel have one variance 2 eta, and the residuals sqrt(2 eta)
            // xi and x_n - x_{n+1} (1 - eta / s^2) = eta ((x_{n+1} + x_n) / s^2 - f) - sqrt(2 eta)
            // xi: half the difference of their squares, without the terms that cancel.
            let g = ((&next + &x) / variance - f) * (deviation * 0.5);
            each += &g * (&g * 0.5 - xi);
            x = next;
            states.push(x.shallow_clone());
        }
        let log_prob = (each - tanh_log_slope(&x)).sum_dim_intlist(&[1i64][..], false, None);
        Path { states, action: x.tanh(), log_prob }
    }

    fn steps_without_noise(&self) -> bool {
        false
    }

    fn graph(&self, p: &[Tensor]) -> Graph {
        let act = self.act_dim;
        let mut g = GraphBuilder::new(self.obs_dim, (self.steps + 1) * act, 0);
        let obs = g.observation(&self.obs_norm);
        let trunk = g.layers(&self.trunk, p, 0);
        let Steps { eta, shift } = self.steps(p);
        let noise = |n: i64| Op::Slice(GraphBuilder::Z, (n * act) as u32, act as u32);
        let start = g.push(noise(0));
        let mut x = g.scaled(start, self.prior_std, act);
        for n in 0..self.steps {
            let input = g.push(Op::Concat(x, obs));
            let f = g.call(&trunk, input, Some(&shift.get(n)));
            let back = g.scaled(x, 1.0 / self.prior_std.powi(2), act);
            let drift = g.push(Op::Sub(f, back));
            let (eta, deviation) =
                (g.constant(&eta.get(n)), g.constant(&(eta.get(n) * 2.0).sqrt()));
            let part = g.push(Op::Mul(eta, drift));
            let mean = g.push(Op::Add(x, part));
            let fresh = g.push(noise(n + 1));
            let fresh = g.push(Op::Mul(deviation, fresh));
            x = g.push(Op::Add(mean, fresh));
        }
        g.push(Op::Tanh(x));
        g.finish()
    }

    fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.obs_norm.state()
    }
}

/// w_k.
fn frequency(k: i64) -> f64 {
    let (low, high) = FREQUENCY_RANGE;
    low + (high - low) * k as f64 / (FREQUENCIES - 1) as f64
}

/// c(n), falling from nearly 1 at n = 0 to 1 / 1,000 at n = `steps`, which no step has.
fn schedule(n: i64, steps: i64) -> f64 {
    let t = (steps - n) as f64 / steps as f64;
    let cos = (FRAC_PI_2 * (1.0 + COSINE_OFFSET - t) / (1.0 + COSINE_OFFSET)).cos();
    (1.0 - COSINE_FLOOR) * cos * cos + COSINE_FLOOR
}

/// The number whose softplus is `y`.
fn inverse_softplus(y: f64) -> f64 {
    y.exp_m1().ln()
}
