//! Choosing among several proposed actions per state.
//!
//! K proposals per state are rows of one batch: (B K, n), the K of a state one after the other.
//! A choice is (B), the row that each state takes.

use crate::in_range;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Smallest deviation of the advantage that logits are scaled by.
const MIN_STD: f64 = 1e-6;

/// `[candidates]`: actions proposed per state, among which the critics choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidatesConfig {
    /// Proposals when exploring, K_b.
    pub act: i64,
    /// Proposals per next state in the critics' target, K_t.
    pub target: i64,
}

impl CandidatesConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        in_range("candidates.act", self.act as f64, 1.0, 1024.0)?;
        in_range("candidates.target", self.target as f64, 1.0, 1024.0)
    }
}

/// Repeats every row K times: (B, n) -> (B K, n).
pub fn repeat_rows(x: &Tensor, k: i64) -> Tensor {
    if k == 1 { x.shallow_clone() } else { x.repeat_interleave_self_int(k, 0, None) }
}

/// The chosen rows: (B K, ...) and a choice (B) -> (B, ...).
pub fn take(proposals: &Tensor, choice: &Tensor) -> Tensor {
    proposals.index_select(0, choice)
}

/// The proposal with the largest value for every state: values (B K) -> a choice (B).
pub fn best_of(values: &Tensor, k: i64) -> Tensor {
    rows_of(&values.view([-1, k]).argmax(1, false), k)
}

/// One of K proposals per state, drawn with probabilities softmax(A / (c std A)), A being the
/// value less its mean over the K: a sample of pi exp(A / (c std A)) where the proposals are
/// samples of pi (equation (3)).
///
/// `values` (B, K), c the `temperature`, `uniform` (B, 1) in [0, 1). Returns a choice (B).
pub fn draw_by_advantage(values: &Tensor, temperature: f64, uniform: &Tensor) -> Tensor {
    let k = values.size()[1];
    let advantage = values - values.mean_dim(&[1i64][..], true, None);
    let share = advantage_logits(&advantage, temperature).softmax(-1, None);
    // Inverse of the cumulative distribution; the last candidate takes what rounding leaves.
    let cumulative = share.cumsum(1, None).narrow(1, 0, k - 1);
    let at = cumulative.le_tensor(uniform).sum_dim_intlist(&[1i64][..], false, Kind::Int64);
    rows_of(&at, k)
}

/// A / (c std A), with the deviation over all entries.
pub fn advantage_logits(advantage: &Tensor, temperature: f64) -> Tensor {
    let std = advantage.std(false).clamp_min(MIN_STD);
    advantage / (std * temperature)
}

/// How many states of a batch a term is computed on: at least one.
pub fn rows_of_share(batch: i64, share: f64) -> i64 {
    ((batch as f64 * share).round() as i64).clamp(1, batch)
}

/// From the position among a state's K proposals to the row of the batch: (B) -> (B).
fn rows_of(at: &Tensor, k: i64) -> Tensor {
    let states = at.size()[0];
    at + Tensor::arange(states, (Kind::Int64, at.device())) * k
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_proposal_of_each_state_is_taken() {
        let actions = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.]).view([6, 1]);
        let values = Tensor::from_slice(&[0f32, 9., 1., 7., 5., 6.]);
        let best = take(&actions, &best_of(&values, 3));
        assert_eq!(best, Tensor::from_slice(&[2f32, 4.]).view([2, 1]));
        let obs = Tensor::from_slice(&[1f32, 2.]).view([2, 1]);
        let expected = Tensor::from_slice(&[1f32, 1., 1., 2., 2., 2.]).view([6, 1]);
        assert_eq!(repeat_rows(&obs, 3), expected);
    }

    #[test]
    fn a_draw_by_advantage_has_the_shares_of_the_softmax() {
        let values = [0.0f64, 1.0, 3.0];
        let draws = 3000;
        let uniform = (Tensor::arange(draws, (Kind::Double, tch::Device::Cpu)) + 0.5) / draws;
        let rows = Tensor::from_slice(&values).repeat([draws, 1]);
        let choice = draw_by_advantage(&rows, 2.0, &uniform.unsqueeze(1)).remainder(3);
        let mean = values.iter().sum::<f64>() / 3.0;
        let std = (values.iter().map(|q| (q - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        let weights = values.map(|q| (q / (2.0 * std)).exp());
        for (i, weight) in weights.iter().enumerate() {
            let share = choice.eq(i as i64).to_kind(Kind::Double).mean(Kind::Double);
            let expected = weight / weights.iter().sum::<f64>();
            assert!((share.double_value(&[]) - expected).abs() < 1e-3, "{i}");
        }
    }
}
