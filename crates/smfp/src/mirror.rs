//! Entropic mirror descent as a weighted MeanFlow regression (section 3,
//! equation (5)).

use crate::config::{MirrorActions, MirrorConfig};
use crate::noise::MirrorNoise;
use crate::policy::Policy;
use agent::Value;
use agent::candidates::{advantage_logits, draw_by_advantage, repeat_rows, take};
use tch::{Kind, Tensor};

/// Chooses the actions that the policy regresses to: samples of (or weights for)
/// pi_old(a|s) exp(A(s, a) / (c std A)), equation (3). Returns b, (B, act) in [-1, 1], and the
/// weights w(s, b), (B) with mean 1.
///
/// `p` are the lagged policy's parameters; `obs` (B, obs), `replay` (B, act).
pub fn regression(
    config: &MirrorConfig,
    policy: &Policy,
    p: &[Tensor],
    value: &Value,
    obs: &Tensor,
    replay: &Tensor,
    noise: &MirrorNoise,
) -> (Tensor, Tensor) {
    let _guard = tch::no_grad_guard();
    let k = config.candidates;
    let (rows, act_dim) = (obs.size()[0], policy.act_dim());
    let drawn = policy.action(p, &repeat_rows(obs, k), &noise.z, &noise.xi);
    if config.actions == MirrorActions::Replay {
        let values = value(&repeat_rows(obs, k), &drawn).view([rows, k]);
        let baseline = values.mean_dim(&[1i64][..], false, None);
        let advantage = value(obs, replay) - baseline;
        let weight =
            advantage_logits(&advantage, config.temperature).exp().clamp_max(config.weight_max);
        // (One state alone has no deviation, and its weight may be zero.)
        let weight = &weight / weight.mean(None::<Kind>).clamp_min(f64::from(f32::MIN_POSITIVE));
        return (replay.shallow_clone(), weight);
    }
    let mut candidates = vec![drawn.view([rows, k, act_dim])];
    if let Some(uniform) = &noise.uniform {
        candidates.push(replay.unsqueeze(1));
        candidates.push(uniform * 2.0 - 1.0);
    }
    let candidates = Tensor::cat(&candidates, 1);
    let count = candidates.size()[1];
    let flat = candidates.reshape([rows * count, act_dim]);
    let q = value(&repeat_rows(obs, count), &flat).view([rows, count]);
    let action = take(&flat, &draw_by_advantage(&q, config.temperature, &noise.choice));
    let weight = Tensor::ones([rows], (obs.kind(), obs.device()));
    (action, weight)
}

/// A regression of g to its MeanFlow target: rows of (s, x_t, r, t) and g*.
pub struct MeanFlowTarget {
    /// x_t = (1 - t) b' + t e: (B, act).
    pub x: Tensor,
    /// r: (B, 1).
    pub r: Tensor,
    /// t: (B, 1).
    pub t: Tensor,
    /// g* = x_t - u*, clipped: (B, act).
    pub map: Tensor,
}

/// The MeanFlow target for actions `b` (B, act) in the space of the flow:
///
/// ```text
/// v = e - b',   b' = b + sigma_target eps,   e of deviation policy.latent_std
/// u* = v - (t - r) du/dt,   g* = x_t - u*
/// ```
///
/// with the total derivative at fixed r along x' = v, t' = 1 (Geng et al.
/// 2025, equation 6): equation (5). Half of the rows have r = t,
/// a quarter r = 0, a quarter r = t U(0, 1). Rows with r = t need no
/// derivative, so the pass with tangents runs on the others only.
pub fn mean_flow_target(
    config: &MirrorConfig,
    sigma_target: f64,
    policy: &Policy,
    p: &[Tensor],
    obs: &Tensor,
    b: &Tensor,
    noise: &MirrorNoise,
) -> MeanFlowTarget {
    let _guard = tch::no_grad_guard();
    let b = b + &noise.eps * sigma_target;
    let t = &noise.t;
    let e = policy.latent(&noise.e);
    let v = &e - &b;
    let x = (1.0 - t) * &b + t * &e;
    let rows = t.size()[0];
    // Rows are exchangeable, so times are assigned by position.
    let (equal, zero) = (rows / 2, (rows - rows / 2) / 2);
    let drawn = rows - equal - zero;
    let r = Tensor::cat(
        &[
            t.narrow(0, 0, equal),
            t.narrow(0, equal, zero).zeros_like(),
            t.narrow(0, equal + zero, drawn) * noise.r.narrow(0, equal + zero, drawn),
        ],
        0,
    );
    let rest = |tensor: &Tensor| tensor.narrow(0, equal, rows - equal);
    let (_, derivative) =
        policy.velocity_jvp(p, &rest(obs), &rest(&x), &rest(&r), &rest(t), &rest(&v));
    let correction = (rest(t) - rest(&r)) * derivative;
    let velocity = Tensor::cat(&[v.narrow(0, 0, equal), rest(&v) - correction], 0);
    let map = (&x - velocity).clamp(-config.target_clip, config.target_clip);
    MeanFlowTarget { x, r, t: t.shallow_clone(), map }
}

/// g(s, x_t, r, t) - g*: (B, act).
pub fn error(policy: &Policy, p: &[Tensor], obs: &Tensor, target: &MeanFlowTarget) -> Tensor {
    let map = &target.x - policy.velocity(p, obs, &target.x, &target.r, &target.t);
    map - &target.map
}

/// L_mirror = mean of w ||g - g*||^2 from the errors (B, act) and weights (B): a scalar.
pub fn loss(error: &Tensor, weight: &Tensor) -> Tensor {
    let square = error.square().sum_dim_intlist(&[1i64][..], false, None);
    (weight * square).mean(None::<Kind>)
}
