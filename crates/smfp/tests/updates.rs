//! What an update may and may not move, and what its settings do to it.

mod common;

use agent::{Agent, AgentConfig, CriticLearner, Diverged, stream};
use common::{ACT, OBS, Snapshot, agent, batch, config, followed, moved, noise, trained};
use networks::load_state;
use smfp::{SmfpActor, SmfpConfig};
use tch::{Device, Tensor};

/// With a running scale of Q.
const SCALED: &str = "\"objective.q_scale\" = \"advantage_std\"";
const ACTOR: [&str; 5] = ["actor", "actor_lagged", "actor_adam", "q_scale", "actor_updates"];

#[test]
fn an_update_without_the_actor_moves_the_critics_and_nothing_of_the_actor() {
    for kind in ["mlp", "layernorm", "crossq", "xqc"] {
        let config = config(&format!("\"critic.kind\" = \"{kind}\""));
        let mut agent = agent(&config, 0);
        let before = Snapshot::of(&agent);
        let metrics = agent.update_with(&batch(&mut stream(0, "batch")), &noise(&config, false, 0));
        let after = Snapshot::of(&agent);
        let names: Vec<_> = metrics.names().collect();
        assert!(names.contains(&"critic_loss") && !names.contains(&"actor_loss"), "{names:?}");
        for part in ["critic", "critic_adam", "critic_updates"] {
            assert!(moved(&before, &after, part), "{kind}: {part} stood still");
        }
        for part in ACTOR {
            assert!(!moved(&before, &after, part), "{kind}: {part} moved");
        }
        if matches!(kind, "crossq" | "xqc") {
            assert!(moved(&before, &after, "critic_stats"));
        }
        if kind != "crossq" {
            assert!(followed(&before, &after, "critic_target", "critic", config.critic.tau));
        }
    }
}

#[test]
fn an_update_of_the_actor_moves_the_lagged_policy_by_tau_and_the_critics_no_further() {
    for kind in ["layernorm", "crossq", "xqc"] {
        let keys = format!("{SCALED}\n\"critic.kind\" = \"{kind}\"\n\"mirror.policy_tau\" = 0.1");
        let config = config(&keys);
        let batch = batch(&mut stream(0, "batch"));
        let (mut without, mut with) = (agent(&config, 0), agent(&config, 0));
        let before = Snapshot::of(&with);
        without.update_with(&batch, &noise(&config, false, 0));
        with.update_with(&batch, &noise(&config, true, 0));
        let (without, after) = (Snapshot::of(&without), Snapshot::of(&with));
        for part in ACTOR {
            assert!(moved(&before, &after, part), "{kind}: {part} stood still");
        }
        assert!(followed(&before, &after, "actor_lagged", "actor", 0.1), "{kind}");
        let rest = if kind == "crossq" { "critic_stats" } else { "critic_target" };
        for part in ["critic", "critic_adam", "critic_updates", rest] {
            assert!(!moved(&without, &after, part), "{kind}: the actor moved {part}");
        }
    }
}

#[test]
fn the_actor_learns_at_every_nth_update() {
    let config = config("\"actor.update_every\" = 3");
    let (mut agent, mut rng) = (agent(&config, 0), stream(0, "update"));
    for n in 1..=7 {
        let before = Snapshot::of(&agent);
        let metrics = agent.update(&batch(&mut rng), &mut rng);
        assert_eq!(moved(&before, &Snapshot::of(&agent), "actor"), n % 3 == 0, "update {n}");
        assert_eq!(metrics.names().any(|name| name == "actor_loss"), n % 3 == 0, "update {n}");
    }
}

/// The actor after one update from a state in which the lagged policy's velocity is off by
/// `shift`.
fn actor_after(config: &SmfpConfig, shift: f64) -> Tensor {
    let mut agent = agent(config, 0);
    for (name, tensor) in agent.state() {
        if name == "actor_lagged.velocity.bias" {
            let _ = tensor.shallow_clone().g_add_scalar_(shift);
        }
    }
    agent.update_with(&batch(&mut stream(0, "batch")), &noise(config, true, 0));
    Snapshot::of(&agent).part("actor")
}

#[test]
fn only_the_mirror_term_reads_the_lagged_policy() {
    let cases =
        [("\"objective.lambda\" = 0.0", false), ("", true), ("\"mirror.only\" = true", true)];
    for (keys, reads) in cases {
        let config = config(keys);
        let same = actor_after(&config, 0.0) == actor_after(&config, 0.5);
        assert_eq!(!same, reads, "{keys}");
    }
}

#[test]
fn the_mirror_term_moves_the_velocity_and_leaves_the_deviation_alone() {
    // With sigma at 0.3 the threshold of 0.1 does not bind.
    let keys = r#"
        "mirror.only" = true
        "entropy.mode" = "threshold"
        "entropy.latents" = 0
        "entropy.sigma_target" = 0.1
    "#;
    let config = config(keys);
    let mut agent = agent(&config, 0);
    let before = Snapshot::of(&agent);
    agent.update_with(&batch(&mut stream(0, "batch")), &noise(&config, true, 0));
    let after = Snapshot::of(&agent);
    assert!(moved(&before, &after, "actor.velocity"));
    assert!(!moved(&before, &after, "actor.log_std"));
}

#[test]
fn what_follows_a_terminal_state_does_not_matter() {
    let config = config("\"critic.kind\" = \"mlp\"");
    let critics = |next: f64| {
        let mut batch = batch(&mut stream(0, "batch"));
        batch.next_obs += batch.terminated.unsqueeze(1) * next;
        let mut agent = agent(&config, 0);
        agent.update_with(&batch, &noise(&config, false, 0));
        Snapshot::of(&agent).part("critic")
    };
    assert_eq!(critics(0.0), critics(5.0));
}

#[test]
fn one_seed_gives_one_agent_to_the_byte_and_another_seed_another() {
    for keys in ["\"entropy.latents\" = 0", "\"entropy.latents\" = 2"] {
        let config = config(keys);
        assert!(trained(&config, 1, 5).equals(&trained(&config, 1, 5)));
        assert!(!trained(&config, 1, 5).equals(&trained(&config, 2, 5)));
    }
}

#[test]
fn an_agent_that_loads_a_state_continues_from_it_to_the_byte() {
    // The learned alpha; then a running scale of Q and an alpha that follows a schedule.
    let scheduled = format!(
        "{SCALED}\n\"critic.kind\" = \"mlp\"\n\"entropy.mode\" = \"fixed\"\n\
         \"entropy.alpha_initial\" = 2.0\n\"entropy.alpha_decay_updates\" = 10\n\
         \"actor.update_every\" = 1"
    );
    for keys in ["", &scheduled] {
        let config = config(keys);
        let mut agent = agent(&config, 9);
        agent.load(&trained(&config, 1, 4).0).unwrap();
        // Skip what the first four updates drew.
        let mut rng = stream(1, "update");
        let mut skipped = self::agent(&config, 1);
        for _ in 0..4 {
            skipped.update(&batch(&mut rng), &mut rng).read().unwrap();
        }
        for _ in 0..3 {
            agent.update(&batch(&mut rng), &mut rng).read().unwrap();
        }
        assert!(Snapshot::of(&agent).equals(&trained(&config, 1, 7)));
    }
}

#[test]
fn numbers_that_are_not_finite_are_an_error_that_names_the_quantity() {
    let config = config(&format!("{SCALED}\n\"actor.update_every\" = 1"));
    for (value, shown) in [(f32::NAN, "critic_loss is NaN"), (f32::INFINITY, "critic_loss is inf")]
    {
        let mut rng = stream(0, "batch");
        let batch = batch(&mut rng);
        let _ = batch.reward.get(3).fill_(value as f64);
        let error: Diverged = agent(&config, 0).update(&batch, &mut rng).read().unwrap_err();
        assert_eq!(error.to_string(), shown);
    }
    // The actor's alone, the critics' being finite.
    let mut agent = agent(&config, 0);
    for (name, mut tensor) in agent.state() {
        if name == "q_scale" {
            let _ = tensor.fill_(f64::NAN);
        }
    }
    let mut rng = stream(0, "batch");
    let error = agent.update(&batch(&mut rng), &mut rng).read().unwrap_err();
    assert_eq!(error.quantity, "actor_loss");
}

#[test]
fn in_mode_soft_rewards_and_alpha_in_another_unit_give_the_same_policy() {
    // The mirror term apart, alpha log pi - Q is homogeneous in Q and alpha: Adam's step does not
    // depend on their common unit. With a scale of Q that holds with it.
    let actor = |unit: f64| {
        let keys = format!("{SCALED}\n\"entropy.alpha\" = {unit:?}\n\"critic.kind\" = \"mlp\"");
        let config = config(&keys);
        let agent = agent(&config, 0);
        for (name, tensor) in agent.state() {
            if name.starts_with("critic") && name.contains("head") {
                let _ = tensor.shallow_clone().g_mul_scalar_(unit);
            }
        }
        let noise = noise(&config, true, 0).actor.unwrap();
        let batch = batch(&mut stream(0, "batch"));
        let critic = CriticLearner::new(&config.critic, OBS, ACT, Device::Cpu, &mut stream(0, "c"));
        load_state(&critic.state(), &agent.state()).unwrap();
        let mut actor = SmfpActor::new(&config, OBS, ACT, Device::Cpu, &mut stream(0, "agent"));
        let value = |obs: &Tensor, action: &Tensor| critic.value(obs, action);
        actor.update(&batch.obs, &batch.action, &noise, &value);
        actor.policy().1.flat().copy()
    };
    // Adam's epsilon has a unit: it takes up to 1 % off the steps (1e-3) of the smallest gradients.
    assert!(actor(1.0).allclose(&actor(8.0), 1e-4, 2e-5, false));
}

#[test]
fn combinations_without_a_meaning_are_refused_with_one_line_that_names_the_key() {
    let cases = [
        ("\"entropy.mode\" = \"threshold\"\n\"entropy.latents\" = 2", "entropy.latents"),
        ("\"entropy.mode\" = \"soft\"\n\"entropy.alpha\" = 0.0", "entropy.alpha is 0"),
        ("\"entropy.mode\" = \"soft\"\n\"entropy.alpha_decay_updates\" = 9", "entropy.alpha_decay"),
        ("\"entropy.sigma_target\" = 0.0", "entropy.sigma_target"),
    ];
    for (keys, named) in cases {
        let config: SmfpConfig = testing::config(smfp::PRESETS, keys);
        let message = config.validate().unwrap_err();
        assert!(message.starts_with(named) && !message.contains('\n'), "{keys}: {message}");
    }
}
