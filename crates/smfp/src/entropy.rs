//! Entropy: the surrogate, its estimates, and how it binds (section 2).

use crate::config::{EntropyConfig, EntropyMode};
use crate::policy::Draw;
use networks::unit_gaussian_entropy;
use tch::Tensor;

/// H~ = E sum_j l_j + (d/2) log(2 pi e): the entropy given the latent,
/// equation (2), a lower bound of the policy's. A scalar.
pub fn surrogate(log_std: &Tensor) -> Tensor {
    let act_dim = log_std.size()[1] as f64;
    log_std.sum_dim_intlist(&[1i64][..], false, None).mean(log_std.kind())
        + act_dim * unit_gaussian_entropy()
}

/// The entropy at which the head's deviation is sigma_target.
pub(crate) fn target_entropy(sigma_target: f64, act_dim: i64) -> f64 {
    act_dim as f64 * (sigma_target.ln() + unit_gaussian_entropy())
}

/// The entropy's part of the actor's loss, a scalar.
pub(crate) fn penalty(config: &EntropyConfig, alpha: &Tensor, draw: &Draw) -> Tensor {
    let Draw { log_std, log_prob, .. } = draw;
    let kind = log_prob.kind();
    match config.mode {
        EntropyMode::Threshold => {
            let shortfall = (config.sigma_target.ln() - log_std).relu();
            alpha * shortfall.sum_dim_intlist(&[1i64][..], false, None).mean(kind)
        }
        EntropyMode::Soft | EntropyMode::Fixed => alpha * log_prob.mean(kind),
        EntropyMode::None => Tensor::zeros([1], (kind, log_prob.device())),
    }
}

/// The weight after some actor updates: falls geometrically from its initial
/// value over `alpha_decay_updates`, then stays.
pub(crate) fn scheduled_alpha(config: &EntropyConfig, updates: i64) -> f64 {
    let share = if config.alpha_decay_updates == 0 {
        1.0
    } else {
        (updates as f64 / config.alpha_decay_updates as f64).min(1.0)
    };
    if share == 1.0 {
        return config.alpha;
    }
    config.alpha_initial * (config.alpha / config.alpha_initial).powf(share)
}

/// A scalar tensor with the precision and device of `like`.
pub(crate) fn scalar(value: f64, like: &Tensor) -> Tensor {
    Tensor::full([1], value, (like.kind(), like.device()))
}
