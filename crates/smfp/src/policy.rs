//! The policy: one network call from noise to action (section 1).

use crate::config::{EntropyMode, SmfpConfig, Squash};
use agent::{GraphBuilder, ObsNorm, Random};
use networks::{
    Linear, Mlp, Params, ParamsBuilder, TimeEmbedding, atanh_clamped, gaussian_log_density,
    mixture_log_density, squashed_action, squashed_gaussian, squashed_mixture, tanh_log_slope,
};
use policy::{Graph, Op};
use tch::{Device, Kind, Tensor};

/// Range of the head's log standard deviation.
const LOG_STD_RANGE: (f64, f64) = (-10.0, 0.0);

/// The network u(s, x, r, t) with its two heads, and the map from its output to actions. All
/// methods take raw observations.
pub struct Policy {
    obs_norm: ObsNorm,
    obs_dim: i64,
    /// Its heads: the velocity u, then log sigma if it is [`Std::Head`].
    network: Mlp,
    std: Std,
    times: TimeEmbedding,
    /// [temb(1), temb(0)], the embedding of the one-step map: (1, 4 K).
    one_step_times: Tensor,
    /// -1 for the entries of u and 1 for those of log sigma: (2 act).
    signs: Tensor,
    squash: Squash,
    latent_std: f64,
    act_dim: i64,
}

/// Where the log standard deviation comes from.
enum Std {
    /// The second head of the network.
    Head,
    /// A constant; None is a deterministic head.
    Constant(Option<f64>),
}

/// Actions drawn from the policy, one per row.
pub struct Draw {
    /// The action in [-1, 1].
    pub action: Tensor,
    /// The Gaussian's mean mu before noise, clipping or squashing.
    pub mean: Tensor,
    /// log sigma of the Gaussian head.
    pub log_std: Tensor,
    /// The head's noise.
    pub xi: Tensor,
    /// log pi(a | s, z), or its semi-implicit estimate: (B). Zero for a deterministic head.
    pub log_prob: Tensor,
}

impl Policy {
    /// Lays out the network and draws its parameters. Both heads start with
    /// zero weights: the policy starts as mu = latent, sigma = `std_init`.
    pub fn new(
        config: &SmfpConfig,
        obs_dim: i64,
        act_dim: i64,
        kind: Kind,
        device: Device,
        rng: &mut Random,
    ) -> (Self, Params) {
        let SmfpConfig { actor, policy, entropy, .. } = config;
        let mut builder = ParamsBuilder::new();
        let times = TimeEmbedding::new(policy.frequencies);
        let inputs = obs_dim + act_dim + 2 * times.dim();
        let std = match entropy.mode {
            EntropyMode::None => {
                Std::Constant((entropy.sigma_target > 0.0).then(|| entropy.sigma_target.ln()))
            }
            _ => Std::Head,
        };
        let b = &mut builder;
        let network = Mlp::new(b, "trunk", inputs, actor.hidden(), rng, |b, _| {
            let mut head = |name, bias| Linear::constant(b, name, actor.width, act_dim, bias);
            let mut heads = vec![head("velocity", 0.0)];
            if matches!(std, Std::Head) {
                heads.push(head("log_std", policy.std_init.ln()));
            }
            heads
        });
        let at = |t: f64| times.forward(&Tensor::full([1, 1], t, (kind, device)));
        let one_step_times = Tensor::cat(&[at(1.0), at(0.0)], 1);
        let ones = Tensor::ones([act_dim], (kind, device));
        let signs = Tensor::cat(&[&-&ones, &ones], 0);
        let policy = Self {
            obs_norm: ObsNorm::new(actor.normalise, obs_dim, (kind, device)),
            obs_dim,
            network,
            std,
            times,
            one_step_times,
            signs,
            squash: policy.squash,
            latent_std: policy.latent_std,
            act_dim,
        };
        (policy, builder.build(kind, device))
    }

    /// Adds the observations (B, obs) of a minibatch to the statistics that normalise them.
    pub fn observe(&mut self, obs: &Tensor) {
        self.obs_norm.update(obs);
    }

    /// The state in addition to the parameters: those statistics.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.obs_norm.state()
    }

    /// Size of an action, of a latent and of the head's noise.
    pub fn act_dim(&self) -> i64 {
        self.act_dim
    }

    /// Input of the network: [s, x, temb(t), temb(r)] for times of shape (B, 1).
    fn input(&self, obs: &Tensor, x: &Tensor, r: &Tensor, t: &Tensor) -> Tensor {
        let obs = self.obs_norm.apply(obs);
        Tensor::cat(&[&obs, x, &self.times.forward(t), &self.times.forward(r)], 1)
    }

    /// The mean velocity u(s, x, r, t): (B, act).
    pub fn velocity(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        x: &Tensor,
        r: &Tensor,
        t: &Tensor,
    ) -> Tensor {
        self.first_head(self.network.forward(p, &self.input(obs, x, r, t)))
    }

    /// u and its total derivative du/dt along x' = v, t' = 1 at fixed s and r.
    pub fn velocity_jvp(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        x: &Tensor,
        r: &Tensor,
        t: &Tensor,
        v: &Tensor,
    ) -> (Tensor, Tensor) {
        let (temb, temb_tangent) = self.times.jvp(t);
        let temb_r = self.times.forward(r);
        let obs = self.obs_norm.apply(obs);
        let input = Tensor::cat(&[&obs, x, &temb, &temb_r], 1);
        let tangent = Tensor::cat(&[&obs.zeros_like(), v, &temb_tangent, &temb_r.zeros_like()], 1);
        let (heads, tangents) = self.network.jvp(p, &input, &tangent);
        (self.first_head(heads), self.first_head(tangents))
    }

    /// Draws actions by equation (1) from standard-normal `z` (the latent) and `xi` (the head's
    /// noise), both (B, act). If `xi` is None, the head's noise is zero.
    pub fn draw(&self, p: &[Tensor], obs: &Tensor, z: &Tensor, xi: Option<&Tensor>) -> Draw {
        let xi = xi.map_or_else(|| z.zeros_like(), Tensor::shallow_clone);
        if !self.is_squashed_gaussian() {
            let (mean, log_std) = self.one_step(p, obs, z);
            return self.finish(mean, log_std, xi);
        }
        let heads = self.gaussian_heads(p, obs, z);
        let (action, log_prob) = squashed_gaussian(&heads, &xi, LOG_STD_RANGE);
        let mean = heads.narrow(1, 0, self.act_dim);
        Draw { action, mean, log_std: self.log_std(&heads), xi, log_prob }
    }

    /// Draws A actions in each of S states, with the semi-implicit estimate of log pi(a | s): the log
    /// of the mean density over the action's own latent and M others (Yin and Zhou 2018). It sees
    /// spread over the latent and tightens with M; M = 0 is [`draw`](Self::draw), equation (2).
    ///
    /// `obs` (S, obs); `z` ((M + 1) S, act) and `xi` (A S, act), A <= M + 1, latent by latent: action i
    /// of a state has its latent i, and the state's other latents as the M others.
    pub fn draw_semi_implicit(&self, p: &[Tensor], obs: &Tensor, z: &Tensor, xi: &Tensor) -> Draw {
        let (states, rows) = (obs.size()[0], xi.size()[0]);
        if z.size()[0] == states {
            return self.draw(p, obs, z, Some(xi));
        }
        if self.is_squashed_gaussian() {
            let heads = self.gaussian_heads(p, obs, z);
            let (action, log_prob) = squashed_mixture(&heads, xi, states, LOG_STD_RANGE);
            let own = heads.narrow(0, 0, rows);
            let (mean, log_std) = (own.narrow(1, 0, self.act_dim), self.log_std(&own));
            return Draw { action, mean, log_std, xi: xi.shallow_clone(), log_prob };
        }
        let (means, log_stds) = self.one_step(p, obs, z);
        let own = |each: &Tensor| each.narrow(0, 0, rows);
        let draw = self.finish(own(&means), own(&log_stds), xi.shallow_clone());
        let by_state = |each: Tensor| each.view([-1, states, self.act_dim]);
        let log_prob =
            self.semi_implicit_log_prob(&self.raw(&draw), &by_state(means), &by_state(log_stds));
        Draw { log_prob, ..draw }
    }

    /// The estimate of [`draw_semi_implicit`](Self::draw_semi_implicit) for actions `raw` (A S, act) before clipping
    /// or squashing, from the heads' `means` and `log_stds` (M + 1, S, act): (A S).
    pub fn semi_implicit_log_prob(
        &self,
        raw: &Tensor,
        means: &Tensor,
        log_stds: &Tensor,
    ) -> Tensor {
        mixture_log_density(raw, means, log_stds) - self.log_det(raw)
    }

    /// The action of [`draw`](Self::draw) without the rest of a [`Draw`], outside of any graph: for
    /// acting, where every operation counts.
    pub fn action(&self, p: &[Tensor], obs: &Tensor, z: &Tensor, xi: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        if self.is_squashed_gaussian() {
            return squashed_action(&self.gaussian_heads(p, obs, z), xi, LOG_STD_RANGE);
        }
        let (mean, log_std) = self.one_step(p, obs, z);
        self.squash(&self.spread(&mean, &log_std, xi))
    }

    /// Whether the action given z is a squashed Gaussian, which is one operation.
    fn is_squashed_gaussian(&self) -> bool {
        self.squash == Squash::Tanh && matches!(self.std, Std::Head)
    }

    /// mu and log sigma before its clamp, next to each other: (rows of `z`, 2 act).
    fn gaussian_heads(&self, p: &[Tensor], obs: &Tensor, z: &Tensor) -> Tensor {
        let x = self.latent(z);
        let start = Tensor::cat(&[&x, &x.zeros_like()], 1);
        start.addcmul(&self.one_step_heads(p, obs, &x), &self.signs)
    }

    /// The Gaussian head's action for a mean, a log deviation and noise, (B, act) each.
    fn finish(&self, mean: Tensor, log_std: Tensor, xi: Tensor) -> Draw {
        let raw = self.spread(&mean, &log_std, &xi);
        let log_prob = self.gaussian_log_prob(&log_std, &xi) - self.log_det(&raw);
        Draw { action: self.squash(&raw), mean, log_std, xi, log_prob }
    }

    /// The action before clipping or squashing: (B, act).
    pub fn raw(&self, draw: &Draw) -> Tensor {
        self.spread(&draw.mean, &draw.log_std, &draw.xi)
    }

    /// mean + sigma noise; the mean itself for a deterministic head.
    fn spread(&self, mean: &Tensor, log_std: &Tensor, noise: &Tensor) -> Tensor {
        if self.stochastic() { mean + log_std.exp() * noise } else { mean.shallow_clone() }
    }

    /// mu = g(s, x, 1) and log sigma for the latent x that standard-normal `z` is scaled to, in
    /// one call.
    pub fn one_step(&self, p: &[Tensor], obs: &Tensor, z: &Tensor) -> (Tensor, Tensor) {
        let x = self.latent(z);
        let heads = self.one_step_heads(p, obs, &x);
        let log_std = self.log_std(&heads);
        (x - self.first_head(heads), log_std)
    }

    /// The policy as a graph.
    pub fn graph(&self, p: &[Tensor]) -> Graph {
        let act = self.act_dim;
        let mut g = GraphBuilder::new(self.obs_dim, act, if self.stochastic() { act } else { 0 });
        let obs = g.observation(&self.obs_norm);
        let x = match self.latent_std {
            1.0 => GraphBuilder::Z,
            std => g.scaled(GraphBuilder::Z, std, act),
        };
        let input = g.push(Op::Concat(obs, x));
        let times = &self.one_step_times;
        let layers = g.layers(&self.network, p, times.size()[1]);
        let heads = g.call(&layers, input, Some(&layers.shift(times)));
        let velocity = g.push(Op::Slice(heads, 0, act as u32));
        let mean = g.push(Op::Sub(x, velocity));
        let raw = match self.std {
            Std::Head => g.gaussian(mean, heads, act, LOG_STD_RANGE),
            Std::Constant(None) => mean,
            Std::Constant(Some(log_std)) => {
                let noise = g.scaled(GraphBuilder::XI, log_std.exp(), act);
                g.push(Op::Add(mean, noise))
            }
        };
        g.push(match self.squash {
            Squash::Clip => Op::Clip(raw, -1.0, 1.0),
            Squash::Tanh => Op::Tanh(raw),
        });
        g.finish()
    }

    /// Standard-normal numbers with the deviation of the flow's noise end.
    pub fn latent(&self, z: &Tensor) -> Tensor {
        if self.latent_std == 1.0 { z.shallow_clone() } else { z * self.latent_std }
    }

    /// The network's output at r = 0 and t = 1 for the latents `x`, one or several blocks of (B, act).
    fn one_step_heads(&self, p: &[Tensor], obs: &Tensor, x: &Tensor) -> Tensor {
        let (mut obs, rows) = (self.obs_norm.apply(obs), x.size()[0]);
        if rows > obs.size()[0] {
            obs = obs.repeat([rows / obs.size()[0], 1]);
        }
        let times = self.one_step_times.expand([rows, -1], false);
        self.network.forward(p, &Tensor::cat(&[&obs, x, &times], 1))
    }

    /// The velocity: the first columns of the heads' output.
    fn first_head(&self, heads: Tensor) -> Tensor {
        if heads.size()[1] == self.act_dim { heads } else { heads.narrow(1, 0, self.act_dim) }
    }

    /// Whether the Gaussian head has noise at all.
    pub fn stochastic(&self) -> bool {
        !matches!(self.std, Std::Constant(None))
    }

    fn log_std(&self, heads: &Tensor) -> Tensor {
        let rows = heads.size()[0];
        let (low, high) = LOG_STD_RANGE;
        match &self.std {
            Std::Head => heads.narrow(1, self.act_dim, self.act_dim).clamp(low, high),
            Std::Constant(value) => Tensor::full(
                [rows, self.act_dim],
                value.unwrap_or(low),
                (heads.kind(), heads.device()),
            ),
        }
    }

    /// Log density of mean + sigma noise: (B). Zero for a deterministic head.
    fn gaussian_log_prob(&self, log_std: &Tensor, noise: &Tensor) -> Tensor {
        if !self.stochastic() {
            return Tensor::zeros([noise.size()[0]], (noise.kind(), noise.device()));
        }
        sum_of_dims(&gaussian_log_density(noise, log_std))
    }

    fn squash(&self, raw: &Tensor) -> Tensor {
        match self.squash {
            Squash::Clip => raw.clamp(-1.0, 1.0),
            Squash::Tanh => raw.tanh(),
        }
    }

    /// log |d action / d raw|: (B). Zero for clipping, whose density is that
    /// of the raw action.
    fn log_det(&self, raw: &Tensor) -> Tensor {
        match self.squash {
            Squash::Clip => Tensor::zeros([raw.size()[0]], (raw.kind(), raw.device())),
            Squash::Tanh => sum_of_dims(&tanh_log_slope(raw)),
        }
    }

    /// Maps an action in [-1, 1] to the space of the flow, the inverse of squashing.
    pub fn unsquash(&self, action: &Tensor) -> Tensor {
        match self.squash {
            Squash::Clip => action.shallow_clone(),
            Squash::Tanh => atanh_clamped(action),
        }
    }
}

/// The sum over an action's dimensions: (B, act) -> (B).
fn sum_of_dims(each: &Tensor) -> Tensor {
    each.sum_dim_intlist(&[1i64][..], false, None)
}
