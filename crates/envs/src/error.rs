//! Errors, each in one line: the subject, its value, what was expected, how to fix it.

use std::path::{Path, PathBuf};

/// An environment could not be made, stepped or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No task has this id.
    #[error("unknown task '{name}': {}(a file's name ends in .toml; all: {})", hint(name, file.as_deref(), *nearest), crate::ids().collect::<Vec<_>>().join(", "))]
    UnknownTask {
        /// The requested id.
        name: String,
        /// The known id with a similar spelling, if there is one.
        nearest: Option<&'static str>,
        /// The task's file that has this name, if there is one.
        file: Option<PathBuf>,
    },

    /// The file of a task's own model is missing or cannot be read.
    #[error("cannot read {}: {cause}; run `scripts/just setup` to fetch the models", file.display())]
    MissingModel {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },

    /// A file of the user's is missing or cannot be read.
    #[error("cannot read the model {}: {cause}", file.display())]
    UnreadableModel {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },

    /// A model file differs from the pinned one.
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
        /// The pinned checksum, or that there is none.
        expected: String,
    },

    /// A task's file is missing or cannot be read.
    #[error("cannot read the task {}: {reason}", file.display())]
    UnreadableTask {
        /// The file.
        file: PathBuf,
        /// Why, and what is expected.
        reason: String,
    },

    /// A mistake in a task's file, or a name in it that the model lacks.
    #[error("{}:{line}:{column}: {reason}", file.display())]
    TaskFile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, in characters from 1.
        column: usize,
        /// What was found, and what is expected.
        reason: String,
    },

    /// MuJoCo rejects a model.
    #[error("MuJoCo rejects {}: {message}", file.display())]
    Model {
        /// The MJCF file.
        file: PathBuf,
        /// MuJoCo's message, with element and line, on one line.
        message: String,
    },

    /// MuJoCo accepts a model that this crate can't simulate.
    #[error("{}: {what}", file.display())]
    UnsupportedModel {
        /// The MJCF file.
        file: PathBuf,
        /// What it has, and what was expected.
        what: String,
    },

    /// A model parses but does not fit the task.
    #[error("{} does not fit {task}: {what} is {found}, expected {expected}", file.display())]
    ModelSize {
        /// The MJCF file.
        file: PathBuf,
        /// The task's id.
        task: String,
        /// The quantity that differs.
        what: String,
        /// Its value in the model.
        found: String,
        /// The value that the task needs.
        expected: String,
    },

    /// The version of the MuJoCo library is not the pinned one.
    #[error("MuJoCo {found} is loaded, expected {expected}; run `scripts/just setup`")]
    MujocoVersion {
        /// The loaded library's version.
        found: String,
        /// The version that the crate requires.
        expected: &'static str,
    },

    /// An action has the wrong number of components.
    #[error("{task}: an action of {found} numbers, expected {expected}")]
    ActionLength {
        /// The task's id.
        task: String,
        /// Its length.
        found: usize,
        /// The length that the task needs.
        expected: usize,
    },

    /// An action holds a NaN or an infinity.
    #[error("{task}: component {index} of the action is {value}, expected a finite number")]
    NonFiniteAction {
        /// The task's id.
        task: String,
        /// The first component that is not finite.
        index: usize,
        /// Its value.
        value: f32,
    },

    /// A step was requested before the first reset.
    #[error("{task}: step before the first reset; call reset")]
    NotReset {
        /// The task's id.
        task: String,
    },

    /// The simulation became unstable; see [`Env::check`](crate::Env::check).
    #[error(
        "{task}: the simulation diverged within step {step} of the episode or before ({warning})"
    )]
    Diverged {
        /// The task's id.
        task: String,
        /// Steps of this episode at the time of the check.
        step: u32,
        /// MuJoCo's warning.
        warning: &'static str,
    },

    /// A batch can't have this size.
    #[error("a batch of {task}: {reason}")]
    BatchSize {
        /// The task's id.
        task: String,
        /// What is wrong with the size, or MuJoCo's message.
        reason: String,
    },

    /// MuJoCo reported a fatal error in a step of a batch. (In a single environment it aborts the
    /// process.)
    #[error("{task}: MuJoCo failed: {message}")]
    Simulation {
        /// The task's id.
        task: String,
        /// MuJoCo's message, on one line.
        message: String,
    },

    /// An error of one environment of a batch.
    #[error("environment {environment}: {cause}")]
    InBatch {
        /// Its index, from 0.
        environment: usize,
        /// The error.
        cause: Box<Error>,
    },

    /// Bytes given to [`Env::load_state`](crate::Env::load_state) are not a state of this task.
    #[error("not a saved state of {task}: {reason}")]
    State {
        /// The task's id.
        task: String,
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
    /// The error, with the index of its environment in a batch.
    pub(crate) fn of_environment(self, environment: usize) -> Self {
        Self::InBatch { environment, cause: Box::new(self) }
    }
}

/// What may have been meant by the name of an unknown task.
fn hint(name: &str, file: Option<&Path>, nearest: Option<&str>) -> String {
    if name.ends_with(".xml") {
        return "that is a model; `runner task new` writes a task for it ".into();
    }
    if let Some(file) = file {
        return format!("did you mean the file {}? ", file.display());
    }
    nearest.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default()
}
