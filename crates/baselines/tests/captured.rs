//! Updates as CUDA graphs, on the CPU in LibTorch's operations: updates with the same branches must be the
//! same operations with the same numbers of the host, on the same tensors, and recorded ones, repeated as a
//! graph repeats them, the updates themselves.

mod common;

use agent::{Agent, AgentConfig, Batch, CapturedUpdates, stream};
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
            agent.learn_from(&batch_of, noise.as_ref());
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

/// An algorithm with some keys, and what it starts from.
struct Case {
    name: String,
    config: Box<dyn AgentConfig>,
}

impl Case {
    fn of((algo, keys): &(&str, &str)) -> Self {
        let config = common::config_of(algo, &format!("{SMALL}\n{keys}"));
        Self { name: format!("{algo} {keys:?}"), config }
    }

    fn agent(&self) -> Box<dyn Agent> {
        self.config.build(OBS, ACT, Device::Cpu, &mut stream(0, "networks"))
    }
}

/// Algorithms, each with the branches that its settings open.
const CASES: [(&str, &str); 23] = [
    ("smfp", ""),
    (
        "smfp",
        "\"entropy.mode\" = \"threshold\"\n\"entropy.latents\" = 0\n\"policy.squash\" = \"clip\"\n\
         \"mirror.actions\" = \"replay\"",
    ),
    ("smfp", "\"mirror.actions\" = \"broad\"\n\"candidates.target\" = 3"),
    ("smfp", XQC),
    ("crossq", ""),
    ("sac", ""),
    ("sac", LAYER_NORM),
    ("sac", XQC),
    ("flowrl", XQC),
    ("td3", ""),
    ("mdpo", ""),
    ("mdpo", "\"mirror.kind\" = \"kl\"\n\"mirror.policy_interval\" = 2"),
    ("meanflow", ""),
    ("qvpo", "\"regression.entropy_final\" = 0.02\n\"regression.entropy\" = 0.02"),
    ("dpmd", "\"temperature.update_every\" = 2"),
    ("flowrl", ""),
    ("flowrl", LAYER_NORM),
    ("sac-flow-g", ""),
    ("sac-flow-g", BATCH_NORM),
    ("sac-flow-t", ""),
    ("sac-flow-t", BATCH_NORM),
    ("dime", ""),
    ("dime", "\"distribution.on\" = true"),
];
const XQC: &str = "\"critic.kind\" = \"xqc\"\n\"critic.tau\" = 0.1";
const LAYER_NORM: &str = "\"critic.kind\" = \"layernorm\"";
const BATCH_NORM: &str = "\"flow.batch_norm\" = true\n\"flow.renorm_warmup\" = 9";

/// Those that say that a number of the host changes.
const OF_HOST: [(&str, &str); 2] =
    [("smfp", "\"entropy.mode\" = \"fixed\"\n\"entropy.alpha_decay_updates\" = 100"), ("qvpo", "")];

#[test]
fn updates_with_the_same_branches_are_the_same_operations_on_the_same_tensors() {
    testing::in_libtorch(|| {
        for case in CASES.iter().map(Case::of) {
            assert_eq!(case.config.why_not_captured(), None, "{}", case.name);
            assert_eq!(difference(case.agent().as_mut()), None, "{}", case.name);
        }
        for case in OF_HOST.iter().map(Case::of) {
            assert!(case.config.why_not_captured().is_some(), "{}", case.name);
            assert!(difference(case.agent().as_mut()).is_some(), "{}", case.name);
        }
    });
}

/// Every number that an update measures, and the state after some, with replays of recorded updates or
/// without.
fn trained(case: &Case, graphs: Option<&mut CapturedUpdates>) -> (Vec<Measured>, Vec<Tensor>) {
    let (mut agent, mut rng, mut graphs) = (case.agent(), stream(1, "learning"), graphs);
    let measured = (0..60).map(|update| {
        let batch = batch(update);
        let metrics = match &mut graphs {
            Some(graphs) => graphs.update(agent.as_mut(), &batch, &mut rng).unwrap(),
            None => agent.update(&batch, &mut rng),
        };
        agent.observe_returns(&[update as f64]);
        metrics.read().unwrap()
    });
    let measured = measured.collect();
    (measured, agent.state().into_iter().map(|(_, tensor)| tensor).collect())
}

type Measured = Vec<(&'static str, f64)>;

#[test]
fn replays_of_recorded_updates_equal_the_updates_to_the_bit() {
    testing::in_libtorch(|| {
        let compare = |case: &Case| {
            let mut graphs =
                CapturedUpdates::with_recorder(Box::new(testing::Rehearsal), Device::Cpu);
            let equal = trained(case, None) == trained(case, Some(&mut graphs));
            assert!(graphs.graphs() >= 2, "{}: {} graphs", case.name, graphs.graphs());
            equal
        };
        for case in CASES.iter().map(Case::of) {
            assert!(compare(&case), "{}", case.name);
        }
        for case in OF_HOST.iter().map(Case::of) {
            assert!(!compare(&case), "{}", case.name);
        }
    });
}
