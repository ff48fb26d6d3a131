//! How the program ends when it can't go on: one line, and an exit code.

use std::fmt::Display;
use std::path::Path;

/// A message of one line, with the exit code that `docs/protocol.md` gives it.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage or input: exit code 2.
    Usage(String),
    /// A right request failed: exit code 1.
    Failed(String),
    /// Somebody asked us to stop, and there is a checkpoint: exit code 75.
    Stopped(String),
}

/// What most functions of the runner answer.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A file or folder that the system does not let us use.
    pub fn file(path: &Path, doing: &str, error: impl Display) -> Self {
        Self::Failed(format!("{}: can't {doing}: {error}", path.display()))
    }

    /// The message.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Failed(message) | Self::Stopped(message) => message,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
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

/// The known name that is most like `name`, if any is at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key is as often mistaken for one of another section as misspelt.
    let likeness = |other: &str| {
        let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_lowercase();
        let whole = strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
        whole.max(strsim::jaro_winkler(&last(name), &last(other)) * 0.99)
    };
    known
        .into_iter()
        .map(|other| (likeness(other), other))
        .filter(|(score, _)| *score > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// "unknown KIND 'NAME': did you mean 'X'? (all: ...)"
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Failure {
    let hint = nearest(name, known.iter().copied())
        .map(|near| format!("did you mean '{near}'? "))
        .unwrap_or_default();
    Failure::Usage(format!("unknown {kind} '{name}': {hint}(all: {})", known.join(", ")))
}
