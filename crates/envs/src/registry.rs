//! The list of all tasks, with their names and sizes.

use std::path::{Path, PathBuf};

use mujoco_rs::wrappers::mj_model::MjModel;
use serde::Serialize;

use crate::episode::Rules;
use crate::error::Error;
use crate::file;
use crate::interface::{Term, actuators};
use crate::models::{check_if_pinned, check_model, load, models_dir};
use crate::tasks::{
    Ant, Gymnasium, HalfCheetah, Hopper, Humanoid, HumanoidStandup, InvertedDoublePendulum,
    InvertedPendulum, ModelInfo, Pusher, Reacher, Swimmer, Version, Walker2d,
};

/// The ids of all known tasks, such as "Hopper-v4".
pub fn ids() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|entry| entry.id)
}

/// Description of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Gymnasium's id, such as "Hopper-v4", or the name of the task's file without `.toml`.
    pub id: String,
    /// Size of an observation.
    pub obs_dim: usize,
    /// Size of an action.
    pub act_dim: usize,
    /// What each component of an action drives: the actuator's name, or its joint's.
    pub actuators: Vec<String>,
    /// Lower bound of each component of an action, from its actuator's `ctrlrange`, or from the
    /// `[action]` of a task's file (-1 for position targets).
    pub act_low: Vec<f32>,
    /// Upper bound of each component of an action, likewise.
    pub act_high: Vec<f32>,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// The task's own MJCF file: a name within [`models_dir`](crate::models_dir), or the path of
    /// the file that a task's file names.
    pub model_file: String,
    /// MuJoCo steps per environment step.
    pub frame_skip: u32,
    /// Simulated seconds per environment step.
    pub dt: f64,
    /// The named terms of a file's observation; none of a built-in task.
    pub observation: Vec<Term>,
    /// What actions mean if they are targets for joint positions, which a file may say; otherwise they
    /// are the actuators' control.
    pub position_targets: Option<PositionTargets>,
    /// The names of the terms of the reward; see [`Env::terms`](crate::Env::terms). Those of a built-in
    /// task are Gymnasium v5's, without `reward_`: `forward`, `survive`, `ctrl` and so on. The reward is
    /// their sum up to rounding; costs are negative. Those of a file are its terms that are numbers.
    pub terms: Vec<String>,
}

/// Targets for joint positions: `default + scale * action`, which `kp` and `kd` follow.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionTargets {
    /// The actuators' force per radian or metre from the target.
    pub kp: PerActuator<f64>,
    /// The actuators' force per radian or metre per second.
    pub kd: PerActuator<f64>,
    /// Radians or metres for an action of 1.
    pub scale: PerActuator<f64>,
    /// The target for an action of 0, for each actuator, in radians or metres.
    pub default: Vec<f64>,
}

/// What a task's file gives the actuators; serialised as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PerActuator<T> {
    /// The same for all.
    All(T),
    /// One for each, in the model's order.
    Each(Vec<T>),
}

impl<T: Copy> PerActuator<T> {
    /// That of one actuator.
    ///
    /// # Panics
    /// If the list is too short.
    pub fn of(&self, actuator: usize) -> T {
        match self {
            Self::All(value) => *value,
            Self::Each(values) => values[actuator],
        }
    }
}

impl Spec {
    /// Rejects an action that Gymnasium would reject or that MuJoCo would silently replace by 0.
    pub(crate) fn check_action(&self, action: &[f32]) -> Result<(), Error> {
        let task = || self.id.clone();
        if action.len() != self.act_dim {
            return Err(Error::ActionLength {
                task: task(),
                found: action.len(),
                expected: self.act_dim,
            });
        }
        match action.iter().position(|component| !component.is_finite()) {
            None => Ok(()),
            Some(index) => {
                Err(Error::NonFiniteAction { task: task(), index, value: action[index] })
            }
        }
    }
}

/// Finds a task and loads its model: the pinned one, or the user's.
pub(crate) fn open(id: &str, model: Option<&Path>) -> Result<(Rules, MjModel), Error> {
    if file::is_file(id) {
        return open_file(Path::new(id), model);
    }
    let entry = Entry::find(id)?;
    let file = match model {
        Some(file) => file.to_owned(),
        None => check_model(entry.model_file)?,
    };
    let model = load(&file)?;
    Ok((entry.build(&model, &file)?, model))
}

/// Reads a task's file and loads its model: the one that it names, or another.
fn open_file(path: &Path, model: Option<&Path>) -> Result<(Rules, MjModel), Error> {
    let task = file::read(path)?;
    let model = model.unwrap_or(&task.model);
    check_if_pinned(model)?;
    let mut model = file::load_without(&task, model)?;
    let rules = file::build(&task, &mut model)?;
    Ok((rules, model))
}

/// Checks that there is such a task: an id, or a file whose keys and expressions can be read. No
/// model is read.
///
/// # Errors
/// [`Error::UnknownTask`], [`Error::UnreadableTask`], [`Error::TaskFile`].
pub fn check_task(id: &str) -> Result<(), Error> {
    if file::is_file(id) { file::read(Path::new(id)).map(drop) } else { Entry::find(id).map(drop) }
}

/// The model that a task's file names; nothing if the task is built in.
///
/// # Errors
/// Those of [`check_task`].
pub fn model_of(id: &str) -> Result<Option<PathBuf>, Error> {
    file::is_file(id).then(|| Ok(file::read(Path::new(id))?.model)).transpose()
}

/// The task's file that may be meant by a name: that of the current folder, or of dm_control's tasks.
fn file_named(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(format!("{name}.toml"));
    // The shorter path, where it is the same.
    let near = Path::new("models/dm_control").join(&own);
    let pinned = models_dir().join("dm_control").join(&own);
    [own, near, pinned].into_iter().find(|file| file.is_file())
}

/// One row of the registry.
struct Entry {
    id: &'static str,
    model_file: &'static str,
    frame_skip: u32,
    max_episode_steps: u32,
    obs_dim: usize,
    /// `[nq, nv, nu]` of the model, which determine the observation and the action.
    sizes: [usize; 3],
    /// `nbody` of the model, if the observation has a part for each body.
    bodies: Option<usize>,
    version: Version,
    build: fn(&ModelInfo) -> Result<Box<dyn Gymnasium>, Error>,
}

#[rustfmt::skip]
static TASKS: &[Entry] = {
    use Version::{V4, V5};
    #[expect(clippy::too_many_arguments, reason = "a row of the table")]
    const fn entry(
        id: &'static str, model_file: &'static str, version: Version, frame_skip: u32,
        max_episode_steps: u32, obs_dim: usize, sizes: [usize; 3], bodies: Option<usize>,
        build: fn(&ModelInfo) -> Result<Box<dyn Gymnasium>, Error>,
    ) -> Entry {
        Entry {
            id, model_file, frame_skip, max_episode_steps, obs_dim, sizes, bodies, version, build,
        }
    }
    &[
        //    id                    model                  version skip steps obs  nq, nv, nu, nbody
        entry("Ant-v4",             "ant.xml",             V4, 5, 1000,  27, [15, 14,  8], None, Ant::build),
        entry("HalfCheetah-v4",     "half_cheetah.xml",    V4, 5, 1000,  17, [ 9,  9,  6], None, HalfCheetah::build),
        entry("Hopper-v4",          "hopper.xml",          V4, 4, 1000,  11, [ 6,  6,  3], None, Hopper::build),
        entry("Humanoid-v4",        "humanoid.xml",        V4, 5, 1000, 376, [24, 23, 17], Some(14), Humanoid::build),
        entry("HumanoidStandup-v4", "humanoidstandup.xml", V4, 5, 1000, 376, [24, 23, 17], Some(14), HumanoidStandup::build),
        entry("Swimmer-v4",         "swimmer.xml",         V4, 4, 1000,   8, [ 5,  5,  2], None, Swimmer::build),
        entry("Walker2d-v4",        "walker2d.xml",        V4, 4, 1000,  17, [ 9,  9,  6], None, Walker2d::build),
        entry("Ant-v5",             "ant.xml",             V5, 5, 1000, 105, [15, 14,  8], Some(14), Ant::build),
        entry("HalfCheetah-v5",     "half_cheetah.xml",    V5, 5, 1000,  17, [ 9,  9,  6], None, HalfCheetah::build),
        entry("Hopper-v5",          "hopper.xml",          V5, 4, 1000,  11, [ 6,  6,  3], None, Hopper::build),
        entry("Humanoid-v5",        "humanoid.xml",        V5, 5, 1000, 348, [24, 23, 17], Some(14), Humanoid::build),
        entry("HumanoidStandup-v5", "humanoidstandup.xml", V5, 5, 1000, 348, [24, 23, 17], Some(14), HumanoidStandup::build),
        entry("Swimmer-v5",         "swimmer.xml",         V5, 4, 1000,   8, [ 5,  5,  2], None, Swimmer::build),
        entry("Walker2d-v5",        "walker2d_v5.xml",     V5, 4, 1000,  17, [ 9,  9,  6], None, Walker2d::build),
        entry("InvertedPendulum-v4",       "inverted_pendulum.xml",        V4, 2, 1000,  4, [ 2,  2,  1], None, InvertedPendulum::build),
        entry("InvertedPendulum-v5",       "inverted_pendulum.xml",        V5, 2, 1000,  4, [ 2,  2,  1], None, InvertedPendulum::build),
        entry("InvertedDoublePendulum-v4", "inverted_double_pendulum.xml", V4, 5, 1000, 11, [ 3,  3,  1], None, InvertedDoublePendulum::build),
        entry("InvertedDoublePendulum-v5", "inverted_double_pendulum.xml", V5, 5, 1000,  9, [ 3,  3,  1], None, InvertedDoublePendulum::build),
        entry("Reacher-v4",                "reacher.xml",                  V4, 2,   50, 11, [ 4,  4,  2], None, Reacher::build),
        entry("Reacher-v5",                "reacher.xml",                  V5, 2,   50, 10, [ 4,  4,  2], None, Reacher::build),
        entry("Pusher-v5",                 "pusher_v5.xml",                V5, 5,  100, 23, [11, 11,  7], None, Pusher::build),
    ]
};

impl Entry {
    /// The task with this id.
    fn find(id: &str) -> Result<&'static Self, Error> {
        TASKS.iter().find(|entry| entry.id == id).ok_or_else(|| {
            let nearest = file::nearest(id, ids());
            Error::UnknownTask { name: id.to_owned(), nearest, file: file_named(id) }
        })
    }

    /// The rules and description of the task for a model loaded from `file`.
    fn build(&self, model: &MjModel, file: &Path) -> Result<Rules, Error> {
        let dt = model.opt().timestep * f64::from(self.frame_skip);
        let info = ModelInfo { id: self.id, file, model, version: self.version, dt };

        let mut sizes = vec![
            ("nq (positions)", model.nq(), self.sizes[0]),
            ("nv (velocities)", model.nv(), self.sizes[1]),
            ("nu (actuators)", model.nu(), self.sizes[2]),
        ];
        sizes.extend(self.bodies.map(|bodies| ("nbody (bodies)", model.nbody(), bodies)));
        for (name, found, expected) in sizes {
            if found != expected as i64 {
                return Err(info.misfit(name, &found.to_string(), &expected.to_string()));
            }
        }
        let task = (self.build)(&info)?;
        let bounds = (0..self.sizes[2]).map(|i| info.bounds(i)).collect::<Result<Vec<_>, _>>()?;
        let (act_low, act_high) = bounds.into_iter().unzip();
        let spec = Spec {
            id: self.id.to_owned(),
            obs_dim: self.obs_dim,
            act_dim: self.sizes[2],
            actuators: actuators(model),
            act_low,
            act_high,
            max_episode_steps: self.max_episode_steps,
            model_file: self.model_file.to_owned(),
            frame_skip: self.frame_skip,
            dt,
            observation: Vec::new(),
            position_targets: None,
            terms: task.terms().iter().map(|name| (*name).to_owned()).collect(),
        };
        Ok(Rules { spec, task: Box::new(task) })
    }
}
