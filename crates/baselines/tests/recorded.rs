//! Whole updates against recordings of independent implementations in JAX
//! (`scripts/record_sac_update.py`, `scripts/record_td3_update.py`): critics,
//! targets, actor and temperature, for every kind of critic; and of policies that draw an
//! action in several steps (`scripts/record_path_update.py`, `scripts/record_flowrl_update.py`).

use agent::{Agent, AgentConfig, stream};
use baselines::dime::{self, DimeConfig};
use baselines::flowrl::{self, FlowRl, FlowRlActorNoise, FlowRlConfig, FlowRlNoise};
use baselines::path::{PathAgent, PathNoise};
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

/// The cases of SAC, each with an agent in the recorded initial state.
fn sac_cases() -> Vec<(String, Sac, Recording)> {
    let start = |(case, config, recording): (String, SacConfig, Recording)| {
        config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
        let (obs_dim, act_dim) = recording.dimensions();
        let mut rng = stream(0, "recorded");
        let mut agent = Sac::new(&config, obs_dim, act_dim, testing::device(), &mut rng);
        recording.start(&case, &mut agent);
        (case, agent, recording)
    };
    cases("sac", sac::PRESETS).into_iter().map(start).collect()
}

#[test]
fn one_update_of_sac_equals_the_recording_of_an_independent_implementation() {
    testing::in_every_form(|| {
        let mut failures = Vec::new();
        for (case, mut agent, recording) in sac_cases() {
            let noise = SacNoise {
                next: recording.get("noise.next"),
                actor: recording.find("noise.actor"),
            };
            let metrics = agent.update_with(&recording.batch(), &noise);
            failures.extend(recording.differences(&case, &agent, &metrics));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

#[test]
fn sacs_actor_steps_where_the_recording_says_that_it_is_due() {
    for (case, mut agent, recording) in sac_cases() {
        let metrics = agent.update(&recording.batch(), &mut stream(1, "recorded"));
        let due = recording.find("noise.actor").is_some();
        assert_eq!(metrics.names().any(|name| name == "actor_loss"), due, "{case}");
    }
}

#[test]
fn one_update_of_td3_equals_the_recording_of_an_independent_implementation() {
    testing::in_every_form(|| {
        let mut failures = Vec::new();
        for (case, config, recording) in cases::<Td3Config>("td3", td3::PRESETS) {
            config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
            let (obs_dim, act_dim) = recording.dimensions();
            let mut rng = stream(0, "recorded");
            let mut agent = Td3::new(&config, obs_dim, act_dim, testing::device(), &mut rng);
            recording.start(&case, &mut agent);
            let noise = Td3Noise { next: recording.get("noise.next") };
            let due = agent.actor_due();
            let metrics = agent.update_with(&recording.batch(), due, &noise);
            failures.extend(recording.differences(&case, &agent, &metrics));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

/// Repeats the recorded updates of an algorithm whose policy draws an action in several steps.
fn equal_the_recordings<C: AgentConfig + DeserializeOwned>(
    algorithm: &str,
    presets: &str,
    agent: impl Fn(&C, i64, i64) -> PathAgent,
) {
    testing::in_every_form(|| {
        let mut failures = Vec::new();
        for (case, config, recording) in cases::<C>(algorithm, presets) {
            config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
            let (obs_dim, act_dim) = recording.dimensions();
            let mut agent = agent(&config, obs_dim, act_dim);
            recording.start(&case, &mut agent);
            let actor = recording.find("noise.actor");
            assert_eq!(agent.actor_due(), actor.is_some(), "{case}");
            let noise = PathNoise { next: recording.get("noise.next"), actor };
            let metrics = agent.update_with(&recording.batch(), &noise);
            failures.extend(recording.differences(&case, &agent, &metrics));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

#[test]
fn one_update_of_sac_flow_g_equals_the_recording_of_an_independent_implementation() {
    equal_the_recordings("sac-flow-g", sac_flow_g::PRESETS, |config: &SacFlowGConfig, obs, act| {
        config.agent(obs, act, testing::device(), &mut stream(0, "recorded"))
    });
}

#[test]
fn one_update_of_sac_flow_t_equals_the_recording_of_an_independent_implementation() {
    equal_the_recordings("sac-flow-t", sac_flow_t::PRESETS, |config: &SacFlowTConfig, obs, act| {
        config.agent(obs, act, testing::device(), &mut stream(0, "recorded"))
    });
}

#[test]
fn one_update_of_dime_equals_the_recording_of_an_independent_implementation() {
    equal_the_recordings("dime", dime::PRESETS, |config: &DimeConfig, obs, act| {
        config.agent(obs, act, testing::device(), &mut stream(0, "recorded"))
    });
}

#[test]
fn one_update_of_flowrl_equals_the_recording_of_an_independent_implementation() {
    testing::in_every_form(|| {
        let mut failures = Vec::new();
        for (case, config, recording) in cases::<FlowRlConfig>("flowrl", flowrl::PRESETS) {
            config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
            let (obs_dim, act_dim) = recording.dimensions();
            let mut rng = stream(0, "recorded");
            let mut agent = FlowRl::new(&config, obs_dim, act_dim, testing::device(), &mut rng);
            recording.start(&case, &mut agent);
            let actor = recording.find("noise.start").map(|start| FlowRlActorNoise {
                start,
                flow_start: recording.get("noise.flow_start"),
                t: recording.get("noise.t"),
            });
            assert_eq!(agent.actor_due(), actor.is_some(), "{case}");
            let noise = FlowRlNoise { next: recording.get("noise.next"), actor };
            let metrics = agent.update_with(&recording.batch(), &noise);
            failures.extend(recording.differences(&case, &agent, &metrics));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}
