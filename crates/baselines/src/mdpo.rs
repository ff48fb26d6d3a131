//! Mirror descent policy optimisation, off-policy (Tomar et al. 2022), with
//! entropy and a Gaussian policy: SMFP's objective without its policy class.
//!
//! ```text
//! L = E [alpha log pi(a|s) - Q(s, a) / S] + lambda L_mirror
//! ```
//!
//! L_mirror is the negative log-likelihood of actions from pi_old(a|s) exp(A(s, a) / (c std A)),
//! SMFP's target, or KL(pi || pi_old) as published.

use crate::gaussian::GaussianPolicy;
use agent::candidates::{draw_by_advantage, repeat_rows, rows_of_share, take};
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CriticConfig, CriticLearner, Idle, Metrics,
    Noise, ObjectiveConfig, Random, Scale, Temperature, TemperatureConfig, idle_where, in_range,
};
use networks::{Adam, Counter, Params, merge_state, normal, uniform};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("mdpo.toml");

/// Everything that shapes MDPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MdpoConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// The weight of the mirror term, and the units of Q.
    pub objective: ObjectiveConfig,
    /// The entropy's weight.
    pub temperature: TemperatureConfig,
    /// The mirror term and the lagged policy.
    pub mirror: MirrorConfig,
}

/// The form of the mirror term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorKind {
    /// Maximum likelihood of actions from pi_old exp(A / (c std A)).
    Likelihood,
    /// KL(pi || pi_old).
    Kl,
}

/// `[mirror]`: the mirror term and the lagged policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The form of the mirror term.
    pub kind: MirrorKind,
    /// Candidates per state of which one is drawn, K.
    pub candidates: i64,
    /// c of exp(A / (c std A)).
    pub temperature: f64,
    /// Share of the batch that the term is computed on.
    pub batch_share: f64,
    /// Polyak rate of the lagged policy; 1 copies it.
    pub policy_tau: f64,
    /// Actor updates between two moves of the lagged policy.
    pub policy_interval: i64,
}

impl AgentConfig for MdpoConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, objective, temperature, mirror } = self;
        critic.validate()?;
        actor.validate()?;
        objective.validate()?;
        temperature.validate()?;
        in_range("mirror.candidates", mirror.candidates as f64, 1.0, 1024.0)?;
        in_range("mirror.temperature", mirror.temperature, 1e-6, 1e9)?;
        in_range("mirror.batch_share", mirror.batch_share, 1e-3, 1.0)?;
        in_range("mirror.policy_tau", mirror.policy_tau, 0.0, 1.0)?;
        in_range("mirror.policy_interval", mirror.policy_interval as f64, 1.0, 1e9)
    }

    fn idle(&self) -> Vec<Idle> {
        // mirror.candidates still moves the random stream.
        let kl = self.mirror.kind == MirrorKind::Kl;
        let own = idle_where(&[(kl, &["mirror.temperature"], "mirror.kind = \"kl\"")]);
        let Self { critic, objective, temperature, .. } = self;
        [critic.idle(), objective.idle(), temperature.idle(), own].into_iter().flatten().collect()
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(Mdpo::new(self, obs_dim, act_dim, device, rng))
    }
}

impl MdpoConfig {
    /// States of a batch that take part in the mirror term.
    fn mirror_rows(&self, batch: i64) -> i64 {
        rows_of_share(batch, self.mirror.batch_share)
    }
}

/// A Gaussian policy, the lagged one and their critics.
pub struct Mdpo {
    config: MdpoConfig,
    policy: GaussianPolicy,
    actor: Params,
    /// pi_old.
    lagged: Params,
    actor_adam: Adam,
    critic: CriticLearner,
    temperature: Temperature,
    scale: Scale,
    actor_updates: Counter,
    device: Device,
}

/// Noise of one update over a batch of B transitions.
pub struct MdpoNoise {
    /// Noise of the next actions in the target: (B, act).
    pub next: Tensor,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<MdpoActorNoise>,
}

/// Noise of an actor update, of whose B states B_m take part in the mirror term.
pub struct MdpoActorNoise {
    /// Noise of the actor's actions: (B, act).
    pub action: Tensor,
    /// Noise of the lagged policy's candidates: (B_m K, act).
    pub candidates: Tensor,
    /// Chooses a candidate: (B_m, 1) in [0, 1).
    pub choice: Tensor,
}

impl Noise for MdpoNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let actor = self.actor.iter_mut();
        let actor = actor.flat_map(|a| [&mut a.action, &mut a.candidates, &mut a.choice]);
        std::iter::once(&mut self.next).chain(actor).collect()
    }
}

impl Mdpo {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &MdpoConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, actor) = GaussianPolicy::new(&config.actor, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self {
            config: config.clone(),
            policy,
            lagged: actor.duplicate(),
            actor_adam: Adam::new(config.actor.adam(), &actor),
            actor,
            critic,
            temperature: config.temperature.start(device),
            scale: Scale::new(&config.objective, device),
            actor_updates: Counter::default(),
            device,
        }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &MdpoNoise) -> Metrics {
        self.policy.observe(&batch.obs);
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let next = self.policy.sample(self.actor.frozen(), &batch.next_obs, &noise.next);
            // alpha weights the entropy relative to Q / S; Bellman's equation has Q.
            let bonus = self
                .config
                .temperature
                .in_target
                .then(|| -next.log_prob * self.temperature.alpha() * self.scale.get());
            (next.action, bonus)
        };
        let mut metrics = self.critic.update(batch, &next_action, bonus.as_ref());
        if let Some(noise) = &noise.actor {
            metrics.extend(self.update_actor(batch, noise));
        }
        metrics
    }

    /// One step of the actor, then of the temperature and of the lagged policy.
    fn update_actor(&mut self, batch: &Batch, noise: &MdpoActorNoise) -> Metrics {
        let alpha = self.temperature.alpha();
        let sample = self.policy.sample(self.actor.trainable(), &batch.obs, &noise.action);
        let q = self.critic.value(&batch.obs, &sample.action);
        let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
        let mirror = self.mirror_loss(batch, noise);
        self.scale.update(&value, &batch.obs, &batch.action, &q.detach());
        let pathwise = (&alpha * &sample.log_prob - q / self.scale.get()).mean(Kind::Float);
        let loss = pathwise + &mirror * self.config.objective.lambda;
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);

        let entropy = -sample.log_prob.detach().mean(Kind::Float);
        self.config.temperature.step(&mut self.temperature, &entropy, self.policy.act_dim());
        if self.lagged_due() {
            self.lagged.polyak(&self.actor, self.config.mirror.policy_tau);
        }
        self.actor_updates.increment();
        Metrics::from([
            ("actor_loss", &loss),
            ("mirror_loss", &mirror),
            ("entropy", &entropy),
            ("alpha", &alpha),
            ("grad_norm", &gradient.norm()),
        ])
    }

    /// Whether the next update of the actor moves the lagged policy.
    fn lagged_due(&self) -> bool {
        (self.actor_updates.get() + 1) % self.config.mirror.policy_interval == 0
    }

    /// L_mirror: a scalar.
    fn mirror_loss(&self, batch: &Batch, noise: &MdpoActorNoise) -> Tensor {
        let obs = batch.obs.narrow(0, 0, self.config.mirror_rows(batch.len()));
        let p = self.actor.trainable();
        match self.config.mirror.kind {
            MirrorKind::Kl => {
                let old = self.policy.gaussian(self.lagged.frozen(), &obs);
                self.policy.gaussian(p, &obs).kl(&old).mean(Kind::Float)
            }
            MirrorKind::Likelihood => {
                let raw = self.draw_improved(&obs, noise);
                -self.policy.log_prob(p, &obs, &raw).mean(Kind::Float)
            }
        }
    }

    /// Actions before squashing, one per state, from pi_old exp(A / (c std A)):
    /// one of K of the lagged policy's. (B_m, act)
    fn draw_improved(&self, obs: &Tensor, noise: &MdpoActorNoise) -> Tensor {
        let _guard = tch::no_grad_guard();
        let MirrorConfig { candidates: k, temperature, .. } = self.config.mirror;
        let rows = repeat_rows(obs, k);
        let gaussian = self.policy.gaussian(self.lagged.frozen(), &rows);
        let drawn = gaussian.mean + gaussian.log_std.exp() * &noise.candidates;
        let q = self.critic.value(&rows, &drawn.tanh()).view([-1, k]);
        take(&drawn, &draw_by_advantage(&q, temperature, &noise.choice))
    }
}

impl Agent for Mdpo {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let p = self.actor.frozen();
        if matches!(mode, ActMode::Deterministic | ActMode::Mean) {
            return self.policy.mode(p, obs);
        }
        let k = mode.candidates(1);
        let rows = repeat_rows(obs, k);
        let noise = normal(rng, &[rows.size()[0], self.policy.act_dim()], self.device);
        let action = self.policy.action(p, &rows, &noise);
        self.critic.choose(&rows, &action, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let (act_dim, cpu) = (self.policy.act_dim(), Device::Cpu);
        let mirrored = self.config.mirror_rows(rows);
        let next = normal(rng, &[rows, act_dim], cpu);
        let actor = with_actor.then(|| MdpoActorNoise {
            action: normal(rng, &[rows, act_dim], cpu),
            candidates: normal(rng, &[mirrored * self.config.mirror.candidates, act_dim], cpu),
            choice: uniform(rng, &[mirrored, 1], cpu),
        });
        Box::new(MdpoNoise { next, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        let mut branches = self.critic.branches();
        branches.push(self.lagged_due());
        branches
    }

    fn graph(&self) -> policy::Graph {
        self.policy.graph(self.actor.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.lagged.named("actor_lagged"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
            self.temperature.state(),
            self.scale.state(),
            self.policy.state(),
            vec![("actor_updates".to_string(), self.actor_updates.tensor())],
        ])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }
}
