//! Policies that draw an action in several steps: their densities and their bounds of the entropy,
//! by integration in one dimension.

mod common;

use agent::{ActMode, Agent, AgentConfig, Random, stream};
use baselines::dime::{self, Diffusion, DimeConfig};
use baselines::path::{Path, PathPolicy, path_noise};
use baselines::sac_flow_g::{self, GatedFlow, SacFlowGConfig};
use baselines::sac_flow_t::{self, SacFlowTConfig, TransformerFlow};
use networks::{NormMode, Params, normal};
use tch::{Device, Kind, Tensor};

const OBS: i64 = 3;
const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);
/// Points of a grid over the noise of one step.
const POINTS: i64 = 31;
/// The grid's last point, in standard deviations.
const END: f64 = 6.0;

/// A policy for one action in `f64`, with parameters far from their start.
fn shaken(policy: impl PathPolicy + 'static, params: Params, rng: &mut Random) -> Shaken {
    let drawn = normal(rng, &[params.count()], Device::Cpu).to_kind(Kind::Double);
    params.flat().shallow_clone().copy_(&(params.flat() + drawn * 0.4));
    Shaken { policy: Box::new(policy), params }
}

struct Shaken {
    policy: Box<dyn PathPolicy>,
    params: Params,
}

impl Shaken {
    fn draw(&self, obs: &Tensor, noise: &Tensor) -> Path {
        self.policy.draw(self.params.frozen(), obs, noise, NormMode::Running)
    }
}

fn gated_flow(steps: i64, seed: u64) -> Shaken {
    let keys = format!("\"flow.steps\" = {steps}\n\"flow.batch_norm\" = true");
    let config: SacFlowGConfig = common::config(sac_flow_g::PRESETS, &keys);
    config.validate().unwrap();
    let mut rng = stream(seed, "test");
    let (policy, params) = GatedFlow::new(&config.actor, &config.flow, OBS, 1, OPTIONS, &mut rng);
    shaken(policy, params, &mut rng)
}

fn transformer_flow(exact: bool, seed: u64) -> Shaken {
    let keys = format!(
        "\"flow.steps\" = 2\n\"flow.batch_norm\" = true\n\"density.exact\" = {exact}\n\
         \"actor.width\" = 12\n\"actor.depth\" = 1"
    );
    let config: SacFlowTConfig = common::config(sac_flow_t::PRESETS, &keys);
    config.validate().unwrap();
    let mut rng = stream(seed, "test");
    let (policy, params) = TransformerFlow::new(&config, OBS, 1, OPTIONS, &mut rng);
    shaken(policy, params, &mut rng)
}

/// The integral of the density of paths (x_0, x_1, a) of two steps over all of them: of
/// p(path(xi)) |d path / d xi| over the noise xi of a grid. The matrix d path / d xi is
/// triangular, so that its determinant is dx_0/dxi_0 dx_1/dxi_1 dx_2/dxi_2 da/dx_2, the first three
/// by central differences, the last 1 / cosh^2 x_2.
fn mass(policy: &Shaken, rng: &mut Random) -> f64 {
    let grid = Tensor::linspace(-END, END, POINTS, OPTIONS);
    let noise = Tensor::stack(&Tensor::meshgrid_indexing(&[&grid, &grid, &grid], "ij"), 0);
    let noise = noise.view([3, -1, 1]);
    let rows = noise.size()[1];
    let obs = normal(rng, &[1, OBS], Device::Cpu).to_kind(Kind::Double).expand([rows, -1], false);
    let path = policy.draw(&obs, &noise);
    let mut density = path.log_prob.exp() / path.states[2].cosh().square().squeeze_dim(1);
    let h = 1e-4;
    for step in 0..3 {
        let moved = |by: f64| {
            let noise = noise.copy();
            let _ = noise.get(step).g_add_scalar_(by);
            policy.draw(&obs, &noise).states[step as usize].shallow_clone()
        };
        density *= ((moved(h) - moved(-h)) / (2.0 * h)).abs().squeeze_dim(1);
    }
    let spacing = 2.0 * END / (POINTS - 1) as f64;
    density.sum(Kind::Double).double_value(&[]) * spacing.powi(3)
}

#[test]
fn the_density_of_the_paths_of_a_gated_flow_integrates_to_one() {
    for seed in 1..3 {
        let mass = mass(&gated_flow(2, seed), &mut stream(seed, "observations"));
        assert!((mass - 1.0).abs() < 1e-3, "{mass}");
    }
}

#[test]
fn the_density_of_the_paths_of_a_transformer_integrates_to_one_and_the_published_one_does_not() {
    let mass_of = |exact| mass(&transformer_flow(exact, 1), &mut stream(1, "observations"));
    assert!((mass_of(true) - 1.0).abs() < 1e-3, "{}", mass_of(true));
    assert!((mass_of(false) - 1.0).abs() > 0.1, "{}", mass_of(false));
}

#[test]
fn a_deterministic_action_of_a_flow_has_the_noise_of_its_start_and_none_in_its_steps() {
    let config: SacFlowGConfig = common::config(sac_flow_g::PRESETS, "\"flow.steps\" = 4");
    let agent = config.agent(OBS, 2, Device::Cpu, &mut stream(1, "agent"));
    let obs = normal(&mut stream(2, "obs"), &[9, OBS], Device::Cpu);
    let act = |mode| agent.act(&obs, mode, &mut stream(3, "noise"));
    let (quiet, noisy) = (act(ActMode::Deterministic), act(ActMode::Stochastic));
    let actor = agent.into_actor();
    let (policy, params) = actor.policy();
    let noise = path_noise(policy, 9, Device::Cpu, &mut stream(3, "noise"));
    let draw = || policy.draw(params.frozen(), &obs, &noise, NormMode::Running);
    let path = draw();
    assert_eq!((path.states.len(), &path.action), (5, &path.states[4].tanh()));
    assert_eq!(path.action, noisy);
    let _ = noise.narrow(0, 1, 4).zero_();
    assert_eq!(draw().action, quiet);
    assert_ne!(quiet, noisy);
}

/// DIME's policy for one action in `f64` with its parameters, as they start or shaken.
fn diffusion(keys: &str, shake: f64, rng: &mut Random) -> (Diffusion, Params) {
    let config: DimeConfig = common::config(dime::PRESETS, keys);
    config.validate().unwrap();
    let (policy, params) = Diffusion::new(&config.actor, &config.diffusion, OBS, 1, OPTIONS, rng);
    let drawn = normal(rng, &[params.count()], Device::Cpu).to_kind(Kind::Double);
    params.flat().shallow_clone().copy_(&(params.flat() + drawn * shake));
    (policy, params)
}

/// The density of N(mean, variance) at x.
fn gaussian(x: &Tensor, mean: &Tensor, variance: &Tensor) -> Tensor {
    let square = (x - mean).square() / variance;
    (square * -0.5).exp() / (variance * (2.0 * std::f64::consts::PI)).sqrt()
}

/// The entropy of the action in a state (1, OBS): the density of x_n is carried from step to step
/// on a grid, by quadrature.
fn entropy(policy: &Diffusion, p: &[Tensor], obs: &Tensor, prior_std: f64) -> f64 {
    let (end, points) = (25.0, 2001);
    let (x, spacing) =
        (Tensor::linspace(-end, end, points, OPTIONS), 2.0 * end / (points - 1) as f64);
    let rows = obs.expand([points, -1], false);
    let start = Tensor::from(prior_std * prior_std).to_kind(Kind::Double);
    let mut density = gaussian(&x, &x.zeros_like(), &start);
    for n in 0..policy.steps() {
        let (mean, variance) = policy.transition(p, &rows, &x.unsqueeze(1), n);
        density = (gaussian(&x, &mean, &variance) * density.unsqueeze(1)).sum_dim_intlist(
            &[0i64][..],
            false,
            None,
        ) * spacing;
    }
    let sum = |y: Tensor| y.sum(Kind::Double).double_value(&[]) * spacing;
    assert!((sum(density.copy()) - 1.0).abs() < 1e-6, "the grid holds the density");
    // H(tanh x) = H(x) + E log (1 / cosh^2 x).
    let log_cosh = x.abs() + ((x.abs() * -2.0).exp() + 1.0).log() - 2f64.ln();
    sum(-&density * density.clamp_min(1e-300).log()) - 2.0 * sum(density * log_cosh)
}

/// E [-R] over drawn paths in a state, and its standard error.
fn bound(policy: &Diffusion, p: &[Tensor], obs: &Tensor, rng: &mut Random) -> (f64, f64) {
    let rows = 40_000;
    let noise = normal(rng, &[policy.steps() + 1, rows, 1], Device::Cpu).to_kind(Kind::Double);
    let path = policy.draw(p, &obs.expand([rows, -1], false), &noise, NormMode::Running);
    let (variance, mean) = (-path.log_prob).var_mean(true);
    (mean.double_value(&[]), (variance.double_value(&[]) / rows as f64).sqrt())
}

#[test]
fn dimes_bound_lies_below_the_entropy() {
    for seed in 1..3 {
        let mut rng = stream(seed, "test");
        let (policy, params) = diffusion("\"diffusion.steps\" = 8", 0.2, &mut rng);
        let obs = normal(&mut rng, &[1, OBS], Device::Cpu).to_kind(Kind::Double);
        let exact = entropy(&policy, params.frozen(), &obs, 2.5);
        let (bound, error) = bound(&policy, params.frozen(), &obs, &mut rng);
        println!("entropy {exact:.4}, bound {bound:.4} +- {error:.4}");
        assert!(bound < exact - 3.0 * error, "{bound} and {exact}");
        assert!(bound > exact - 5.0, "{bound} and {exact}: of no use");
    }
}

#[test]
fn dimes_bound_is_tight_where_backward_and_forward_kernels_are_each_others_reverse() {
    // At the start f is zero, and the steps leave N(0, s^2) nearly as it is, in both directions.
    let mut rng = stream(1, "test");
    let (policy, params) = diffusion("\"diffusion.step_size\" = 0.03", 0.0, &mut rng);
    let obs = Tensor::ones([1, OBS], OPTIONS);
    let exact = entropy(&policy, params.frozen(), &obs, 2.5);
    let (bound, error) = bound(&policy, params.frozen(), &obs, &mut rng);
    println!("entropy {exact:.4}, bound {bound:.4} +- {error:.4}");
    assert!((bound - exact).abs() < 4.0 * error + 1e-3, "{bound} and {exact}");
}

#[test]
fn one_outlying_gradient_does_not_throw_dimes_policy() {
    // R has the squares of the drifts, and the critics' targets have R: a policy that is thrown
    // takes the critics along.
    let mut rng = stream(1, "test");
    let config: DimeConfig = common::config(dime::PRESETS, "\"temperature.alpha\" = 0.05");
    let mut actor = config.agent(OBS, 2, Device::Cpu, &mut rng).into_actor();
    let mut r = |scale: f64| {
        let obs = normal(&mut rng, &[64, OBS], Device::Cpu);
        let noise = path_noise(actor.policy().0, 64, Device::Cpu, &mut rng);
        let value = |obs: &Tensor, action: &Tensor| {
            let error = action - obs.narrow(1, 0, 2).tanh();
            error.square().sum_dim_intlist(&[1i64][..], false, None) * -scale
        };
        let metrics = actor.update(&obs, &noise, NormMode::Running, &value);
        let read = metrics.read().unwrap();
        -read.iter().find(|(name, _)| *name == "entropy").unwrap().1
    };
    let largest = |of: Vec<f64>| of.into_iter().fold(f64::MIN, f64::max);
    let usual = largest((0..400).map(|_| r(3.0)).collect());
    r(1e4);
    let after = largest((0..10).map(|_| r(3.0)).collect());
    println!("R at most {usual:.2} before, {after:.2} after");
    assert!(after < usual + 2.0, "R at most {usual} before, {after} after");
}
