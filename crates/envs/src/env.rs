//! One environment.

use std::path::Path;
use std::sync::Arc;

use crate::episode::{Memory, Rules, Step};
use crate::error::Error;
use crate::physics::{Simulation, World, instability};
use crate::registry::{Spec, open};

/// Initial states that [`Env::ends_at_once`] tries.
const FIRST_STATES: u64 = 10;

/// One of Gymnasium's MuJoCo tasks, or a task that is a file.
///
/// [`reset`](Self::reset) and [`step`](Self::step) write into the caller's buffers and do not
/// allocate memory. An environment can be moved to another thread between calls.
pub struct Env {
    pub(crate) rules: Rules,
    pub(crate) memory: Memory,
    pub(crate) simulation: Simulation,
}

impl Env {
    /// Makes a task of [`ids`](crate::ids) with its pinned model, found in
    /// [`models_dir`](crate::models_dir), or that of a file, whose path ends in `.toml`, with the model
    /// that it names.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::MissingModel`], [`Error::AlteredModel`],
    /// [`Error::MujocoVersion`]; of a file [`Error::UnreadableTask`], [`Error::TaskFile`],
    /// [`Error::UnreadableModel`], [`Error::Model`].
    pub fn make(id: &str) -> Result<Self, Error> {
        Self::build(id, None)
    }

    /// Makes the task with the user's own MJCF file, or MJB file (a compiled model).
    ///
    /// # Errors
    /// Those of [`make`](Self::make); [`Error::UnreadableModel`]; [`Error::Model`] if MuJoCo rejects the file;
    /// [`Error::ModelSize`] if its sizes, bodies or control ranges do not fit the task.
    pub fn make_with_model(id: &str, model: &Path) -> Result<Self, Error> {
        Self::build(id, Some(model))
    }

    fn build(id: &str, model: Option<&Path>) -> Result<Self, Error> {
        let (rules, model) = open(id, model)?;
        let simulation = Simulation::new(Arc::new(model));
        let memory = Memory::new(rules.task.as_ref());
        Ok(Self { rules, memory, simulation })
    }

    /// Sizes, bounds and limits of the task.
    pub fn spec(&self) -> &Spec {
        &self.rules.spec
    }

    /// Starts an episode and writes its first observation, `obs_dim` numbers.
    ///
    /// With a seed the random stream is re-seeded; without, it continues after the last reset, as
    /// in Gymnasium. A first reset without a seed uses seed 0 (Gymnasium: a seed from the
    /// operating system), so that a run is a function of its seeds.
    ///
    /// # Panics
    /// If `observation` does not have `obs_dim` numbers.
    pub fn reset(&mut self, seed: Option<u64>, observation: &mut [f64]) {
        let seed = seed.or(self.memory.random.is_none().then_some(0));
        let world = &mut World::of(&mut self.simulation);
        self.rules.reset(&mut self.memory, world, seed, observation);
    }

    /// Makes one environment step with an action and writes the new observation, `obs_dim`
    /// numbers.
    ///
    /// The action is in the units of the model's controls. As in Gymnasium it is not clipped here:
    /// MuJoCo clips the controls, while the cost is that of the unclipped action. Steps after the
    /// end of an episode are allowed, as in Gymnasium.
    ///
    /// # Errors
    /// [`Error::ActionLength`], [`Error::NonFiniteAction`] or [`Error::NotReset`]; the environment
    /// is then unchanged.
    ///
    /// # Panics
    /// If `observation` does not have `obs_dim` numbers.
    pub fn step(&mut self, action: &[f32], observation: &mut [f64]) -> Result<Step, Error> {
        self.rules.spec.check_action(action)?;
        self.memory.begun(&self.rules.spec)?;
        let world = &mut World::of(&mut self.simulation);
        Ok(self.rules.step(&mut self.memory, world, action, observation))
    }

    /// Positions (`nq`) and velocities (`nv`) of the model's joints, as MuJoCo has them.
    pub fn coordinates(&self) -> (&[f64], &[f64]) {
        (self.simulation.qpos(), self.simulation.qvel())
    }

    /// The values of the named terms of the last step's reward, in the order of
    /// [`Spec::terms`]. Before the first step of an episode they mean nothing.
    pub fn terms(&self) -> impl Iterator<Item = f64> {
        self.rules.terms(&self.memory)
    }

    /// Whether every episode ends at its first step, so that nothing can be learned: the model's
    /// initial state is then one that the task calls a fall. Tried on ten initial
    /// states, with the middle of the bounds as action.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn ends_at_once(&mut self) -> Result<bool, Error> {
        let Spec { act_low, act_high, obs_dim, .. } = self.spec();
        let middle = |(low, high): (&f32, &f32)| low + 0.5 * (high - low);
        let action: Vec<f32> = act_low.iter().zip(act_high).map(middle).collect();
        let mut observation = vec![0.0; *obs_dim];
        for seed in 0..FIRST_STATES {
            self.reset(Some(seed), &mut observation);
            if !self.step(&action, &mut observation)?.terminated {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checks that the simulation did not become unstable in this episode.
    ///
    /// If a position, velocity or acceleration is not finite or too large, MuJoCo issues a
    /// warning, resets the robot to its default pose and continues. Gymnasium returns such steps
    /// like any other, and so does [`step`](Self::step); check before training on them.
    ///
    /// # Errors
    /// [`Error::Diverged`] until the next [`reset`](Self::reset).
    pub fn check(&self) -> Result<(), Error> {
        match instability(self.simulation.warning()) {
            None => Ok(()),
            Some(warning) => Err(self.memory.diverged(&self.rules.spec, warning)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diverging_simulation_continues_as_mujoco_does_and_check_fails_until_the_reset() {
        let mut env = Env::make("HalfCheetah-v4").unwrap();
        let mut observation = vec![0.0; env.spec().obs_dim];
        env.reset(Some(0), &mut observation);
        env.step(&[0.0; 6], &mut observation).unwrap();
        assert!(env.check().is_ok());

        env.simulation.qvel_mut()[3] = 1e11;
        let step = env.step(&[0.0; 6], &mut observation).unwrap();
        assert!(step.reward.is_finite() && !step.terminated);
        let message = env.check().unwrap_err().to_string();
        assert!(message.contains("HalfCheetah-v4") && message.contains("qvel"), "{message}");

        env.reset(None, &mut observation);
        assert!(env.check().is_ok());
    }
}
