//! Agents and tasks for tests.
#![allow(dead_code)] // Each test program uses its own part.

use agent::{ActMode, Agent, AgentConfig, Batch, stream};
use baselines::{
    crossq, dime, dpmd, flowrl, mdpo, meanflow, qvpo, sac, sac_flow_g, sac_flow_t, td3,
};
use networks::uniform;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

/// Networks on which a test takes a moment.
const SMALL: &str = r#"
"critic.width" = 32
"actor.width" = 32
"actor.depth" = 2
"#;

/// Preset `default` of a preset file on small networks, with some keys over it
/// ([`testing::config`]).
pub fn config<T: DeserializeOwned>(presets: &str, keys: &str) -> T {
    testing::config(presets, &format!("{SMALL}\n{keys}"))
}

/// An agent by the name of its algorithm.
pub fn make(algo: &str, keys: &str, obs_dim: i64, act_dim: i64, seed: u64) -> Box<dyn Agent> {
    make_on(Device::Cpu, algo, keys, obs_dim, act_dim, seed)
}

/// The same on another device.
pub fn make_on(
    device: Device,
    algo: &str,
    keys: &str,
    obs_dim: i64,
    act_dim: i64,
    seed: u64,
) -> Box<dyn Agent> {
    config_of(algo, keys).build(obs_dim, act_dim, device, &mut stream(seed, "networks"))
}

/// The configuration of [`make`].
pub fn config_of(algo: &str, keys: &str) -> Box<dyn AgentConfig> {
    let config: Box<dyn AgentConfig> = match algo {
        "smfp" => Box::new(config::<smfp::SmfpConfig>(smfp::PRESETS, keys)),
        "sac" => Box::new(config::<sac::SacConfig>(sac::PRESETS, keys)),
        "td3" => Box::new(config::<td3::Td3Config>(td3::PRESETS, keys)),
        "crossq" => Box::new(config::<sac::SacConfig>(crossq::PRESETS, keys)),
        "mdpo" => Box::new(config::<mdpo::MdpoConfig>(mdpo::PRESETS, keys)),
        "meanflow" => Box::new(config::<meanflow::MeanFlowConfig>(meanflow::PRESETS, keys)),
        "qvpo" => Box::new(config::<qvpo::QvpoConfig>(qvpo::PRESETS, keys)),
        "dpmd" => Box::new(config::<dpmd::DpmdConfig>(dpmd::PRESETS, keys)),
        "sac-flow-g" => Box::new(config::<sac_flow_g::SacFlowGConfig>(sac_flow_g::PRESETS, keys)),
        "dime" => Box::new(config::<dime::DimeConfig>(dime::PRESETS, keys)),
        "flowrl" => Box::new(config::<flowrl::FlowRlConfig>(flowrl::PRESETS, keys)),
        "sac-flow-t" => Box::new(config::<sac_flow_t::SacFlowTConfig>(sac_flow_t::PRESETS, keys)),
        _ => panic!("{algo} is no algorithm"),
    };
    config.validate().unwrap();
    config
}

/// Uniform transitions of a task with one state that pays `reward` for an
/// action in one dimension and says of the next state whether it is terminal.
pub fn bandit(rows: i64, reward: impl Fn(&Tensor) -> Tensor, terminated: f64, seed: u64) -> Batch {
    let mut rng = stream(seed, "batch");
    let action = uniform(&mut rng, &[rows, 1], Device::Cpu) * 2.0 - 1.0;
    let obs = Tensor::ones([rows, 1], (Kind::Float, Device::Cpu));
    Batch {
        reward: reward(&action.squeeze_dim(1)),
        next_obs: obs.shallow_clone(),
        terminated: Tensor::full([rows], terminated, (Kind::Float, Device::Cpu)),
        obs,
        action,
    }
}

/// Actions of an agent in the bandit's state.
pub fn actions(agent: &dyn Agent, mode: ActMode, count: i64) -> Tensor {
    let obs = Tensor::ones([count, 1], (Kind::Float, Device::Cpu));
    agent.act(&obs, mode, &mut stream(0, "act")).squeeze_dim(1)
}

/// A copy of all that is saved of an agent.
pub fn snapshot(agent: &dyn Agent) -> Vec<(String, Tensor)> {
    agent.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
}

/// Copies of the tensors whose names begin with `prefix`.
pub fn named(agent: &dyn Agent, prefix: &str) -> Vec<Tensor> {
    let state = snapshot(agent).into_iter();
    state.filter(|(name, _)| name.starts_with(prefix)).map(|(_, tensor)| tensor).collect()
}
