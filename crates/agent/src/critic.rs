//! Learning of an ensemble of critics by clipped double Q.

use crate::{Batch, Random, in_range};
use networks::{
    Adam, AdamConfig, Aggregate, CriticKind, Critics, CriticsConfig, NormMode, Params, Pool,
    Renorm, StateError, merge_state,
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
    pool: Pool,
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
            pool: Pool::new(1),
        }
    }

    /// Runs the members of the ensemble on up to `threads` threads beside each
    /// other. No number depends on it.
    pub fn set_threads(&mut self, threads: usize) {
        self.pool = Pool::new(threads.min(self.config.members));
    }

    /// Updates so far.
    pub fn updates(&self) -> i64 {
        self.updates.int64_value(&[])
    }

    /// Q(s, a) of the online ensemble as one value per row: (B). Gradients
    /// reach the action and stop there.
    pub fn value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let frozen = self.online.frozen();
        let aggregate = self.config.aggregate;
        if !action.requires_grad() {
            let mode = NormMode::Running;
            return aggregate.join(&self.critics.forward(frozen, obs, action, mode, &self.pool));
        }
        // The critics' part of the chain rule is done here, and its result
        // enters the graph as a constant: q at this action, with its slope.
        let (q, slope) = self.critics.value_and_slope(frozen, obs, action, aggregate, &self.pool);
        let step = slope * (action - action.detach());
        q + step.sum_dim_intlist(&[1i64][..], false, None)
    }

    /// The same under the target ensemble (for `crossq` the online one), without gradients.
    pub fn target_value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let frozen = self.target.as_ref().unwrap_or(&self.online).frozen();
        self.config.aggregate.join(&self.critics.forward(
            frozen,
            obs,
            action,
            NormMode::Running,
            &self.pool,
        ))
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
        let rows = batch.len();
        let input = Tensor::cat(&[&batch.obs, &batch.action], 1);
        let next_input = Tensor::cat(&[&batch.next_obs, next_action], 1);
        let (q, next_q): (Vec<Tensor>, Vec<Tensor>) = match &self.target {
            Some(target) => {
                let mode = NormMode::Running;
                let next =
                    self.critics.forward_each(target.frozen(), &next_input, mode, &self.pool);
                (self.critics.forward_each(p, &input, mode, &self.pool), next)
            }
            None => {
                // CrossQ: both pairs in one pass, so that both are normalised
                // by the statistics of their union.
                let renorm = self.config.renorm && self.updates() >= self.config.renorm_warmup;
                let mode = NormMode::Batch(renorm.then_some(RENORM));
                let both = Tensor::cat(&[input, next_input], 0);
                let each = self.critics.forward_each(p, &both, mode, &self.pool);
                let part = |start: i64| each.iter().map(move |q| q.narrow(0, start, rows));
                (part(0).collect(), part(rows).map(|q| q.detach()).collect())
            }
        };
        let mut next_value =
            self.config.aggregate.join(&Tensor::cat(&next_q, 1).transpose(0, 1)).detach();
        if let Some(bonus) = next_bonus {
            next_value += bonus;
        }
        let y: Tensor = &batch.reward + next_value * (1.0 - &batch.terminated) * self.config.gamma;
        let y = y.detach().unsqueeze(1);
        let losses: Vec<Tensor> = q.iter().map(|q| q.mse_loss(&y, Reduction::Mean)).collect();
        let loss = Tensor::stack(&losses, 0).detach().sum(Kind::Float);
        let q_mean = Tensor::cat(&q, 1).detach().mean(Kind::Float);
        drop(q);
        let gradient = self.online.gradient_of_parts(losses, self.critics.ends(), &self.pool);
        self.adam.step(&mut self.online, &gradient);
        if let Some(target) = &mut self.target {
            target.track(&self.online, self.config.tau);
        }
        let _ = self.updates.g_add_scalar_(1);
        CriticLoss { loss, q_mean }
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
