//! Small agents, their batches and copies of their states.
#![allow(dead_code)] // Each test program uses its own part.

use agent::{Agent, AgentConfig, Batch, Random, stream};
use networks::{normal, uniform};
use smfp::{Smfp, SmfpConfig, UpdateNoise};
use tch::{Device, Kind, Tensor};

pub const OBS: i64 = 5;
pub const ACT: i64 = 3;
pub const ROWS: i64 = 16;
pub const SMALL: &str = r#"
"critic.width" = 16
"actor.width" = 16
"actor.depth" = 2
"policy.frequencies" = 3
"#;

/// Preset `default` on small networks, with some keys of its own.
pub fn config(keys: &str) -> SmfpConfig {
    let config: SmfpConfig = testing::config(smfp::PRESETS, &format!("{SMALL}\n{keys}"));
    config.validate().unwrap();
    config
}

pub fn double(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

pub fn batch(rng: &mut Random) -> Batch {
    let device = Device::Cpu;
    Batch {
        obs: normal(rng, &[ROWS, OBS], device),
        action: uniform(rng, &[ROWS, ACT], device) * 2.0 - 1.0,
        reward: normal(rng, &[ROWS], device),
        next_obs: normal(rng, &[ROWS, OBS], device),
        terminated: uniform(rng, &[ROWS], device).lt(0.25).to_kind(Kind::Float),
    }
}

pub fn agent(config: &SmfpConfig, seed: u64) -> Smfp {
    Smfp::new(config, OBS, ACT, Device::Cpu, &mut stream(seed, "agent"))
}

pub fn noise(config: &SmfpConfig, with_actor: bool, seed: u64) -> UpdateNoise {
    UpdateNoise::draw(config, ROWS, ACT, with_actor, &mut stream(seed, "noise"))
}

/// A copy of the agent's state.
pub struct Snapshot(pub Vec<(String, Tensor)>);

impl Snapshot {
    pub fn of(agent: &Smfp) -> Self {
        Self(agent.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect())
    }

    /// All tensors of a part ("actor", "critic_adam"), as one vector.
    pub fn part(&self, part: &str) -> Tensor {
        let belongs = |name: &str| name == part || name.starts_with(&format!("{part}."));
        let tensors: Vec<Tensor> = (self.0.iter())
            .filter(|(name, _)| belongs(name))
            .map(|(_, tensor)| tensor.to_kind(Kind::Double).reshape([-1]))
            .collect();
        assert!(!tensors.is_empty(), "the state has no {part}");
        Tensor::cat(&tensors, 0)
    }

    pub fn equals(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

/// Whether a part moved, of which every number is finite.
pub fn moved(before: &Snapshot, after: &Snapshot, part: &str) -> bool {
    let (before, after) = (before.part(part), after.part(part));
    assert!(bool::try_from(after.isfinite().all()).unwrap());
    before != after
}

/// Whether `slow` went to `(1 - tau) slow + tau fast`.
pub fn followed(before: &Snapshot, after: &Snapshot, slow: &str, fast: &str, tau: f64) -> bool {
    let expected = before.part(slow) * (1.0 - tau) + after.part(fast) * tau;
    after.part(slow).allclose(&expected, 1e-6, 1e-8, false)
}

/// The state after some updates.
pub fn trained(config: &SmfpConfig, seed: u64, updates: usize) -> Snapshot {
    let (mut agent, mut rng) = (agent(config, seed), stream(seed, "update"));
    for _ in 0..updates {
        agent.update(&batch(&mut rng), &mut rng).read().unwrap();
    }
    Snapshot::of(&agent)
}

/// An agent after some updates, whose heads are no longer zero.
pub fn practised(config: &SmfpConfig) -> Smfp {
    let mut agent = agent(config, 3);
    agent.load(&trained(config, 3, 6).0).unwrap();
    agent
}
