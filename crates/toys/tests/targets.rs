//! The toys' targets and measures, checked against integrals and closed forms.

use agent::stream;
use networks::normal;
use tch::{Device, Kind, Tensor};
use toys::{Measures, Mode, Point, PriorIn, Toy, shares, wasserstein_2};

/// Points of a grid over the toy's square, (N, 2), and the target's mass there.
fn quadrature(toy: Toy) -> (Tensor, Tensor) {
    let scale = toy.scale();
    let line = Tensor::linspace(-scale, scale, 401, (Kind::Double, Device::Cpu));
    let x = Tensor::stack(&[line.repeat_interleave_self_int(401, 0, None), line.repeat([401])], 1);
    let mass = toy.log_target(&x).exp();
    let mass = &mass / mass.sum(Kind::Double);
    (x, mass)
}

fn double(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn points(x: &Tensor) -> Vec<Point> {
    let flat: Vec<f64> = Vec::try_from(&x.to_kind(Kind::Double).reshape([-1])).unwrap();
    flat.chunks(2).map(|xy| [xy[0], xy[1]]).collect()
}

/// Uniform points of the toy's square: (count, 2).
fn uniform_points(toy: Toy, count: i64, rng: &mut agent::Random) -> Tensor {
    (networks::uniform(rng, &[count, 2], Device::Cpu) * 2.0 - 1.0) * toy.scale()
}

#[test]
fn exact_samples_have_the_targets_moments_by_numerical_integration() {
    const COUNT: i64 = 200_000;
    for toy in Toy::ALL {
        let (x, mass) = quadrature(toy);
        let samples = toy.exact(COUNT, &mut stream(1, "exact")).to_kind(Kind::Double);
        let [a, b] = [0, 1].map(|i| x.select(1, i));
        let [c, d] = [0, 1].map(|i| samples.select(1, i));
        let upper = |x: &Tensor, y: &Tensor| (x + y).gt(0.0).to_kind(Kind::Double);
        let pairs = [
            ("x", a.shallow_clone(), c.shallow_clone()),
            ("y", b.shallow_clone(), d.shallow_clone()),
            ("x^2", a.square(), c.square()),
            ("x y", &a * &b, &c * &d),
            ("y^3", b.square() * &b, d.square() * &d),
            ("upper half", upper(&a, &b), upper(&c, &d)),
        ];
        for (name, grid, sampled) in pairs {
            let expected = double(&(grid * &mass).sum(Kind::Double));
            let found = double(&sampled.mean(Kind::Double));
            // Four standard errors, and what the edge of the square cuts off.
            let error = double(&sampled.std(true)) / (COUNT as f64).sqrt();
            let tolerated = 4.0 * error + 2e-3;
            assert!((found - expected).abs() < tolerated, "{toy:?} {name}: {found} {expected}");
        }
    }
}

#[test]
fn modes_are_maxima_of_the_target_with_its_curvature() {
    for toy in Toy::ALL {
        for mode in toy.modes() {
            let h = 1e-3 * mode.std;
            let at = |dx: f64, dy: f64| {
                let x = [mode.centre[0] + dx, mode.centre[1] + dy];
                double(&toy.log_target(&Tensor::from_slice(&x).view([1, 2])).squeeze())
            };
            for (dx, dy) in [(h, 0.0), (0.0, h)] {
                let (before, here, after) = (at(-dx, -dy), at(0.0, 0.0), at(dx, dy));
                let slope = (after - before) / (2.0 * h) * mode.std;
                let curvature = -(after - 2.0 * here + before) / (h * h) * mode.std.powi(2);
                assert!(slope.abs() < 2e-3, "{toy:?} {mode:?}: slope {slope}");
                assert!((curvature - 1.0).abs() < 0.01, "{toy:?} {mode:?}: curvature {curvature}");
            }
        }
    }
}

#[test]
fn both_ways_of_pi_old_make_the_same_target() {
    // Weights exp(value) of pi_old's actions and of uniform ones have the target's
    // mean: the centre of pi_old exp(Q).
    let toy = Toy::TwoBumps;
    let (x, mass) = quadrature(toy);
    let expected = double(&(x.select(1, 0) * mass).sum(Kind::Double));
    let mut rng = stream(2, "proposals");
    let uniform = uniform_points(toy, 400_000, &mut rng);
    for (prior, x) in [(PriorIn::Replay, toy.prior(400_000, &mut rng)), (PriorIn::Value, uniform)] {
        let weight = toy.value(prior, &x).exp();
        let mean: Tensor = (x.select(1, 0) * &weight).sum(Kind::Double) / weight.sum(Kind::Double);
        let found = double(&mean);
        assert!((found - expected).abs() < 0.05, "{prior:?}: {found}, expected {expected}");
    }
}

#[test]
fn the_mirror_terms_temperatures_are_one_over_the_deviations_that_toys_toml_says() {
    let toy = Toy::TwoBumps;
    let mut rng = stream(3, "proposals");
    let replay = toy.prior(400_000, &mut rng);
    let uniform = uniform_points(toy, 400_000, &mut rng);
    for (prior, x, temperature) in
        [(PriorIn::Replay, replay, 0.919), (PriorIn::Value, uniform, 0.235)]
    {
        let std = double(&toy.value(prior, &x).std(true));
        assert!((std * temperature - 1.0).abs() < 0.01, "{prior:?}: {}", 1.0 / std);
    }
}

#[test]
fn gradients_of_q_are_its_slopes() {
    for toy in Toy::ALL {
        for prior in [PriorIn::Replay, PriorIn::Value] {
            let x = Tensor::from_slice(&[0.3f32, -0.2]).view([1, 2]).set_requires_grad(true);
            let value = toy.value(prior, &x);
            let slope = Tensor::run_backward(&[value], &[&x], false, false).remove(0);
            let h = 1e-3;
            let at = |dx: f64| {
                let shift = Tensor::from_slice(&[dx, 0.0]).view([1, 2]);
                double(&toy.value(prior, &(x.detach() + shift)).squeeze())
            };
            let expected = (at(h) - at(-h)) / (2.0 * h);
            let found = slope.double_value(&[0, 0]);
            assert!((found / expected - 1.0).abs() < 1e-2, "{toy:?} {prior:?}: {found} {expected}");
        }
    }
}

#[test]
fn points_in_another_order_are_at_distance_zero_and_shifted_ones_at_the_shift() {
    let x = points(&normal(&mut stream(4, "points"), &[300, 2], Device::Cpu));
    let turned: Vec<Point> = x.iter().rev().copied().collect();
    assert_eq!(wasserstein_2(&x, &turned), 0.0);
    // A shift is the optimal map between a set and its shifted copy.
    let shifted: Vec<Point> = turned.iter().map(|[x, y]| [x + 3.0, y - 4.0]).collect();
    assert!((wasserstein_2(&x, &shifted) - 5.0).abs() < 1e-6);
    assert_eq!(wasserstein_2(&[], &[]), 0.0);
}

#[test]
fn the_distance_between_two_gaussians_is_that_of_the_closed_form() {
    // W2^2 = |m1 - m2|^2 + 2 (s1 - s2)^2 for round Gaussians in the plane. 500
    // points on each side leave a bias of some hundredths.
    let mut rng = stream(5, "points");
    let mut gaussian =
        |mean: f64, std: f64| points(&(normal(&mut rng, &[500, 2], Device::Cpu) * std + mean));
    for (mean, std) in [(1.0, 1.0), (3.0, 1.0), (3.0, 2.0)] {
        let expected = (2.0f64 * mean * mean + 2.0 * (std - 1.0f64).powi(2)).sqrt();
        let found = wasserstein_2(&gaussian(0.0, 1.0), &gaussian(mean, std));
        assert!((found - expected).abs() < 0.15, "{mean} {std}: {found}, expected {expected}");
    }
}

#[test]
fn a_mode_counts_from_fifteen_percent_of_the_samples_within_three_deviations() {
    let modes = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]].map(|centre| Mode { centre, std: 0.1 });
    let at = |x: Point, count: usize| vec![x; count];
    let samples = [
        at([0.29, 0.0], 60), // just inside
        at([0.31, 0.0], 11), // just outside
        at([1.0, 0.0], 15),
        at([0.0, 1.0], 14), // one too few
    ]
    .concat();
    assert_eq!(shares(&samples, &modes), [0.60, 0.15, 0.14]);
    assert_eq!(Measures::of(&samples, &modes, &samples).modes, 2);
}
