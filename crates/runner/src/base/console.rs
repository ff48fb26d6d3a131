//! The only place that prints. stdout has the data that a command was asked for, stderr has
//! messages. Nothing here panics: the reader of a pipe may go away, and a disk fills up.

use super::failure::{Failure, Outcome};
use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to stderr. If it can't be written it is dropped: a run of hours does not end
/// because nobody reads its messages.
pub fn message(line: impl Display) {
    // One call, so that lines of several threads and processes do not mix.
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Writes data to stdout.
///
/// # Errors
/// It can't be written.
pub fn data(text: impl Display) -> Outcome<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.to_string().as_bytes()).and_then(|()| stdout.flush());
    written.map_err(unwritable)
}

/// Writes rows to stdout as CSV.
///
/// # Errors
/// They can't be written.
pub fn rows<Row: report::Record>(rows: &[Row]) -> Outcome<()> {
    report::write(io::stdout().lock(), rows).map_err(unwritable)
}

/// stdout can't be written.
pub fn unwritable(error: io::Error) -> Failure {
    Failure::Failed(format!("stdout: can't write: {error}"))
}
