//! The policy in f64 against definitions: derivatives by finite differences, densities and
//! entropies by quadrature.

mod common;

use agent::{Random, stream};
use common::{ACT, OBS, ROWS, config, double};
use networks::{Params, normal, uniform};
use smfp::Policy;
use smfp::entropy::surrogate;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// A mixture of Gaussians over a standard-normal latent, without squashing.
const CLIPPED: &str = r#"
"policy.squash" = "clip"
"policy.latent_std" = 1.0
"#;

/// A policy in f64 whose every weight is drawn, its heads' too.
fn policy(keys: &str, act_dim: i64, scale: f64) -> (Policy, Params, Random) {
    let config = config(keys);
    let mut rng = stream(7, "policy");
    let (policy, params) = Policy::new(&config, OBS, act_dim, Kind::Double, Device::Cpu, &mut rng);
    let drawn = normal(&mut rng, &[params.count()], Device::Cpu).to_kind(Kind::Double) * scale;
    params.flat().shallow_clone().copy_(&drawn);
    // Deviations of 0.1 to 0.9: inside the range that they are clamped to, and
    // wide enough for the grids below.
    for (name, tensor) in params.named("head") {
        let mut tensor = tensor.shallow_clone();
        match name.as_str() {
            "head.log_std.weight" => drop(tensor.g_mul_scalar_(0.2)),
            "head.log_std.bias" => drop(tensor.fill_(0.3f64.ln())),
            _ => {}
        }
    }
    (policy, params, rng)
}

fn normal_f64(rng: &mut Random, shape: &[i64]) -> Tensor {
    normal(rng, shape, Device::Cpu).to_kind(Kind::Double)
}

#[test]
fn the_velocitys_tangent_is_its_derivative_along_x_and_t_jointly_at_fixed_r() {
    let (policy, params, mut rng) = policy("", ACT, 0.4);
    let p = params.frozen();
    let [obs, x, v] = [OBS, ACT, ACT].map(|dim| normal_f64(&mut rng, &[ROWS, dim]));
    let t = uniform(&mut rng, &[ROWS, 1], Device::Cpu).to_kind(Kind::Double);
    let r = &t * uniform(&mut rng, &[ROWS, 1], Device::Cpu).to_kind(Kind::Double);
    let (velocity, tangent) = policy.velocity_jvp(p, &obs, &x, &r, &t, &v);
    assert!(velocity.allclose(&policy.velocity(p, &obs, &x, &r, &t), 1e-13, 1e-13, false));
    let h = 1e-5;
    let at = |h: f64| policy.velocity(p, &obs, &(&x + &v * h), &r, &(&t + h));
    let differences = (at(h) - at(-h)) / (2.0 * h);
    let error = double(&(&tangent - differences).abs().max());
    // Far below the size of what either input alone contributes.
    assert!(error < 1e-7, "{error}");
    assert!(double(&tangent.abs().max()) > 0.1);
}

/// One state, one action dimension: p(a | s) and what follows from it, by the
/// trapezoidal rule over the latent and over the action.
struct Quadrature {
    /// Weights of the latents, their means and deviations: (Z, 1) each.
    weight: Tensor,
    mean: Tensor,
    log_std: Tensor,
}

impl Quadrature {
    fn new(policy: &Policy, p: &[Tensor], obs: &Tensor) -> Self {
        let options = (Kind::Double, Device::Cpu);
        let z = Tensor::linspace(-8.0, 8.0, 801, options).unsqueeze(1);
        let weight = (&z * &z * -0.5).exp();
        let weight = &weight / weight.sum(Kind::Double);
        let (mean, log_std) = policy.one_step(p, &obs.repeat([801, 1]), &z);
        Self { weight, mean, log_std }
    }

    /// log p(a | s, z): (Z, A) for actions (A).
    fn conditional(&self, a: &Tensor) -> Tensor {
        let noise = (a.unsqueeze(0) - &self.mean) / self.log_std.exp();
        &noise * &noise * -0.5 - &self.log_std - 0.5 * (2.0 * PI).ln()
    }

    /// log p(a | s): (A).
    fn marginal(&self, a: &Tensor) -> Tensor {
        (self.conditional(a) + self.weight.log()).logsumexp(&[0i64][..], false)
    }
}

#[test]
fn the_entropy_surrogate_lies_below_the_entropy_by_the_mutual_information_with_the_latent() {
    let (policy, params, mut rng) = policy(CLIPPED, 1, 0.5);
    let obs = normal_f64(&mut rng, &[1, OBS]);
    let quadrature = Quadrature::new(&policy, params.frozen(), &obs);
    let a = Tensor::linspace(-15.0, 15.0, 6001, (Kind::Double, Device::Cpu));
    let step = 30.0 / 6000.0;
    let (conditional, marginal) = (quadrature.conditional(&a), quadrature.marginal(&a));
    let mass = double(&marginal.exp().sum(Kind::Double)) * step;
    assert!((mass - 1.0).abs() < 1e-9, "the density's mass is {mass}");

    let entropy = -double(&(marginal.exp() * &marginal).sum(Kind::Double)) * step;
    let information = (conditional.exp() * (&conditional - &marginal) * &quadrature.weight)
        .sum(Kind::Double)
        .double_value(&[])
        * step;
    let bound: f64 = (0..quadrature.weight.size()[0])
        .map(|i| {
            let at = |tensor: &Tensor| tensor.narrow(0, i, 1);
            double(&surrogate(&at(&quadrature.log_std)))
                * double(&at(&quadrature.weight).sum(None::<Kind>))
        })
        .sum();
    assert!(information > 0.3, "the latent tells nothing of the action: {information}");
    assert!(bound < entropy);
    let error = entropy - bound - information;
    assert!(error.abs() < 1e-8, "{entropy} - {bound} - {information} = {error}");
}

#[test]
fn the_semi_implicit_entropy_rises_from_the_surrogate_to_the_entropy_with_more_latents() {
    let (policy, params, mut rng) = policy(CLIPPED, 1, 0.5);
    let p = params.frozen();
    let state = normal_f64(&mut rng, &[1, OBS]);
    let rows = 4096;
    let obs = state.repeat([rows, 1]);
    let [z, xi] = [0, 1].map(|_| normal_f64(&mut rng, &[rows, 1]));
    let draw = policy.draw(p, &obs, &z, Some(&xi));
    // The truth on the very actions drawn, so that their randomness cancels.
    let exact = Quadrature::new(&policy, p, &state).marginal(&policy.raw(&draw).squeeze_dim(1));
    let truth = -double(&exact.mean(Kind::Double));

    let mut estimate = |latents: i64| {
        let all = Tensor::cat(&[&z, &normal_f64(&mut rng, &[latents * rows, 1])], 0);
        let (means, log_stds) = policy.one_step(p, &obs.repeat([latents + 1, 1]), &all);
        let shape = [latents + 1, rows, 1];
        let (means, log_stds) = (means.view(shape), log_stds.view(shape));
        policy.semi_implicit_log_prob(&policy.raw(&draw), &means, &log_stds)
    };
    assert!(estimate(0).allclose(&draw.log_prob, 1e-12, 1e-12, false));
    let entropies =
        [0, 1, 4, 16, 256].map(|latents| -double(&estimate(latents).mean(Kind::Double)));
    for pair in entropies.windows(2) {
        assert!(pair[0] < pair[1], "{entropies:?}");
    }
    let gap = truth - entropies[4];
    assert!((-5e-3..1e-2).contains(&gap), "{entropies:?} against {truth}");
}

#[test]
fn densities_of_actions_integrate_to_one() {
    for squash in ["tanh", "clip"] {
        let keys = format!("\"policy.squash\" = \"{squash}\"");
        let (policy, params, mut rng) = policy(&keys, 1, 0.5);
        let p = params.frozen();
        let xi = Tensor::linspace(-9.0, 9.0, 4001, (Kind::Double, Device::Cpu)).unsqueeze(1);
        let integral = |log_prob: &Tensor, over: &Tensor| {
            let (density, over) = (log_prob.exp(), over.squeeze_dim(1));
            double(&Tensor::trapezoid_x(&density, &over, 0))
        };
        for _ in 0..5 {
            let obs = normal_f64(&mut rng, &[1, OBS]);
            let z = normal_f64(&mut rng, &[1, 1]);
            let every = |tensor: &Tensor| tensor.repeat([4001, 1]);
            let draw = policy.draw(p, &every(&obs), &every(&z), Some(&xi));
            // Clipping has no density; there it is that of the action before.
            let over = |action: &Tensor, raw: &Tensor| {
                if squash == "tanh" { action.shallow_clone() } else { raw.shallow_clone() }
            };
            let mass = integral(&draw.log_prob, &over(&draw.action, &policy.raw(&draw)));
            assert!((mass - 1.0).abs() < 1e-4, "{squash}: {mass}");

            // The semi-implicit mixture, over a range that holds all of it.
            let latents = normal_f64(&mut rng, &[3, 1]);
            let (means, log_stds) = policy.one_step(p, &obs.repeat([3, 1]), &latents);
            let spread = |x: &Tensor| x.unsqueeze(1).expand([3, 4001, 1], false);
            let (low, high) = (double(&means.min()) - 9.0, double(&means.max()) + 9.0);
            let raw = Tensor::linspace(low, high, 4001, (Kind::Double, Device::Cpu)).unsqueeze(1);
            let log_prob = policy.semi_implicit_log_prob(&raw, &spread(&means), &spread(&log_stds));
            let mass = integral(&log_prob, &over(&raw.tanh(), &raw));
            assert!((mass - 1.0).abs() < 1e-4, "{squash}, semi-implicit: {mass}");
        }
    }
}
