//! Choosing among several proposed actions per state.

use tch::Tensor;

/// Every row K times in a row: (B, n) -> (B K, n).
pub fn repeat_rows(x: &Tensor, k: i64) -> Tensor {
    if k == 1 { x.shallow_clone() } else { x.repeat_interleave_self_int(k, 0, None) }
}

/// The proposal with the largest value for every state.
///
/// `actions` (B K, act) holds K proposals per state in a row, `values` (B K)
/// what the critics say of them; the answer is (B, act).
pub fn best_of(actions: &Tensor, values: &Tensor, k: i64) -> Tensor {
    if k == 1 {
        return actions.shallow_clone();
    }
    let act_dim = actions.size()[1];
    let best = values.view([-1, k]).argmax(1, true).unsqueeze(-1).expand([-1, 1, act_dim], false);
    actions.view([-1, k, act_dim]).gather(1, &best, false).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_proposal_of_each_state_is_taken() {
        let actions = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.]).view([6, 1]);
        let values = Tensor::from_slice(&[0f32, 9., 1., 7., 5., 6.]);
        assert_eq!(best_of(&actions, &values, 3), Tensor::from_slice(&[2f32, 4.]).view([2, 1]));
        let obs = Tensor::from_slice(&[1f32, 2.]).view([2, 1]);
        let expected = Tensor::from_slice(&[1f32, 1., 1., 2., 2., 2.]).view([6, 1]);
        assert_eq!(repeat_rows(&obs, 3), expected);
    }
}
