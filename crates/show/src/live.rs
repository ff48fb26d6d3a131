//! Live mode: what a page needs to simulate a task itself, with MuJoCo's WebAssembly build.

use crate::pack::{deflate, deflate_numbers};
use envs::{Env, Error, Interface};
use serde::Serialize;

/// The policies' runtime: `crates/policy-c` for WebAssembly, built by `just policy-wasm`;
/// `scripts/check_export.py` builds it again and compares.
const RUNTIME: &[u8] = include_bytes!("../runtime/smfp_policy.wasm");
/// Robots whose rewards the page knows (`page/live/task.js`).
const ROBOTS: [&str; 7] =
    ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "Swimmer", "Walker2d"];
/// Initial states that the page draws from.
const STARTS: u64 = 16;
/// Steps that the page compares with the native simulation.
const STEPS: usize = 1000;
/// Whether it compares positions after so many steps.
fn compared(step: usize) -> bool {
    step <= 10 || step.is_multiple_of(10)
}

/// The programs that a page with live mode brings along.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    version: String,
    loader: String,
    wasm: String,
    runtime: String,
}

impl Engine {
    /// MuJoCo's WebAssembly build of a version: its loader, an ES module, and its binary.
    pub fn new(version: &str, loader: &[u8], wasm: &[u8]) -> Self {
        Self {
            version: version.into(),
            loader: deflate(loader),
            wasm: deflate(wasm),
            runtime: deflate(RUNTIME),
        }
    }
}

/// Which noise of a policy is drawn; the other is 0.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Noise {
    /// The latent.
    pub z: bool,
    /// The noise on actions.
    pub xi: bool,
}

/// A policy and its task, to be simulated in a page.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    robot: String,
    /// Gymnasium's version of the task.
    version: u32,
    /// The model's MJCF.
    model: String,
    /// MuJoCo steps of a step.
    skip: u32,
    /// Names and lengths of the parts of an observation.
    observation: Vec<(String, usize)>,
    /// The content of a `policy.smfp`.
    policy: String,
    noise: Noise,
    /// Initial states, each positions and velocities: `f64`.
    starts: String,
    trace: Trace,
}

/// Native steps, to compare the page's with.
#[derive(Clone, Debug, Serialize)]
struct Trace {
    /// Rewards: `f64`.
    rewards: String,
    /// Steps at which an episode begins.
    begins: Vec<usize>,
    /// Steps after which positions are known.
    at: Vec<usize>,
    /// Positions then: `f64`, (at, nq).
    positions: String,
}

/// Whether a page can simulate a task: its id.
pub fn can_live(task: &str) -> bool {
    parts(task).is_some()
}

/// The robot and the version of a task's id.
fn parts(task: &str) -> Option<(&str, u32)> {
    let (robot, version) = task.split_once("-v")?;
    Some((*ROBOTS.iter().find(|known| **known == robot)?, version.parse().ok()?))
}

impl Live {
    /// Records initial states and steps of an environment. `model` is its MJCF, `policy` the
    /// content of a `policy.smfp`, and `act` writes that policy's actions for an observation,
    /// without noise.
    ///
    /// # Errors
    /// MuJoCo failed.
    ///
    /// # Panics
    /// If [`can_live`] says no.
    pub fn record(
        interface: &Interface,
        model: String,
        env: &mut Env,
        (policy, noise): (&[u8], Noise),
        mut act: impl FnMut(&[f64], &mut [f32]),
    ) -> Result<Self, Error> {
        let spec = &interface.spec;
        let (robot, version) = parts(&spec.id).expect("the page knows the robot");
        let mut obs = vec![0.0; spec.obs_dim];
        let mut action = vec![0.0; spec.act_dim];

        let mut starts = Vec::new();
        for seed in 0..STARTS {
            env.reset(Some(seed), &mut obs);
            let (positions, velocities) = env.coordinates();
            starts.extend([positions, velocities].concat());
        }
        let (mut rewards, mut begins, mut at) = (Vec::new(), Vec::new(), Vec::new());
        let mut positions = Vec::new();
        let mut over = true;
        while rewards.len() < STEPS {
            if over {
                env.reset(Some(begins.len() as u64 % STARTS), &mut obs);
                begins.push(rewards.len());
            }
            act(&obs, &mut action);
            let step = env.step(&action, &mut obs)?;
            env.check()?;
            rewards.push(step.reward);
            over = step.terminated || step.truncated;
            if compared(rewards.len()) {
                at.push(rewards.len());
                positions.extend(env.coordinates().0);
            }
        }
        Ok(Self {
            robot: robot.into(),
            version,
            model,
            skip: spec.frame_skip,
            observation: interface
                .observation
                .iter()
                .map(|term| (term.name.clone(), term.length))
                .collect(),
            policy: deflate(policy),
            noise,
            starts: deflate_numbers(&starts),
            trace: Trace {
                rewards: deflate_numbers(&rewards),
                begins,
                at,
                positions: deflate_numbers(&positions),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::inflate;

    fn numbers(text: &str) -> Vec<f64> {
        let bytes = inflate(text);
        bytes.chunks_exact(8).map(|x| f64::from_le_bytes(x.try_into().unwrap())).collect()
    }

    #[test]
    fn a_page_gets_the_states_and_steps_of_the_native_environment() {
        let interface = envs::interface("Hopper-v4", None).unwrap();
        let mut env = Env::make("Hopper-v4").unwrap();
        let act = |obs: &[f64], action: &mut [f32]| action.fill(obs[0] as f32 * 0.5);
        let noise = Noise { z: true, xi: false };
        let live = Live::record(&interface, "<mujoco/>".into(), &mut env, (b"policy", noise), act)
            .unwrap();
        assert_eq!((live.robot.as_str(), live.version, live.skip), ("Hopper", 4, 4));
        let parts: Vec<_> =
            live.observation.iter().map(|(name, length)| (&name[..], *length)).collect();
        assert_eq!(parts, [("qpos", 5), ("clip(qvel, -10, 10)", 6)]);
        assert_eq!(inflate(&live.policy), b"policy");

        let mut env = Env::make("Hopper-v4").unwrap();
        let mut obs = vec![0.0; 11];
        let rewards = numbers(&live.trace.rewards);
        let (mut at, mut episodes) = (Vec::new(), 0);
        for (t, reward) in rewards.iter().enumerate() {
            if live.trace.begins.contains(&t) {
                env.reset(Some(episodes % 16), &mut obs);
                episodes += 1;
                let (positions, velocities) = env.coordinates();
                let start =
                    numbers(&live.starts)[(episodes as usize - 1) % 16 * 12..][..12].to_vec();
                assert_eq!(start, [positions, velocities].concat());
            }
            let action = [obs[0] as f32 * 0.5; 3];
            assert_eq!(env.step(&action, &mut obs).unwrap().reward, *reward);
            if live.trace.at.contains(&(t + 1)) {
                at.extend_from_slice(env.coordinates().0);
            }
        }
        assert_eq!(rewards.len(), 1000);
        assert!(episodes > 1, "this policy falls");
        assert_eq!(at, numbers(&live.trace.positions));
    }

    #[test]
    fn the_seven_tasks_can_be_live_and_others_not() {
        for id in ["Ant-v4", "HumanoidStandup-v5", "Walker2d-v5"] {
            assert!(can_live(id), "{id}");
        }
        for id in ["Reacher-v5", "InvertedPendulum-v4", "my-robot", "Hopper"] {
            assert!(!can_live(id), "{id}");
        }
    }
}
