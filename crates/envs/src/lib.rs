//! Gymnasium's MuJoCo tasks, simulated natively with bit-identical results, and tasks that are files
//! (`docs/tasks.md`).
//!
//! For a seed and a sequence of `f32` actions an [`Env`] of Gymnasium's returns the same observations, rewards
//! and ends of episodes as `gymnasium.make(ID)` of Gymnasium 1.4.0 with MuJoCo 3.17.0 on the same
//! machine; `scripts/parity.py` checks this.
//!
//! ```no_run
//! let mut env = envs::Env::make("Hopper-v4")?;
//! let mut observation = vec![0.0; env.spec().obs_dim];
//! env.reset(Some(7), &mut observation);
//! let step = env.step(&[0.1, -0.2, 0.3], &mut observation)?;
//! if step.terminated || step.truncated {
//!     env.reset(None, &mut observation);
//! }
//! # Ok::<(), envs::Error>(())
//! ```
//!
//! Source files: one per robot in `tasks/`, the list of all tasks in `registry.rs`, reset and step
//! in `episode.rs`, NumPy's arithmetic in `numpy/`. [`Batch`] steps many copies of a task.

#![deny(unsafe_code)] // except in `ffi`, `physics` and `batch`

#[cfg(test)]
extern crate self as envs; // for what tests of both kinds share

mod batch;
mod env;
mod episode;
mod error;
mod ffi;
mod file;
mod interface;
mod limit;
mod messages;
mod models;
pub mod numpy;
mod physics;
mod poses;
mod registry;
#[cfg(feature = "render")]
mod render;
mod scene;
mod state;
mod tasks;
pub mod trace;

pub use batch::{Batch, BatchStep};
pub use env::Env;
pub use episode::Step;
pub use error::Error;
pub use file::{file_name_for, is_file, sketch, task_name, wrong_name};
pub use interface::{Interface, Term, interface};
pub use limit::{Limit, play};
pub use messages::{Message, take_messages};
pub use models::{check_model, compile, models_dir, mujoco_version};
pub use poses::Recorder;
pub use registry::{PerActuator, PositionTargets, Spec, check_task, ids, model_of};
#[cfg(feature = "render")]
pub use render::{Camera, Extent, Orbit, RenderError, Renderer};
pub use scene::{Geom, HeightField, Mesh, Scene, Shape};
