//! Critics that return distributions of values.

use crate::returns::{HIGHEST, ReturnScale};
use crate::td::TdErrors;
use crate::{Batch, Idle, idle_where, in_range};
use networks::{BinTarget, Bins};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// XQC's bins, at equal distances from -5 to 5.
const BINS: i64 = 101;

/// `[distribution]`: critics that return a distribution of values over fixed atoms (DIME).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionConfig {
    /// Whether the critics return one.
    pub on: bool,
    /// Atoms, at equal distances.
    pub atoms: i64,
    /// They reach from minus this to this, in the units of the rewards.
    pub highest: f64,
    /// Weight of the distribution's entropy in the critics' loss.
    pub entropy: f64,
}

impl DistributionConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("distribution.atoms", self.atoms as f64, 2.0, 10_001.0)?;
        in_range("distribution.highest", self.highest, 1e-6, 1e12)?;
        in_range("distribution.entropy", self.entropy, 0.0, 100.0)
    }

    /// The keys that have no effect.
    pub fn idle(&self) -> Vec<Idle> {
        let keys = &["distribution.atoms", "distribution.highest", "distribution.entropy"];
        idle_where(&[(!self.on, keys, "distribution.on = false")])
    }
}

/// The distribution of Q over bins: logits, whose mean times the scale of returns, if there is
/// one, is Q in the units of the rewards.
pub(crate) struct Categorical {
    bins: Bins,
    label: Label,
}

/// What the distribution is learned from.
enum Label {
    /// The target's distribution of the member with the smallest mean; rewards are divided by a
    /// scale (XQC).
    Smallest(ReturnScale),
    /// The average of the members', with this weight of the entropy in the loss (DIME).
    Average { entropy: f64 },
}

impl Categorical {
    /// XQC's bins on a device, and no returns yet.
    pub fn new(device: Device) -> Self {
        let label = Label::Smallest(ReturnScale::new(device));
        Self { bins: Bins::new(BINS, HIGHEST, device), label }
    }

    /// DIME's.
    pub fn fixed(config: &DistributionConfig, device: Device) -> Self {
        let DistributionConfig { atoms, highest, entropy, .. } = *config;
        Self { bins: Bins::new(atoms, highest, device), label: Label::Average { entropy } }
    }

    /// The number of bins.
    pub fn outputs(&self) -> i64 {
        self.bins.count()
    }

    /// Adds running discounted returns to the statistics that scale rewards.
    pub fn observe_returns(&mut self, returns: &[f64]) {
        if let Label::Smallest(scale) = &mut self.label {
            scale.observe(returns);
        }
    }

    /// The statistics of the returns, where rewards are scaled.
    pub fn state(&self) -> Option<Tensor> {
        match &self.label {
            Label::Smallest(scale) => Some(scale.tensor()),
            Label::Average { .. } => None,
        }
    }

    /// From the units of the rewards, divided by the scale of returns, to these.
    fn in_units_of_rewards(&self, scaled: Tensor) -> Tensor {
        match &self.label {
            Label::Smallest(scale) => scaled * scale.get(),
            Label::Average { .. } => scaled,
        }
    }

    /// And back.
    fn scaled(&self, in_units_of_rewards: &Tensor) -> Tensor {
        match &self.label {
            Label::Smallest(scale) => in_units_of_rewards / scale.get(),
            Label::Average { .. } => in_units_of_rewards.shallow_clone(),
        }
    }

    /// Q: logits (members, B, 101) to (members, B).
    pub fn values(&self, logits: &Tensor) -> Tensor {
        self.in_units_of_rewards(self.bins.means(logits))
    }

    /// From the gradient at the values, (members, B), to that at the logits.
    pub fn backward(&self, logits: &Tensor, d_values: &Tensor) -> Tensor {
        // (As the values are multiplied, so is their gradient.)
        self.bins.means_backward(logits, &self.in_units_of_rewards(d_values.shallow_clone()))
    }

    /// Cross-entropy to the distribution of y = r + gamma (1 - terminated) (Q'(s', a') + bonus),
    /// of the member whose mean is the smallest or of their average, all in units of the scale.
    ///
    /// Logits are (members, B, 101), of (s, a) and of (s', a'); the bonus is (B).
    pub fn errors(
        &self,
        gamma: f64,
        logits: &Tensor,
        next: &Tensor,
        batch: &Batch,
        bonus: Option<&Tensor>,
    ) -> TdErrors {
        let bonus = bonus.map(|bonus| self.scaled(bonus));
        let target = BinTarget {
            reward: &self.scaled(&batch.reward),
            discount: &((1.0 - &batch.terminated) * gamma),
            bonus: bonus.as_ref(),
        };
        let errors = match self.label {
            Label::Smallest(_) => self.bins.cross_entropy(logits, next, &target),
            Label::Average { entropy } => {
                self.bins.average_cross_entropy(logits, next, &target, entropy)
            }
        };
        TdErrors {
            loss: errors.loss,
            d_outputs: errors.d_logits,
            q_mean: self.in_units_of_rewards(errors.mean),
        }
    }
}
