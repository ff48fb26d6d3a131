//! Mirror descent policy optimisation, off-policy (Tomar et al. 2022), with
//! entropy and a Gaussian policy: SMFP's objective without its policy class.
//!
//! ```text
//! L = E [alpha log pi(a|s) - Q(s, a) / S] + lambda L_mirror
//! ```
//!
//! L_mirror draws the policy towards pi_old(a|s) exp(A(s, a) / (c std A)), by
//! maximum likelihood of actions from it as SMFP does, or holds it near pi_old
//! by KL(pi || pi_old) as published.

use crate::config::{ActorConfig, choose};
use crate::gaussian::GaussianPolicy;
use crate::running::{QScale, Scale, check_decay};
use agent::{
    ActMode, Agent, Batch, CriticConfig, CriticLearner, Measured, Random, Temperature, in_range,
    repeat_rows,
};
use networks::{Adam, Counter, Params, StateError, load_state, merge_state, normal, uniform};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("mdpo.toml");

/// Smallest deviation of the advantage that logits are scaled by.
const MIN_STD: f64 = 1e-6;

/// Everything that shapes MDPO. `mdpo.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MdpoConfig {
    pub critic: CriticConfig,
    pub actor: ActorConfig,
    pub objective: ObjectiveConfig,
    pub entropy: EntropyConfig,
    pub mirror: MirrorConfig,
}

/// `[objective]`: the weights of its terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ObjectiveConfig {
    pub lambda: f64,
    pub q_scale: QScale,
    pub q_scale_decay: f64,
}

/// `[entropy]`: the temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EntropyConfig {
    pub automatic: bool,
    pub alpha: f64,
    pub learning_rate: f64,
    pub target_per_dim: f64,
    pub in_target: bool,
}

/// What holds the policy near the lagged one.
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
#[allow(missing_docs)]
pub struct MirrorConfig {
    pub kind: MirrorKind,
    pub candidates: i64,
    pub temperature: f64,
    pub batch_share: f64,
    pub policy_tau: f64,
    pub policy_interval: i64,
}

impl MdpoConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, objective, entropy, mirror } = self;
        critic.validate()?;
        actor.validate()?;
        in_range("objective.lambda", objective.lambda, 0.0, 1e9)?;
        check_decay("objective.q_scale_decay", objective.q_scale_decay)?;
        in_range("entropy.alpha", entropy.alpha, 1e-12, 1e9)?;
        in_range("entropy.learning_rate", entropy.learning_rate, 0.0, 1.0)?;
        in_range("entropy.target_per_dim", entropy.target_per_dim, -100.0, 100.0)?;
        in_range("mirror.candidates", mirror.candidates as f64, 1.0, 1024.0)?;
        in_range("mirror.temperature", mirror.temperature, 1e-6, 1e9)?;
        in_range("mirror.batch_share", mirror.batch_share, 1e-3, 1.0)?;
        in_range("mirror.policy_tau", mirror.policy_tau, 0.0, 1.0)?;
        in_range("mirror.policy_interval", mirror.policy_interval as f64, 1.0, 1e9)
    }

    /// States of a batch that take part in the mirror term.
    fn mirror_rows(&self, batch: i64) -> i64 {
        ((batch as f64 * self.mirror.batch_share).round() as i64).clamp(1, batch)
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

impl MdpoNoise {
    /// Draws the noise that the configuration asks for.
    pub fn draw(
        config: &MdpoConfig,
        batch: i64,
        act_dim: i64,
        with_actor: bool,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let rows = config.mirror_rows(batch);
        let next = normal(rng, &[batch, act_dim], device);
        let actor = with_actor.then(|| MdpoActorNoise {
            action: normal(rng, &[batch, act_dim], device),
            candidates: normal(rng, &[rows * config.mirror.candidates, act_dim], device),
            choice: uniform(rng, &[rows, 1], device),
        });
        Self { next, actor }
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
        let ActorConfig { width, depth, activation, .. } = config.actor;
        let (policy, actor) =
            GaussianPolicy::new(width, depth, activation, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        let ObjectiveConfig { q_scale, q_scale_decay, .. } = config.objective;
        Self {
            config: config.clone(),
            policy,
            lagged: actor.duplicate(),
            actor_adam: Adam::new(config.actor.adam(), &actor),
            actor,
            critic,
            temperature: Temperature::new(
                config.entropy.alpha,
                config.entropy.learning_rate,
                device,
            ),
            scale: Scale::new(q_scale, q_scale_decay, device),
            actor_updates: Counter::default(),
            device,
        }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &MdpoNoise) -> Measured {
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let next = self.policy.sample(self.actor.frozen(), &batch.next_obs, &noise.next);
            // alpha weighs the entropy against Q / S; Bellman's equation has Q.
            let bonus = self
                .config
                .entropy
                .in_target
                .then(|| -next.log_prob * self.temperature.alpha() * self.scale.get());
            (next.action, bonus)
        };
        let critic = self.critic.update(batch, &next_action, bonus.as_ref());
        let actor = noise.actor.as_ref().map(|noise| self.update_actor(batch, noise));
        Measured {
            critic_loss: Some(critic.loss),
            q_mean: Some(critic.q_mean),
            ..actor.unwrap_or_default()
        }
    }

    /// One step of the actor, then of the temperature and of the lagged policy.
    fn update_actor(&mut self, batch: &Batch, noise: &MdpoActorNoise) -> Measured {
        let alpha = self.temperature.alpha();
        let sample = self.policy.sample(self.actor.trainable(), &batch.obs, &noise.action);
        let q = self.critic.value(&batch.obs, &sample.action);
        self.scale.update(&self.critic, batch, &q.detach());
        let mirror = self.mirror_loss(batch, noise);
        let pathwise = (&alpha * &sample.log_prob - q / self.scale.get()).mean(Kind::Float);
        let loss = pathwise + &mirror * self.config.objective.lambda;
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);

        let entropy = -sample.log_prob.detach().mean(Kind::Float);
        if self.config.entropy.automatic {
            let target = self.config.entropy.target_per_dim * self.policy.act_dim() as f64;
            self.temperature.update(&entropy, target);
        }
        let MirrorConfig { policy_tau, policy_interval, .. } = self.config.mirror;
        if self.actor_updates.raise() % policy_interval == 0 {
            self.lagged.polyak(&self.actor, policy_tau);
        }
        Measured {
            actor_loss: Some(loss.detach()),
            mirror_loss: Some(mirror.detach()),
            entropy: Some(entropy),
            alpha: Some(alpha),
            grad_norm: Some(gradient.norm()),
            ..Measured::default()
        }
    }

    /// L_mirror, a scalar.
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

    /// Actions before squashing, one a state, from pi_old exp(A / (c std A)):
    /// one of K of the lagged policy's, drawn with softmax weights. A is the
    /// value less its mean over the K.
    fn draw_improved(&self, obs: &Tensor, noise: &MdpoActorNoise) -> Tensor {
        let _guard = tch::no_grad_guard();
        let MirrorConfig { candidates: k, temperature, .. } = self.config.mirror;
        let (states, act_dim) = (obs.size()[0], self.policy.act_dim());
        let rows = repeat_rows(obs, k);
        let gaussian = self.policy.gaussian(self.lagged.frozen(), &rows);
        let drawn = gaussian.mean + gaussian.log_std.exp() * &noise.candidates;
        let q = self.critic.value(&rows, &drawn.tanh()).view([states, k]);
        let advantage = &q - q.mean_dim(&[1i64][..], true, None);
        let std = advantage.std(false).clamp_min(MIN_STD);
        let share = (advantage / (std * temperature)).softmax(-1, None);
        // Inverse of the cumulative distribution; the last candidate takes what
        // rounding leaves.
        let cumulative = share.cumsum(1, None).narrow(1, 0, k - 1);
        let choice =
            cumulative.le_tensor(&noise.choice).sum_dim_intlist(&[1i64][..], true, Kind::Int64);
        let index = choice.unsqueeze(-1).expand([states, 1, act_dim], false);
        drawn.view([states, k, act_dim]).gather(1, &index, false).squeeze_dim(1)
    }
}

impl Agent for Mdpo {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let p = self.actor.frozen();
        let k = match mode {
            ActMode::Deterministic => return self.policy.mode(p, obs),
            ActMode::BestOf(k) => k as i64,
            ActMode::Explore | ActMode::Stochastic => 1,
        };
        let rows = repeat_rows(obs, k);
        let noise = normal(rng, &[rows.size()[0], self.policy.act_dim()], self.device);
        let action = self.policy.action(p, &rows, &noise);
        choose(&self.critic, &rows, &action, k)
    }

    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Measured {
        let due = (self.critic.updates() + 1) % self.config.actor.update_every == 0;
        let act_dim = self.policy.act_dim();
        let noise = MdpoNoise::draw(&self.config, batch.len(), act_dim, due, self.device, rng);
        self.update_with(batch, &noise)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.lagged.named("actor_lagged"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
            self.temperature.state(),
            self.scale.state(),
            vec![("actor_updates".to_string(), self.actor_updates.tensor())],
        ])
    }

    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.state(), saved)
    }
}
