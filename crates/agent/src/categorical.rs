//! Critics that return distributions of scaled values.

use crate::Batch;
use crate::returns::{HIGHEST, ReturnScale};
use crate::td::TdErrors;
use networks::{BinTarget, Bins};
use tch::{Device, Tensor};

/// Bins, at equal distances from -5 to 5.
const BINS: i64 = 101;

/// The distribution of Q over 101 bins: logits, whose mean times the scale of returns is Q in
/// the units of the rewards.
pub(crate) struct Categorical {
    bins: Bins,
    returns: ReturnScale,
}

impl Categorical {
    /// Bins on a device, and no returns yet.
    pub fn new(device: Device) -> Self {
        Self { bins: Bins::new(BINS, HIGHEST, device), returns: ReturnScale::new() }
    }

    /// The number of bins.
    pub fn outputs(&self) -> i64 {
        self.bins.count()
    }

    /// The scale of returns, which rewards are divided by.
    pub fn returns(&mut self) -> &mut ReturnScale {
        &mut self.returns
    }

    /// The statistics of the returns.
    pub fn state(&self) -> Tensor {
        self.returns.tensor()
    }

    /// Q: logits (members, B, 101) to (members, B).
    pub fn values(&self, logits: &Tensor) -> Tensor {
        self.bins.means(logits) * self.returns.get()
    }

    /// From the gradient at the values, (members, B), to that at the logits.
    pub fn backward(&self, logits: &Tensor, d_values: &Tensor) -> Tensor {
        self.bins.means_backward(logits, &(d_values * self.returns.get()))
    }

    /// Cross-entropy to the distribution of y = r + gamma (1 - terminated) (Q'(s', a') + bonus),
    /// of the member whose mean is the smallest, all in units of the scale.
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
        let scale = self.returns.get();
        let bonus = bonus.map(|bonus| bonus / scale);
        let target = BinTarget {
            reward: &(&batch.reward / scale),
            discount: &((1.0 - &batch.terminated) * gamma),
            bonus: bonus.as_ref(),
        };
        let errors = self.bins.cross_entropy(logits, next, &target);
        TdErrors { loss: errors.loss, d_outputs: errors.d_logits, q_mean: errors.mean * scale }
    }
}
