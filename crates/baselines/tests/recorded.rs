//! Whole updates of every algorithm against recordings of independent implementations in JAX
//! (`scripts/record_*_update.py`): every metric, and every tensor of the state.

use agent::{Agent, AgentConfig, Metrics, Random, stream};
use baselines::diffusion::Denoising;
use baselines::dime::{self, DimeConfig};
use baselines::dpmd::{self, Dpmd, DpmdActorNoise, DpmdConfig, DpmdNoise};
use baselines::flowrl::{self, FlowRl, FlowRlActorNoise, FlowRlConfig, FlowRlNoise};
use baselines::mdpo::{self, Mdpo, MdpoActorNoise, MdpoConfig, MdpoNoise};
use baselines::meanflow::{self, MeanFlow, MeanFlowActorNoise, MeanFlowConfig, MeanFlowNoise};
use baselines::path::{PathAgent, PathNoise};
use baselines::qvpo::{self, Qvpo, QvpoActorNoise, QvpoConfig, QvpoNoise};
use baselines::sac::{self, Sac, SacConfig, SacNoise};
use baselines::sac_flow_g::{self, SacFlowGConfig};
use baselines::sac_flow_t::{self, SacFlowTConfig};
use baselines::td3::{self, Td3, Td3Config, Td3Noise};
use serde::de::DeserializeOwned;
use testing::Recording;

fn cases<C: DeserializeOwned>(algorithm: &str, presets: &str) -> Vec<(String, C, Recording)> {
    let folder = testing::fixtures(env!("CARGO_MANIFEST_DIR"));
    testing::cases(&folder, &format!("{algorithm}.toml"), &format!("{algorithm}-"), presets)
}

/// Repeats the recorded updates of an algorithm. `agent` has the sizes of an observation and an action;
/// `update` makes the recorded update, with the actor's step only if it is due.
fn equal_the_recordings<C: AgentConfig + DeserializeOwned, A: Agent>(
    algorithm: &str,
    presets: &str,
    agent: impl Fn(&C, i64, i64) -> A,
    update: impl Fn(&mut A, &Recording, bool) -> Metrics,
) {
    testing::in_every_form_and_libtorch(|| {
        let mut failures = Vec::new();
        for (case, mut agent, recording) in agents(algorithm, presets, &agent) {
            let due = agent.actor_due();
            let metrics = update(&mut agent, &recording, due);
            failures.extend(recording.differences(&case, &agent, &metrics));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

/// The cases of an algorithm, each with an agent in the recorded initial state.
fn agents<C: AgentConfig + DeserializeOwned, A: Agent>(
    algorithm: &str,
    presets: &str,
    agent: impl Fn(&C, i64, i64) -> A,
) -> Vec<(String, A, Recording)> {
    let start = |(case, config, recording): (String, C, Recording)| {
        config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
        let (obs_dim, act_dim) = recording.dimensions();
        let mut agent = agent(&config, obs_dim, act_dim);
        recording.start(&case, &mut agent);
        (case, agent, recording)
    };
    cases(algorithm, presets).into_iter().map(start).collect()
}

fn rng() -> Random {
    stream(0, "recorded")
}

fn sac(config: &SacConfig, obs_dim: i64, act_dim: i64) -> Sac {
    Sac::new(config, obs_dim, act_dim, testing::device(), &mut rng())
}

#[test]
fn one_update_of_sac_equals_the_recording_of_an_independent_implementation() {
    equal_the_recordings("sac", sac::PRESETS, sac, |agent, recording, due| {
        let actor = due.then(|| recording.get("noise.actor"));
        let noise = SacNoise { next: recording.get("noise.next"), actor };
        agent.update_with(&recording.batch(), &noise)
    });
}

#[test]
fn sacs_actor_steps_where_the_recording_says_that_it_is_due() {
    for (case, mut agent, recording) in agents("sac", sac::PRESETS, sac) {
        let metrics = agent.update(&recording.batch(), &mut stream(1, "recorded"));
        let due = recording.find("noise.actor").is_some();
        assert_eq!(metrics.names().any(|name| name == "actor_loss"), due, "{case}");
    }
}

#[test]
fn one_update_of_td3_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &Td3Config, obs: i64, act: i64| {
        Td3::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("td3", td3::PRESETS, new, |agent, recording, due| {
        let noise = Td3Noise { next: recording.get("noise.next") };
        agent.update_with(&recording.batch(), due, &noise)
    });
}

#[test]
fn one_update_of_mdpo_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &MdpoConfig, obs: i64, act: i64| {
        Mdpo::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("mdpo", mdpo::PRESETS, new, |agent, recording, due| {
        let actor = due.then(|| MdpoActorNoise {
            action: recording.get("noise.action"),
            candidates: recording.get("noise.candidates"),
            choice: recording.get("noise.choice"),
        });
        let noise = MdpoNoise { next: recording.get("noise.next"), actor };
        agent.update_with(&recording.batch(), &noise)
    });
}

#[test]
fn one_update_of_meanflow_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &MeanFlowConfig, obs: i64, act: i64| {
        MeanFlow::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("meanflow", meanflow::PRESETS, new, |agent, recording, due| {
        let actor = due.then(|| MeanFlowActorNoise {
            z: recording.get("noise.z"),
            e: recording.get("noise.e"),
            t: recording.get("noise.t"),
        });
        let noise = MeanFlowNoise { next: recording.get("noise.next"), actor };
        agent.update_with(&recording.batch(), &noise)
    });
}

fn denoising(recording: &Recording) -> Denoising {
    Denoising { t: recording.get("noise.t"), eps: recording.get("noise.eps") }
}

#[test]
fn one_update_of_qvpo_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &QvpoConfig, obs: i64, act: i64| {
        Qvpo::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("qvpo", qvpo::PRESETS, new, |agent, recording, due| {
        let actor = due.then(|| QvpoActorNoise {
            proposals: recording.get("noise.proposals"),
            uniform: recording.get("noise.uniform"),
            denoising: denoising(recording),
        });
        let noise = QvpoNoise { next: recording.get("noise.next"), actor };
        agent.update_with(&recording.batch(), &noise)
    });
}

#[test]
fn one_update_of_dpmd_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &DpmdConfig, obs: i64, act: i64| {
        Dpmd::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("dpmd", dpmd::PRESETS, new, |agent, recording, due| {
        let actor = due.then(|| DpmdActorNoise {
            proposals: recording
                .find("noise.proposals")
                .map(|proposals| (proposals, recording.get("noise.added"))),
            denoising: denoising(recording),
        });
        let next_added = recording.get("noise.next_added");
        let noise = DpmdNoise { next: recording.get("noise.next"), next_added, actor };
        agent.update_with(&recording.batch(), &noise)
    });
}

/// One update of an algorithm whose policy draws an action in several steps.
fn path_update(agent: &mut PathAgent, recording: &Recording, due: bool) -> Metrics {
    let actor = due.then(|| recording.get("noise.actor"));
    let noise = PathNoise { next: recording.get("noise.next"), actor };
    agent.update_with(&recording.batch(), &noise)
}

#[test]
fn one_update_of_sac_flow_g_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &SacFlowGConfig, obs: i64, act: i64| {
        config.agent(obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("sac-flow-g", sac_flow_g::PRESETS, new, path_update);
}

#[test]
fn one_update_of_sac_flow_t_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &SacFlowTConfig, obs: i64, act: i64| {
        config.agent(obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("sac-flow-t", sac_flow_t::PRESETS, new, path_update);
}

#[test]
fn one_update_of_dime_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &DimeConfig, obs: i64, act: i64| {
        config.agent(obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("dime", dime::PRESETS, new, path_update);
}

#[test]
fn one_update_of_flowrl_equals_the_recording_of_an_independent_implementation() {
    let new = |config: &FlowRlConfig, obs: i64, act: i64| {
        FlowRl::new(config, obs, act, testing::device(), &mut rng())
    };
    equal_the_recordings("flowrl", flowrl::PRESETS, new, |agent, recording, due| {
        let actor = due.then(|| FlowRlActorNoise {
            start: recording.get("noise.start"),
            flow_start: recording.get("noise.flow_start"),
            t: recording.get("noise.t"),
        });
        let noise = FlowRlNoise { next: recording.get("noise.next"), actor };
        agent.update_with(&recording.batch(), &noise)
    });
}
