//! Diffusion policy mirror descent (DPMD, Ma et al. 2025): a diffusion policy that regresses to
//! its own actions, the best of several in each state, with weights exp(Q / lambda). It moves
//! towards pi_old(a|s) exp(Q(s, a) / lambda), where pi_old is the present policy or, as a
//! setting, the mixture of policies that filled the replay.

use crate::diffusion::{Denoising, DiffusionConfig, DiffusionPolicy};
use agent::candidates::{repeat_rows, rows_of_share};
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CandidatesConfig, CriticConfig, CriticLearner,
    GraphBuilder, Idle, Metrics, Noise, Random, RunningMean, Temperature, idle_where, in_range,
};
use networks::{Adam, Params, merge_state, normal, unit_gaussian_entropy};
use policy::Op;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("dpmd.toml");

/// Smallest deviation that values are normalised by.
const MIN_STD: f64 = 1e-6;

/// Everything that shapes DPMD. `dpmd.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpmdConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// Proposals per state.
    pub candidates: CandidatesConfig,
    /// The diffusion.
    pub diffusion: DiffusionConfig,
    /// What the policy regresses to.
    pub mirror: MirrorConfig,
    /// The weights' temperature, and the noise on actions.
    pub temperature: TemperatureConfig,
}

/// Which actions are learned from: samples of pi_old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorActions {
    /// The policy's own: the best of `mirror.candidates` proposals.
    Policy,
    /// The replay's.
    Replay,
}

/// `[mirror]`: the regression, and the policy that acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Actions that are learned from.
    pub actions: MirrorActions,
    /// Proposals per state, of which the best is learned from.
    pub candidates: i64,
    /// Share of the batch that the actor learns from.
    pub batch_share: f64,
    /// Normalised values are clipped to +- this.
    pub q_clip: f64,
    /// Decay of the running mean and deviation that normalise values.
    pub q_decay: f64,
    /// Polyak rate of the policy that acts.
    pub policy_tau: f64,
}

/// `[temperature]`: lambda, which is also the scale of the noise on actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemperatureConfig {
    /// lambda of the weights exp(Q / lambda), at the start.
    pub lambda: f64,
    /// Deviation of the noise on actions, times lambda.
    pub noise: f64,
    /// Adam's learning rate for log lambda.
    pub learning_rate: f64,
    /// Critic updates for one step of lambda.
    pub update_every: i64,
    /// Entropy of that noise, per action dimension in nats, that lambda is moved to.
    pub target_per_dim: f64,
}

impl AgentConfig for DpmdConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, candidates, diffusion, mirror, temperature } = self;
        critic.validate()?;
        actor.validate()?;
        candidates.validate()?;
        diffusion.validate()?;
        in_range("mirror.candidates", mirror.candidates as f64, 1.0, 1024.0)?;
        in_range("mirror.batch_share", mirror.batch_share, 1e-3, 1.0)?;
        in_range("mirror.q_clip", mirror.q_clip, 0.0, 1e9)?;
        RunningMean::check_decay("mirror.q_decay", mirror.q_decay)?;
        in_range("mirror.policy_tau", mirror.policy_tau, 0.0, 1.0)?;
        in_range("temperature.lambda", temperature.lambda, 1e-6, 1e9)?;
        in_range("temperature.noise", temperature.noise, 1e-6, 10.0)?;
        in_range("temperature.learning_rate", temperature.learning_rate, 0.0, 1.0)?;
        in_range("temperature.update_every", temperature.update_every as f64, 1.0, 1e9)?;
        in_range("temperature.target_per_dim", temperature.target_per_dim, -100.0, 100.0)
    }

    fn idle(&self) -> Vec<Idle> {
        let replay = self.mirror.actions == MirrorActions::Replay;
        let because = "mirror.actions = \"replay\"";
        let own = idle_where(&[(replay, &["mirror.candidates"], because)]);
        [self.critic.idle(), own].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(Dpmd::new(self, obs_dim, act_dim, device, rng))
    }
}

/// A diffusion policy, a slow copy of it that acts, and their critics.
pub struct Dpmd {
    config: DpmdConfig,
    policy: DiffusionPolicy,
    actor: Params,
    /// The policy that acts.
    lagged: Params,
    actor_adam: Adam,
    critic: CriticLearner,
    /// lambda.
    temperature: Temperature,
    q_mean: RunningMean,
    q_std: RunningMean,
    device: Device,
}

/// Noise of one update over a batch of B transitions.
pub struct DpmdNoise {
    /// Noise of the K_t proposals for the next action: (T, B K_t, act).
    pub next: Tensor,
    /// Noise added to the one that is chosen: (B, act).
    pub next_added: Tensor,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<DpmdActorNoise>,
}

/// Noise of an actor update over B_a states.
pub struct DpmdActorNoise {
    /// Noise of the K proposals, and what is added to the one that is chosen:
    /// (T, B_a K, act) and (B_a, act). None where the replay's actions are learned from.
    pub proposals: Option<(Tensor, Tensor)>,
    /// Of the regression to them.
    pub denoising: Denoising,
}

impl Noise for DpmdNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.next, &mut self.next_added];
        if let Some(DpmdActorNoise { proposals, denoising }) = &mut self.actor {
            all.extend(proposals.iter_mut().flat_map(|(noise, added)| [noise, added]));
            all.extend([&mut denoising.t, &mut denoising.eps]);
        }
        all
    }
}

impl Dpmd {
    /// Whether the next update includes a step of the temperature.
    fn temperature_due(&self) -> bool {
        (self.critic.updates() + 1) % self.config.temperature.update_every == 0
    }

    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &DpmdConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, actor) =
            DiffusionPolicy::new(&config.actor, &config.diffusion, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        let TemperatureConfig { lambda, learning_rate, .. } = config.temperature;
        Self {
            config: config.clone(),
            policy,
            lagged: actor.duplicate(),
            actor_adam: Adam::new(config.actor.adam(), &actor),
            actor,
            critic,
            temperature: Temperature::new(lambda, learning_rate, device),
            q_mean: RunningMean::new(config.mirror.q_decay, device),
            q_std: RunningMean::new(config.mirror.q_decay, device),
            device,
        }
    }

    /// Actions with noise of deviation `temperature.noise` lambda on them.
    fn add_noise(&self, action: &Tensor, noise: &Tensor) -> Tensor {
        let deviation = self.temperature.alpha() * self.config.temperature.noise;
        (action + noise * deviation).clamp(-1.0, 1.0)
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &DpmdNoise) -> Metrics {
        self.policy.observe(&batch.obs);
        let next_action = {
            let _guard = tch::no_grad_guard();
            let k = self.config.candidates.target;
            let rows = repeat_rows(&batch.next_obs, k);
            let proposals = self.policy.sample(self.actor.frozen(), &rows, &noise.next);
            let chosen = self.critic.choose_for_target(&rows, &proposals, k);
            self.add_noise(&chosen, &noise.next_added)
        };
        let temperature_due = self.temperature_due();
        let mut metrics = self.critic.update(batch, &next_action, None);
        if let Some(noise) = &noise.actor {
            metrics.extend(self.update_actor(batch, noise));
        }
        if temperature_due {
            let TemperatureConfig { noise, target_per_dim, .. } = self.config.temperature;
            // The entropy of the added noise, per dimension.
            let deviation = self.temperature.alpha() * noise;
            let entropy = deviation.log() + unit_gaussian_entropy();
            self.temperature.update(&entropy, target_per_dim);
        }
        metrics
    }

    /// One step of the actor on E exp(Q / lambda) ||eps(s, x_t, t) - eps||^2
    /// over actions of pi_old in the first B_a states; Q is normalised and clipped.
    fn update_actor(&mut self, batch: &Batch, noise: &DpmdActorNoise) -> Metrics {
        let lambda = self.temperature.alpha();
        let rows = rows_of_share(batch.len(), self.config.mirror.batch_share);
        let obs = batch.obs.narrow(0, 0, rows);
        let (action, weight) = {
            let _guard = tch::no_grad_guard();
            let action = match &noise.proposals {
                Some((proposals, added)) => self.propose(&obs, proposals, added),
                None => batch.action.narrow(0, 0, rows),
            };
            let q = self.critic.value(&obs, &action);
            self.q_mean.update(&q.mean(Kind::Float));
            self.q_std.update(&q.std(false));
            let clip = self.config.mirror.q_clip;
            let normalised = (q - self.q_mean.get()) / self.q_std.get().clamp_min(MIN_STD);
            (action, (normalised.clamp(-clip, clip) / &lambda).exp())
        };
        let p = self.actor.trainable();
        let loss = self.policy.loss(p, &obs, &action, &weight, &noise.denoising);
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);
        self.lagged.polyak(&self.actor, self.config.mirror.policy_tau);
        Metrics::from([("actor_loss", &loss), ("alpha", &lambda), ("grad_norm", &gradient.norm())])
    }

    /// The best of K proposals in each of the states (B_a, obs), with noise on it.
    fn propose(&self, obs: &Tensor, noise: &Tensor, added: &Tensor) -> Tensor {
        let k = self.config.mirror.candidates;
        let rows = repeat_rows(obs, k);
        let proposals = self.policy.sample(self.actor.frozen(), &rows, noise);
        self.add_noise(&self.critic.choose(&rows, &proposals, k), added)
    }
}

impl Agent for Dpmd {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(self.config.candidates.act);
        let rows = repeat_rows(obs, k);
        let noise = self.policy.act_noise(mode, rows.size()[0], self.device, rng);
        let proposals = self.policy.sample(self.lagged.frozen(), &rows, &noise);
        let chosen = self.critic.choose(&rows, &proposals, k);
        if matches!(mode, ActMode::Deterministic | ActMode::Mean) {
            return chosen;
        }
        self.add_noise(&chosen, &normal(rng, &chosen.size(), self.device))
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let (act_dim, cpu) = (self.policy.act_dim(), Device::Cpu);
        let next = self.policy.noise(rows * self.config.candidates.target, cpu, rng);
        let next_added = normal(rng, &[rows, act_dim], cpu);
        let MirrorConfig { actions, candidates, batch_share, .. } = self.config.mirror;
        let actor = with_actor.then(|| {
            let rows = rows_of_share(rows, batch_share);
            let proposals = (actions == MirrorActions::Policy).then(|| {
                let proposals = self.policy.noise(rows * candidates, cpu, rng);
                (proposals, normal(rng, &[rows, act_dim], cpu))
            });
            DpmdActorNoise { proposals, denoising: self.policy.denoising(rows, rng) }
        });
        Box::new(DpmdNoise { next, next_added, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        let mut branches = self.critic.branches();
        branches.push(self.temperature_due());
        branches
    }

    fn calls_per_action(&self) -> u32 {
        self.policy.calls()
    }

    fn graph(&self) -> policy::Graph {
        let act = self.policy.act_dim();
        let (mut g, chosen) = self.policy.graph(self.lagged.frozen(), act);
        let deviation = self.temperature.alpha() * self.config.temperature.noise;
        let deviation = g.constant(&deviation.expand([act], false));
        let noise = g.push(Op::Mul(GraphBuilder::XI, deviation));
        let noisy = g.push(Op::Add(chosen, noise));
        g.push(Op::Clip(noisy, -1.0, 1.0));
        g.finish()
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.lagged.named("actor_lagged"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
            self.temperature.state(),
            self.q_mean.named("q_mean"),
            self.q_std.named("q_std"),
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
