//! A Gaussian squashed by tanh, with its density.

use std::f64::consts::{LN_2, PI};
use tch::Tensor;

/// tanh(mean + sigma noise) with its log density (SAC, Haarnoja et al. 2018b,
/// appendix C): (B, act) in (-1, 1), and (B).
///
/// `heads` (B, 2 act) are the mean and then log sigma, which is clamped to `range`;
/// `noise` (B, act) is standard normal.
pub fn squashed_gaussian(
    heads: &Tensor,
    noise: &Tensor,
    (low, high): (f64, f64),
) -> (Tensor, Tensor) {
    let act_dim = noise.size()[1];
    let log_std = heads.narrow(1, act_dim, act_dim).clamp(low, high);
    let raw = heads.narrow(1, 0, act_dim) + log_std.exp() * noise;
    (raw.tanh(), squashed_log_prob(noise, &log_std, &raw))
}

/// The log density of tanh(raw), where raw (B, act) is `noise` deviations from the
/// mean: (B).
pub fn squashed_log_prob(noise: &Tensor, log_std: &Tensor, raw: &Tensor) -> Tensor {
    let each = gaussian_log_density(noise, log_std) - tanh_log_slope(raw);
    each.sum_dim_intlist(&[1i64][..], false, None)
}

/// log N(mean + sigma noise; mean, sigma) of every coordinate, in nats: noise and
/// log sigma of one shape (or shapes that broadcast) to that shape.
///
/// A density over actions is the sum over their last dimension.
pub fn gaussian_log_density(noise: &Tensor, log_std: &Tensor) -> Tensor {
    noise * noise * -0.5 - log_std - 0.5 * (2.0 * PI).ln()
}

/// log |d tanh(x) / dx| of every coordinate, in the shape of `raw` = x.
///
/// It equals log(1 - tanh(x)^2), written as 2 (log 2 - x - softplus(-2 x)), which
/// keeps its digits far from zero (Haarnoja et al. 2018b, appendix C).
pub fn tanh_log_slope(raw: &Tensor) -> Tensor {
    (LN_2 - raw - (raw * -2.0).softplus()) * 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn element_wise_densities_are_those_of_their_definitions_in_f64() {
        let x = Tensor::linspace(-8.0, 8.0, 33, (Kind::Double, Device::Cpu));
        let exact: Tensor = 1.0 - x.tanh().square();
        let exact = exact.log();
        // (The definition itself loses digits to 1 - tanh^2 far from zero.)
        assert!(tanh_log_slope(&x).allclose(&exact, 1e-8, 1e-8, false));
        let log_std = Tensor::linspace(-3.0, 1.0, 33, (Kind::Double, Device::Cpu));
        let sigma = log_std.exp();
        let density = (x.square() * -0.5).exp() / (sigma * (2.0 * PI).sqrt());
        assert!(gaussian_log_density(&x, &log_std).exp().allclose(&density, 1e-12, 0.0, false));
    }
}
