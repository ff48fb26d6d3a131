//! Iterative diffusion policies (DDPM, Ho et al. 2020), which QVPO and DPMD
//! share: the noise schedule, the network that predicts the noise, sampling
//! and the weighted loss.

use agent::{ActMode, ActorConfig, GraphBuilder, ObsNorm, Random, in_range};
use networks::{Linear, Mlp, Params, ParamsBuilder, TimeEmbedding, normal, uniform};
use policy::{Op, Value};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;
use tch::{Device, Kind, Tensor};

/// Offset of the cosine schedule (Nichol and Dhariwal 2021).
const COSINE_OFFSET: f64 = 0.008;
/// Largest share of noise in one step of it.
const COSINE_MAX_BETA: f64 = 0.999;
/// Rates of the variance-preserving schedule (Xiao et al. 2022).
const VP_RATES: (f64, f64) = (0.1, 10.0);

/// `[diffusion]`: the chain. The preset files say what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Denoising steps T: network calls per action.
    pub steps: usize,
    /// Noise schedule.
    pub schedule: ScheduleKind,
    /// Frequencies of the embedding of t / T.
    pub frequencies: i64,
}

impl DiffusionConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("diffusion.steps", self.steps as f64, 1.0, 1000.0)?;
        in_range("diffusion.frequencies", self.frequencies as f64, 1.0, 1024.0)
    }
}

/// How the share of noise grows along the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// abar_t = f(t) / f(0), f(t) = cos^2 of a quarter period (Nichol and Dhariwal 2021).
    Cosine,
    /// A discretised variance-preserving process (Xiao et al. 2022).
    Vp,
}

/// The forward process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps for
/// t = 0..=T, with abar_0 = 1, and its reverse.
pub struct Schedule {
    /// abar_t for t = 0..=T.
    alpha_bar: Vec<f64>,
}

impl Schedule {
    /// A schedule of T steps.
    pub fn new(kind: ScheduleKind, steps: usize) -> Self {
        let count = steps as f64;
        let alpha = |t: usize| match kind {
            ScheduleKind::Cosine => {
                let angle = |t: usize| {
                    (t as f64 / count + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * FRAC_PI_2
                };
                (angle(t).cos() / angle(t - 1).cos()).powi(2).max(1.0 - COSINE_MAX_BETA)
            }
            ScheduleKind::Vp => {
                let (low, high) = VP_RATES;
                let odd = (2 * t - 1) as f64;
                (-low / count - 0.5 * (high - low) * odd / (count * count)).exp()
            }
        };
        let mut alpha_bar = vec![1.0];
        for t in 1..=steps {
            alpha_bar.push(alpha_bar[t - 1] * alpha(t));
        }
        Self { alpha_bar }
    }

    /// T.
    pub fn steps(&self) -> usize {
        self.alpha_bar.len() - 1
    }

    /// abar_t, the share of the data's variance that is left.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bar[t]
    }

    /// x_t for rows with times `t` of their own: x_0 (B, act), t (B) of
    /// integers, eps (B, act).
    pub fn diffuse(shares: &[Tensor; 2], x0: &Tensor, t: &Tensor, eps: &Tensor) -> Tensor {
        let [of_x0, of_eps] = shares.each_ref().map(|every| every.index_select(0, t).unsqueeze(1));
        of_x0 * x0 + of_eps * eps
    }

    /// The factors of an action and of its noise after t steps: (T + 1) each.
    pub fn shares(&self, (kind, device): (Kind, Device)) -> [Tensor; 2] {
        let of_steps = |share: fn(f64) -> f64| {
            let every: Vec<f64> = self.alpha_bar.iter().map(|a| share(*a).sqrt()).collect();
            Tensor::from_slice(&every).to_kind(kind).to_device(device)
        };
        [of_steps(|a| a), of_steps(|a| 1.0 - a)]
    }

    /// The numbers of the step from x_t to x_(t-1).
    fn reverse_step(&self, t: usize) -> ReverseStep {
        let (now, before) = (self.alpha_bar[t], self.alpha_bar[t - 1]);
        let (alpha, beta) = (now / before, 1.0 - now / before);
        // Ho et al., equations (6) and (7).
        ReverseStep {
            of_x0: before.sqrt() * beta / (1.0 - now),
            of_x: alpha.sqrt() * (1.0 - before) / (1.0 - now),
            deviation: (beta * (1.0 - before) / (1.0 - now)).sqrt(),
        }
    }

    /// One reverse step: x_(t-1) drawn from q(x_(t-1) | x_t, x_0), with x_0 from the predicted
    /// `eps`, clipped to [-1, 1] as actions are. The last step, to t = 0, has no noise.
    pub fn reverse(&self, x: &Tensor, eps: &Tensor, t: usize, noise: &Tensor) -> Tensor {
        let now = self.alpha_bar[t];
        let x0 = ((x - eps * (1.0 - now).sqrt()) / now.sqrt()).clamp(-1.0, 1.0);
        let ReverseStep { of_x0, of_x, deviation } = self.reverse_step(t);
        let mean = x0 * of_x0 + x * of_x;
        if t == 1 { mean } else { mean + noise * deviation }
    }
}

/// The numbers of a reverse step: mean `of_x0` x_0 + `of_x` x_t, and the deviation around it.
struct ReverseStep {
    of_x0: f64,
    of_x: f64,
    deviation: f64,
}

/// The network eps(s, x_t, t) and the chain from noise to actions. All methods take raw observations.
pub struct DiffusionPolicy {
    obs_norm: ObsNorm,
    schedule: Schedule,
    /// [`Schedule::shares`].
    shares: [Tensor; 2],
    network: Mlp,
    /// temb(t / T) for t = 0..=T: (T + 1, 2 K).
    times: Tensor,
    obs_dim: i64,
    act_dim: i64,
}

/// What a regression draws for each of its rows.
pub struct Denoising {
    /// t: (B) of integers from 1 to T.
    pub t: Tensor,
    /// The noise that is to be predicted: (B, act).
    pub eps: Tensor,
}

impl DiffusionPolicy {
    /// Lays out the network and draws its parameters. The head starts at zero: any other start
    /// biases all samples to one side, from which a policy that learns from its own samples
    /// doesn't recover.
    pub fn new(
        actor: &ActorConfig,
        config: &DiffusionConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let mut builder = ParamsBuilder::new();
        let embedding = TimeEmbedding::new(config.frequencies);
        let inputs = obs_dim + act_dim + embedding.dim();
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", inputs, actor.hidden(), rng, |b, _| {
            vec![Linear::constant(b, "eps", actor.width, act_dim, 0.0)]
        });
        let schedule = Schedule::new(config.schedule, config.steps);
        let steps = config.steps as i64;
        let times = Tensor::arange(steps + 1, (Kind::Float, device)).unsqueeze(1) / steps as f64;
        let times = embedding.forward(&times);
        let obs_norm = ObsNorm::new(actor.normalise, obs_dim, (Kind::Float, device));
        let shares = schedule.shares((Kind::Float, device));
        let policy = Self { obs_norm, schedule, shares, network, times, obs_dim, act_dim };
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

    /// Size of an action.
    pub fn act_dim(&self) -> i64 {
        self.act_dim
    }

    /// Sequential network calls for an action.
    pub fn calls(&self) -> u32 {
        self.schedule.steps() as u32
    }

    /// The noise in x_t, from normalised observations and the embeddings of the rows' times.
    fn predict(&self, p: &[Tensor], obs: &Tensor, x: &Tensor, time: &Tensor) -> Tensor {
        self.network.forward(p, &Tensor::cat(&[obs, x, time], 1))
    }

    /// Noise of `rows` samples: (T, rows, act).
    pub fn noise(&self, rows: i64, device: Device, rng: &mut Random) -> Tensor {
        normal(rng, &self.noise_shape(rows), device)
    }

    /// The same for acting: zeros in [`ActMode::Mean`].
    pub fn act_noise(&self, mode: ActMode, rows: i64, device: Device, rng: &mut Random) -> Tensor {
        match mode {
            ActMode::Mean => Tensor::zeros(self.noise_shape(rows), (Kind::Float, device)),
            _ => self.noise(rows, device, rng),
        }
    }

    fn noise_shape(&self, rows: i64) -> [i64; 3] {
        [self.schedule.steps() as i64, rows, self.act_dim]
    }

    /// A graph with noise xi of length `xi`, and the chain's action as its last value. Its latent
    /// is the chain's noise, of length T act.
    pub fn graph(&self, p: &[Tensor], xi: i64) -> (GraphBuilder, Value) {
        let (steps, act) = (self.schedule.steps(), self.act_dim);
        let mut g = GraphBuilder::new(self.obs_dim, steps as i64 * act, xi);
        let obs = g.observation(&self.obs_norm);
        let layers = g.layers(&self.network, p, self.times.size()[1]);
        let noise = |i: usize| Op::Slice(GraphBuilder::Z, (i as i64 * act) as u32, act as u32);
        let mut x = g.push(noise(0));
        for t in (1..=steps).rev() {
            let input = g.push(Op::Concat(obs, x));
            let shift = layers.shift(&self.times.get(t as i64));
            let eps = g.call(&layers, input, Some(&shift));
            let now = self.schedule.alpha_bar(t);
            let removed = g.scaled(eps, (1.0 - now).sqrt(), act);
            let rest = g.push(Op::Sub(x, removed));
            let x0 = g.scaled(rest, 1.0 / now.sqrt(), act);
            let x0 = g.push(Op::Clip(x0, -1.0, 1.0));
            let ReverseStep { of_x0, of_x, deviation } = self.schedule.reverse_step(t);
            let (x0, old) = (g.scaled(x0, of_x0, act), g.scaled(x, of_x, act));
            x = g.push(Op::Add(x0, old));
            if t > 1 {
                let fresh = g.push(noise(steps - t + 1));
                let fresh = g.scaled(fresh, deviation, act);
                x = g.push(Op::Add(x, fresh));
            }
        }
        (g, x)
    }

    /// Actions (B, act) in [-1, 1] from noise (T, B, act), whose first entry is
    /// x_T: T network calls. Outside the graph.
    pub fn sample(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let (steps, rows) = (self.schedule.steps(), obs.size()[0]);
        let obs = self.obs_norm.apply(obs);
        let mut x = noise.get(0);
        for t in (1..=steps).rev() {
            let time = self.times.narrow(0, t as i64, 1).expand([rows, -1], false);
            let eps = self.predict(p, &obs, &x, &time);
            // The last step needs no noise, for which there is no entry T - t + 1.
            let fresh = noise.get((steps - t + 1).min(steps - 1) as i64);
            x = self.schedule.reverse(&x, &eps, t, &fresh);
        }
        x
    }

    /// Times and noise of a regression over `rows` actions, on the CPU.
    pub fn denoising(&self, rows: i64, rng: &mut Random) -> Denoising {
        let (steps, device) = (self.schedule.steps() as f64, Device::Cpu);
        let t = (uniform(rng, &[rows], device) * steps).floor() + 1.0;
        Denoising {
            t: t.clamp(1.0, steps).to_kind(Kind::Int64),
            eps: normal(rng, &[rows, self.act_dim], device),
        }
    }

    /// E w ||eps(s, x_t, t) - eps||^2 with x_t from `action`: the weighted
    /// variational bound with the weights over t left out (Ho et al.,
    /// equation 14). `weight` is (B); a scalar.
    pub fn loss(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        weight: &Tensor,
        draw: &Denoising,
    ) -> Tensor {
        let x = Schedule::diffuse(&self.shares, action, &draw.t, &draw.eps);
        let time = self.times.index_select(0, &draw.t);
        let obs = self.obs_norm.apply(obs);
        let error = (self.predict(p, &obs, &x, &time) - &draw.eps).square();
        (weight * error.sum_dim_intlist(&[1i64][..], false, None)).mean(Kind::Float)
    }
}
