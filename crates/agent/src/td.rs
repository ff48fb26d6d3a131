//! One-step temporal differences of an ensemble of critics.

use tch::{Kind, Tensor};

/// How the members' values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The smallest (Fujimoto et al. 2018).
    Min,
    /// The first member's.
    First,
    /// The mean.
    Mean,
}

impl Aggregate {
    /// q (members, B) -> (B).
    pub fn join(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => q.min_dim(0, false).0,
            Self::First => q.get(0),
            Self::Mean => q.mean_dim(&[0i64][..], false, None),
        }
    }

    /// [`join`](Self::join), and its derivative with respect to each member's value: (B) and
    /// (members, B).
    pub(crate) fn join_with_derivative(self, q: &Tensor) -> (Tensor, Tensor) {
        match self {
            Self::Min => {
                let (smallest, member) = q.min_dim(0, true);
                (smallest.squeeze_dim(0), q.zeros_like().scatter_value_(0, &member, 1.0))
            }
            Self::First => {
                let derivative = q.zeros_like();
                let _ = derivative.get(0).fill_(1.0);
                (self.join(q), derivative)
            }
            Self::Mean => (self.join(q), q.ones_like() / q.size()[0] as f64),
        }
    }
}

/// What an update of an ensemble needs of its loss.
pub(crate) struct TdErrors {
    /// The sum over the members of the mean over the batch, a scalar.
    pub loss: Tensor,
    /// Its gradient at the outputs, (members, B, n).
    pub d_outputs: Tensor,
    /// Mean of the values in the units of the rewards, a scalar.
    pub q_mean: Tensor,
}

/// y = r + gamma (1 - terminated) V(s'): rewards, terminations (0 or 1) and values of
/// the next states, each (B) or of shapes that go together, to the same shape.
pub(crate) fn target(
    gamma: f64,
    reward: &Tensor,
    terminated: &Tensor,
    next_value: &Tensor,
) -> Tensor {
    reward + next_value * (1.0 - terminated) * gamma
}

/// Sum over the members of mean squared errors (Q_i(s, a) - y)^2, with its gradient at
/// the values: values (members, B) and targets (B) to a scalar and (members, B). The sum
/// is taken in `f64`.
pub(crate) fn loss(q: &Tensor, y: &Tensor) -> (Tensor, Tensor) {
    let rows = y.size()[0] as f64;
    let error = q - y;
    let loss = (error.square().sum(Kind::Double) / rows).to_kind(q.kind());
    (loss, error * (2.0 / rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_join_to_the_smallest_the_first_or_the_mean() {
        let q = Tensor::from_slice2(&[[3f32, -1.0, 2.0], [1.0, 4.0, 2.0]]);
        assert_eq!(Aggregate::Min.join(&q), Tensor::from_slice(&[1f32, -1.0, 2.0]));
        assert_eq!(Aggregate::First.join(&q), Tensor::from_slice(&[3f32, -1.0, 2.0]));
        assert_eq!(Aggregate::Mean.join(&q), Tensor::from_slice(&[2f32, 1.5, 2.0]));
        for aggregate in [Aggregate::Min, Aggregate::First, Aggregate::Mean] {
            // (Without the tie, where the derivative is any between the members'.)
            let leaf = q.narrow(1, 0, 2).detach().set_requires_grad(true);
            let joined = aggregate.join(&leaf).sum(Kind::Float);
            let exact = Tensor::run_backward(&[joined], &[&leaf], false, false).remove(0);
            let (value, derivative) = aggregate.join_with_derivative(&leaf.detach());
            assert_eq!((value, derivative), (aggregate.join(&leaf.detach()), exact));
        }
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
        let q = Tensor::from_slice2(&[[7f32, 2.0], [6.0, 5.0]]);
        let (loss, gradient) = loss(&q, &y);
        // Errors are 1, 0 and 0, 3; the mean is over two rows.
        assert_eq!(loss.double_value(&[]), 1.0 / 2.0 + 9.0 / 2.0);
        assert_eq!(gradient, Tensor::from_slice2(&[[1f32, 0.0], [0.0, 3.0]]));
    }
}
