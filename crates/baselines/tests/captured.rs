//! Whether an update could be captured as a CUDA graph and replayed, seen on the CPU in LibTorch's
//! operations: updates with the same branches must be the same operations with the same numbers of the
//! host, on the same tensors.

mod common;

use agent::{Agent, Batch, stream};
use networks::{Buffers, normal, uniform};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

const OBS: i64 = 5;
const ACT: i64 = 3;
const ROWS: i64 = 16;

/// Small networks, of which every branch comes up more than once in twelve updates.
const SMALL: &str = r#"
"critic.width" = 16
"critic.renorm_warmup" = 6
"critic.target_interval" = 2
"actor.width" = 16
"actor.depth" = 2
"actor.update_every" = 3
"actor.normalise" = true
"#;

fn batch(seed: u64) -> Batch {
    let (mut rng, cpu) = (stream(seed, "batch"), Device::Cpu);
    Batch {
        obs: normal(&mut rng, &[ROWS, OBS], cpu),
        action: uniform(&mut rng, &[ROWS, ACT], cpu) * 2.0 - 1.0,
        reward: normal(&mut rng, &[ROWS], cpu),
        next_obs: normal(&mut rng, &[ROWS, OBS], cpu),
        terminated: uniform(&mut rng, &[ROWS], cpu).lt(0.25).to_kind(Kind::Float),
    }
}

/// Where two updates with the same branches differ, over some updates with other batches and noise in the
/// same buffers.
fn difference(agent: &mut dyn Agent) -> Option<String> {
    let mut rng = stream(1, "learning");
    let mut batch_of = batch(0);
    let mut transitions = Buffers::replacing(&mut batch_of.tensors_mut(), Device::Cpu);
    let mut noises = HashMap::new();
    let mut records: HashMap<_, Vec<String>> = HashMap::new();
    let places = |agent: &dyn Agent| -> Vec<_> {
        let state = agent.state().into_iter();
        state.map(|(name, tensor)| (name, tensor.data_ptr() as usize)).collect()
    };
    let before = places(agent);
    for update in 0..24 {
        let with_actor = agent.actor_due();
        let branches = (with_actor, agent.branches());
        transitions.refill(&batch(update).tensors());
        let mut drawn = agent.draw(ROWS, with_actor, &mut rng);
        // The buffers of the first noise with these parts, overwritten by each later one.
        let (noise, buffers) = noises.entry(with_actor).or_insert_with(|| {
            let mut noise = agent.draw(ROWS, with_actor, &mut stream(2, "learning"));
            let buffers = Buffers::replacing(&mut noise.tensors(), Device::Cpu);
            (noise, buffers)
        });
        buffers.refill(&shared(&drawn.tensors()));
        let found = testing::operations(|| {
            agent.learn_from(&batch_of, with_actor, noise.as_ref());
        });
        assert!(found.len() > 50, "{found:?}");
        if let Some(new) = found.iter().find(|line| line.contains(" stays behind at ")) {
            return Some(format!("update {update}: {new}, a tensor in place of another"));
        }
        if let Some(first) = records.get(&branches) {
            let at = first.iter().zip(&found).position(|(a, b)| a != b);
            let at = at.or((first.len() != found.len()).then_some(first.len().min(found.len())));
            if let Some(at) = at {
                let [a, b] = [first, &found].map(|record| record.get(at).cloned());
                return Some(format!("update {update} {branches:?}, operation {at}: {a:?}, {b:?}"));
            }
        } else {
            records.insert(branches, found);
        }
        // What the environment does meanwhile.
        agent.observe_returns(&[update as f64]);
    }
    assert!(records.len() >= 2, "one with the actor, one without");
    let moved: Vec<_> = before.into_iter().zip(places(agent)).filter(|(a, b)| a != b).collect();
    (!moved.is_empty()).then(|| format!("other storage: {moved:?}"))
}

fn shared<'a>(tensors: &'a [&mut Tensor]) -> Vec<&'a Tensor> {
    tensors.iter().map(|tensor| &**tensor).collect()
}

/// The outcome for an algorithm, and the number of the host that it names.
fn of(algo: &str, keys: &str) -> (Option<String>, Option<&'static str>) {
    let keys = format!("{SMALL}\n{keys}");
    let config = common::config_of(algo, &keys);
    let mut agent = config.build(OBS, ACT, Device::Cpu, &mut stream(0, "networks"));
    let mut found = None;
    testing::in_libtorch(|| found = difference(agent.as_mut()));
    (found, config.number_of_host())
}

#[test]
fn updates_with_the_same_branches_are_the_same_operations_on_the_same_tensors() {
    let kl = "\"mirror.kind\" = \"kl\"\n\"mirror.policy_interval\" = 2";
    let clipped = "\"entropy.mode\" = \"threshold\"\n\"entropy.latents\" = 0\n\
                   \"policy.squash\" = \"clip\"\n\"mirror.actions\" = \"replay\"";
    let norm = "\"flow.batch_norm\" = true\n\"flow.renorm_warmup\" = 9";
    let atoms = "\"distribution.on\" = true";
    let layers = "\"critic.kind\" = \"layernorm\"";
    let constant = "\"regression.entropy_final\" = 0.02\n\"regression.entropy\" = 0.02";
    let mut failures = Vec::new();
    for (algo, keys) in [
        ("smfp", ""),
        ("smfp", clipped),
        ("smfp", "\"mirror.actions\" = \"broad\"\n\"candidates.target\" = 3"),
        ("crossq", ""),
        ("sac", ""),
        ("sac", layers),
        ("td3", ""),
        ("mdpo", ""),
        ("mdpo", kl),
        ("meanflow", ""),
        ("qvpo", constant),
        ("dpmd", "\"temperature.update_every\" = 2"),
        ("flowrl", ""),
        ("flowrl", layers),
        ("sac-flow-g", ""),
        ("sac-flow-g", norm),
        ("sac-flow-t", ""),
        ("sac-flow-t", norm),
        ("dime", ""),
        ("dime", atoms),
    ] {
        let (difference, reason) = of(algo, keys);
        if difference.is_some() || reason.is_some() {
            failures.push(format!("{algo} with {keys}: {difference:?} {reason:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn what_says_that_a_number_of_the_host_changes_has_one() {
    let schedule = "\"entropy.mode\" = \"fixed\"\n\"entropy.alpha_decay_updates\" = 100";
    let xqc = "\"critic.kind\" = \"xqc\"";
    for (algo, keys) in [("smfp", schedule), ("smfp", xqc), ("sac", xqc), ("qvpo", "")] {
        let (difference, reason) = of(algo, keys);
        assert!(reason.is_some() && difference.is_some(), "{algo} with {keys}: {reason:?}");
    }
}
