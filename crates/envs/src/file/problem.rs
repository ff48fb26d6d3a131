//! What is wrong with a task's file, and where.

use std::path::Path;

use crate::error::Error;

/// Most names in a message.
const MOST: usize = 40;
/// Names that are less alike are not taken for a mistyped one, nor are those of one or two letters,
/// which are always like some other.
const LEAST_LIKENESS: f64 = 0.75;
const LEAST_LETTERS: usize = 3;

/// A mistake in a file: its place, as a number of bytes from the file's beginning, and what was
/// found and expected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub at: usize,
    pub message: String,
}

impl Problem {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// "unknown KIND 'NAME'" with the most similar of the known names, or with them all if none is
    /// similar.
    pub fn unknown<'a>(
        at: usize,
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("; did you mean '{}'?", shown(near)),
            None if known.is_empty() => "; there is none".into(),
            None => {
                let all: Vec<String> = known.iter().take(MOST).map(|name| shown(name)).collect();
                let more = if known.len() > MOST { ", ..." } else { "" };
                format!(" (all: {}{more})", all.join(", "))
            }
        };
        Self::new(at, format!("unknown {kind} '{}'{hint}", shown(name)))
    }

    /// The error, with line and column.
    pub fn in_file(self, file: &Path, text: &str) -> Error {
        let at = (0..=self.at.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        let before = &text[..at.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Error::TaskFile {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: crate::messages::one_line(&self.message),
        }
    }
}

/// How alike two names are (Jaro-Winkler), from 0 to 1.
fn likeness(a: &str, b: &str) -> f64 {
    let a: String = a.chars().take(100).collect::<String>().to_lowercase();
    strsim::jaro_winkler(&a, &b.to_lowercase())
}

/// The most similar of some names, if one is similar enough; of several alike the first, which of a
/// task's versions is the older.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() < LEAST_LETTERS {
        return None;
    }
    let all = known.into_iter().map(|other| (likeness(name, other), other));
    let all = all.filter(|(likeness, _)| *likeness > LEAST_LIKENESS);
    let nearer =
        |best: (f64, &'a str), next: (f64, &'a str)| if next.0 > best.0 { next } else { best };
    all.reduce(nearer).map(|(_, other)| other)
}

/// A user's word, not too long and without control characters.
pub(crate) fn shown(word: &str) -> String {
    let short: String = word.chars().take(60).collect();
    let more = if short.len() < word.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
