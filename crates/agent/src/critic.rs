//! Learning of an ensemble of critics by clipped double Q.

use crate::candidates::{best_of, take};
use crate::{Aggregate, Batch, Metrics, Random, in_range, td};
use networks::{
    Adam, AdamConfig, Counter, CriticKind, Critics, CriticsConfig, NormMode, Params, Renorm,
    merge_state, with_slope,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// `[critic]`: the ensemble and its optimiser, a section of every algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticConfig {
    /// Discount.
    pub gamma: f64,
    /// `mlp`, `layernorm` or `crossq`.
    pub kind: CriticKind,
    /// Networks in the ensemble.
    pub members: usize,
    /// Units in a hidden layer.
    pub width: i64,
    /// Hidden layers.
    pub depth: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Adam's beta1.
    pub beta1: f64,
    /// Polyak rate of the target networks (not used by `crossq`).
    pub tau: f64,
    /// Updates between two steps of the target networks.
    pub target_interval: i64,
    /// Momentum m of the running statistics: running = m running + (1 - m) batch (`crossq`).
    pub norm_momentum: f64,
    /// Batch renormalisation after `renorm_warmup` updates (`crossq`).
    pub renorm: bool,
    /// Updates before renormalisation begins.
    pub renorm_warmup: i64,
}

impl CriticConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("critic.gamma", self.gamma, 0.0, 1.0)?;
        in_range("critic.members", self.members as f64, 1.0, 64.0)?;
        in_range("critic.width", self.width as f64, 1.0, 65536.0)?;
        in_range("critic.depth", self.depth as f64, 1.0, 64.0)?;
        in_range("critic.learning_rate", self.learning_rate, 0.0, 1.0)?;
        in_range("critic.beta1", self.beta1, 0.0, 0.9999)?;
        in_range("critic.tau", self.tau, 0.0, 1.0)?;
        in_range("critic.target_interval", self.target_interval as f64, 1.0, 1e9)?;
        in_range("critic.norm_momentum", self.norm_momentum, 0.0, 1.0)?;
        in_range("critic.renorm_warmup", self.renorm_warmup as f64, 0.0, 1e12)
    }
}

/// CrossQ's published limits of batch renormalisation.
const RENORM: Renorm = Renorm { r_max: 3.0, d_max: 5.0 };

/// An ensemble of critics, its targets and its optimiser.
pub struct CriticLearner {
    config: CriticConfig,
    critics: Critics,
    online: Params,
    /// None for `crossq`, which needs no target networks.
    target: Option<Params>,
    adam: Adam,
    updates: Counter,
}

impl CriticLearner {
    /// Draws an ensemble for the given sizes.
    pub fn new(
        config: &CriticConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let shape = CriticsConfig {
            kind: config.kind,
            members: config.members,
            width: config.width,
            depth: config.depth,
            norm_momentum: config.norm_momentum,
        };
        let (critics, online) = Critics::new(&shape, obs_dim, act_dim, device, rng);
        let target = (config.kind != CriticKind::CrossQ).then(|| online.duplicate());
        let learning_rate = config.learning_rate;
        let adam = AdamConfig { learning_rate, beta1: config.beta1, beta2: 0.999 };
        Self {
            config: config.clone(),
            critics,
            adam: Adam::new(adam, &online),
            online,
            target,
            updates: Counter::default(),
        }
    }

    /// Updates so far.
    pub fn updates(&self) -> i64 {
        self.updates.get()
    }

    /// Q(s, a) of the online ensemble as one value per row: (B). Gradients
    /// reach the action and stop there.
    pub fn value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        self.value_by(Aggregate::Min, obs, action)
    }

    /// Q(s, a) as [`value`](Self::value) computes it, with the members' values joined by
    /// `aggregate`.
    pub fn value_by(&self, aggregate: Aggregate, obs: &Tensor, action: &Tensor) -> Tensor {
        let (frozen, mode) = (self.online.frozen(), NormMode::Running);
        if !action.requires_grad() {
            return aggregate.join(&self.critics.forward(frozen, obs, action, mode));
        }
        // The chain rule through the critics, without a graph of their operations.
        let leaf = action.detach().set_requires_grad(true);
        let pass = self.critics.record(frozen, obs, &leaf, mode);
        let (value, d_q) = aggregate.join_with_derivative(&pass.q);
        with_slope(value, action, pass.action_gradient(&d_q))
    }

    /// Q'(s, a) of the target ensemble (for `crossq` the online one): (B), without gradients.
    pub fn target_value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let frozen = self.target.as_ref().unwrap_or(&self.online).frozen();
        let q = self.critics.forward(frozen, obs, action, NormMode::Running);
        Aggregate::Min.join(&q)
    }

    /// The best of K proposals per state under the critics. `rows` (B K, obs) and
    /// `proposals` (B K, act) hold the K of each state in a row; returns (B, act).
    pub fn choose(&self, rows: &Tensor, proposals: &Tensor, k: i64) -> Tensor {
        if k == 1 {
            return proposals.shallow_clone();
        }
        take(proposals, &best_of(&self.value(rows, proposals), k))
    }

    /// The best of K proposals per state under the target critics, as [`choose`](Self::choose).
    pub fn choose_for_target(&self, rows: &Tensor, proposals: &Tensor, k: i64) -> Tensor {
        if k == 1 {
            return proposals.shallow_clone();
        }
        take(proposals, &best_of(&self.target_value(rows, proposals), k))
    }

    /// One step on L_Q = sum_i mean (Q_i(s, a) - y)^2 with
    /// y = r + gamma (1 - terminated) (Q'(s', a') + bonus).
    ///
    /// `next_action` (B, act) is a'; `next_bonus` (B), where there is one, is
    /// what the entropy adds to the next state's value. Measures `critic_loss`, the loss above,
    /// and `q_mean`, the mean value on the batch.
    pub fn update(
        &mut self,
        batch: &Batch,
        next_action: &Tensor,
        next_bonus: Option<&Tensor>,
    ) -> Metrics {
        // The loss's gradient is known in closed form: no graph is needed.
        let _guard = tch::no_grad_guard();
        let (p, rows) = (self.online.trainable(), batch.len());
        let (pass, q, next_q) = match &self.target {
            Some(target) => {
                let (p_next, mode) = (target.frozen(), NormMode::Running);
                let next_q = self.critics.forward(p_next, &batch.next_obs, next_action, mode);
                let pass = self.critics.record(p, &batch.obs, &batch.action, mode);
                let q = pass.q.shallow_clone();
                (pass, q, next_q)
            }
            None => {
                // CrossQ: both pairs in one pass, so that both are normalised
                // by the statistics of their union.
                let renorm = self.config.renorm && self.updates() >= self.config.renorm_warmup;
                let mode = NormMode::Batch(renorm.then_some(RENORM));
                let obs = Tensor::cat(&[&batch.obs, &batch.next_obs], 0);
                let action = Tensor::cat(&[&batch.action, next_action], 0);
                let pass = self.critics.record(p, &obs, &action, mode);
                let (q, next_q) = (pass.q.narrow(1, 0, rows), pass.q.narrow(1, rows, rows));
                (pass, q, next_q)
            }
        };
        let next_value = Aggregate::Min.join(&next_q);
        let next_value = next_bonus.map_or(next_value.shallow_clone(), |bonus| next_value + bonus);
        let y = td::target(self.config.gamma, &batch.reward, &batch.terminated, &next_value);
        let (loss, mut d_q) = td::loss(&q, &y);
        if self.target.is_none() {
            // The next pairs' values are no part of the loss.
            d_q = d_q.constant_pad_nd([0, rows]);
        }
        let gradient = pass.parameter_gradient(&self.online, &d_q);
        self.adam.step(&mut self.online, &gradient);
        if self.updates.raise() % self.config.target_interval == 0
            && let Some(target) = &mut self.target
        {
            target.polyak(&self.online, self.config.tau);
        }
        let q_mean = q.mean(Kind::Double).to_kind(q.kind());
        Metrics::from([("critic_loss", &loss), ("q_mean", &q_mean)])
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.online.named("critic"),
            self.target.as_ref().map(|target| target.named("critic_target")).unwrap_or_default(),
            self.critics.stats().named("critic_stats"),
            self.adam.named("critic_adam"),
            vec![("critic_updates".to_string(), self.updates.tensor())],
        ])
    }
}
