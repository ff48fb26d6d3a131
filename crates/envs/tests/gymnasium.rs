//! Compares the tasks with recordings of Gymnasium (`scripts/record_env_fixtures.py traces`).
//!
//! The results of two libraries depend on the processor in the last bits, which then changes whole
//! runs: the C library, which MuJoCo uses for sine, cosine and so on (glibc has variants with and
//! without FMA), and OpenBLAS, which NumPy uses for norms (with or without AVX-512). Whole runs were
//! recorded with each variant, and `edition` determines which one this machine has. With another
//! variant only the first steps are compared, with a tolerance; `scripts/parity.py` compares whole
//! runs on any machine.

mod edition;

use std::fs::File;

use edition::{digests, edition, hex};
use envs::numpy::Generator;
use envs::trace::{Trace, replay};
use envs::{Batch, BatchStep, Env, Spec, ids};
use ndarray::{Array1, Array2, Axis, stack};
use ndarray_npy::NpzReader;
use sha2::{Digest, Sha256};

const SEED: u64 = 20260731;

/// Random actions; every second block of 50 is three times as large as the bounds.
fn draw_actions(spec: &Spec, seed: u64, steps: usize) -> Array2<f32> {
    let mut random = Generator::new(seed);
    Array2::from_shape_fn((steps, spec.act_dim), |(t, i)| {
        let high = f64::from(spec.act_high[i]);
        let wide = if t / 50 % 2 == 1 { 3.0 } else { 1.0 };
        (random.uniform(-1.0, 1.0) * wide * high) as f32
    })
}

fn digest(trace: &Trace) -> String {
    let floats = [trace.obs.as_slice(), trace.reset_obs.as_slice(), trace.reward.as_slice()];
    let mut hash = Sha256::new();
    for x in floats.into_iter().flat_map(Option::unwrap) {
        hash.update(x.to_le_bytes());
    }
    hash.update(trace.terminated.as_slice().unwrap());
    hash.update(trace.truncated.as_slice().unwrap());
    hex(hash.finalize())
}

/// The first difference, if any. Compares bits if the recording has this machine's variant,
/// otherwise values with a tolerance.
fn difference(what: &str, found: &[f64], expected: &[f64]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{what}: {} numbers, Gymnasium's {}", found.len(), expected.len()));
    }
    let exact = edition() == Some("fma");
    let same = |found: f64, expected: f64| {
        if exact {
            found.to_bits() == expected.to_bits()
        } else {
            (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
        }
    };
    let i = (0..found.len()).find(|&i| !same(found[i], expected[i]))?;
    Some(format!("{what}, number {i}: {:?}, Gymnasium's {:?}", found[i], expected[i]))
}

/// The difference of whole runs, if any, by their number of episodes and digest.
fn difference_of_runs(
    what: &str,
    found: (usize, &Trace),
    expected: (&str, &str),
) -> Option<String> {
    let found = (found.0.to_string(), digest(found.1));
    let same = (found.0.as_str(), found.1.as_str()) == expected;
    (!same).then(|| format!("{what}: episodes and digest {found:?}, Gymnasium's {expected:?}"))
}

/// Fails with all differences, so that every task that differs is listed.
fn assert_none(differences: Vec<String>) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn archive() -> NpzReader<File> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/traces.npz");
    NpzReader::new(File::open(file).unwrap()).unwrap()
}

#[test]
fn resets_draw_gymnasiums_initial_states_from_one_stream() {
    let mut archive = archive();
    let mut differences = Vec::new();
    for id in ids() {
        let expected: Array2<f64> = archive.by_name(&format!("{id}/resets")).unwrap();
        let mut env = Env::make(id).unwrap();
        let mut found = Array2::zeros(expected.dim());
        for (i, mut row) in found.outer_iter_mut().enumerate() {
            env.reset((i == 0).then_some(SEED), row.as_slice_mut().unwrap());
        }
        let (found, expected) = (found.as_slice().unwrap(), expected.as_slice().unwrap());
        differences.extend(difference(id, found, expected));
    }
    assert_none(differences);
}

#[test]
fn the_first_steps_are_gymnasiums() {
    let mut archive = archive();
    let mut differences = Vec::new();
    for id in ids() {
        let obs: Array2<f64> = archive.by_name(&format!("{id}/obs")).unwrap();
        let reward: Array1<f64> = archive.by_name(&format!("{id}/reward")).unwrap();
        let mut env = Env::make(id).unwrap();
        let actions = draw_actions(env.spec(), SEED, obs.nrows());
        let trace = replay(&mut env, SEED, actions.view()).unwrap();
        let (found, expected) = (trace.reward.as_slice().unwrap(), reward.as_slice().unwrap());
        differences.extend(difference(&format!("{id}, rewards"), found, expected));
        let (found, expected) = (trace.obs.as_slice().unwrap(), obs.as_slice().unwrap());
        differences.extend(difference(&format!("{id}, observations"), found, expected));
    }
    assert_none(differences);
}

#[test]
fn whole_runs_over_many_episodes_are_bit_identical_to_gymnasiums() {
    let Some(edition) = edition() else { return };
    // Edition, task, seed, episodes, digest.
    let expected: Vec<[&str; 5]> = digests(include_str!("fixtures/digests.txt"));
    let expected = expected.iter().filter(|line| line[0] == edition && line[1] != "fingerprint");
    let (vectors, single): (Vec<&[_; 5]>, Vec<_>) =
        expected.partition(|line| line[1].contains('*'));
    assert!(ids().all(|id| single.iter().any(|line| line[1] == id)), "a task is not recorded");
    let mut differences = Vec::new();
    for [_, id, seed, episodes, digest] in single {
        let seed = seed.parse().unwrap();
        let mut env = Env::make(id).unwrap();
        let actions = draw_actions(env.spec(), seed, 2000);
        let trace = replay(&mut env, seed, actions.view()).unwrap();
        let found = (trace.reset_obs.nrows() - 1, &trace);
        let what = format!("{id}, seed {seed}");
        differences.extend(difference_of_runs(&what, found, (episodes, digest)));
    }

    assert_eq!(vectors.len(), ids().count(), "a vector of every task");
    for [_, what, seed, episodes, digest] in vectors {
        let (id, envs) = what.split_once('*').unwrap();
        let trace = replay_vector(id, envs.parse().unwrap(), seed.parse().unwrap());
        let ended = trace.terminated.iter().zip(&trace.truncated).filter(|(a, b)| **a + **b > 0);
        let found = (ended.count(), &trace);
        let what = format!("{what}, seed {seed}");
        differences.extend(difference_of_runs(&what, found, (episodes, digest)));
    }
    assert_none(differences);
}

/// A run like the recording of Gymnasium's vector environment: the seeds of environments and
/// actions count up from `seed`, and finished environments are reset automatically.
fn replay_vector(id: &str, envs: usize, seed: u64) -> Trace {
    const STEPS: usize = 1050;
    let mut batch = Batch::make(id, envs, 2).unwrap();
    let seeds: Vec<u64> = (seed..).take(envs).collect();
    let actions: Vec<_> =
        seeds.iter().map(|&seed| draw_actions(batch.spec(), seed, STEPS)).collect();
    let views: Vec<_> = actions.iter().map(|actions| actions.view()).collect();
    let actions = stack(Axis(1), &views).unwrap(); // (steps, environments, act_dim)

    let width = batch.spec().obs_dim;
    let mut reset_obs = Array2::zeros((envs, width));
    batch.reset(Some(&seeds), reset_obs.as_slice_mut().unwrap()).unwrap();
    let mut obs = Array2::zeros((STEPS * envs, width));
    let mut steps = vec![BatchStep::default(); STEPS * envs];
    let rows = obs.as_slice_mut().unwrap().chunks_exact_mut(envs * width);
    for ((actions, obs), steps) in actions.outer_iter().zip(rows).zip(steps.chunks_mut(envs)) {
        let actions = actions.to_owned();
        batch.step(actions.as_slice().unwrap(), steps, obs).unwrap();
    }
    Trace {
        obs,
        reset_obs,
        reward: steps.iter().map(|step| step.reward).collect(),
        terminated: steps.iter().map(|step| u8::from(step.terminated)).collect(),
        truncated: steps.iter().map(|step| u8::from(step.truncated)).collect(),
        terms: Vec::new(),
    }
}
