//! QVPO (Ding et al. 2024): a diffusion policy that learns from the best of its
//! own proposals, weighted by their advantage, and from uniform actions that
//! stand for the entropy.

use crate::config::{ActorConfig, choose, choose_for_target};
use crate::diffusion::{CandidatesConfig, Denoising, DiffusionConfig, DiffusionPolicy, actor_rows};
use agent::{
    ActMode, Agent, Batch, CriticConfig, CriticLearner, Measured, Random, best_of, in_range,
    repeat_rows,
};
use networks::{Adam, Params, StateError, load_state, merge_state, uniform};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("qvpo.toml");

/// Everything that shapes QVPO. `qvpo.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct QvpoConfig {
    pub critic: CriticConfig,
    pub actor: ActorConfig,
    pub candidates: CandidatesConfig,
    pub diffusion: DiffusionConfig,
    pub objective: ObjectiveConfig,
}

/// `[objective]`: what the actor learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ObjectiveConfig {
    pub batch_share: f64,
    pub uniform: i64,
    pub entropy: f64,
    pub entropy_final: f64,
    pub entropy_decay_updates: i64,
}

impl QvpoConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, candidates, diffusion, objective } = self;
        critic.validate()?;
        actor.validate()?;
        diffusion.validate()?;
        candidates.validate()?;
        // The advantage over the mean of one is 0.
        in_range("candidates.train", candidates.train as f64, 2.0, 1024.0)?;
        in_range("objective.batch_share", objective.batch_share, 1e-3, 1.0)?;
        in_range("objective.uniform", objective.uniform as f64, 0.0, 1024.0)?;
        in_range("objective.entropy", objective.entropy, 0.0, 1e9)?;
        in_range("objective.entropy_final", objective.entropy_final, 0.0, 1e9)?;
        let decay = objective.entropy_decay_updates as f64;
        in_range("objective.entropy_decay_updates", decay, 1.0, 1e12)
    }

    /// The entropy's weight after some updates of the critics.
    pub fn entropy_weight(&self, updates: i64) -> f64 {
        let ObjectiveConfig { entropy, entropy_final, entropy_decay_updates, .. } = self.objective;
        let share = (updates as f64 / entropy_decay_updates as f64).min(1.0);
        entropy + (entropy_final - entropy) * share
    }
}

/// A diffusion policy and its critics.
pub struct Qvpo {
    config: QvpoConfig,
    policy: DiffusionPolicy,
    actor: Params,
    actor_adam: Adam,
    critic: CriticLearner,
    device: Device,
}

/// Noise of one update over a batch of B transitions.
pub struct QvpoNoise {
    /// Noise of the K_t proposals for the next action: (T, B K_t, act).
    pub next: Tensor,
    /// Noise of the actor's update, where one is due.
    pub actor: Option<QvpoActorNoise>,
}

/// Noise of an actor update over B_a states.
pub struct QvpoActorNoise {
    /// Noise of the N_d proposals: (T, B_a N_d, act).
    pub proposals: Tensor,
    /// Uniform actions: (B_a U, act) in [0, 1).
    pub uniform: Tensor,
    /// Of the regression to B_a best and B_a U uniform actions.
    pub denoising: Denoising,
}

impl Qvpo {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &QvpoConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, actor) =
            DiffusionPolicy::new(&config.actor, &config.diffusion, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self {
            config: config.clone(),
            policy,
            actor_adam: Adam::new(config.actor.adam(), &actor),
            actor,
            critic,
            device,
        }
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &QvpoNoise) -> Measured {
        let next_action = {
            let _guard = tch::no_grad_guard();
            let k = self.config.candidates.target;
            let rows = repeat_rows(&batch.next_obs, k);
            let proposals = self.policy.sample(self.actor.frozen(), &rows, &noise.next);
            choose_for_target(&self.critic, &rows, &proposals, k)
        };
        let critic = self.critic.update(batch, &next_action, None);
        let actor = noise.actor.as_ref().map(|noise| self.update_actor(batch, noise));
        Measured {
            critic_loss: Some(critic.loss),
            q_mean: Some(critic.q_mean),
            ..actor.unwrap_or_default()
        }
    }

    /// One step of the actor on the Q-weighted variational bound.
    fn update_actor(&mut self, batch: &Batch, noise: &QvpoActorNoise) -> Measured {
        let obs =
            batch.obs.narrow(0, 0, actor_rows(batch.len(), self.config.objective.batch_share));
        let (best, advantage) = self.improve(&obs, &noise.proposals);
        let entropy = self.config.entropy_weight(self.critic.updates());
        let count = self.config.objective.uniform;
        let (obs, action, weight) = if count > 0 {
            (
                Tensor::cat(&[&obs, &repeat_rows(&obs, count)], 0),
                Tensor::cat(&[best, &noise.uniform * 2.0 - 1.0], 0),
                Tensor::cat(&[&advantage, &(repeat_rows(&advantage, count) * entropy)], 0),
            )
        } else {
            (obs, best, advantage)
        };
        let p = self.actor.trainable();
        let loss = self.policy.loss(p, &obs, &action, &weight, &noise.denoising);
        let gradient = self.actor.gradient(&loss);
        self.actor_adam.step(&mut self.actor, &gradient);
        Measured {
            actor_loss: Some(loss.detach()),
            alpha: Some(Tensor::from(entropy as f32)),
            grad_norm: Some(gradient.norm()),
            ..Measured::default()
        }
    }

    /// The best of N_d proposals per state, (B, act), and its advantage over
    /// their mean value, which is at least 0: (B).
    fn improve(&self, obs: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        let n = self.config.candidates.train;
        let rows = repeat_rows(obs, n);
        let proposals = self.policy.sample(self.actor.frozen(), &rows, noise);
        let q = self.critic.value(&rows, &proposals);
        let each = q.view([-1, n]);
        let advantage = each.amax(&[1i64][..], false) - each.mean_dim(&[1i64][..], false, None);
        // The cut at 0 is only for rounding: the best is above the mean.
        (best_of(&proposals, &q, n), advantage.clamp_min(0.0))
    }
}

impl Agent for Qvpo {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(self.config.candidates.act);
        let rows = repeat_rows(obs, k);
        let noise = self.policy.noise(rows.size()[0], self.device, rng);
        let proposals = self.policy.sample(self.actor.frozen(), &rows, &noise);
        choose(&self.critic, &rows, &proposals, k)
    }

    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Measured {
        let due = (self.critic.updates() + 1) % self.config.actor.update_every == 0;
        let CandidatesConfig { target, train, .. } = self.config.candidates;
        let next = self.policy.noise(batch.len() * target, self.device, rng);
        let actor = due.then(|| {
            let rows = actor_rows(batch.len(), self.config.objective.batch_share);
            let count = self.config.objective.uniform;
            QvpoActorNoise {
                proposals: self.policy.noise(rows * train, self.device, rng),
                uniform: uniform(rng, &[rows * count, self.policy.act_dim()], self.device),
                denoising: self.policy.denoising(rows * (1 + count), self.device, rng),
            }
        });
        self.update_with(batch, &QvpoNoise { next, actor })
    }

    fn calls_per_action(&self) -> u32 {
        self.policy.calls()
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
        ])
    }

    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.state(), saved)
    }
}
