//! Sampling from a replay while its rings fill and wrap.

use ndarray::aview1;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use replay::{Replay, Sample, Shape};

/// A replay with observations and actions of size 1, without spare slots.
fn replay(slots: usize, envs: usize) -> Replay {
    let shape = Shape { envs, window: slots / envs, spare: 0, obs_dim: 1, act_dim: 1 };
    Replay::in_memory(shape).unwrap()
}

/// An episode whose observations count up from `start`.
fn episode(replay: &mut Replay, start: f32, steps: usize, terminated: bool) {
    replay.begin(0, aview1(&[start]));
    for i in 0..steps {
        let next = start + i as f32 + 1.0;
        let last = i + 1 == steps;
        replay.push(0, aview1(&[next / 1000.0]), next, aview1(&[next]), last && terminated);
    }
}

fn draw(replay: &Replay, n: usize) -> Sample {
    let mut sample = Sample::new(n, 1, 1);
    replay.sample(&mut Pcg64::seed_from_u64(1), &mut sample);
    sample
}

#[test]
fn a_transition_never_crosses_an_episodes_end_even_when_the_ring_wraps() {
    let mut replay = replay(64, 1);
    for i in 0..200 {
        episode(&mut replay, 100.0 * i as f32, 1 + i % 7, i % 2 == 0);
        let sample = draw(&replay, 256);
        for row in 0..256 {
            assert_eq!(sample.next_obs[[row, 0]], sample.obs[[row, 0]] + 1.0);
            assert_eq!(sample.reward[row], sample.next_obs[[row, 0]]);
            assert_eq!(sample.action[[row, 0]], sample.next_obs[[row, 0]] / 1000.0);
        }
    }
}

#[test]
fn a_time_limit_is_not_a_terminal_state() {
    let mut replay = replay(64, 1);
    episode(&mut replay, 0.0, 3, true);
    episode(&mut replay, 100.0, 3, false);
    let sample = draw(&replay, 512);
    for row in 0..512 {
        let expected = if sample.next_obs[[row, 0]] == 3.0 { 1.0 } else { 0.0 };
        assert_eq!(sample.terminated[row], expected);
    }
    assert!(sample.next_obs.iter().any(|next| *next == 103.0), "the last step is kept");
}

#[test]
fn the_oldest_transitions_are_overwritten_and_the_count_is_correct() {
    let mut replay = replay(8, 1);
    episode(&mut replay, 0.0, 5, false);
    assert_eq!(replay.len(), 5);
    episode(&mut replay, 100.0, 5, false);
    // 12 slots were needed: of the first episode only 4 -> 5 has both slots left.
    assert_eq!(replay.len(), 6);
    let sample = draw(&replay, 512);
    assert!(sample.obs.iter().all(|obs| *obs == 4.0 || *obs >= 100.0));
}

#[test]
fn interleaved_environments_keep_their_episodes_apart_and_are_drawn_equally_often() {
    let mut replay = replay(90, 3);
    let mut counts = [0; 3];
    for (env, start) in [(0, 0.0), (1, 1000.0), (2, 2000.0)] {
        replay.begin(env, aview1(&[start]));
    }
    for tick in 0..200 {
        for (env, count) in counts.iter_mut().enumerate() {
            let next = 1000.0 * env as f32 + *count as f32 + 1.0;
            replay.push(env, aview1(&[next / 1000.0]), next, aview1(&[next]), false);
            *count += 1;
            if (tick + env) % 11 == 0 {
                *count += 1;
                replay.begin(env, aview1(&[next + 1.0]));
            }
        }
    }
    let sample = draw(&replay, 3000);
    let mut seen = [0; 3];
    for row in 0..3000 {
        assert_eq!(sample.next_obs[[row, 0]], sample.obs[[row, 0]] + 1.0);
        seen[(sample.obs[[row, 0]] / 1000.0) as usize] += 1;
    }
    assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
}

#[test]
fn every_transition_is_drawn_equally_often() {
    let mut replay = replay(1000, 1);
    episode(&mut replay, 0.0, 10, true);
    episode(&mut replay, 100.0, 10, false);
    let n = 200_000;
    let sample = draw(&replay, n);
    let mut counts = std::collections::BTreeMap::new();
    for obs in &sample.obs {
        *counts.entry(*obs as i64).or_insert(0usize) += 1;
    }
    assert_eq!(counts.len(), 20);
    // Chi-squared with 19 degrees of freedom exceeds 43.8 once in a thousand.
    let expected = n as f64 / 20.0;
    let chi: f64 = counts.values().map(|c| (*c as f64 - expected).powi(2) / expected).sum();
    assert!(chi < 43.8, "{chi}");
}
