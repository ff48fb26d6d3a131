//! What SAC promises beyond what every algorithm does (`algorithms.rs`).

use agent::{Agent, AgentConfig, Batch, stream};
use baselines::sac::{PRESETS, Sac, SacConfig, SacNoise};
use networks::{normal, uniform};
use tch::{Device, Kind, Tensor};

fn config(change: impl FnOnce(&mut SacConfig)) -> SacConfig {
    let mut config: SacConfig = testing::config(PRESETS, "");
    (config.critic.width, config.actor.width) = (32, 32);
    change(&mut config);
    config.validate().unwrap();
    config
}

fn sac(config: &SacConfig, obs_dim: i64, seed: u64) -> Sac {
    Sac::new(config, obs_dim, 1, Device::Cpu, &mut stream(seed, "test"))
}

/// Transitions of a task with one state that pays `reward` for an action and
/// says of the next state whether it is terminal.
fn batch(reward: impl Fn(&Tensor) -> Tensor, terminated: f64, seed: u64) -> Batch {
    let mut rng = stream(seed, "batch");
    let action = uniform(&mut rng, &[64, 1], Device::Cpu) * 2.0 - 1.0;
    let obs = Tensor::ones([64, 1], (Kind::Float, Device::Cpu));
    Batch {
        reward: reward(&action.squeeze_dim(1)),
        next_obs: obs.shallow_clone(),
        terminated: Tensor::full([64], terminated, (Kind::Float, Device::Cpu)),
        obs,
        action,
    }
}

fn named(agent: &Sac, prefix: &str) -> Vec<Tensor> {
    let state = agent.state();
    state.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, t)| t.copy()).collect()
}

#[test]
fn an_update_without_the_actor_moves_critics_and_targets_alone() {
    for automatic in [true, false] {
        let mut agent = sac(&config(|c| c.temperature.automatic = automatic), 1, 2);
        let fixed = ["actor.", "actor_adam.", "temperature"];
        let before = fixed.map(|prefix| named(&agent, prefix));
        let targets = named(&agent, "critic_target.");
        let mut rng = stream(3, "noise");
        let noise = |rng: &mut _| normal(rng, &[64, 1], Device::Cpu);
        let transitions = batch(|a| a.shallow_clone(), 0.0, 4);
        agent.update_with(&transitions, &SacNoise { next: noise(&mut rng), actor: None });
        assert!(before == fixed.map(|prefix| named(&agent, prefix)));

        let online = named(&agent, "critic.");
        for ((target, old), online) in
            named(&agent, "critic_target.").iter().zip(targets).zip(online)
        {
            let expected = old * 0.995 + online * 0.005;
            assert!(target.allclose(&expected, 1e-5, 1e-7, false));
        }
        let actor = Some(noise(&mut rng));
        agent.update_with(&transitions, &SacNoise { next: noise(&mut rng), actor });
        assert!(before[0] != named(&agent, "actor."));
        assert_eq!(before[2] != named(&agent, "temperature"), automatic);
    }
}
