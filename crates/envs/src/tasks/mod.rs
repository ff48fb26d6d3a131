//! The tasks: initial states, observations and rewards.
//!
//! They follow Gymnasium 1.4.0 (`gymnasium/envs/mujoco/*_v4.py`, `*_v5.py`) with the
//! default arguments. Costs of an action are `f32` where NumPy's are: a Python float times an
//! `f32` scalar is `f32` (NEP 50). Expressions keep Gymnasium's order of operations, because the
//! last bit depends on it.

mod ant;
mod half_cheetah;
mod hopper;
mod humanoid;
mod humanoid_standup;
mod inverted_double_pendulum;
mod inverted_pendulum;
mod pusher;
mod reacher;
mod swimmer;
mod walker2d;

use std::ops::Range;
use std::path::Path;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

pub(crate) use ant::Ant;
pub(crate) use half_cheetah::HalfCheetah;
pub(crate) use hopper::Hopper;
pub(crate) use humanoid::Humanoid;
pub(crate) use humanoid_standup::HumanoidStandup;
pub(crate) use inverted_double_pendulum::InvertedDoublePendulum;
pub(crate) use inverted_pendulum::InvertedPendulum;
pub(crate) use pusher::Pusher;
pub(crate) use reacher::Reacher;
pub(crate) use swimmer::Swimmer;
pub(crate) use walker2d::Walker2d;

use crate::error::Error;
use crate::numpy::Stream;
use crate::physics::{Physics, World};

/// The rules of one task, without the state of an episode, so that copies can share them.
///
/// Every copy has its `notes`: numbers that the task keeps from one step to the next, and others that
/// it only computes with.
pub(crate) trait Task: Send + Sync {
    /// The random stream of initial states, from a seed.
    fn stream(&self, seed: u64) -> Stream {
        Stream::pcg64(seed)
    }

    /// The notes of a copy before its first reset.
    fn notes(&self) -> Vec<f64>;

    /// Which notes are kept between steps.
    fn kept(&self) -> &[Range<usize>];

    /// Where the named terms of the last reward are in the notes.
    fn terms(&self) -> &[usize];

    /// Starts an episode: changes MuJoCo's default state to an initial state, computes all that
    /// depends on it, and makes the notes of the first step.
    fn start(&self, random: &mut Stream, world: &mut World, notes: &mut [f64]);

    /// Makes `frame_skip` MuJoCo steps with an action.
    fn advance(&self, world: &mut World, frame_skip: u32, action: &[f32], notes: &mut [f64]);

    /// Writes the observation (`obs_dim` numbers).
    fn observe(&self, physics: Physics, notes: &mut [f64], observation: &mut [f64]);

    /// Reward and termination of a step that ended in `physics`; makes the notes of the next.
    fn judge(&self, physics: Physics, action: &[f32], notes: &mut [f64]) -> Judgement;
}

/// A task of Gymnasium's, which follows a pattern: it differs from others in noise, observation
/// and reward only.
pub(crate) trait Gymnasium: Send + Sync {
    /// Randomises the initial state: changes MuJoCo's default `qpos` and `qvel`.
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]);

    /// Writes the observation (`obs_dim` numbers).
    fn observe(&self, physics: Physics, observation: &mut [f64]);

    /// The quantity before a step, mostly a position, that its reward depends on.
    fn mark(&self, physics: Physics) -> [f64; 2];

    /// The names of the terms that the reward is the sum of, up to rounding; at most four.
    fn terms(&self) -> &'static [&'static str];

    /// Reward and termination of a step that started at `mark` and ended in `physics`. Writes the terms
    /// of the reward.
    fn judge(
        &self,
        mark: [f64; 2],
        physics: Physics,
        action: &[f32],
        terms: &mut [f64],
    ) -> Judgement;
}

/// Numbers of a mark.
const MARK: usize = 2;

impl Task for Box<dyn Gymnasium> {
    /// The mark, then the terms of the reward.
    fn notes(&self) -> Vec<f64> {
        vec![0.0; MARK + self.as_ref().terms().len()]
    }

    fn kept(&self) -> &[Range<usize>] {
        const KEPT: Range<usize> = 0..MARK;
        std::slice::from_ref(&KEPT)
    }

    fn terms(&self) -> &[usize] {
        const PLACES: [usize; 4] = [MARK, MARK + 1, MARK + 2, MARK + 3];
        &PLACES[..self.as_ref().terms().len()]
    }

    fn start(&self, random: &mut Stream, world: &mut World, notes: &mut [f64]) {
        world.reset();
        let [qpos, qvel, _] = world.state_mut();
        self.disturb(random, qpos, qvel);
        world.forward();
        notes[..MARK].copy_from_slice(&self.mark(world.physics()));
    }

    fn advance(&self, world: &mut World, frame_skip: u32, action: &[f32], _: &mut [f64]) {
        world.control(action);
        world.steps(frame_skip);
        world.contact_forces();
    }

    fn observe(&self, physics: Physics, _: &mut [f64], observation: &mut [f64]) {
        self.as_ref().observe(physics, observation);
    }

    fn judge(&self, physics: Physics, action: &[f32], notes: &mut [f64]) -> Judgement {
        let (mark, terms) = notes.split_at_mut(MARK);
        let judgement = self.as_ref().judge([mark[0], mark[1]], physics, action, terms);
        mark.copy_from_slice(&self.mark(physics));
        judgement
    }
}

/// Reward and termination of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub reward: f64,
    pub terminated: bool,
}

/// Gymnasium's two versions of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V5,
}

impl Version {
    /// The reward for being healthy, which v4 also gives on the step that terminates.
    fn healthy_reward(self, healthy: bool) -> f64 {
        match self {
            Self::V4 => 1.0,
            Self::V5 => f64::from(healthy),
        }
    }
}

/// The model and constants from which a task is built.
pub(crate) struct ModelInfo<'a> {
    /// The task's id.
    pub id: &'a str,
    /// The file of the model.
    pub file: &'a Path,
    pub model: &'a MjModel,
    pub version: Version,
    /// Seconds of simulated time per environment step.
    pub dt: f64,
}

impl ModelInfo<'_> {
    /// The index of the body with this name.
    fn body(&self, name: &str) -> Result<usize, Error> {
        let body = self.model.name_to_id(MjtObjBase::mjOBJ_BODY, name);
        body.ok_or_else(|| self.misfit(&format!("body '{name}'"), "missing", "present"))
    }

    /// Lower and upper bound of an actuator's control, rounded to `f32` as Gymnasium does.
    ///
    /// # Errors
    /// [`Error::ModelSize`] if an action within them is not a number, or changes nothing.
    pub fn bounds(&self, actuator: usize) -> Result<(f32, f32), Error> {
        let range = self.model.actuator_ctrlrange()[actuator];
        let [low, high] = range.map(|bound| bound as f32);
        if low < high && (high - low).is_finite() {
            return Ok((low, high));
        }
        let name = self.model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, actuator);
        let name = name.map_or(format!("actuator {actuator}"), |name| format!("actuator '{name}'"));
        // MuJoCo's default.
        let found = match range {
            [0.0, 0.0] => "missing".into(),
            [low, high] => format!("[{low}, {high}]"),
        };
        let expected = "two numbers of f32, the lower one first";
        Err(self.misfit(&format!("the ctrlrange of {name}"), &found, expected))
    }

    /// The error that `what` is `found` in the model instead of `expected`.
    pub fn misfit(&self, what: &str, found: &str, expected: &str) -> Error {
        Error::ModelSize {
            file: self.file.to_owned(),
            task: self.id.to_owned(),
            what: what.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// Adds uniform noise in [-scale, scale) to every number of `x`.
fn add_uniform(random: &mut Stream, scale: f64, x: &mut [f64]) {
    for x in x {
        *x += random.uniform(-scale, scale);
    }
}

/// Adds normal noise of standard deviation `scale` to every number of `x`.
fn add_normal(random: &mut Stream, scale: f64, x: &mut [f64]) {
    for x in x {
        *x += scale * random.standard_normal();
    }
}

/// Writes the parts one after the other, as `numpy.concatenate` does.
///
/// # Panics
/// If they do not fill `observation` exactly: then `registry.rs` has a wrong size.
fn concatenate<'a>(observation: &mut [f64], parts: impl IntoIterator<Item = &'a [f64]>) {
    let mut rest = observation;
    for part in parts {
        let (now, later) = rest.split_at_mut(part.len());
        now.copy_from_slice(part);
        rest = later;
    }
    assert!(rest.is_empty(), "an observation is {} numbers too short", rest.len());
}

/// `a - b`, component by component.
fn difference(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}
