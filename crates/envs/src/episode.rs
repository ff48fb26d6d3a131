//! The life of an episode: what a single environment and a member of a batch have in common.

use crate::error::Error;
use crate::numpy::Generator;
use crate::physics::World;
use crate::registry::Spec;
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

/// What copies of a task share.
pub(crate) struct Rules {
    pub spec: Spec,
    pub task: Box<dyn Task>,
}

/// What a copy of a task remembers besides MuJoCo's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// The stream of initial states, from the first reset on.
    pub random: Option<Generator>,
    /// The episode, from the first reset on.
    pub episode: Option<Episode>,
}

/// What an episode remembers from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Episode {
    /// Steps made.
    pub steps: u32,
    /// The last step was terminated or truncated.
    pub over: bool,
    /// See [`Task::mark`]. Kept because MuJoCo's saved state leaves the bodies' positions out.
    pub mark: [f64; 2],
}

impl Memory {
    /// The episode, or the error that there is none.
    pub fn begun(&mut self, spec: &Spec) -> Result<&mut Episode, Error> {
        self.episode.as_mut().ok_or(Error::NotReset { task: spec.id })
    }

    /// The error that MuJoCo's warnings mean.
    pub fn diverged(&self, spec: &Spec, warning: &'static str) -> Error {
        let step = self.episode.map_or(0, |episode| episode.steps);
        Error::Diverged { task: spec.id, step, warning }
    }
}

impl Rules {
    /// Begins an episode: in a new stream from `seed`, or in the stream that there is.
    ///
    /// # Panics
    /// If there is neither.
    pub fn reset(
        &self,
        memory: &mut Memory,
        world: &mut World,
        seed: Option<u64>,
        observation: &mut [f64],
    ) {
        if let Some(seed) = seed {
            memory.random = Some(Generator::new(seed));
        }
        let random = memory.random.as_mut().expect("the first reset has a seed");

        world.reset();
        let (qpos, qvel) = world.state_mut();
        self.task.disturb(random, qpos, qvel);
        world.forward();

        let physics = world.physics();
        self.task.observe(physics, observation);
        memory.episode = Some(Episode { steps: 0, over: false, mark: self.task.mark(physics) });
    }

    /// Takes one step with an action that [`Spec::check_action`] let pass.
    pub fn step(
        &self,
        episode: &mut Episode,
        world: &mut World,
        action: &[f32],
        observation: &mut [f64],
    ) -> Step {
        world.advance(self.spec.frame_skip, action);

        let physics = world.physics();
        self.task.observe(physics, observation);
        let judgement = self.task.judge(episode.mark, physics, action);
        episode.mark = self.task.mark(physics);
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
