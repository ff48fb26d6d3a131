//! Reset and step: common to a single environment and a member of a batch.

use crate::error::Error;
use crate::numpy::Stream;
use crate::physics::World;
use crate::registry::Spec;
use crate::tasks::Task;

/// Result of a step, besides the observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The reward, with NumPy's rounding.
    pub reward: f64,
    /// The episode ended in a terminal state, such as a fall, whose value is 0.
    pub terminated: bool,
    /// The time limit was reached; the state is not terminal.
    pub truncated: bool,
}

/// The part of a task that its copies share.
pub(crate) struct Rules {
    pub spec: Spec,
    pub task: Box<dyn Task>,
}

/// The state of a copy of a task besides MuJoCo's.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// The random stream of initial states; `None` before the first reset.
    pub random: Option<Stream>,
    /// The current episode; `None` before the first reset.
    pub episode: Option<Episode>,
    /// See [`Task::notes`]. Some are stored, because MuJoCo's saved state does not contain the
    /// positions of bodies.
    pub notes: Vec<f64>,
}

/// The state of an episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Episode {
    /// Steps so far.
    pub steps: u32,
    /// The last step was terminated or truncated.
    pub over: bool,
}

impl Memory {
    /// That of a copy before its first reset.
    pub fn new(task: &dyn Task) -> Self {
        Self { random: None, episode: None, notes: task.notes() }
    }

    /// The current episode.
    ///
    /// # Errors
    /// [`Error::NotReset`] before the first reset.
    pub fn begun(&self, spec: &Spec) -> Result<Episode, Error> {
        self.episode.ok_or_else(|| Error::NotReset { task: spec.id.clone() })
    }

    /// The error for a warning of MuJoCo.
    pub fn diverged(&self, spec: &Spec, warning: &'static str) -> Error {
        let step = self.episode.map_or(0, |episode| episode.steps);
        Error::Diverged { task: spec.id.clone(), step, warning }
    }
}

impl Rules {
    /// The terms of the last reward, in the order of [`Spec::terms`].
    pub fn terms(&self, memory: &Memory) -> impl Iterator<Item = f64> {
        self.task.terms().iter().map(|at| memory.notes[*at])
    }

    /// Starts an episode with a new random stream from `seed`, or with the existing one.
    ///
    /// # Panics
    /// If there is neither a seed nor a stream.
    pub fn reset(
        &self,
        memory: &mut Memory,
        world: &mut World,
        seed: Option<u64>,
        observation: &mut [f64],
    ) {
        if let Some(seed) = seed {
            memory.random = Some(self.task.stream(seed));
        }
        let random = memory.random.as_mut().expect("the first reset has a seed");

        self.task.start(random, world, &mut memory.notes);
        self.task.observe(world.physics(), &mut memory.notes, observation);
        memory.episode = Some(Episode { steps: 0, over: false });
    }

    /// Makes one step of an episode that has begun, with an action that passed
    /// [`Spec::check_action`].
    ///
    /// # Panics
    /// Before the first reset.
    pub fn step(
        &self,
        memory: &mut Memory,
        world: &mut World,
        action: &[f32],
        observation: &mut [f64],
    ) -> Step {
        let Memory { episode, notes, .. } = memory;
        self.task.advance(world, self.spec.frame_skip, action, notes);

        let physics = world.physics();
        self.task.observe(physics, notes, observation);
        let judgement = self.task.judge(physics, action, notes);
        let episode = episode.as_mut().expect("the episode has begun");
        episode.steps += 1;
        let step = Step {
            reward: judgement.reward,
            terminated: judgement.terminated,
            truncated: episode.steps >= self.spec.max_episode_steps,
        };
        episode.over = step.terminated || step.truncated;
        step
    }
}
