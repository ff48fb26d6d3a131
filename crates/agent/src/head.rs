//! What the outputs of critics are: values, or distributions of values.

use crate::Batch;
use crate::categorical::Categorical;
use crate::td::{self, Aggregate, TdErrors};
use networks::CriticKind;
use tch::{Device, Kind, Tensor};

/// What a member's outputs for a pair (s, a) are.
pub(crate) enum Head {
    /// Q itself.
    Scalar,
    /// A distribution of Q.
    Categorical(Categorical),
}

impl Head {
    /// The head of a kind of critics.
    pub fn new(kind: CriticKind, device: Device) -> Self {
        match kind {
            CriticKind::Xqc => Self::Categorical(Categorical::new(device)),
            CriticKind::Mlp | CriticKind::LayerNorm | CriticKind::CrossQ => Self::Scalar,
        }
    }

    /// The number n of outputs.
    pub fn outputs(&self) -> i64 {
        match self {
            Self::Scalar => 1,
            Self::Categorical(head) => head.outputs(),
        }
    }

    /// Q in the units of the rewards: outputs (members, B, n) to (members, B).
    pub fn values(&self, outputs: &Tensor) -> Tensor {
        match self {
            Self::Scalar => outputs.squeeze_dim(2),
            Self::Categorical(head) => head.values(outputs),
        }
    }

    /// From the gradient at the values, (members, B), to that at the outputs, (members, B, n).
    pub fn backward(&self, outputs: &Tensor, d_values: &Tensor) -> Tensor {
        match self {
            Self::Scalar => d_values.unsqueeze(2),
            Self::Categorical(head) => head.backward(outputs, d_values),
        }
    }

    /// The loss of outputs (members, B, n) at (s, a), given those at (s', a') and what is added
    /// to the next state's value, (B).
    pub fn errors(
        &self,
        gamma: f64,
        outputs: &Tensor,
        next: &Tensor,
        batch: &Batch,
        bonus: Option<&Tensor>,
    ) -> TdErrors {
        match self {
            Self::Scalar => {
                let (q, next_q) = (self.values(outputs), self.values(next));
                let next_value = Aggregate::Min.join(&next_q);
                let next_value = match bonus {
                    Some(bonus) => next_value + bonus,
                    None => next_value,
                };
                let y = td::target(gamma, &batch.reward, &batch.terminated, &next_value);
                let (loss, d_q) = td::loss(&q, &y);
                let q_mean = q.mean(Kind::Double).to_kind(q.kind());
                TdErrors { loss, d_outputs: d_q.unsqueeze(2), q_mean }
            }
            Self::Categorical(head) => head.errors(gamma, outputs, next, batch, bonus),
        }
    }

    /// Adds running discounted returns to the statistics that scale rewards.
    pub fn observe_returns(&mut self, returns: &[f64]) {
        if let Self::Categorical(head) = self {
            head.observe_returns(returns);
        }
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        match self {
            Self::Scalar => Vec::new(),
            Self::Categorical(head) => {
                let returns = head.state().into_iter();
                returns.map(|tensor| ("critic_stats.returns".to_string(), tensor)).collect()
            }
        }
    }
}
