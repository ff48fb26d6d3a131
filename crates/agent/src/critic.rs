//! Learning of an ensemble of critics by clipped double Q.

use crate::candidates::{best_of, take};
use crate::categorical::{Categorical, DistributionConfig};
use crate::head::Head;
use crate::td::TdErrors;
use crate::{Aggregate, Batch, Idle, Metrics, Random, idle_where, in_range};
use networks::{
    Adam, AdamConfig, Counter, CriticKind, CriticPass, Critics, CriticsConfig, NormMode, Params,
    Renorm, merge_state, with_slope,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// `[critic]`: the ensemble and its optimiser, a section of every algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticConfig {
    /// Discount.
    pub gamma: f64,
    /// `mlp`, `layernorm`, `crossq` or `xqc`.
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
    /// Polyak rate of the target networks (not used by `crossq`; at 1, with `target_interval` 1, `xqc` has none).
    pub tau: f64,
    /// Updates between two steps of the target networks.
    pub target_interval: i64,
    /// Momentum m of the running statistics: running = m running + (1 - m) batch (`crossq`, `xqc`).
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

    /// The keys that have no effect.
    pub fn idle(&self) -> Vec<Idle> {
        let crossq = self.kind == CriticKind::CrossQ;
        idle_where(&[
            (
                crossq,
                &["critic.tau", "critic.target_interval"],
                "critic.kind = \"crossq\" has no target networks",
            ),
            (
                !self.kind.has_batch_norm(),
                &["critic.norm_momentum"],
                "critic.kind is not \"crossq\" or \"xqc\", which have running statistics",
            ),
            (
                !crossq,
                &["critic.renorm", "critic.renorm_warmup"],
                "critic.kind is not \"crossq\", which has batch renormalisation",
            ),
            (crossq && !self.renorm, &["critic.renorm_warmup"], "critic.renorm = false"),
        ])
    }

    /// Whether there are target networks that differ from the online ones.
    fn has_targets(&self) -> bool {
        match self.kind {
            CriticKind::Mlp | CriticKind::LayerNorm => true,
            CriticKind::CrossQ => false,
            CriticKind::Xqc => self.tau < 1.0 || self.target_interval > 1,
        }
    }
}

/// An ensemble of critics, its targets and its optimiser.
pub struct CriticLearner {
    config: CriticConfig,
    critics: Critics,
    head: Head,
    online: Params,
    /// None without [`CriticConfig::has_targets`].
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
        let head = Head::new(config.kind, device);
        Self::with_head(config, head, obs_dim, act_dim, device, rng)
    }

    /// The same, of critics that return distributions over fixed atoms.
    pub fn distributional(
        config: &CriticConfig,
        distribution: &DistributionConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let head = Head::Categorical(Categorical::fixed(distribution, device));
        Self::with_head(config, head, obs_dim, act_dim, device, rng)
    }

    fn with_head(
        config: &CriticConfig,
        head: Head,
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
            outputs: head.outputs(),
            norm_momentum: config.norm_momentum,
        };
        let (critics, online) = Critics::new(&shape, obs_dim, act_dim, device, rng);
        let target = config.has_targets().then(|| online.duplicate());
        let learning_rate = config.learning_rate;
        let adam = AdamConfig { learning_rate, beta1: config.beta1 };
        Self {
            config: config.clone(),
            critics,
            head,
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
            let outputs = self.critics.forward(frozen, obs, action, mode);
            return aggregate.join(&self.head.values(&outputs));
        }
        // The chain rule through the critics, without a graph of their operations.
        let leaf = action.detach().set_requires_grad(true);
        let pass = self.critics.record(frozen, obs, &leaf, mode);
        let q = tch::no_grad(|| self.head.values(&pass.outputs));
        let (value, d_q) = aggregate.join_with_derivative(&q);
        let d_outputs = tch::no_grad(|| self.head.backward(&pass.outputs, &d_q));
        with_slope(value, action, pass.action_gradient(&d_outputs))
    }

    /// Q'(s, a) of the target ensemble, or of the online one where there is no other: (B), without
    /// gradients. Batch normalisation uses the online networks' running statistics.
    pub fn target_value(&self, obs: &Tensor, action: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let frozen = self.target.as_ref().unwrap_or(&self.online).frozen();
        let outputs = self.critics.forward(frozen, obs, action, NormMode::Running);
        Aggregate::Min.join(&self.head.values(&outputs))
    }

    /// The best of K proposals per state under the critics. `rows` (B K, obs) and
    /// `proposals` (B K, act) hold the K of each state in a row; returns (B, act).
    pub fn choose(&self, rows: &Tensor, proposals: &Tensor, k: i64) -> Tensor {
        best(proposals, k, || self.value(rows, proposals))
    }

    /// The best of K proposals per state under the target critics, as [`choose`](Self::choose).
    pub fn choose_for_target(&self, rows: &Tensor, proposals: &Tensor, k: i64) -> Tensor {
        best(proposals, k, || self.target_value(rows, proposals))
    }

    /// One step on L_Q = sum_i mean (Q_i(s, a) - y)^2 with
    /// y = r + gamma (1 - terminated) (Q'(s', a') + bonus); for `xqc`, on the cross-entropy to
    /// the distribution of y.
    ///
    /// `next_action` (B, act) is a'; `next_bonus` (B), where there is one, is
    /// what the entropy adds to the next state's value. Measures `critic_loss`, the loss above,
    /// and `q_mean`, the mean value on the batch in the units of the rewards.
    pub fn update(
        &mut self,
        batch: &Batch,
        next_action: &Tensor,
        next_bonus: Option<&Tensor>,
    ) -> Metrics {
        // The loss's gradient is known in closed form: no graph is needed.
        let _guard = tch::no_grad_guard();
        let passes = match self.config.kind.has_batch_norm() {
            true => self.joint_passes(batch, next_action),
            false => self.separate_passes(batch, next_action),
        };
        self.step(passes, batch, next_bonus)
    }

    /// One step on sum_i mean (Q_i(s, a) - y)^2 for labels y (B). Measures what
    /// [`update`](Self::update) measures.
    ///
    /// # Panics
    /// With batch normalisation, whose statistics are those of pairs and next pairs.
    pub fn regress(&mut self, obs: &Tensor, action: &Tensor, y: &Tensor) -> Metrics {
        assert!(!self.config.kind.has_batch_norm(), "a regression has no next pairs");
        let _guard = tch::no_grad_guard();
        let pass = self.critics.record(self.online.trainable(), obs, action, NormMode::Running);
        let outputs = pass.outputs.shallow_clone();
        let next = outputs.zeros_like();
        // A label is the reward of a last step.
        let batch = Batch {
            obs: obs.shallow_clone(),
            action: action.shallow_clone(),
            reward: y.shallow_clone(),
            next_obs: obs.shallow_clone(),
            terminated: y.ones_like(),
        };
        self.step((pass, outputs, next), &batch, None)
    }

    /// The step of an update after its passes.
    fn step(
        &mut self,
        (pass, outputs, next): (CriticPass, Tensor, Tensor),
        batch: &Batch,
        next_bonus: Option<&Tensor>,
    ) -> Metrics {
        let gamma = self.config.gamma;
        let TdErrors { loss, d_outputs, q_mean } =
            self.head.errors(gamma, &outputs, &next, batch, next_bonus);
        // (The next pairs of a joint pass are no part of the loss.)
        let gradient = pass.parameter_gradient(&self.online, &d_outputs);
        self.adam.step(&mut self.online, &gradient);
        if self.config.kind == CriticKind::Xqc {
            self.online.unit_rows();
        }
        let targets_due = self.targets_due();
        self.updates.increment();
        if targets_due && let Some(target) = &mut self.target {
            target.polyak(&self.online, self.config.tau);
        }
        Metrics::from([("critic_loss", &loss), ("q_mean", &q_mean)])
    }

    /// A pass over (s, a), its outputs, and those of the targets at (s', a').
    fn separate_passes(&self, batch: &Batch, next_action: &Tensor) -> (CriticPass, Tensor, Tensor) {
        let target = self.target.as_ref().unwrap_or(&self.online).frozen();
        let mode = NormMode::Running;
        let next = self.critics.forward(target, &batch.next_obs, next_action, mode);
        let pass = self.critics.record(self.online.trainable(), &batch.obs, &batch.action, mode);
        let outputs = pass.outputs.shallow_clone();
        (pass, outputs, next)
    }

    /// The same with both pairs in one pass, so that both are normalised by the statistics of
    /// their union (CrossQ). Target networks (XQC) need such a pass of their own.
    fn joint_passes(&self, batch: &Batch, next_action: &Tensor) -> (CriticPass, Tensor, Tensor) {
        let (p, rows) = (self.online.trainable(), batch.len());
        let obs = Tensor::cat(&[&batch.obs, &batch.next_obs], 0);
        let action = Tensor::cat(&[&batch.action, next_action], 0);
        let mode = NormMode::Batch(self.renormalises().then_some(Renorm::CROSSQ));
        let Some(target) = &self.target else {
            let pass = self.critics.record(p, &obs, &action, mode);
            let part = |first: i64| pass.outputs.narrow(1, first, rows);
            let (outputs, next) = (part(0), part(rows));
            return (pass, outputs, next);
        };
        let (frozen, only) = (target.frozen(), NormMode::BatchOnly);
        let next = self.critics.forward_rows(frozen, &obs, &action, only, rows..2 * rows);
        let pass = self.critics.record_rows(p, &obs, &action, mode, 0..rows);
        let outputs = pass.outputs.shallow_clone();
        (pass, outputs, next)
    }

    /// Whether the next update has batch renormalisation.
    fn renormalises(&self) -> bool {
        self.config.kind == CriticKind::CrossQ
            && self.config.renorm
            && self.updates() >= self.config.renorm_warmup
    }

    /// Whether the next update includes a step of the target networks.
    fn targets_due(&self) -> bool {
        self.target.is_some() && (self.updates() + 1) % self.config.target_interval == 0
    }

    /// What the next update does or leaves out, as [`Agent::branches`](crate::Agent::branches).
    pub fn branches(&self) -> Vec<bool> {
        vec![self.targets_due(), self.renormalises()]
    }

    /// Takes in the discounted return so far of each training environment's episode after a step
    /// (`xqc`, which scales rewards by them).
    pub fn observe_returns(&mut self, returns: &[f64]) {
        self.head.observe_returns(returns);
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.online.named("critic"),
            self.target.as_ref().map(|target| target.named("critic_target")).unwrap_or_default(),
            self.critics.stats().named("critic_stats"),
            self.head.state(),
            self.adam.named("critic_adam"),
            vec![("critic_updates".to_string(), self.updates.tensor())],
        ])
    }
}

/// The best of K proposals per state by their `values` (B K), which are not computed for K = 1.
fn best(proposals: &Tensor, k: i64, values: impl FnOnce() -> Tensor) -> Tensor {
    match k {
        1 => proposals.shallow_clone(),
        _ => take(proposals, &best_of(&values(), k)),
    }
}
