//! From the policy to actions: evaluation and candidates.

mod common;

use agent::candidates::repeat_rows;
use agent::{ActMode, Agent, CriticLearner, stream};
use common::{ACT, OBS, ROWS, agent, config, double, practised};
use networks::{load_state, normal};
use tch::{Device, Kind, Tensor};

#[test]
fn deterministic_actions_are_the_one_step_map_of_a_latent_without_head_noise() {
    let agent = practised(&config("\"policy.eval_latent\" = \"drawn\""));
    let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
    let act = |seed, mode| agent.act(&obs, mode, &mut stream(seed, "act"));
    assert_eq!(act(0, ActMode::Deterministic), act(0, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(1, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(0, ActMode::Stochastic));
    assert_eq!(act(0, ActMode::Stochastic), act(0, ActMode::Stochastic));

    let z = normal(&mut stream(0, "act"), &[ROWS, ACT], Device::Cpu);
    let (policy, params) = agent.policy();
    let (mean, _) = policy.one_step(params.frozen(), &obs, &z);
    assert!(act(0, ActMode::Deterministic).allclose(&mean.tanh(), 1e-6, 1e-6, false));
    let largest = double(&act(0, ActMode::Stochastic).abs().max());
    assert!(largest <= 1.0, "{largest}");
}

#[test]
fn an_action_is_that_of_a_draw_from_the_same_noise() {
    for squash in ["clip", "tanh"] {
        let keys = format!("\"policy.squash\" = \"{squash}\"\n\"policy.latent_std\" = 0.3");
        let agent = practised(&config(&keys));
        let [obs, z, xi] = [("obs", OBS), ("z", ACT), ("xi", ACT)]
            .map(|(name, dim)| normal(&mut stream(0, name), &[ROWS, dim], Device::Cpu));
        let (policy, params) = agent.policy();
        let action = policy.action(params.frozen(), &obs, &z, &xi);
        let draw = policy.draw(params.frozen(), &obs, &z, Some(&xi));
        assert!(action.allclose(&draw.action, 1e-5, 1e-6, false), "{squash}");
    }
}

#[test]
fn the_best_of_k_is_a_proposal_that_no_other_outvalues() {
    let k = 6;
    for kind in ["layernorm", "crossq", "xqc"] {
        let config = config(&format!("\"critic.kind\" = \"{kind}\"\n\"candidates.act\" = {k}"));
        let agent = practised(&config);
        let critic =
            CriticLearner::new(&config.critic, OBS, ACT, Device::Cpu, &mut stream(0, "critic"));
        load_state(&critic.state(), &agent.state()).unwrap();
        let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
        let chosen = agent.act(&obs, ActMode::BestOf(k), &mut stream(0, "act"));
        assert_eq!(chosen, agent.act(&obs, ActMode::Explore, &mut stream(0, "act")));

        let (rows, mut rng) = (repeat_rows(&obs, k as i64), stream(0, "act"));
        let [z, xi] = [0, 1].map(|_| normal(&mut rng, &[ROWS * k as i64, ACT], Device::Cpu));
        let (policy, params) = agent.policy();
        let proposals = policy.draw(params.frozen(), &rows, &z, Some(&xi)).action;
        let values = critic.value(&rows, &proposals).view([ROWS, k as i64]);
        let best = critic.value(&obs, &chosen).unsqueeze(1);
        let short = double(&(values - best).max());
        assert!(short < 1e-5, "{kind}: a proposal is better by {short}");
        let proposals = proposals.view([ROWS, k as i64, ACT]);
        let distance = (proposals - chosen.unsqueeze(1)).abs().sum_dim_intlist(
            &[2i64][..],
            false,
            Kind::Float,
        );
        assert_eq!(double(&distance.min_dim(1, false).0.max()), 0.0, "{kind}");
    }
}

#[test]
fn deterministic_actions_with_the_latent_at_zero_have_no_randomness() {
    let agent = practised(&config(""));
    let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
    let act = |seed, mode| agent.act(&obs, mode, &mut stream(seed, "act"));
    assert_eq!(act(0, ActMode::Deterministic), act(1, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Stochastic), act(1, ActMode::Stochastic));
    let (policy, params) = agent.policy();
    let zero = Tensor::zeros([ROWS, ACT], (Kind::Float, Device::Cpu));
    let (mean, _) = policy.one_step(params.frozen(), &obs, &zero);
    assert!(act(0, ActMode::Deterministic).allclose(&mean.tanh(), 1e-6, 1e-6, false));
}

#[test]
fn the_latent_has_its_deviation() {
    // Untrained, the policy's mean is its latent.
    let keys = r#"
        "policy.latent_std" = 0.2
        "policy.eval_latent" = "drawn"
        "policy.squash" = "clip"
    "#;
    let agent = agent(&config(keys), 0);
    let obs = Tensor::zeros([4000, OBS], (Kind::Float, Device::Cpu));
    let action = agent.act(&obs, ActMode::Deterministic, &mut stream(0, "act"));
    let deviation = double(&action.std(false));
    assert!((deviation - 0.2).abs() < 0.005, "{deviation}");
}
