//! Errors of a report, each in one line.

use std::fmt::Display;
use std::path::Path;

/// An error in one line: the subject, what is wrong with it, what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The user's input is wrong.
    #[error("{0}")]
    Input(String),
    /// The operating system reports an error on reading or writing.
    #[error("{0}")]
    System(String),
}

impl Problem {
    /// An invalid file or folder of the user's.
    pub fn input(path: &Path, what: impl Display) -> Self {
        Self::Input(format!("{}: {what}", path.display()))
    }

    /// A file or folder that can't be read or written.
    pub fn system(path: &Path, doing: &str, error: impl Display) -> Self {
        Self::System(format!("{}: can't {doing}: {error}", path.display()))
    }

    /// An invalid CSV file, with the line number of the row.
    pub fn csv(path: &Path, error: &csv::Error) -> Self {
        let what = match error.kind() {
            csv::ErrorKind::Io(error) => return Self::system(path, "read", error),
            csv::ErrorKind::Deserialize { err, .. } => match err.field() {
                Some(field) => format!("column {}: {}", field + 1, err.kind()),
                None => err.kind().to_string(),
            },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields, expected the header's {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_string(),
            _ => error.to_string(),
        };
        let row = error.position().map(|at| format!("row {}: ", at.line())).unwrap_or_default();
        Self::input(path, format!("{row}{what}"))
    }
}
