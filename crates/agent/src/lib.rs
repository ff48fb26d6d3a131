//! What off-policy algorithms share.
//!
//! An algorithm is one plain struct that implements [`Agent`]: it acts,
//! updates from a [`Batch`], and hands out its state as named tensors. It
//! knows no environment, no file and no clock, and draws every random number
//! from a generator that the caller owns.

mod batch;
mod candidates;
mod critic;
mod device_replay;
mod random;
mod td;
mod temperature;

pub use batch::Batch;
pub use candidates::{best_of, repeat_rows};
pub use critic::{CriticConfig, CriticLearner, CriticLoss};
pub use device_replay::DeviceReplay;
pub use random::{Random, stream};
pub use td::Aggregate;
pub use temperature::Temperature;

use networks::StateError;
use tch::Tensor;

/// Q(s, a): observations (B, obs) and actions (B, act) to values (B), with
/// gradients to the actions.
pub type Value<'a> = dyn Fn(&Tensor, &Tensor) -> Tensor + 'a;

/// How actions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActMode {
    /// As in training: with all noise, and the algorithm's own candidates.
    Explore,
    /// One candidate, without the action noise of the policy's Gaussian head.
    /// The latent of a generative policy is still drawn.
    Deterministic,
    /// One candidate, with all noise.
    Stochastic,
    /// The best of K stochastic candidates under the critics.
    BestOf(usize),
}

impl ActMode {
    /// Candidates proposed per state, of which exploration takes so many.
    pub fn candidates(self, exploring: i64) -> i64 {
        match self {
            Self::Explore => exploring,
            Self::BestOf(k) => k as i64,
            Self::Deterministic | Self::Stochastic => 1,
        }
    }
}

/// An off-policy algorithm.
pub trait Agent {
    /// Actions for observations: (N, obs) -> (N, act), in [-1, 1].
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor;

    /// One update of the critics, and of whatever else is due with it. What it
    /// measured stays on the device until it is read.
    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Measured;

    /// Calls of the policy's network that follow one upon another for an
    /// action. Candidates are rows of one call; the critics' choice among them
    /// is not counted.
    fn calls_per_action(&self) -> u32 {
        1
    }

    /// Everything that is needed to go on from here, as tensors that share
    /// the agent's storage.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Takes over a saved state.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError>;
}

/// What an update measured, each a tensor of one number outside of any graph; an
/// algorithm leaves out what it does not have.
#[derive(Debug, Default)]
#[allow(missing_docs)] // `Metrics` says what they are.
pub struct Measured {
    pub critic_loss: Option<Tensor>,
    pub actor_loss: Option<Tensor>,
    pub mirror_loss: Option<Tensor>,
    pub entropy: Option<Tensor>,
    pub alpha: Option<Tensor>,
    pub q_mean: Option<Tensor>,
    pub grad_norm: Option<Tensor>,
}

impl Measured {
    /// The numbers. A GPU finishes its work first, so a training loop there reads
    /// them when it writes its log.
    ///
    /// # Errors
    /// The first that is not finite. The agent is of no use then.
    pub fn read(&self) -> Result<Metrics, Diverged> {
        let number = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.double_value(&[]));
        Metrics {
            critic_loss: number(&self.critic_loss),
            actor_loss: number(&self.actor_loss),
            mirror_loss: number(&self.mirror_loss),
            entropy: number(&self.entropy),
            alpha: number(&self.alpha),
            q_mean: number(&self.q_mean),
            grad_norm: number(&self.grad_norm),
        }
        .finite()
    }
}

/// [`Measured`] as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metrics {
    /// Sum over the ensemble of mean squared Bellman errors.
    pub critic_loss: Option<f64>,
    /// The actor's whole loss.
    pub actor_loss: Option<f64>,
    /// The mirror-descent term before its weight.
    pub mirror_loss: Option<f64>,
    /// The policy's entropy (or its surrogate) in nats.
    pub entropy: Option<f64>,
    /// The entropy's weight.
    pub alpha: Option<f64>,
    /// Mean of the critics' values on the batch.
    pub q_mean: Option<f64>,
    /// Norm of the actor's gradient.
    pub grad_norm: Option<f64>,
}

impl Metrics {
    /// The quantities by the names of their columns in `train.csv`.
    pub fn named(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("critic_loss", self.critic_loss),
            ("actor_loss", self.actor_loss),
            ("mirror_loss", self.mirror_loss),
            ("entropy", self.entropy),
            ("alpha", self.alpha),
            ("q_mean", self.q_mean),
            ("grad_norm", self.grad_norm),
        ]
    }

    /// Passes the metrics on if every one is a finite number.
    ///
    /// # Errors
    /// The first that is not.
    fn finite(self) -> Result<Self, Diverged> {
        for (quantity, value) in self.named() {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(Diverged { quantity, value });
            }
        }
        Ok(self)
    }
}

/// Training left the finite numbers.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{quantity} is {value}")]
pub struct Diverged {
    /// The quantity, by the name of its column in `train.csv`.
    pub quantity: &'static str,
    /// What it is.
    pub value: f64,
}

/// Checks a number of a configuration.
///
/// # Errors
/// One line that names the key, its value and the range expected.
pub fn in_range(key: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key} is {value}, expected a number from {low} to {high}"))
    }
}
