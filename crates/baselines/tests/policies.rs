//! Densities of the Gaussian policy by quadrature, and MeanFlow's target by
//! finite differences.

mod common;

use agent::{Random, stream};
use baselines::GaussianPolicy;
use baselines::meanflow::{MeanFlowConfig, MeanFlowPolicy, PRESETS};
use baselines::sac::{self, SacConfig};
use networks::{Params, normal, uniform};
use tch::{Device, Kind, Tensor};

/// A small policy for two observations and one action.
fn gaussian(rng: &mut Random) -> (GaussianPolicy, Params) {
    let config: SacConfig = common::config(sac::PRESETS, "");
    GaussianPolicy::new(&config.actor, 2, 1, Device::Cpu, rng)
}

fn double(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

#[test]
fn the_density_of_given_actions_integrates_to_one_and_equals_that_of_drawn_ones() {
    let mut rng = stream(1, "test");
    let (policy, params) = gaussian(&mut rng);
    let p = params.frozen();
    for _ in 0..3 {
        let count = 20_001;
        let obs = normal(&mut rng, &[1, 2], Device::Cpu).repeat([count, 1]);
        let raw = Tensor::linspace(-9, 9, count, (Kind::Float, Device::Cpu)).unsqueeze(1);
        let density = policy.log_prob(p, &obs, &raw).to_kind(Kind::Double).exp();
        let action = raw.to_kind(Kind::Double).tanh().squeeze_dim(1);
        let mass = double(&Tensor::trapezoid_x(&density, &action, 0));
        assert!((mass - 1.0).abs() < 1e-3, "{mass}");

        let noise = normal(&mut rng, &[count, 1], Device::Cpu);
        let (sample, gaussian) = (policy.sample(p, &obs, &noise), policy.gaussian(p, &obs));
        let raw = gaussian.mean + gaussian.log_std.exp() * noise;
        let again = policy.log_prob(p, &obs, &raw);
        assert!(again.allclose(&sample.log_prob, 1e-4, 1e-4, false));
        assert!(raw.tanh().allclose(&sample.action, 1e-5, 1e-6, false));
    }
}

#[test]
fn the_divergence_of_two_policies_is_the_integral_that_defines_it() {
    let policies = [2, 3].map(|seed| gaussian(&mut stream(seed, "test")));
    let count = 20_001;
    let obs = Tensor::from_slice(&[0.3f32, -1.2]).repeat([count, 1]);
    let raw = Tensor::linspace(-9, 9, count, (Kind::Float, Device::Cpu)).unsqueeze(1);
    let [new, old] = policies
        .each_ref()
        .map(|(policy, params)| policy.log_prob(params.frozen(), &obs, &raw).to_kind(Kind::Double));
    let action = raw.to_kind(Kind::Double).tanh().squeeze_dim(1);
    let integral = double(&Tensor::trapezoid_x(&(new.exp() * (&new - old)), &action, 0));
    let one = obs.narrow(0, 0, 1);
    let [new, old] = policies.each_ref().map(|(policy, p)| policy.gaussian(p.frozen(), &one));
    let kl = new.kl(&old).double_value(&[0]);
    assert!((kl - integral).abs() < 1e-3, "{kl} and {integral}");
    assert!(kl > 0.01 && new.kl(&new).double_value(&[0]).abs() < 1e-6);
}

#[test]
fn meanflows_target_is_the_identity_with_the_derivative_by_differences() {
    let config: MeanFlowConfig = common::config(PRESETS, "\"flow.frequencies\" = 3");
    let mut rng = stream(7, "test");
    let (policy, params) =
        MeanFlowPolicy::new(&config.actor, &config.flow, 4, 2, Kind::Double, Device::Cpu, &mut rng);
    let drawn = normal(&mut rng, &[params.count()], Device::Cpu).to_kind(Kind::Double) * 0.4;
    params.flat().shallow_clone().copy_(&drawn);
    let p = params.frozen();
    let mut draw = |dim| normal(&mut rng, &[32, dim], Device::Cpu).to_kind(Kind::Double);
    let (obs, b, e) = (draw(4), draw(2), draw(2));
    let t = uniform(&mut rng, &[32, 1], Device::Cpu).to_kind(Kind::Double);
    let (x, target) = policy.target(p, &obs, &b, &e, &t);
    assert!(x.allclose(&((1.0 - &t) * &b + &t * &e), 1e-12, 1e-12, false));

    // g* = x + (t - 1) v - t dg/dt along x' = v, t' = 1.
    let (v, h) = (&e - &b, 1e-5);
    let at = |h: f64| policy.map(p, &obs, &(&x + &v * h), &(&t + h));
    let derivative = (at(h) - at(-h)) / (2.0 * h);
    let expected = &x + (&t - 1.0) * &v - &t * derivative;
    assert!(double(&(&target - expected).abs().max()) < 1e-6);
    // Without the derivative it would be another target by far.
    assert!(double(&(&target - (&x - &v)).abs().max()) > 0.1);
    let one = policy.one_step(p, &obs, &x);
    assert!(one.allclose(&policy.map(p, &obs, &x, &t.ones_like()), 1e-12, 1e-12, false));
}
