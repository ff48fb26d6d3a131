//! Whole updates of every algorithm against recordings of independent implementations in JAX
//! (`scripts/record_*_update.py`): every metric, and every tensor of the state.

mod common;

use agent::{Agent, AgentConfig, Batch, CapturedUpdates, Metrics, Random, stream};
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
use networks::{normal, uniform};
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use testing::{Recording, Rehearsal};

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
        let noise = Td3Noise { next: recording.get("noise.next"), with_actor: due };
        agent.update_with(&recording.batch(), &noise)
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

/// Transitions of a task with five observations and three actions.
fn random_batch(rng: &mut Random, rows: i64, device: Device) -> Batch {
    Batch {
        obs: normal(rng, &[rows, 5], device),
        action: uniform(rng, &[rows, 3], device) * 2.0 - 1.0,
        reward: normal(rng, &[rows], device),
        next_obs: normal(rng, &[rows, 5], device),
        terminated: Tensor::zeros([rows], (Kind::Float, device)),
    }
}

/// A GPU would have to finish its work for each, and what follows could not be captured in one graph.
#[test]
fn one_update_of_every_algorithm_reads_no_number_of_a_tensor_to_the_host() {
    let xqc = "\"critic.kind\" = \"xqc\"";
    let atoms = "\"distribution.on\" = true";
    let kl = "\"mirror.kind\" = \"kl\"\n\"actor.normalise\" = true";
    let norm = "\"flow.batch_norm\" = true";
    let (mlp, replay) = ("\"critic.kind\" = \"mlp\"", "\"mirror.actions\" = \"replay\"");
    let cases = [
        ("smfp", ""),
        ("smfp", replay),
        ("sac", ""),
        ("sac", xqc),
        ("crossq", ""),
        ("td3", ""),
        ("mdpo", ""),
        ("mdpo", kl),
        ("meanflow", ""),
        ("qvpo", ""),
        ("dpmd", "\"temperature.update_every\" = 2"),
        ("dpmd", replay),
        ("flowrl", ""),
        ("flowrl", mlp),
        ("sac-flow-g", ""),
        ("sac-flow-g", norm),
        ("sac-flow-t", ""),
        ("sac-flow-t", norm),
        ("dime", ""),
        ("dime", atoms),
    ];
    let device = testing::device();
    let batch = random_batch(&mut stream(0, "batch"), 16, device);
    testing::in_every_form_and_libtorch(|| {
        for (algo, keys) in cases {
            // One step of the actor in two updates.
            let keys = format!("\"actor.width\" = 96\n\"actor.update_every\" = 2\n{keys}");
            let mut agent = common::make_on(device, algo, &keys, 5, 3, 0);
            // Counts and the statistics of returns are in main memory on every device.
            let mut of_host: Vec<_> = agent.state().into_iter().map(|(_, tensor)| tensor).collect();
            of_host.retain(|tensor| matches!(tensor.kind(), Kind::Int64 | Kind::Double));
            for _ in 0..2 {
                let mut metrics = Metrics::default();
                let reads = testing::reads(&of_host, || metrics = agent.update(&batch, &mut rng()));
                assert!(reads.is_empty(), "{algo} with {keys}: {reads:?}");
                assert!(!metrics.read().unwrap().is_empty());
            }
        }
    });
}

/// Three agents that begin alike: two without graphs, whose difference is what the device's order of sums
/// makes of the same updates, and one with. On the CPU the graphs are rehearsed, and there is no difference.
#[test]
fn updates_as_cuda_graphs_end_where_updates_without_graphs_end() {
    let (device, updates) = (testing::device(), 300);
    testing::in_libtorch(|| {
        for algo in ["smfp", "crossq", "sac"] {
            // The warm-up of renormalisation ends on the way.
            let keys = "\"critic.renorm_warmup\" = 100\n\"actor.update_every\" = 3";
            let make = || common::make_on(device, algo, keys, 5, 3, 0);
            let mut graphs = match device {
                Device::Cpu => CapturedUpdates::with_recorder(Box::new(Rehearsal), device),
                _ => CapturedUpdates::new(device),
            };
            let mut train = |as_graphs: bool| {
                let (mut agent, mut batches, mut rng) = (make(), stream(0, "batch"), rng());
                for _ in 0..updates {
                    let batch = random_batch(&mut batches, 64, device);
                    let metrics = match as_graphs {
                        true => graphs.update(agent.as_mut(), &batch, &mut rng).unwrap(),
                        false => agent.update(&batch, &mut rng),
                    };
                    metrics.read().unwrap();
                }
                agent.state()
            };
            let (once, again, captured) = (train(false), train(false), train(true));
            let start = make().state();
            let away = |a: &[(String, Tensor)], b: &[(String, Tensor)]| {
                let double = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
                let squares = a.iter().zip(b).map(|((_, a), (_, b))| {
                    (double(a) - double(b)).square().sum(Kind::Double).double_value(&[])
                });
                squares.sum::<f64>().sqrt()
            };
            let whole = away(&once, &start);
            let [off, noise] = [&captured, &again].map(|state| away(state, &once) / whole);
            let count = graphs.graphs();
            println!(
                "{algo}: {updates} updates, {count} graphs, {off:.1e} off, {noise:.1e} twice without"
            );
            let counts = |state: &[(String, Tensor)]| -> Vec<(String, i64)> {
                let counts = state.iter().filter(|(_, tensor)| tensor.kind() == Kind::Int64);
                counts.map(|(name, tensor)| (name.clone(), tensor.int64_value(&[]))).collect()
            };
            assert_eq!(counts(&captured), counts(&once), "{algo}");
            // With the actor or without, before renormalisation and after.
            assert_eq!(count, if algo == "sac" { 2 } else { 4 }, "{algo}");
            if device == Device::Cpu {
                assert_eq!((off, noise), (0.0, 0.0), "{algo}");
            }
            assert!(off <= 10.0 * noise + 1e-3, "{algo}: {off} of the way off, {noise} without");
        }
    });
}
