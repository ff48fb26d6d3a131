//! What can go wrong, each as one line: the thing, its value, what was expected, the mend.

use std::path::PathBuf;

/// An environment could not be made, stepped or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No task has this id.
    #[error("unknown task '{name}': did you mean '{nearest}'? (all: {})", crate::ids().collect::<Vec<_>>().join(", "))]
    UnknownTask {
        /// What was asked for.
        name: String,
        /// The known id that is spelt most like it.
        nearest: &'static str,
    },

    /// A model file, or the list of checksums beside it, is not there or cannot be read.
    #[error("cannot read {}: {cause}; run `scripts/just setup` to fetch the models", file.display())]
    MissingModel {
        /// The file that was looked for.
        file: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },

    /// A model file is not the one that the benchmark pins.
    #[error(
        "{} was altered: its SHA-256 is {found}, models/SHA256SUMS says {expected}; \
         delete it and run `scripts/just setup`, or pass your own model with --model",
        file.display()
    )]
    AlteredModel {
        /// The file that was checked.
        file: PathBuf,
        /// Its checksum, 64 hexadecimal digits.
        found: String,
        /// The pinned checksum, or what is wrong with the list of checksums.
        expected: String,
    },

    /// MuJoCo does not accept a model.
    #[error("MuJoCo rejects {}: {message}", file.display())]
    Model {
        /// The MJCF file.
        file: PathBuf,
        /// MuJoCo's own message, with element and line, on one line.
        message: String,
    },

    /// A model parses but does not fit the task.
    #[error("{} does not fit {task}: {what} is {found}, expected {expected}", file.display())]
    ModelSize {
        /// The MJCF file.
        file: PathBuf,
        /// The task's id.
        task: &'static str,
        /// The quantity that differs.
        what: String,
        /// Its value in the model.
        found: String,
        /// The value that the task needs.
        expected: String,
    },

    /// The MuJoCo library is another version than the pinned one.
    #[error("MuJoCo {found} is loaded, expected {expected}; run `scripts/just setup`")]
    MujocoVersion {
        /// The loaded library's version.
        found: String,
        /// The version that the crate is built for.
        expected: &'static str,
    },

    /// An action has the wrong number of components.
    #[error("{task}: an action of {found} numbers, expected {expected}")]
    ActionLength {
        /// The task's id.
        task: &'static str,
        /// The length that was given.
        found: usize,
        /// The length that the task needs.
        expected: usize,
    },

    /// An action holds a NaN or an infinity.
    #[error("{task}: component {index} of the action is {value}, expected a finite number")]
    NonFiniteAction {
        /// The task's id.
        task: &'static str,
        /// The first component that is not finite.
        index: usize,
        /// Its value.
        value: f32,
    },

    /// A step was asked for before the first reset.
    #[error("{task}: step before the first reset; call reset")]
    NotReset {
        /// The task's id.
        task: &'static str,
    },

    /// The simulation became unstable; see [`Env::check`](crate::Env::check).
    #[error(
        "{task}: the simulation diverged within step {step} of the episode or before \
         ({warning}); reset, or use smaller actions"
    )]
    Diverged {
        /// The task's id.
        task: &'static str,
        /// Steps made in this episode when the question was asked.
        step: u32,
        /// MuJoCo's warning.
        warning: &'static str,
    },

    /// A batch cannot have this size.
    #[error("a batch of {task}: {reason}")]
    BatchSize {
        /// The task's id.
        task: &'static str,
        /// What is wrong with the size, or MuJoCo's own message.
        reason: String,
    },

    /// MuJoCo gave up within a step of a batch. (For a single environment it ends the program.)
    #[error("{task}: MuJoCo failed: {message}")]
    Simulation {
        /// The task's id.
        task: &'static str,
        /// MuJoCo's own message, on one line.
        message: String,
    },

    /// Something is wrong with one environment of a batch.
    #[error("environment {environment}: {cause}")]
    InBatch {
        /// Its number, from 0.
        environment: usize,
        /// What is wrong.
        cause: Box<Error>,
    },

    /// Bytes given to [`Env::load_state`](crate::Env::load_state) are not a state of this task.
    #[error("not a saved state of {task}: {reason}")]
    State {
        /// The task's id.
        task: &'static str,
        /// What is wrong with the bytes.
        reason: String,
    },

    /// A trace could not be read or written.
    #[error("{}: {reason}", file.display())]
    TraceFile {
        /// The file.
        file: PathBuf,
        /// What went wrong, and what was expected.
        reason: String,
    },
}

impl Error {
    /// The error, with the environment of a batch that it came from.
    pub(crate) fn of_environment(self, environment: usize) -> Self {
        Self::InBatch { environment, cause: Box::new(self) }
    }
}
