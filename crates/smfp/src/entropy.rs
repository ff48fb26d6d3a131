//! Entropy: the surrogate, its estimates, and how it binds (section 2).

use crate::config::{EntropyConfig, EntropyMode};
use crate::policy::{Draw, Policy};
use networks::gaussian_log_density;
use std::f64::consts::{E, PI};
use tch::Tensor;

/// H~ = E sum_j l_j + (d/2) log(2 pi e): the entropy given the latent,
/// equation (2), a lower bound of the policy's. A scalar.
pub fn surrogate(log_std: &Tensor) -> Tensor {
    let act_dim = log_std.size()[1] as f64;
    log_std.sum_dim_intlist(&[1i64][..], false, None).mean(log_std.kind())
        + act_dim / 2.0 * (2.0 * PI * E).ln()
}

/// The entropy at which the head's deviation is sigma_target.
pub fn target(sigma_target: f64, act_dim: i64) -> f64 {
    act_dim as f64 * (sigma_target.ln() + 0.5 * (2.0 * PI * E).ln())
}

/// Semi-implicit estimate of log pi(a | s): (B).
///
/// log 1/(M+1) sum over m of N(a; mu(s, z_m), sigma(s, z_m)), over the latent
/// that the action was drawn with and M fresh ones (Yin and Zhou 2018). It
/// sees spread over the latent and tightens with M; M = 0 is equation (2).
///
/// `means` and `log_stds` are (M+1, B, act), `raw` (B, act).
pub fn semi_implicit_log_prob(
    policy: &Policy,
    raw: &Tensor,
    means: &Tensor,
    log_stds: &Tensor,
) -> Tensor {
    let latents = means.size()[0] as f64;
    let noise = (raw.unsqueeze(0) - means) / log_stds.exp();
    let each = gaussian_log_density(&noise, log_stds).sum_dim_intlist(&[2i64][..], false, None);
    each.logsumexp(&[0i64][..], false) - latents.ln() - policy.log_det(raw)
}

/// The entropy's part of the actor's loss, a scalar.
pub fn penalty(config: &EntropyConfig, alpha: &Tensor, draw: &Draw, log_prob: &Tensor) -> Tensor {
    let kind = log_prob.kind();
    let bound = match config.mode {
        EntropyMode::Threshold => {
            let shortfall = (config.sigma_target.ln() - &draw.log_std).relu();
            alpha * shortfall.sum_dim_intlist(&[1i64][..], false, None).mean(kind)
        }
        EntropyMode::Soft | EntropyMode::Fixed => alpha * log_prob.mean(kind),
        EntropyMode::None => Tensor::zeros([1], (kind, log_prob.device())),
    };
    if config.std_penalty == 0.0 {
        return bound;
    }
    let below = (config.std_low.ln() - &draw.log_std).relu();
    let above = (&draw.log_std - config.std_high.ln()).relu();
    bound
        + (below + above).sum_dim_intlist(&[1i64][..], false, None).mean(kind) * config.std_penalty
}

/// The weight after some actor updates: falls geometrically from its initial
/// value over `alpha_decay_updates`, then stays.
pub fn scheduled_alpha(config: &EntropyConfig, updates: i64) -> f64 {
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
