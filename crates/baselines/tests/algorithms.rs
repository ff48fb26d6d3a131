//! What every algorithm promises, through the trait.

#![expect(clippy::print_stdout, reason = "figures of the tests, shown with --nocapture")]

mod common;

use agent::{ActMode, Agent, Batch, Random, stream};
use common::{actions, bandit, make, named, snapshot};
use networks::{normal, uniform};
use policy::{Op, Policy};
use tch::{Device, Kind, Tensor};

const OBS: i64 = 5;
const ACT: i64 = 3;

/// Makes every promise below a test of every algorithm, such as `dpmd::one_seed_gives_one_agent_to_the_byte_and_another_seed_another`.
macro_rules! promises {
    ([$($algo:ident)*] $promises:tt) => { $(promises!(@ $algo $promises);)* };
    (@ $algo:ident [$($promise:ident)*]) => {
        mod $algo {
            $(#[test]
            fn $promise() {
                super::$promise(&stringify!($algo).replace('_', "-"));
            })*
        }
    };
}

promises! {
    [smfp]
    [
        the_graph_acts_as_the_agent_in_every_mode
        normalised_observations_are_saved_and_used_in_actions_and_in_the_critics_target
        xqc_critics_return_values_in_the_units_of_the_rewards
        xqc_critics_and_their_scale_of_returns_are_saved_to_the_byte
    ]
}

promises! {
    [sac td3 crossq mdpo meanflow qvpo dpmd sac_flow_g sac_flow_t dime flowrl]
    [
        the_graph_acts_as_the_agent_in_every_mode
        normalised_observations_are_saved_and_used_in_actions_and_in_the_critics_target
        one_seed_gives_one_agent_to_the_byte_and_another_seed_another
        an_agent_that_loads_a_state_continues_from_it_to_the_byte
        the_actor_learns_at_every_nth_update
        actions_lie_in_bounds_and_follow_from_the_stream
        policies_of_several_steps_call_their_network_once_per_step_and_the_others_once
        numbers_that_are_not_finite_are_an_error_that_names_the_quantity
        an_endless_task_is_worth_its_discounted_sum_and_a_terminal_step_its_reward
        the_best_action_of_a_bandit_is_found
        xqc_critics_return_values_in_the_units_of_the_rewards
        xqc_critics_and_their_scale_of_returns_are_saved_to_the_byte
    ]
}

fn batch(rng: &mut Random) -> Batch {
    let rows = 16;
    Batch {
        obs: normal(rng, &[rows, OBS], Device::Cpu),
        action: uniform(rng, &[rows, ACT], Device::Cpu) * 2.0 - 1.0,
        reward: normal(rng, &[rows], Device::Cpu),
        next_obs: normal(rng, &[rows, OBS], Device::Cpu),
        terminated: uniform(rng, &[rows], Device::Cpu).lt(0.25).to_kind(Kind::Float),
    }
}

/// An agent after some updates, and the stream that it learned with.
fn trained(algo: &str, seed: u64, updates: usize) -> (Box<dyn Agent>, Random) {
    let (mut agent, mut rng) = (make(algo, "", OBS, ACT, seed), stream(seed, "learning"));
    for _ in 0..updates {
        agent.update(&batch(&mut rng), &mut rng).read().unwrap();
    }
    (agent, rng)
}

fn one_seed_gives_one_agent_to_the_byte_and_another_seed_another(algo: &str) {
    let after = |seed| snapshot(trained(algo, seed, 7).0.as_ref());
    assert!(after(1) == after(1), "{algo}");
    assert!(after(1) != after(2), "{algo}");
}

fn an_agent_that_loads_a_state_continues_from_it_to_the_byte(algo: &str) {
    let (mut whole, mut rng) = trained(algo, 1, 4);
    let mut other = make(algo, "", OBS, ACT, 9);
    other.load(&snapshot(whole.as_ref())).unwrap();
    let mut same = rng.clone();
    for _ in 0..4 {
        whole.update(&batch(&mut rng), &mut rng).read().unwrap();
        other.update(&batch(&mut same), &mut same).read().unwrap();
    }
    assert!(snapshot(whole.as_ref()) == snapshot(other.as_ref()), "{algo}");
    let short = &snapshot(whole.as_ref())[1..];
    assert!(other.load(short).unwrap_err().to_string().contains("is missing"), "{algo}");
}

fn normalised_observations_are_saved_and_used_in_actions_and_in_the_critics_target(algo: &str) {
    let raw = make(algo, "\"actor.normalise\" = false", OBS, ACT, 1);
    assert!(named(raw.as_ref(), "obs_norm").is_empty(), "{algo}");
    let make = |seed| make(algo, "\"actor.normalise\" = true", OBS, ACT, seed);
    let (mut agent, mut rng) = (make(1), stream(1, "learning"));
    for _ in 0..6 {
        agent.update(&batch(&mut rng), &mut rng).read().unwrap();
    }
    // A copy whose statistics are off by `shift`.
    let copy = |shift: f64| {
        let mut other = make(2);
        other.load(&snapshot(agent.as_ref())).unwrap();
        for (name, tensor) in other.state() {
            if name == "obs_norm.mean" {
                let _ = tensor.shallow_clone().g_add_scalar_(shift);
            }
        }
        other
    };
    let obs = normal(&mut stream(0, "obs"), &[9, OBS], Device::Cpu);
    let act = |agent: &dyn Agent| agent.act(&obs, ActMode::Stochastic, &mut stream(0, "act"));
    assert_eq!(act(agent.as_ref()), act(copy(0.0).as_ref()), "{algo}");
    assert_ne!(act(agent.as_ref()), act(copy(1.0).as_ref()), "{algo}");
    let critics_after = |shift| {
        let (mut agent, mut rng) = (copy(shift), stream(2, "learning"));
        agent.learn(&batch(&mut rng), false, &mut rng).read().unwrap();
        named(agent.as_ref(), "critic.")
    };
    assert!(critics_after(0.0) == critics_after(0.0), "{algo}");
    assert!(critics_after(0.0) != critics_after(1.0), "{algo}");
}

/// Within 1e-5 on 10,000 observations, with networks of the preset's size and weights changed at
/// random.
fn the_graph_acts_as_the_agent_in_every_mode(algo: &str) {
    let rows = 10_000;
    let chain = matches!(algo, "qvpo" | "dpmd" | "dime");
    // A chain of 16 or 20 calls multiplies rounding by the networks' slopes, and ends at the bounds
    // for most weights.
    let spread = if chain { 0.005 } else { 0.05 };
    // (Four calls of the transformer of this size are ten times as long as another policy's.)
    let [width, depth] = if algo == "sac-flow-t" { [96, 2] } else { [256, 3] };
    let cases = [(false, "mish"), (true, "relu"), (false, "swish"), (true, "gelu"), (false, "elu")];
    // A nonlinearity is the same operations in every algorithm.
    for (normalise, activation) in &cases[..if algo == "smfp" { 5 } else { 2 }] {
        let keys = format!(
            "\"actor.normalise\" = {normalise}\n\"actor.activation\" = \"{activation}\"\n\
             \"actor.width\" = {width}\n\"actor.depth\" = {depth}"
        );
        let batch_norm = format!("\n\"flow.batch_norm\" = {normalise}");
        let own = match algo {
            "sac-flow-g" | "sac-flow-t" => batch_norm,
            "smfp" => "\n\"policy.eval_latent\" = \"drawn\"".into(),
            _ => String::new(),
        };
        let keys = keys + &own;
        let (mut agent, mut rng) = (make(algo, &keys, OBS, ACT, 1), stream(1, "learning"));
        for _ in 0..6 {
            agent.update(&batch(&mut rng), &mut rng).read().unwrap();
        }
        for (name, tensor) in agent.state() {
            if name.starts_with("actor.") || name.starts_with("actor_lagged.") {
                let noise = normal(&mut rng, &tensor.size(), Device::Cpu) * spread;
                let _ = tensor.shallow_clone().g_add_(&noise);
            }
        }
        let mut policy = Policy::new(agent.graph()).unwrap();
        let [obs_dim, z_dim, xi_dim, act_dim] = policy.sizes().map(|n| n as i64);
        assert_eq!([obs_dim, act_dim], [OBS, ACT]);
        let obs = normal(&mut rng, &[rows, OBS], Device::Cpu) * 3.0;
        use ActMode::{Deterministic, Mean, Stochastic};
        for mode in [Mean, Deterministic, Stochastic] {
            let expected = agent.act(&obs, mode, &mut stream(0, "act"));
            let mut noise = stream(0, "act");
            // A chain's noise is drawn step by step, (T, rows, act).
            let [z, xi] = [z_dim, xi_dim].map(|dim| {
                let of_steps = normal(&mut noise, &[dim / ACT, rows, ACT], Device::Cpu);
                of_steps.transpose(0, 1).contiguous().view([rows, dim])
            });
            let [obs, z, xi] = [&obs, &z, &xi].map(floats);
            let row =
                |of: &[f32], dim: i64, i: usize| of[i * dim as usize..][..dim as usize].to_vec();
            let mut actions = vec![0.0; rows as usize * ACT as usize];
            for (i, action) in actions.chunks_exact_mut(ACT as usize).enumerate() {
                let (z, xi) = (row(&z, z_dim, i), row(&xi, xi_dim, i));
                let z = (mode != Mean).then_some(&z[..]);
                let xi = (mode == Stochastic).then_some(&xi[..]);
                policy.act(&row(&obs, OBS, i), z, xi, action).unwrap();
            }
            let found = Tensor::from_slice(&actions).view([rows, ACT]);
            let worst = (&found - &expected).abs().max().double_value(&[]);
            println!(
                "{algo}, {activation}, {mode:?}, normalise {normalise}: at most {worst:.1e} off"
            );
            assert!(worst < 1e-5, "{algo}, {activation}, {mode:?}, normalise {normalise}: {worst}");
            let inside = found.abs().lt(0.99).to_kind(Kind::Float).mean(Kind::Float);
            assert!(
                chain || inside.double_value(&[]) > 0.2,
                "{algo}: most actions are at the bounds"
            );
        }
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.contiguous().view([-1])).unwrap()
}

fn the_actor_learns_at_every_nth_update(algo: &str) {
    let mut agent = make(algo, "\"actor.update_every\" = 3", OBS, ACT, 0);
    let mut rng = stream(0, "learning");
    for n in 1..=7 {
        let before = named(agent.as_ref(), "actor.");
        let metrics = agent.update(&batch(&mut rng), &mut rng);
        let has = |name| metrics.names().any(|other| other == name);
        assert!(has("critic_loss") && has("q_mean"), "{algo}");
        assert_eq!(has("actor_loss"), n % 3 == 0, "{algo}, update {n}");
        assert_eq!(before != named(agent.as_ref(), "actor."), n % 3 == 0, "{algo}, {n}");
    }
}

fn actions_lie_in_bounds_and_follow_from_the_stream(algo: &str) {
    let (agent, _) = trained(algo, 3, 6);
    let obs = normal(&mut stream(0, "obs"), &[9, OBS], Device::Cpu);
    let act = |mode, seed| agent.act(&obs, mode, &mut stream(seed, "act"));
    use ActMode::{BestOf, Deterministic, Explore, Mean, Stochastic};
    for mode in [Explore, Deterministic, Mean, Stochastic, BestOf(4)] {
        let action = act(mode, 0);
        assert_eq!(action.size(), [9, ACT], "{algo}");
        assert!(action.abs().max().double_value(&[]) <= 1.0, "{algo}, {mode:?}");
        assert_eq!(action, act(mode, 0), "{algo}, {mode:?}");
        // Only a latent is left of the noise in deterministic actions.
        let latent = matches!(
            algo,
            "meanflow" | "qvpo" | "dpmd" | "sac-flow-g" | "sac-flow-t" | "dime" | "flowrl"
        );
        let varies = mode != Mean && (mode != Deterministic || latent);
        assert_eq!(action != act(mode, 1), varies, "{algo}, {mode:?}");
    }
}

fn policies_of_several_steps_call_their_network_once_per_step_and_the_others_once(algo: &str) {
    let (keys, calls) = match algo {
        "qvpo" | "dpmd" | "dime" => ("\"diffusion.steps\" = 7", 7),
        "sac-flow-g" | "sac-flow-t" => ("\"flow.steps\" = 7", 7),
        "flowrl" => ("\"flow.steps\" = 3", 6),
        _ => ("", 1),
    };
    // Matrix products of a call, and those outside of the steps, in the graph that acts as the agent
    // does: three layers; gate and candidate, and the network of sigma; embedding, two blocks of
    // three products and two heads, and the memory with its part of the blocks.
    let (of_call, once) = match algo {
        "sac-flow-g" => (6, 3),
        "sac-flow-t" => (9, 4),
        _ => (3, 0),
    };
    let agent = make(algo, keys, OBS, ACT, 0);
    assert_eq!(agent.calls_per_action(), calls, "{algo}");
    let graph = agent.graph();
    let products = graph.ops.iter().filter(|op| matches!(op, Op::Affine(..))).count() as u32;
    assert_eq!(products, calls * of_call + once, "{algo}");
}

fn numbers_that_are_not_finite_are_an_error_that_names_the_quantity(algo: &str) {
    let mut rng = stream(0, "batch");
    let batch = batch(&mut rng);
    let _ = batch.reward.get(3).fill_(f64::NAN);
    let error = make(algo, "", OBS, ACT, 0).update(&batch, &mut rng).read().unwrap_err();
    assert_eq!(error.to_string(), "critic_loss is NaN", "{algo}");
}

fn an_endless_task_is_worth_its_discounted_sum_and_a_terminal_step_its_reward(algo: &str) {
    // Reward 1 for ever at gamma 0.9 is worth 10 if the target bootstraps (as
    // it does through time limits), and 1 if every step ends the task.
    let critic = r#"
        "critic.kind" = "mlp"
        "critic.gamma" = 0.9
        "critic.learning_rate" = 3e-3
        "critic.beta1" = 0.9
        "critic.tau" = 0.05
        "critic.target_interval" = 1
        "actor.update_every" = 50
    "#;
    let own = match algo {
        "sac" | "crossq" | "mdpo" | "sac-flow-g" | "sac-flow-t" => {
            "\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-6"
        }
        "qvpo" | "dpmd" => "\"diffusion.steps\" = 2",
        "dime" => {
            "\"diffusion.steps\" = 2\n\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-6"
        }
        _ => "",
    };
    for (terminated, worth) in [(0.0, 10.0), (1.0, 1.0)] {
        let mut agent = make(algo, &format!("{critic}\n{own}"), 1, 1, 5);
        let mut rng = stream(6, "learning");
        let mut q = 0.0;
        for i in 0..1200 {
            let batch = bandit(64, Tensor::ones_like, terminated, i);
            let metrics = agent.update(&batch, &mut rng).read().unwrap();
            q = metrics.iter().find(|(name, _)| *name == "q_mean").unwrap().1;
        }
        let error = (q - worth).abs() / worth;
        assert!(error < 0.05, "{algo}: worth {worth}, learned {q}");
    }
}

fn xqc_critics_return_values_in_the_units_of_the_rewards(algo: &str) {
    let critic = r#"
        "critic.kind" = "xqc"
        "critic.gamma" = 0.9
        "critic.learning_rate" = 3e-3
        "critic.beta1" = 0.9
        "critic.tau" = 0.05
        "critic.target_interval" = 1
        "actor.update_every" = 50
    "#;
    let own = match algo {
        "sac" | "crossq" | "mdpo" | "sac-flow-g" | "sac-flow-t" => {
            "\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-6"
        }
        "qvpo" | "dpmd" => "\"diffusion.steps\" = 2",
        "dime" => {
            "\"diffusion.steps\" = 2\n\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-6"
        }
        _ => "",
    };
    // Returns of up to 45, so that rewards are divided by 9: 30 is well inside of the support.
    for (terminated, worth) in [(0.0, 30.0), (1.0, 3.0)] {
        let mut agent = make(algo, &format!("{critic}\n{own}"), 1, 1, 5);
        agent.observe_returns(&[45.0, 3.0, 30.0]);
        let mut rng = stream(6, "learning");
        let mut q = 0.0;
        for i in 0..1200 {
            let batch = bandit(64, |a| a.ones_like() * 3.0, terminated, i);
            let metrics = agent.update(&batch, &mut rng).read().unwrap();
            q = metrics.iter().find(|(name, _)| *name == "q_mean").unwrap().1;
        }
        let error = (q - worth).abs() / worth;
        println!("{algo}: worth {worth}, learned {q}");
        assert!(error < 0.05, "{algo}: worth {worth}, learned {q}");
        // Rows of weights keep length 1.
        for (name, tensor) in agent.state() {
            if name.starts_with("critic.") && tensor.dim() == 2 {
                let length = (&tensor * &tensor).sum_dim_intlist(&[1i64][..], false, Kind::Float);
                let off = (length - 1.0).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{algo}: rows of {name}");
            }
        }
    }
}

fn xqc_critics_and_their_scale_of_returns_are_saved_to_the_byte(algo: &str) {
    let make = |seed| make(algo, "\"critic.kind\" = \"xqc\"", OBS, ACT, seed);
    let mut whole = make(1);
    let mut rng = stream(1, "learning");
    let step = |agent: &mut dyn Agent, rng: &mut Random| {
        agent.observe_returns(&[uniform(rng, &[1], Device::Cpu).double_value(&[0]) * 20.0, -1.5]);
        agent.update(&batch(rng), rng).read().unwrap();
    };
    (0..4).for_each(|_| step(whole.as_mut(), &mut rng));
    let mut other = make(9);
    other.load(&snapshot(whole.as_ref())).unwrap();
    let mut same = rng.clone();
    for _ in 0..4 {
        step(whole.as_mut(), &mut rng);
        step(other.as_mut(), &mut same);
    }
    assert!(snapshot(whole.as_ref()) == snapshot(other.as_ref()), "{algo}");
    // Another scale of returns is another update.
    other.observe_returns(&[1e3]);
    step(whole.as_mut(), &mut rng);
    step(other.as_mut(), &mut same);
    assert!(named(whole.as_ref(), "critic.") != named(other.as_ref(), "critic."), "{algo}");
}

/// What an algorithm needs to learn a bandit in moments.
const FAST: &str = r#"
"critic.kind" = "mlp"
"critic.learning_rate" = 3e-3
"actor.learning_rate" = 3e-3
"actor.update_every" = 1
"#;

fn the_best_action_of_a_bandit_is_found(algo: &str) {
    let (own, updates) = match algo {
        "sac" | "sac-flow-g" => {
            ("\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-3", 800)
        }
        // With the critic that makes it CrossQ, whose running statistics
        // need longer.
        "crossq" => (
            "\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-3\n\
             \"critic.kind\" = \"crossq\"\n\"critic.learning_rate\" = 1e-3\n\
             \"critic.renorm_warmup\" = 200",
            1600,
        ),
        "meanflow" => ("\"objective.lambda\" = 0.01", 800),
        "dime" => (
            "\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-3\n\
             \"diffusion.steps\" = 8\n\"diffusion.step_size\" = 0.3\n\
             \"diffusion.prior_std\" = 1.0",
            800,
        ),
        "qvpo" => ("\"diffusion.steps\" = 10\n\"regression.uniform\" = 0", 800),
        "dpmd" => (
            "\"diffusion.steps\" = 10\n\"temperature.lambda\" = 0.5\n\
             \"temperature.noise\" = 0.2\n\"mirror.policy_tau\" = 0.05\n\
             \"actor.learning_rate\" = 1e-3",
            800,
        ),
        _ => ("", 800),
    };
    finds_the_best_action(algo, own, updates);
}

#[test]
fn the_best_action_of_a_bandit_is_found_with_xqc_critics() {
    let keys = "\"temperature.automatic\" = false\n\"temperature.alpha\" = 1e-3\n\
                \"critic.kind\" = \"xqc\"\n\"critic.learning_rate\" = 1e-3";
    finds_the_best_action("sac", keys, 1600);
}

/// Learns a bandit that pays -(a - 0.5)^2 with some keys over [`FAST`].
fn finds_the_best_action(algo: &str, own: &str, updates: u64) {
    let mut agent = make(algo, &format!("{FAST}\n{own}"), 1, 1, 7);
    agent.observe_returns(&[-2.25, 0.0]);
    let mut rng = stream(8, "learning");
    for i in 0..updates {
        let batch = bandit(64, |a| -(a - 0.5).square(), 1.0, i);
        agent.update(&batch, &mut rng).read().unwrap();
    }
    let off = (actions(agent.as_ref(), ActMode::Deterministic, 200) - 0.5).square();
    let off = off.mean(Kind::Float).sqrt().double_value(&[]);
    println!("{algo}: off by {off:.3}");
    // A uniform policy would be off by 0.76.
    assert!(off < 0.2, "{algo}: off by {off}");
}
