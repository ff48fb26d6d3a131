//! Learning of an ensemble of critics by clipped double Q.

use crate::{Batch, Random, in_range};
use networks::{
    Adam, AdamConfig, Aggregate, CriticKind, Critics, CriticsConfig, NormMode, Params, Renorm,
    StateError, merge_state,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

/// Settings of the critics, the `[critic]` section of every preset.
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
    /// Adam's step size.
    pub learning_rate: f64,
    /// Adam's first decay.
    pub beta1: f64,
    /// Rate of the target networks (not used by `crossq`).
    pub tau: f64,
    /// `min` or `mean` over the ensemble.
    pub aggregate: Aggregate,
    /// Share of the running statistics that a batch leaves in place (`crossq`).
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
    updates: Tensor,
}

/// What an update of the critics measured.
pub struct CriticLoss {
    /// Sum over the ensemble of mean squared errors, a scalar.
    pub loss: Tensor,
    /// Mean value on the batch, a scalar.
    pub q_mean: Tensor,
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
            updates: Tensor::zeros([], (Kind::Int64, Device::Cpu)),
        }
    }

    /// Updates so far.
    pub fn updates(&self) -> i64 {
        self.updates.int64_value(&[])
    }

    /// Q(s, a) of the online ensemble as one value per row: (B). Gradients
    /// reach the action and stop there.
    pub fn value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let frozen = self.online.frozen();
        self.config.aggregate.join(&self.critics.forward(frozen, obs, action, NormMode::Running))
    }

    /// The same under the target ensemble (for `crossq` the online one).
    pub fn target_value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let frozen = self.target.as_ref().unwrap_or(&self.online).frozen();
        self.config.aggregate.join(&self.critics.forward(frozen, obs, action, NormMode::Running))
    }

    /// One step on L_Q = sum_i mean (Q_i(s, a) - y)^2 with
    /// y = r + gamma (1 - terminated) (Q'(s', a') + bonus).
    ///
    /// `next_action` (B, act) is a'; `next_bonus` (B), where there is one, is
    /// what the entropy adds to the next state's value.
    pub fn update(
        &mut self,
        batch: &Batch,
        next_action: &Tensor,
        next_bonus: Option<&Tensor>,
    ) -> CriticLoss {
        let p = self.online.trainable();
        let (q, next_q) = match &self.target {
            Some(target) => {
                let mode = NormMode::Running;
                let q = self.critics.forward(p, &batch.obs, &batch.action, mode);
                let _guard = tch::no_grad_guard();
                let next = &batch.next_obs;
                (q, self.critics.forward(target.frozen(), next, next_action, mode))
            }
            None => {
                // CrossQ: both pairs in one pass, so that both are normalised
                // by the statistics of their union.
                let renorm = self.config.renorm && self.updates() >= self.config.renorm_warmup;
                let mode = NormMode::Batch(renorm.then_some(RENORM));
                let obs = Tensor::cat(&[&batch.obs, &batch.next_obs], 0);
                let action = Tensor::cat(&[&batch.action, next_action], 0);
                let both = self.critics.forward(p, &obs, &action, mode);
                let rows = batch.len();
                (both.narrow(1, 0, rows), both.narrow(1, rows, rows).detach())
            }
        };
        let mut next_value = self.config.aggregate.join(&next_q);
        if let Some(bonus) = next_bonus {
            next_value += bonus;
        }
        let y: Tensor = &batch.reward + next_value * (1.0 - &batch.terminated) * self.config.gamma;
        let members = q.size()[0] as f64;
        // The mean runs over members and rows alike: times members, their sum.
        let loss = q.mse_loss(&y.detach().expand_as(&q), Reduction::Mean) * members;
        let gradient = self.online.gradient(&loss);
        self.adam.step(&mut self.online, &gradient);
        if let Some(target) = &mut self.target {
            target.track(&self.online, self.config.tau);
        }
        let _ = self.updates.g_add_scalar_(1);
        CriticLoss { loss: loss.detach(), q_mean: q.detach().mean(Kind::Float) }
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.online.named("critic"),
            self.target.as_ref().map(|target| target.named("critic_target")).unwrap_or_default(),
            self.critics.stats().named("critic_stats"),
            self.adam.named("critic_adam"),
            vec![("critic_updates".to_string(), self.updates.shallow_clone())],
        ])
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        networks::load_state(&self.state(), saved)
    }
}
