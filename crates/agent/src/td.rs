//! One-step temporal differences of an ensemble of critics.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How the members' values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// The smallest (Fujimoto et al. 2018).
    Min,
    /// The mean.
    Mean,
    /// The first member's.
    First,
}

impl Aggregate {
    /// q (members, B) -> (B).
    pub fn join(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => q.min_dim(0, false).0,
            Self::Mean => q.mean_dim(&[0i64][..], false, q.kind()),
            Self::First => q.get(0),
        }
    }
}

/// y = r + gamma (1 - terminated) V(s'): rewards, terminations (0 or 1) and values of
/// the next states, each (B), to (B).
pub(crate) fn target(
    gamma: f64,
    reward: &Tensor,
    terminated: &Tensor,
    next_value: &Tensor,
) -> Tensor {
    reward + next_value * (1.0 - terminated) * gamma
}

/// Sum over the members of mean squared errors (Q_i(s, a) - y)^2: values
/// (members, B) and targets (B) to a scalar. The sum is taken in `f64`.
pub(crate) fn loss(q: &Tensor, y: &Tensor) -> Tensor {
    let rows = y.size()[0] as f64;
    ((q - y).square().sum(Kind::Double) / rows).to_kind(q.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_join_to_the_smallest_the_mean_or_the_first() {
        let q = Tensor::from_slice2(&[[3f32, -1.0, 2.0], [1.0, 4.0, 2.0]]);
        assert_eq!(Aggregate::Min.join(&q), Tensor::from_slice(&[1f32, -1.0, 2.0]));
        assert_eq!(Aggregate::Mean.join(&q), Tensor::from_slice(&[2f32, 1.5, 2.0]));
        assert_eq!(Aggregate::First.join(&q), Tensor::from_slice(&[3f32, -1.0, 2.0]));
        let _ = q.get(1).get(2).fill_(f64::NAN);
        assert!(Aggregate::Min.join(&q).double_value(&[2]).is_nan(), "NaN stays NaN");
    }

    #[test]
    fn loss_and_its_gradient_follow_their_definition() {
        let reward = Tensor::from_slice(&[1f32, 2.0]);
        let (terminated, next) =
            (Tensor::from_slice(&[0f32, 1.0]), Tensor::from_slice(&[10f32, 20.0]));
        let y = target(0.5, &reward, &terminated, &next);
        assert_eq!(y, Tensor::from_slice(&[6f32, 2.0]));
        let q = Tensor::from_slice2(&[[7f32, 2.0], [6.0, 5.0]]).set_requires_grad(true);
        let loss = loss(&q, &y);
        // Errors are 1, 0 and 0, 3; the mean is over two rows.
        assert_eq!(loss.double_value(&[]), 1.0 / 2.0 + 9.0 / 2.0);
        let gradient = Tensor::run_backward(&[loss], &[&q], false, false).remove(0);
        assert_eq!(gradient, Tensor::from_slice2(&[[1f32, 0.0], [0.0, 3.0]]));
    }
}
