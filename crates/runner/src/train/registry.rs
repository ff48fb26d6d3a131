//! The algorithms, a row each.

use crate::base::failure::{Outcome, unknown};
use agent::{AgentConfig, Batch, presets, stream};
use baselines::{
    crossq, dime, dpmd, flowrl, mdpo, meanflow, qvpo, sac, sac_flow_g, sac_flow_t, td3,
};
use envs::Spec;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};
use toml_edit::DocumentMut;

/// An algorithm that `--algo` knows.
pub struct Algorithm {
    /// What `--algo` calls it.
    pub name: &'static str,
    presets: &'static str,
    /// Reads its configuration from the sections that are its own.
    pub read: fn(DocumentMut) -> Result<Box<dyn AgentConfig>, String>,
}

/// All of them.
pub static ALGORITHMS: [Algorithm; 12] = [
    row::<smfp::SmfpConfig>("smfp", smfp::PRESETS),
    row::<sac::SacConfig>("sac", sac::PRESETS),
    row::<td3::Td3Config>("td3", td3::PRESETS),
    row::<sac::SacConfig>("crossq", crossq::PRESETS),
    row::<mdpo::MdpoConfig>("mdpo", mdpo::PRESETS),
    row::<meanflow::MeanFlowConfig>("meanflow", meanflow::PRESETS),
    row::<qvpo::QvpoConfig>("qvpo", qvpo::PRESETS),
    row::<dpmd::DpmdConfig>("dpmd", dpmd::PRESETS),
    row::<sac_flow_g::SacFlowGConfig>("sac-flow-g", sac_flow_g::PRESETS),
    row::<sac_flow_t::SacFlowTConfig>("sac-flow-t", sac_flow_t::PRESETS),
    row::<dime::DimeConfig>("dime", dime::PRESETS),
    row::<flowrl::FlowRlConfig>("flowrl", flowrl::PRESETS),
];

const fn row<C: AgentConfig + DeserializeOwned + 'static>(
    name: &'static str,
    presets: &'static str,
) -> Algorithm {
    Algorithm { name, presets, read: |document| Ok(Box::new(presets::read::<C>(document)?)) }
}

impl Algorithm {
    /// The algorithm of a name.
    ///
    /// # Errors
    /// There is none, with the nearest name.
    pub fn find(name: &str) -> Outcome<&'static Self> {
        let found = ALGORITHMS.iter().find(|algorithm| algorithm.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.name).collect();
            unknown("algorithm", name, &names)
        })
    }

    /// The names of its presets.
    pub fn preset_names(&self) -> Vec<String> {
        let presets = self.presets();
        let tables = presets.iter().filter(|(_, item)| item.is_table());
        tables.map(|(name, _)| name.to_string()).collect()
    }

    /// Its preset file.
    pub fn presets(&self) -> DocumentMut {
        self.presets.parse().expect("the preset file is valid TOML")
    }
}

/// The names of what an agent measures on a task: those of an update with the actor, on a
/// batch of nothing.
pub fn metric_names(config: &dyn AgentConfig, spec: &Spec) -> Vec<&'static str> {
    let (obs_dim, act_dim) = (spec.obs_dim as i64, spec.act_dim as i64);
    let mut rng = stream(0, "names of metrics");
    let mut agent = config.build(obs_dim, act_dim, Device::Cpu, &mut rng);
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let rows = 2;
    let batch = Batch {
        obs: zeros(&[rows, obs_dim]),
        action: zeros(&[rows, act_dim]),
        reward: zeros(&[rows]),
        next_obs: zeros(&[rows, obs_dim]),
        terminated: zeros(&[rows]),
    };
    agent.learn(&batch, true, &mut rng).names().collect()
}
