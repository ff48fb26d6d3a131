//! What SAC promises, through its public interface.

use agent::{ActMode, Agent, Batch, stream};
use baselines::GaussianPolicy;
use baselines::sac::{PRESETS, Sac, SacConfig, SacNoise};
use networks::{Activation, normal, uniform};
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
fn the_squashed_gaussians_density_integrates_to_one() {
    let mut rng = stream(1, "test");
    let (policy, params) =
        GaussianPolicy::new(16, 2, Activation::Tanh, 2, 1, Device::Cpu, &mut rng);
    let state = normal(&mut rng, &[1, 2], Device::Cpu);
    // The action is monotone in the noise, so that a grid over noise is one
    // over actions, on which the density is integrated by trapezoids.
    let noise = Tensor::linspace(-6, 6, 20_001, (Kind::Float, Device::Cpu)).unsqueeze(1);
    let sample = policy.sample(params.frozen(), &state.repeat([20_001, 1]), &noise);
    let density = sample.log_prob.to_kind(Kind::Double).exp();
    let action = sample.action.squeeze_dim(1).to_kind(Kind::Double);
    let total = Tensor::trapezoid_x(&density, &action, 0).double_value(&[]);
    assert!((total - 1.0).abs() < 1e-3, "{total}");
}

#[test]
fn an_update_without_the_actor_moves_critics_and_targets_alone() {
    for automatic in [true, false] {
        let mut agent = sac(&config(|c| c.entropy.automatic = automatic), 1, 2);
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

#[test]
fn an_endless_task_is_worth_its_discounted_sum_and_a_terminal_step_its_reward() {
    // Reward 1 for ever at gamma 0.9 is worth 10 if the target bootstraps (as
    // it does through time limits), and 1 if every step ends the task.
    for (terminated, worth) in [(0.0, 10.0), (1.0, 1.0)] {
        let config = config(|c| {
            (c.critic.gamma, c.critic.learning_rate, c.critic.tau) = (0.9, 3e-3, 0.05);
            (c.entropy.automatic, c.entropy.alpha) = (false, 1e-6);
        });
        let mut agent = sac(&config, 1, 5);
        let mut rng = stream(6, "learning");
        let mut q = 0.0;
        for i in 0..1500 {
            let metrics =
                agent.update(&batch(Tensor::ones_like, terminated, i), &mut rng).read().unwrap();
            q = metrics.q_mean.unwrap();
        }
        assert!((q - worth).abs() < 0.05 * worth, "worth {worth}, learned {q}");
    }
}

#[test]
fn the_best_action_of_a_bandit_is_found() {
    let config = config(|c| {
        (c.critic.learning_rate, c.actor.learning_rate) = (3e-3, 3e-3);
        (c.entropy.automatic, c.entropy.alpha) = (false, 1e-3);
    });
    let mut agent = sac(&config, 1, 7);
    let mut rng = stream(8, "learning");
    for i in 0..1000 {
        let transitions = batch(|a| -(a - 0.5).square(), 1.0, i);
        agent.update(&transitions, &mut rng).read().unwrap();
    }
    let state = Tensor::ones([1, 1], (Kind::Float, Device::Cpu));
    let action = agent.act(&state, ActMode::Deterministic, &mut rng).double_value(&[0, 0]);
    assert!((action - 0.5).abs() < 0.1, "{action}");
}

#[test]
fn one_seed_gives_one_agent_to_the_byte_and_another_seed_another() {
    let trained = |seed| {
        let mut agent = sac(&config(|_| ()), 1, seed);
        let mut rng = stream(seed, "learning");
        for i in 0..5 {
            agent.update(&batch(|a| a.shallow_clone(), 0.0, i), &mut rng).read().unwrap();
        }
        named(&agent, "")
    };
    assert!(trained(1) == trained(1));
    assert!(trained(1) != trained(2));
}
