//! One environment.

use std::path::Path;
use std::sync::Arc;

use crate::episode::{Memory, Rules, Step};
use crate::error::Error;
use crate::physics::{Simulation, World, instability};
use crate::registry::{Spec, open};

/// One of Gymnasium's MuJoCo tasks.
///
/// [`reset`](Self::reset) and [`step`](Self::step) write into the caller's buffers and do not
/// allocate. An environment can move to another thread between calls.
pub struct Env {
    pub(crate) rules: Rules,
    pub(crate) memory: Memory,
    pub(crate) simulation: Simulation,
}

impl Env {
    /// Makes the task with its pinned model, found in [`models_dir`](crate::models_dir).
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::MissingModel`], [`Error::AlteredModel`],
    /// [`Error::MujocoVersion`].
    pub fn make(id: &str) -> Result<Self, Error> {
        Self::build(id, None)
    }

    /// Makes the task with an MJCF file of the user's, which need not be pinned.
    ///
    /// # Errors
    /// Those of [`make`](Self::make), and [`Error::Model`] when MuJoCo rejects the file,
    /// [`Error::ModelSize`] when its sizes, bodies or control ranges do not fit the task.
    pub fn make_with_model(id: &str, model: &Path) -> Result<Self, Error> {
        Self::build(id, Some(model))
    }

    fn build(id: &str, model: Option<&Path>) -> Result<Self, Error> {
        let (rules, model) = open(id, model)?;
        let simulation = Simulation::new(Arc::new(model));
        Ok(Self { rules, memory: Memory::default(), simulation })
    }

    /// Sizes, bounds and limits of the task.
    pub fn spec(&self) -> &Spec {
        &self.rules.spec
    }

    /// Begins an episode and writes its first observation, `obs_dim` numbers.
    ///
    /// With a seed the stream of random numbers starts anew from it; without, it goes on where the
    /// last reset left it, as Gymnasium's does. A first reset without a seed uses seed 0, where
    /// Gymnasium would ask the operating system: a run here is a function of its seeds.
    ///
    /// # Panics
    /// If `observation` does not have `obs_dim` numbers.
    pub fn reset(&mut self, seed: Option<u64>, observation: &mut [f64]) {
        let seed = seed.or(self.memory.random.is_none().then_some(0));
        let world = &mut World::of(&mut self.simulation);
        self.rules.reset(&mut self.memory, world, seed, observation);
    }

    /// Applies an action for one environment step and writes the observation after it, `obs_dim`
    /// numbers.
    ///
    /// The action is in the units of the model's controls. It is not clipped here, for Gymnasium
    /// does not; MuJoCo clips what it feeds to the motors, while the reward charges for the whole.
    /// Steps after the end of an episode are allowed, as in Gymnasium.
    ///
    /// # Errors
    /// [`Error::ActionLength`], [`Error::NonFiniteAction`] or [`Error::NotReset`]; the environment
    /// is then as it was before.
    ///
    /// # Panics
    /// If `observation` does not have `obs_dim` numbers.
    pub fn step(&mut self, action: &[f32], observation: &mut [f64]) -> Result<Step, Error> {
        self.rules.spec.check_action(action)?;
        let episode = self.memory.begun(&self.rules.spec)?;
        let world = &mut World::of(&mut self.simulation);
        Ok(self.rules.step(episode, world, action, observation))
    }

    /// Says whether the simulation became unstable in this episode.
    ///
    /// When a position, velocity or acceleration is not finite or too large, MuJoCo warns, puts
    /// the robot back into its default pose and goes on. Gymnasium passes such steps on, so
    /// [`step`](Self::step) does, bit for bit; whoever learns from them should ask here first.
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
    fn a_simulation_that_diverges_goes_on_as_mujoco_does_and_says_so_until_the_reset() {
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
