//! What TD3 promises beyond what every algorithm does (`algorithms.rs`).

mod common;

use agent::{ActMode, Agent, Batch, CriticLearner, Metrics, stream};
use baselines::td3::{PRESETS, Td3, Td3Config, Td3Noise};
use common::{actions, named};
use networks::{load_state, normal, uniform};
use tch::{Device, Kind, Tensor};

fn td3(config: &Td3Config) -> Td3 {
    Td3::new(config, 5, 3, Device::Cpu, &mut stream(0, "agent"))
}

fn batch() -> Batch {
    let mut rng = stream(0, "batch");
    Batch {
        obs: normal(&mut rng, &[16, 5], Device::Cpu),
        action: uniform(&mut rng, &[16, 3], Device::Cpu) * 2.0 - 1.0,
        reward: normal(&mut rng, &[16], Device::Cpu),
        next_obs: normal(&mut rng, &[16, 5], Device::Cpu),
        terminated: Tensor::zeros([16], (Kind::Float, Device::Cpu)),
    }
}

#[test]
fn the_targets_action_is_the_target_policys_with_clipped_noise() {
    // With noise far beyond the clip and tau 0, the critics' loss is that of a
    // learner that is handed the next action by hand.
    let config: Td3Config = common::config(PRESETS, "\"critic.tau\" = 0.0");
    let (mut agent, batch) = (td3(&config), batch());
    for (name, tensor) in agent.state() {
        if name == "actor_target.mean.bias" {
            let _ = tensor.shallow_clone().g_add_scalar_(0.3);
        }
    }
    let mut critic = CriticLearner::new(&config.critic, 5, 3, Device::Cpu, &mut stream(1, "other"));
    load_state(&critic.state(), &agent.state()).unwrap();
    let mut shifted = td3(&config);
    let target = agent.state().into_iter();
    let target = target.filter_map(|(name, tensor)| {
        name.strip_prefix("actor_target.").map(|name| (format!("actor.{name}"), tensor))
    });
    let mut state: Vec<_> = target.collect();
    state.extend(agent.state().into_iter().filter(|(name, _)| !name.starts_with("actor.")));
    shifted.load(&state).unwrap();
    let mean = shifted.act(&batch.next_obs, ActMode::Deterministic, &mut stream(0, "unused"));

    let next = normal(&mut stream(2, "noise"), &[16, 3], Device::Cpu) * 100.0;
    let by_hand = (mean + (&next * 0.2).clamp(-0.5, 0.5)).clamp(-1.0, 1.0);
    let loss = |metrics: Metrics| {
        let values = metrics.read().unwrap();
        values.iter().find(|(name, _)| *name == "critic_loss").unwrap().1
    };
    let expected = loss(critic.update(&batch, &by_hand, None));
    let found = loss(agent.update_with(&batch, &Td3Noise { next, with_actor: false }));
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

#[test]
fn the_target_policy_moves_by_tau_with_the_policy_and_there_is_none_with_crossq_critics() {
    let keys = "\"critic.tau\" = 0.1\n\"actor.update_every\" = 2";
    let mut agent = td3(&common::config(PRESETS, keys));
    let mut rng = stream(3, "learning");
    for n in 1..=4 {
        let before = named(&agent, "actor_target.");
        agent.update(&batch(), &mut rng).read().unwrap();
        let online = named(&agent, "actor.");
        for ((after, before), online) in
            named(&agent, "actor_target.").iter().zip(before).zip(online)
        {
            let followed = &before * 0.9 + online * 0.1;
            let expected = if n % 2 == 0 { followed } else { before };
            assert!(after.allclose(&expected, 1e-5, 1e-7, false), "update {n}");
        }
    }
    let agent = td3(&common::config(PRESETS, "\"critic.kind\" = \"crossq\""));
    assert!(named(&agent, "actor_target.").is_empty());
}

#[test]
fn exploration_has_the_given_deviation_around_the_deterministic_action() {
    let config: Td3Config = common::config(PRESETS, "\"noise.exploration\" = 0.15");
    let agent = Td3::new(&config, 1, 1, Device::Cpu, &mut stream(0, "agent"));
    let mean = actions(&agent, ActMode::Deterministic, 1).double_value(&[0]);
    assert!(mean.abs() < 0.4, "{mean}: the noise would be clipped");
    let off = actions(&agent, ActMode::Explore, 4000) - mean;
    let deviation = off.square().mean(Kind::Float).sqrt().double_value(&[]);
    assert!((deviation - 0.15).abs() < 0.01, "{deviation}");
}
