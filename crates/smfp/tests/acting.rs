//! From the policy to actions: evaluation, candidates, and latents held while exploring.

mod common;

use agent::candidates::repeat_rows;
use agent::{ActMode, Agent, CriticLearner, stream};
use common::{ACT, OBS, ROWS, Snapshot, agent, config, double, practised};
use networks::{load_state, normal};
use smfp::Smfp;
use tch::{Device, Kind, Tensor};

#[test]
fn deterministic_actions_are_the_one_step_map_of_a_latent_without_head_noise() {
    let config = config("");
    let agent = practised(&config);
    let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
    let act = |seed, mode| agent.act(&obs, mode, &mut stream(seed, "act"));
    assert_eq!(act(0, ActMode::Deterministic), act(0, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(1, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Deterministic), act(0, ActMode::Stochastic));
    assert_eq!(act(0, ActMode::Stochastic), act(0, ActMode::Stochastic));

    let z = normal(&mut stream(0, "act"), &[ROWS, ACT], Device::Cpu);
    let (policy, params) = agent.policy();
    let (mean, _) = policy.one_step(params.frozen(), &obs, &z);
    assert_eq!(act(0, ActMode::Deterministic), mean.clamp(-1.0, 1.0));
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
    let agent = practised(&config("\"policy.eval_latent\" = \"zero\""));
    let obs = normal(&mut stream(0, "obs"), &[ROWS, OBS], Device::Cpu);
    let act = |seed, mode| agent.act(&obs, mode, &mut stream(seed, "act"));
    assert_eq!(act(0, ActMode::Deterministic), act(1, ActMode::Deterministic));
    assert_ne!(act(0, ActMode::Stochastic), act(1, ActMode::Stochastic));
    let (policy, params) = agent.policy();
    let zero = Tensor::zeros([ROWS, ACT], (Kind::Float, Device::Cpu));
    let (mean, _) = policy.one_step(params.frozen(), &obs, &zero);
    assert_eq!(act(0, ActMode::Deterministic), mean.clamp(-1.0, 1.0));
}

#[test]
fn the_latent_has_its_deviation() {
    // Untrained, the policy's mean is its latent.
    let agent = agent(&config("\"policy.latent_std\" = 0.2"), 0);
    let obs = Tensor::zeros([4000, OBS], (Kind::Float, Device::Cpu));
    let action = agent.act(&obs, ActMode::Deterministic, &mut stream(0, "act"));
    let deviation = double(&action.std(false));
    assert!((deviation - 0.2).abs() < 0.005, "{deviation}");
}

/// A policy without noise in its head: its action changes with the latent alone.
const HOLD: &str =
    "\"policy.hold\" = 4\n\"entropy.mode\" = \"none\"\n\"entropy.sigma_target\" = 0.0";

/// Actions of some steps of exploration in `ROWS` environments that do not move.
fn explored(agent: &mut Smfp, steps: usize, rng: &mut agent::Random) -> Vec<Tensor> {
    let obs = Tensor::ones([ROWS, OBS], (Kind::Float, Device::Cpu));
    (0..steps).map(|_| agent.explore(&obs, rng)).collect()
}

#[test]
fn a_latent_is_held_for_n_steps_with_a_probability_that_falls_as_the_square_of_n() {
    let mut agent = practised(&config(HOLD));
    let actions = explored(&mut agent, 3000, &mut stream(0, "act"));
    let mut counts = [0usize; 4];
    let mut length = 1;
    for pair in actions.windows(2) {
        if pair[0] == pair[1] {
            length += 1;
            continue;
        }
        // All environments draw a new latent at once, each its own.
        assert!(double(&(&pair[0] - &pair[1]).abs().min_dim(1, false).0.max()) > 0.0);
        counts[length - 1] += 1;
        length = 1;
    }
    let runs: usize = counts.iter().sum();
    let total: f64 = (1..=4).map(|n| 1.0 / (n * n) as f64).sum();
    for (i, count) in counts.iter().enumerate() {
        let share = *count as f64 / runs as f64;
        let expected = 1.0 / ((i + 1) * (i + 1)) as f64 / total;
        assert!((share - expected).abs() < 0.04, "{counts:?}");
    }
    let first = actions[0].get(0);
    assert_ne!(first, actions[0].get(1), "environments share a latent");
}

#[test]
fn a_held_latent_is_continued_after_a_save_for_any_number_of_environments() {
    let config = config(HOLD);
    let mut whole = practised(&config);
    let mut rng = stream(0, "act");
    // Stops while a latent is held.
    let held = |agent: &Smfp| Snapshot::of(agent).part("held_latent").double_value(&[0]);
    let mut last = explored(&mut whole, 1, &mut rng).remove(0);
    while held(&whole) < 2.0 {
        last = explored(&mut whole, 1, &mut rng).remove(0);
    }
    let mut resumed = agent(&config, 5);
    resumed.load(&Snapshot::of(&whole).0).unwrap();
    let mut same = rng.clone();
    let expected = explored(&mut whole, 30, &mut rng);
    assert_eq!(expected[0], last, "the latent is held");
    assert_eq!(explored(&mut resumed, 30, &mut same), expected);

    let fewer = agent(&config, 6).state();
    assert_eq!(fewer.len(), Snapshot::of(&whole).0.len());
    assert!(agent(&self::config(""), 0).state().iter().all(|(name, _)| name != "held_latent"));
}
