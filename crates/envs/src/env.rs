//! One environment: the life of an episode.

use std::path::Path;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjtWarning;

use crate::error::Error;
use crate::models::{check_model, load};
use crate::numpy::Generator;
use crate::physics::{Physics, Simulation};
use crate::registry::{Entry, Spec};
use crate::tasks::Task;

/// What a step gives besides the observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The reward, with NumPy's rounding.
    pub reward: f64,
    /// The task ended, for instance by a fall: the state after it has no value.
    pub terminated: bool,
    /// The time limit was reached: the state after it keeps its value.
    pub truncated: bool,
}

/// One of Gymnasium's MuJoCo tasks.
///
/// [`reset`](Self::reset) and [`step`](Self::step) write into the caller's buffers and do not
/// allocate. An environment can move to another thread between calls.
pub struct Env {
    pub(crate) spec: Spec,
    pub(crate) task: Box<dyn Task>,
    pub(crate) simulation: Simulation,
    pub(crate) random: Option<Generator>,
    pub(crate) episode: Option<Episode>,
    /// Room for an initial state, `nq + nv`, so that a reset need not allocate.
    initial: Vec<f64>,
}

/// What an episode remembers from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Episode {
    /// Steps made.
    pub steps: u32,
    /// See [`Task::mark`]. Kept because MuJoCo's saved state leaves the bodies' positions out.
    pub mark: [f64; 2],
}

impl Env {
    /// Makes the task with its pinned model, found in [`models_dir`](crate::models_dir).
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::MissingModel`], [`Error::AlteredModel`],
    /// [`Error::MujocoVersion`].
    pub fn make(id: &str) -> Result<Self, Error> {
        let entry = Entry::find(id)?;
        Self::build(entry, &check_model(entry.model_file)?)
    }

    /// Makes the task with an MJCF file of the user's, which need not be pinned.
    ///
    /// # Errors
    /// Those of [`make`](Self::make), and [`Error::Model`] when MuJoCo rejects the file,
    /// [`Error::ModelSize`] when its sizes, bodies or control ranges do not fit the task.
    pub fn make_with_model(id: &str, model: &Path) -> Result<Self, Error> {
        Self::build(Entry::find(id)?, model)
    }

    fn build(entry: &Entry, file: &Path) -> Result<Self, Error> {
        let model = load(file)?;
        let (task, spec) = entry.build(&model, file)?;
        let simulation = Simulation::new(Arc::new(model));
        let initial = vec![0.0; simulation.qpos().len() + simulation.qvel().len()];
        Ok(Self { spec, task, simulation, random: None, episode: None, initial })
    }

    /// Sizes, bounds and limits of the task.
    pub fn spec(&self) -> &Spec {
        &self.spec
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
        if let Some(seed) = seed {
            self.random = Some(Generator::new(seed));
        }
        let random = self.random.get_or_insert_with(|| Generator::new(0));

        let simulation = &mut self.simulation;
        simulation.reset();
        let (qpos, qvel) = self.initial.split_at_mut(simulation.qpos().len());
        qpos.copy_from_slice(simulation.qpos());
        qvel.copy_from_slice(simulation.qvel());
        self.task.disturb(random, qpos, qvel);
        simulation.qpos_mut().copy_from_slice(qpos);
        simulation.qvel_mut().copy_from_slice(qvel);
        simulation.forward();

        let physics = Physics::from(&*simulation);
        self.task.observe(physics, observation);
        self.episode = Some(Episode { steps: 0, mark: self.task.mark(physics) });
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
        self.spec.check_action(action)?;
        let episode = self.episode.as_mut().ok_or(Error::NotReset { task: self.spec.id })?;

        let simulation = &mut self.simulation;
        for (control, &component) in simulation.ctrl_mut().iter_mut().zip(action) {
            *control = f64::from(component);
        }
        for _ in 0..self.spec.frame_skip {
            simulation.step();
        }
        // `mj_step` leaves contact forces on bodies (`cfrc_ext`) stale; Gymnasium brings them up
        // to date once per environment step.
        simulation.rne_post_constraint();

        let physics = Physics::from(&*simulation);
        self.task.observe(physics, observation);
        let judgement = self.task.judge(episode.mark, physics, action);
        episode.mark = self.task.mark(physics);
        episode.steps += 1;
        Ok(Step {
            reward: judgement.reward,
            terminated: judgement.terminated,
            truncated: episode.steps >= self.spec.max_episode_steps,
        })
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
        const UNSTABLE: [(MjtWarning, &str); 3] = [
            (MjtWarning::mjWARN_BADQPOS, "NaN, infinite or huge value in qpos"),
            (MjtWarning::mjWARN_BADQVEL, "NaN, infinite or huge value in qvel"),
            (MjtWarning::mjWARN_BADQACC, "NaN, infinite or huge value in qacc"),
        ];
        let counts = self.simulation.warning();
        match UNSTABLE.into_iter().find(|(kind, _)| counts[*kind as usize].number > 0) {
            None => Ok(()),
            Some((_, warning)) => Err(Error::Diverged {
                task: self.spec.id,
                step: self.episode.map_or(0, |episode| episode.steps),
                warning,
            }),
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
