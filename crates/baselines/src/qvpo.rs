//! QVPO (Ding et al. 2024): a diffusion policy that learns from the best of its
//! own proposals, weighted by their advantage, and from uniform actions that
//! stand for the entropy.

use crate::diffusion::{Denoising, DiffusionConfig, DiffusionPolicy};
use agent::candidates::{best_of, repeat_rows, rows_of_share, take};
use agent::{
    ActMode, ActorConfig, Agent, AgentConfig, Batch, CandidatesConfig, CriticConfig, CriticLearner,
    Idle, Metrics, Noise, Random, idle_where, in_range,
};
use networks::{Adam, Params, merge_state, uniform};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The preset file: every key with its default and meaning.
pub const PRESETS: &str = include_str!("qvpo.toml");

/// Everything that shapes QVPO. `qvpo.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QvpoConfig {
    /// The critics.
    pub critic: CriticConfig,
    /// The policy's network and its optimiser.
    pub actor: ActorConfig,
    /// Proposals per state.
    pub candidates: CandidatesConfig,
    /// The diffusion.
    pub diffusion: DiffusionConfig,
    /// What the policy regresses to.
    pub regression: RegressionConfig,
}

/// `[regression]`: what the actor learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionConfig {
    /// Proposals per state, of which the best is learned from, N_d.
    pub candidates: i64,
    /// Share of the batch that the actor learns from.
    pub batch_share: f64,
    /// Uniform actions per state that stand for the entropy, U.
    pub uniform: i64,
    /// Weight of one of them relative to the state's best action, at the start.
    pub entropy: f64,
    /// That weight at the end of a linear fall.
    pub entropy_final: f64,
    /// Critic updates over which it falls.
    pub entropy_decay_updates: i64,
}

impl AgentConfig for QvpoConfig {
    fn validate(&self) -> Result<(), String> {
        let Self { critic, actor, candidates, diffusion, regression } = self;
        critic.validate()?;
        actor.validate()?;
        diffusion.validate()?;
        candidates.validate()?;
        // The advantage over the mean of one is 0.
        in_range("regression.candidates", regression.candidates as f64, 2.0, 1024.0)?;
        in_range("regression.batch_share", regression.batch_share, 1e-3, 1.0)?;
        in_range("regression.uniform", regression.uniform as f64, 0.0, 1024.0)?;
        in_range("regression.entropy", regression.entropy, 0.0, 1e9)?;
        in_range("regression.entropy_final", regression.entropy_final, 0.0, 1e9)?;
        let decay = regression.entropy_decay_updates as f64;
        in_range("regression.entropy_decay_updates", decay, 1.0, 1e12)
    }

    fn idle(&self) -> Vec<Idle> {
        let keys =
            &["regression.entropy", "regression.entropy_final", "regression.entropy_decay_updates"];
        let own = idle_where(&[(self.regression.uniform == 0, keys, "regression.uniform = 0")]);
        [self.critic.idle(), own].into_iter().flatten().collect()
    }

    fn why_not_captured(&self) -> Option<&'static str> {
        let RegressionConfig { uniform, entropy, entropy_final, .. } = self.regression;
        let moves = uniform > 0 && entropy != entropy_final;
        moves.then_some("the weight of uniform actions follows a schedule")
    }

    fn build(
        &self,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Box<dyn Agent> {
        Box::new(Qvpo::new(self, obs_dim, act_dim, device, rng))
    }
}

impl QvpoConfig {
    /// The entropy's weight after some updates of the critics.
    pub fn entropy_weight(&self, updates: i64) -> f64 {
        let RegressionConfig { entropy, entropy_final, entropy_decay_updates, .. } =
            self.regression;
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

impl Noise for QvpoNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.next];
        if let Some(QvpoActorNoise { proposals, uniform, denoising }) = &mut self.actor {
            all.extend([proposals, uniform, &mut denoising.t, &mut denoising.eps]);
        }
        all
    }
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
    pub fn update_with(&mut self, batch: &Batch, noise: &QvpoNoise) -> Metrics {
        self.policy.observe(&batch.obs);
        let next_action = {
            let _guard = tch::no_grad_guard();
            let k = self.config.candidates.target;
            let rows = repeat_rows(&batch.next_obs, k);
            let proposals = self.policy.sample(self.actor.frozen(), &rows, &noise.next);
            self.critic.choose_for_target(&rows, &proposals, k)
        };
        let mut metrics = self.critic.update(batch, &next_action, None);
        if let Some(noise) = &noise.actor {
            metrics.extend(self.update_actor(batch, noise));
        }
        metrics
    }

    /// One step of the actor on the Q-weighted variational bound.
    fn update_actor(&mut self, batch: &Batch, noise: &QvpoActorNoise) -> Metrics {
        let obs =
            batch.obs.narrow(0, 0, rows_of_share(batch.len(), self.config.regression.batch_share));
        let (best, advantage) = self.improve(&obs, &noise.proposals);
        let entropy = self.config.entropy_weight(self.critic.updates());
        let count = self.config.regression.uniform;
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
        Metrics::from([
            ("actor_loss", &loss),
            ("alpha", &Tensor::full([], entropy, (Kind::Float, self.device))),
            ("grad_norm", &gradient.norm()),
        ])
    }

    /// The best of N_d proposals per state, (B, act), and its advantage over
    /// their mean value, which is at least 0: (B).
    fn improve(&self, obs: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        let n = self.config.regression.candidates;
        let rows = repeat_rows(obs, n);
        let proposals = self.policy.sample(self.actor.frozen(), &rows, noise);
        let q = self.critic.value(&rows, &proposals);
        let each = q.view([-1, n]);
        let advantage = each.amax(&[1i64][..], false) - each.mean_dim(&[1i64][..], false, None);
        // The cut at 0 is only for rounding: the best is above the mean.
        (take(&proposals, &best_of(&q, n)), advantage.clamp_min(0.0))
    }
}

impl Agent for Qvpo {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(self.config.candidates.act);
        let rows = repeat_rows(obs, k);
        let noise = self.policy.act_noise(mode, rows.size()[0], self.device, rng);
        let proposals = self.policy.sample(self.actor.frozen(), &rows, &noise);
        self.critic.choose(&rows, &proposals, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let cpu = Device::Cpu;
        let next = self.policy.noise(rows * self.config.candidates.target, cpu, rng);
        let actor = with_actor.then(|| {
            let rows = rows_of_share(rows, self.config.regression.batch_share);
            let RegressionConfig { candidates, uniform: count, .. } = self.config.regression;
            QvpoActorNoise {
                proposals: self.policy.noise(rows * candidates, cpu, rng),
                uniform: uniform(rng, &[rows * count, self.policy.act_dim()], cpu),
                denoising: self.policy.denoising(rows * (1 + count), rng),
            }
        });
        Box::new(QvpoNoise { next, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        self.critic.branches()
    }

    fn calls_per_action(&self) -> u32 {
        self.policy.calls()
    }

    fn graph(&self) -> policy::Graph {
        self.policy.graph(self.actor.frozen(), 0).0.finish()
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.actor.named("actor"),
            self.actor_adam.named("actor_adam"),
            self.critic.state(),
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
