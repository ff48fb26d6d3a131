//! Diffusion: schedules, chain and loss against closed forms.

mod common;

use agent::ActorConfig;
use agent::stream;
use baselines::diffusion::{
    Denoising, DiffusionConfig, DiffusionPolicy, Schedule, ScheduleKind::*,
};
use networks::{Params, normal, uniform};
use std::f64::consts::FRAC_PI_2;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

#[test]
fn schedules_follow_their_closed_forms() {
    let steps = 20;
    let cosine = Schedule::new(Cosine, steps);
    let f = |t: f64| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
    for t in 0..steps {
        let expected = f(t as f64 / steps as f64) / f(0.0);
        assert!((cosine.alpha_bar(t) - expected).abs() < 1e-12, "t = {t}");
    }
    // Without the limit, the last step would leave nothing of the data; it leaves a thousandth.
    let left = cosine.alpha_bar(steps) / cosine.alpha_bar(steps - 1);
    assert!((left - 1e-3).abs() < 1e-12, "{left}");

    let vp = Schedule::new(Vp, steps);
    for t in 0..=steps {
        // The sum of the first t odd numbers is t^2.
        let share = t as f64 / steps as f64;
        let expected = (-0.1 * share - 0.5 * 9.9 * share * share).exp();
        assert!((vp.alpha_bar(t) - expected).abs() < 1e-12, "t = {t}");
    }
}

#[test]
fn a_step_back_has_the_mean_and_deviation_that_bayes_rule_gives() {
    for kind in [Cosine, Vp] {
        let schedule = Schedule::new(kind, 20);
        for t in 2..=20 {
            let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
            let (alpha, beta) = (now / before, 1.0 - now / before);
            let (x0, x) = (0.3, 0.7);
            // N(x_t; sqrt(alpha) x, beta) N(x; sqrt(before) x0, 1 - before) as
            // a Gaussian in x: precisions add, means are weighed by them.
            let precision = alpha / beta + 1.0 / (1.0 - before);
            let mean = (alpha.sqrt() * x / beta + before.sqrt() * x0 / (1.0 - before)) / precision;
            let eps = (x - now.sqrt() * x0) / (1.0 - now).sqrt();
            let step = |noise: f64| {
                let [x, eps, noise] = [x, eps, noise].map(|v| Tensor::full([1, 1], v, DOUBLE));
                schedule.reverse(&x, &eps, t, &noise).double_value(&[0, 0])
            };
            assert!((step(0.0) - mean).abs() < 1e-9, "{kind:?}, t = {t}");
            let deviation = step(1.0) - step(0.0);
            assert!((deviation - precision.powf(-0.5)).abs() < 1e-9, "{kind:?}, t = {t}");
        }
    }
}

#[test]
fn a_chain_that_knows_the_noise_ends_at_the_data_wherever_it_begins() {
    // All data at 0.4: then eps(x, t) = (x - sqrt(abar) 0.4) / sqrt(1 - abar).
    for kind in [Cosine, Vp] {
        let schedule = Schedule::new(kind, 20);
        let mut rng = stream(0, "chain");
        let mut draw = || normal(&mut rng, &[4000, 1], Device::Cpu).to_kind(Kind::Double);
        let last = schedule.alpha_bar(20);
        let mut x = draw() * (1.0 - last).sqrt() + last.sqrt() * 0.4;
        for t in (1..=20).rev() {
            let now = schedule.alpha_bar(t);
            let eps = (&x - now.sqrt() * 0.4) / (1.0 - now).sqrt();
            x = schedule.reverse(&x, &eps, t, &draw());
            // On the way, x_(t-1) is distributed as the forward process says.
            let before = schedule.alpha_bar(t - 1);
            let mean = x.mean(Kind::Double).double_value(&[]) - before.sqrt() * 0.4;
            let variance = x.var(true).double_value(&[]);
            assert!(mean.abs() < 0.06, "{kind:?}, t = {t}: mean off by {mean}");
            assert!((variance - (1.0 - before)).abs() < 0.08, "{kind:?}, t = {t}: {variance}");
        }
        assert!((x - 0.4).abs().max().double_value(&[]) < 1e-9, "{kind:?}");
    }
}

fn policy(steps: usize) -> (DiffusionPolicy, Params) {
    let toml = "width = 16\ndepth = 2\nactivation = \"mish\"\nlearning_rate = 1e-3\n\
                beta1 = 0.9\nupdate_every = 1\nnormalise = false";
    let actor: ActorConfig = toml_edit::de::from_str(toml).unwrap();
    let config = DiffusionConfig { steps, schedule: Cosine, frequencies: 4 };
    DiffusionPolicy::new(&actor, &config, 2, 3, Device::Cpu, &mut stream(1, "policy"))
}

#[test]
fn the_loss_of_a_network_that_says_c_is_the_weighted_square_of_c_less_the_noise() {
    let (policy, params) = policy(20);
    let mut rng = stream(2, "loss");
    let c = Tensor::from_slice(&[0.5f32, -1.0, 0.2]);
    for (name, tensor) in params.named("p") {
        match name.as_str() {
            "p.eps.weight" => drop(tensor.shallow_clone().zero_()),
            "p.eps.bias" => tensor.shallow_clone().copy_(&c),
            _ => {}
        }
    }
    let obs = normal(&mut rng, &[50, 2], Device::Cpu);
    let action = uniform(&mut rng, &[50, 3], Device::Cpu) * 2.0 - 1.0;
    let weight = uniform(&mut rng, &[50], Device::Cpu);
    let draw = policy.denoising(50, &mut rng);
    let loss = policy.loss(params.trainable(), &obs, &action, &weight, &draw);
    let square = (&c - &draw.eps).square().sum_dim_intlist(&[1i64][..], false, None);
    let expected = (&weight * square).mean(Kind::Float);
    assert!((&loss - &expected).abs().double_value(&[]) < 1e-5, "{loss} {expected}");
    // Its slope along the bias, the list's last tensor.
    let gradient = params.gradient(&loss);
    let slope = gradient.narrow(0, params.count() - 3, 3);
    let expected =
        (weight.unsqueeze(1) * (&c - &draw.eps) * 2.0).mean_dim(&[0i64][..], false, None);
    assert!(slope.allclose(&expected, 1e-4, 1e-5, false), "{slope} {expected}");
}

#[test]
fn noised_actions_have_the_schedules_mean_and_variance_at_their_own_times() {
    let schedule = Schedule::new(Cosine, 20);
    let mut rng = stream(3, "noise");
    let eps = normal(&mut rng, &[20_000, 1], Device::Cpu);
    let x0 = Tensor::full([20_000, 1], -0.5, (Kind::Float, Device::Cpu));
    let t = Tensor::arange(20_000, (Kind::Int64, Device::Cpu)).remainder(2) * 9 + 3;
    let shares = schedule.shares((Kind::Float, Device::Cpu));
    let x = Schedule::diffuse(&shares, &x0, &t, &eps);
    for time in [3, 12] {
        let share = schedule.alpha_bar(time);
        let rows = x.masked_select(&t.eq(time as i64).unsqueeze(1));
        let mean = rows.mean(Kind::Double).double_value(&[]);
        let variance = rows.var(true).double_value(&[]);
        assert!((mean + 0.5 * share.sqrt()).abs() < 0.03, "{mean}");
        assert!((variance - (1.0 - share)).abs() < 0.04, "{variance}");
    }
}

#[test]
fn regressions_draw_every_step_of_the_chain_equally_often() {
    let (policy, _) = policy(5);
    let Denoising { t, .. } = policy.denoising(10_000, &mut stream(4, "times"));
    assert_eq!((t.min().int64_value(&[]), t.max().int64_value(&[])), (1, 5));
    for step in 1..=5 {
        let share = t.eq(step).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((share - 0.2).abs() < 0.02, "step {step}: {share}");
    }
}
