//! Errors of the runner: a message of one line, and an exit code.

use rustix::fs::Access;
use std::fmt::Display;
use std::path::Path;

/// A message of one line, with the exit code that `docs/protocol.md` gives it.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage or input: exit code 2.
    Usage(String),
    /// The request was valid, but carrying it out failed: exit code 1.
    Failed(String),
    /// A number of the policy's is not finite: exit code 1. The message says which.
    Diverged(String),
    /// Stopped on request, with a checkpoint: exit code 75.
    Stopped(String),
}

/// What most functions of the runner return.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// An operation on a file or folder failed: "PATH: can't DOING: ERROR".
    pub fn file(path: &Path, doing: &str, error: impl Display) -> Self {
        Self::Failed(format!("{}: can't {doing}: {error}", path.display()))
    }

    /// The message.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage(message)
            | Self::Failed(message)
            | Self::Diverged(message)
            | Self::Stopped(message) => message,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Diverged(_) => 1,
            Self::Stopped(_) => 75,
        }
    }
}

impl From<envs::Error> for Failure {
    fn from(error: envs::Error) -> Self {
        use envs::Error::*;
        let message = error.to_string();
        match error {
            MujocoVersion { .. } | Diverged { .. } | Simulation { .. } | InBatch { .. } => {
                Self::Failed(message)
            }
            _ => Self::Usage(message),
        }
    }
}

impl From<show::Error> for Failure {
    fn from(error: show::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<report::Problem> for Failure {
    fn from(problem: report::Problem) -> Self {
        match problem {
            report::Problem::Input(message) => Self::Usage(message),
            report::Problem::System(message) => Self::Failed(message),
        }
    }
}

/// Checks that files can be made in a folder, or the folder where it is missing: before work that would be
/// lost otherwise.
///
/// # Errors
/// They can't.
pub fn check_writable(folder: &Path) -> Outcome<()> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    rustix::fs::access(there, Access::WRITE_OK).map_err(|error| {
        Failure::Usage(format!(
            "{}: can't write here: {error}; name another place with --out",
            there.display()
        ))
    })
}

/// Names that are less alike (Jaro-Winkler, from 0 to 1) are not taken for a mistyped one.
const LEAST_LIKENESS: f64 = 0.75;

/// The known name that is most similar to `name`, if one is similar enough for a hint.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key in the wrong section is as common a mistake as a misspelt one.
    let similarity = |other: &str| {
        let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_lowercase();
        let whole = strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
        whole.max(strsim::jaro_winkler(&last(name), &last(other)) * 0.99)
    };
    known
        .into_iter()
        .map(|other| (similarity(other), other))
        .filter(|(score, _)| *score > LEAST_LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// The error "unknown KIND 'NAME': did you mean 'X'? (all: ...)".
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Failure {
    let hint = nearest(name, known.iter().copied())
        .map(|near| format!(": did you mean '{near}'?"))
        .unwrap_or_default();
    Failure::Usage(format!("unknown {kind} '{name}'{hint} (all: {})", known.join(", ")))
}
