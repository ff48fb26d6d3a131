//! What FlowRL's two corrections of the published code change.

mod common;

use agent::{Batch, stream};
use common::{make, named};
use networks::{normal, uniform};
use tch::{Device, Kind, Tensor};

/// The actor after an update with some keys, on replay actions of at most a size.
fn actor_after(keys: &str, largest: f64) -> Tensor {
    let mut agent = make("flowrl", &format!("{keys}\n\"actor.update_every\" = 1"), 5, 3, 1);
    let mut rng = stream(1, "batch");
    let batch = Batch {
        obs: normal(&mut rng, &[64, 5], Device::Cpu),
        action: (uniform(&mut rng, &[64, 3], Device::Cpu) * 2.0 - 1.0) * largest,
        reward: normal(&mut rng, &[64], Device::Cpu),
        next_obs: normal(&mut rng, &[64, 5], Device::Cpu),
        terminated: Tensor::zeros([64], (Kind::Float, Device::Cpu)),
    };
    agent.update(&batch, &mut stream(2, "learning")).read().unwrap();
    let moments = named(agent.as_ref(), "actor_adam.mean");
    moments[0].copy()
}

/// The distance of two updates' gradients, relative to their size.
fn apart(keys: [&str; 2], largest: f64) -> f64 {
    let [a, b] = keys.map(|keys| actor_after(keys, largest));
    ((&a - b).norm() / a.norm()).double_value(&[])
}

#[test]
fn each_transition_has_its_own_weight_and_the_published_code_gives_all_the_mean() {
    // Q is steep enough for different weights, which the second lambda all clips to 1.
    let keys = |lambda: &str, each: bool| {
        format!("\"flow.weight\" = {lambda}\n\"flow.weight_each\" = {each}")
    };
    let apart = |lambda| apart([&keys(lambda, true), &keys(lambda, false)], 1.0);
    assert!(apart("0.5") > 1e-3, "{}", apart("0.5"));
    assert!(apart("1e9") < 1e-5, "{}", apart("1e9"));
}

#[test]
fn the_flow_learns_actions_before_squashing_and_in_the_published_code_those_after() {
    let apart = |largest| apart(["\"flow.unsquash\" = true", "\"flow.unsquash\" = false"], largest);
    assert!(apart(1.0) > 1e-3, "{}", apart(1.0));
    // Near zero there is no difference.
    assert!(apart(1e-3) < 1e-5, "{}", apart(1e-3));
}

/// With r(s, b) = b_1, uniform, and random next states, V_b is m / (1 - gamma), where m = 1/2 is the 0.9
/// expectile of b_1: 0.9 E max(b_1 - m, 0) = 0.1 E max(m - b_1, 0).
#[test]
fn the_replays_value_settles_at_that_of_the_best_of_the_replay() {
    let keys = "\"critic.gamma\" = 0.9";
    let mut agent = make("flowrl", keys, 5, 3, 1);
    let (mut batches, mut rng) = (stream(1, "batch"), stream(2, "learning"));
    let (mut means, rows) = (Vec::new(), 128);
    for _ in 0..4000 {
        let action = uniform(&mut batches, &[rows, 3], Device::Cpu) * 2.0 - 1.0;
        let batch = Batch {
            obs: normal(&mut batches, &[rows, 5], Device::Cpu),
            reward: action.select(1, 0),
            action,
            next_obs: normal(&mut batches, &[rows, 5], Device::Cpu),
            terminated: Tensor::zeros([rows], (Kind::Float, Device::Cpu)),
        };
        let metrics = agent.update(&batch, &mut rng).read().unwrap();
        means.push(metrics.iter().find(|m| m.0 == "replay_q_mean").unwrap().1);
    }
    let mean = means[3000..].iter().sum::<f64>() / 1000.0;
    // E Q_b = E b_1 + gamma V_b.
    let expected = 0.9 * 0.5 / (1.0 - 0.9);
    assert!((mean / expected - 1.0).abs() < 0.05, "{mean}, expected {expected}");
}
