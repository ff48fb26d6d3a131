//! The runtime computes what the graph says, equally on every kernel, and refuses bad files.

use policy::{Error, Graph, Kernel, Op, Policy};
use proptest::prelude::*;

/// Numbers in [-1, 1) from a linear congruential generator.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A policy with every operation: two layers of `width`, a Gaussian head, tanh.
fn graph(obs: u32, act: u32, width: u32) -> Graph {
    let mut g = Graph { inputs: [obs, act, act], ..Graph::default() };
    let mut seed = 0;
    let mut affine = |g: &mut Graph, x, inputs: u32, outputs: u32| {
        seed += 2;
        let scale = 2.0 / (inputs as f32).sqrt();
        let weights =
            numbers(seed, (inputs * outputs) as usize).iter().map(|w| w * scale).collect();
        let (w, b) = (g.tensor(weights), g.tensor(numbers(seed + 1, outputs as usize)));
        g.push(Op::Affine(x, w, b))
    };
    let x = g.push(Op::Concat(0, 1));
    let x = affine(&mut g, x, obs + act, width);
    let x = g.push(Op::Mish(x));
    let x = affine(&mut g, x, width, width);
    let [scale, shift] = [3, 4].map(|seed| g.tensor(numbers(seed, width as usize)));
    let x = g.push(Op::LayerNorm(x, scale, shift));
    let x = g.push(Op::Relu(x));
    let heads = affine(&mut g, x, width, 2 * act);
    let velocity = g.push(Op::Slice(heads, 0, act));
    let log_std = g.push(Op::Slice(heads, act, act));
    let log_std = g.push(Op::Clip(log_std, -10.0, 0.0));
    let std = g.push(Op::Exp(log_std));
    let noise = g.push(Op::Mul(std, 2));
    let mean = g.push(Op::Sub(1, velocity));
    let raw = g.push(Op::Add(mean, noise));
    let action = g.push(Op::Tanh(raw));
    let scale = g.tensor(vec![0.4; act as usize]);
    let scale = g.push(Op::Constant(scale));
    g.push(Op::Mul(action, scale));
    g
}

fn act(policy: &mut Policy, obs: &[f32], z: &[f32], xi: &[f32]) -> Vec<f32> {
    let mut actions = vec![0.0; policy.sizes()[3]];
    policy.act(obs, Some(z), Some(xi), &mut actions).unwrap();
    actions
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// A graph of one operation on the observation.
fn unary(op: Op) -> Policy {
    Policy::new(Graph { inputs: [1, 0, 0], tensors: vec![vec![1.0]], ops: vec![op] }).unwrap()
}

#[test]
fn the_functions_are_those_of_f64_within_rounding() {
    type Case = (Op, fn(f64) -> f64, f64);
    let cases: [Case; 3] = [
        (Op::Exp(0), f64::exp, 2e-7),
        (Op::Tanh(0), f64::tanh, 4e-7),
        (Op::Mish(0), |x| x * x.exp().ln_1p().tanh(), 6e-7),
    ];
    for (op, exact, tolerance) in cases {
        let mut policy = unary(op);
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let [found] = act(&mut policy, &[x], &[], &[])[..] else { unreachable!() };
            let expected = exact(f64::from(x));
            let error = (f64::from(found) - expected).abs() / expected.abs().max(1e-30);
            assert!(error < tolerance, "{op:?} at {x}: {found}, exact {expected}");
        }
    }
    // exp over all exponents, and its limits.
    let mut policy = unary(Op::Exp(0));
    let mut exp = |x: f32| act(&mut policy, &[x], &[], &[])[0];
    for i in -8_700..=8_800 {
        let x = i as f32 * 1e-2;
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 3e-7, "exp at {x}: {}, exact {expected}", exp(x));
    }
    assert_eq!((exp(-1e9), exp(f32::NEG_INFINITY)), (exp(-87.0), exp(-87.0)));
    assert_eq!((exp(1e9), exp(f32::INFINITY)), (exp(88.0), exp(88.0)));
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn layer_normalisation_is_that_of_f64_within_rounding() {
    for (n, scale) in [(1, 1.0), (7, 1e-4), (256, 1.0), (101, 1e4)] {
        let (weight, bias) = (numbers(1, n), numbers(2, n));
        let x: Vec<f32> = numbers(3, n).iter().map(|x| x * scale).collect();
        let ops = vec![Op::LayerNorm(0, 0, 1)];
        let tensors = vec![weight.clone(), bias.clone()];
        let graph = Graph { inputs: [n as u32, 0, 0], tensors, ops };
        let found = act(&mut Policy::new(graph).unwrap(), &x, &[], &[]);
        let mean =
            |f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(f64::from(x))).sum::<f64>() / n as f64;
        let centre = mean(&|x| x);
        let deviation = (mean(&|x| (x - centre).powi(2)) + 1e-5).sqrt();
        for i in 0..n {
            let normal = (f64::from(x[i]) - centre) / deviation;
            let expected = normal * f64::from(weight[i]) + f64::from(bias[i]);
            assert!(
                (f64::from(found[i]) - expected).abs() < 1e-6,
                "entry {i} of {n} times {scale}"
            );
        }
    }
}

#[test]
fn a_layer_is_the_matrix_product_in_f64_within_rounding() {
    let (inputs, outputs) = (70, 45);
    let (weights, bias) = (numbers(1, inputs * outputs), numbers(2, outputs));
    let mut g = Graph { inputs: [inputs as u32, 0, 0], ..Graph::default() };
    let (w, b) = (g.tensor(weights.clone()), g.tensor(bias.clone()));
    g.push(Op::Affine(0, w, b));
    let x = numbers(3, inputs);
    let found = act(&mut Policy::new(g).unwrap(), &x, &[], &[]);
    for o in 0..outputs {
        let products = (0..inputs).map(|i| f64::from(x[i]) * f64::from(weights[i * outputs + o]));
        let expected = f64::from(bias[o]) + products.sum::<f64>();
        assert!((f64::from(found[o]) - expected).abs() < 1e-5, "output {o}");
    }
}

#[test]
fn every_kernel_gives_the_same_bits() {
    for (obs, act_dim, width) in [(11, 3, 256), (45, 17, 100), (3, 1, 7)] {
        let graph = graph(obs, act_dim, width);
        let (mut best, mut base) =
            (Policy::new(graph.clone()).unwrap(), Policy::new(graph).unwrap());
        base.set_kernel(Kernel::Base);
        for seed in 0..500 {
            let obs: Vec<_> = numbers(seed, obs as usize).iter().map(|x| x * 20.0).collect();
            let (z, xi) =
                (numbers(seed + 1, act_dim as usize), numbers(seed + 2, act_dim as usize));
            assert_eq!(
                bits(&act(&mut best, &obs, &z, &xi)),
                bits(&act(&mut base, &obs, &z, &xi)),
                "{:?} against the base, width {width}",
                best.kernel(),
            );
        }
    }
}

#[test]
fn no_latent_and_no_noise_are_zeros() {
    let mut policy = Policy::new(graph(11, 3, 64)).unwrap();
    let obs = numbers(9, 11);
    let mut actions = [0.0; 3];
    policy.act(&obs, None, None, &mut actions).unwrap();
    assert_eq!(actions[..], act(&mut policy, &obs, &[0.0; 3], &[0.0; 3]));
    assert_ne!(actions[..], act(&mut policy, &obs, &[1.0; 3], &[0.0; 3]));
}

#[test]
fn a_nan_is_passed_on() {
    for op in [
        Op::Exp(0),
        Op::Tanh(0),
        Op::Relu(0),
        Op::Mish(0),
        Op::Clip(0, -1.0, 1.0),
        Op::LayerNorm(0, 0, 0),
    ] {
        assert!(act(&mut unary(op), &[f32::NAN], &[], &[])[0].is_nan(), "{op:?}");
    }
}

#[test]
fn arguments_of_another_length_are_refused() {
    let mut policy = Policy::new(graph(11, 3, 8)).unwrap();
    let error = policy.act(&[0.0; 10], None, None, &mut [0.0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "obs has 10 numbers: expected 11");
    assert!(policy.act(&[0.0; 11], Some(&[0.0]), None, &mut [0.0; 3]).is_err());
    assert!(policy.act(&[0.0; 11], None, None, &mut [0.0; 4]).is_err());
}

#[test]
fn a_file_gives_the_graph_back() {
    let graph = graph(11, 3, 64);
    assert_eq!(Graph::from_bytes(&graph.to_bytes()).unwrap(), graph);
}

#[test]
fn cut_damaged_and_later_files_are_refused() {
    let bytes = graph(3, 1, 4).to_bytes();
    for n in 0..bytes.len() {
        assert!(Graph::from_bytes(&bytes[..n]).is_err(), "the first {n} bytes");
        let mut damaged = bytes.clone();
        damaged[n] ^= 1;
        assert!(Graph::from_bytes(&damaged).is_err(), "byte {n} changed");
    }
    let mut later = bytes;
    later[8] = 2;
    assert_eq!(Graph::from_bytes(&later), Err(Error::Version(2)));
}

#[test]
fn operands_of_different_lengths_and_inputs_that_are_too_large_are_refused() {
    let tensors = vec![vec![0.0; 6], vec![0.0; 2]];
    let wrong = [
        Op::Add(0, 1),
        Op::Affine(0, 1, 0),
        Op::Slice(0, 2, 2),
        Op::Relu(3),
        Op::Constant(2),
        Op::LayerNorm(0, 1, 1),
    ];
    for op in wrong {
        let graph = Graph { inputs: [3, 1, 0], tensors: tensors.clone(), ops: vec![op] };
        assert_eq!(graph.lengths(), Err(Error::Operation(0)), "{op:?}");
    }
    let too_large = Graph { inputs: [1 << 31, 0, 0], tensors, ops: vec![Op::Relu(0)] };
    assert_eq!(too_large.lengths(), Err(Error::Inputs));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

    /// Words of a file are replaced and the checksum, from another implementation, made good.
    #[test]
    fn a_hostile_file_is_refused_or_runs(
        changes in prop::collection::vec((0_usize..1000, prop_oneof![0_u32..20, any::<u32>()]), 1..6),
        cut in 0_usize..8,
    ) {
        let mut bytes = graph(3, 1, 4).to_bytes();
        bytes.truncate(bytes.len() - 4 - 4 * cut);
        for (at, word) in changes {
            let words = bytes.len() / 4 - 3;
            let at = 12 + 4 * (at % words);
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        if let Ok(mut policy) = Policy::from_bytes(&bytes) {
            let [obs, .., n] = policy.sizes();
            policy.act(&vec![0.5; obs], None, None, &mut vec![0.0; n]).unwrap();
        }
    }
}
