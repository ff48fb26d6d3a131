//! How far a run is, from its folder alone.

use crate::base::failure::{Failure, Outcome};
use crate::train::logs::TRAIN;
use crate::train::run_folder::{DONE, RECORD, at_work, difference};
use crate::train::run_spec::TrainRequest;
use report::TrainRow;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use toml_edit::DocumentMut;

/// Beside `DONE`: why a run failed, in a line.
pub const FAILED: &str = "FAILED";
/// Rows of `train.csv` whose speed says how long the rest takes.
pub const RECENT_ROWS: usize = 10;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Finished, with these settings.
    Done,
    /// A process holds its lock.
    Running,
    /// Its last attempt failed, or its folder holds another run.
    Failed,
    /// Begun; no process is at work on it, and none said that it failed.
    Stopped,
    /// Not begun.
    Missing,
}

impl State {
    /// All, in the order in which they are counted.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Running, Self::Stopped, Self::Failed, Self::Missing];

    /// Its name for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
        }
    }
}

/// What a run's folder says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    pub state: State,
    /// Environment steps so far, as of the last row of `train.csv`, and in all.
    pub step: u64,
    pub steps: u64,
    /// Mean return of the training episodes that ended last.
    pub last_return: Option<f64>,
    /// Speed of the last rows that had updates.
    pub steps_per_s: Option<f64>,
    /// Seconds that the rest takes at this speed; of a run that is running only.
    pub left_s: Option<f64>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Looks at a run's folder.
pub fn look(run: &TrainRequest) -> Seen {
    let (state, reason) = match finished(run) {
        Ok(true) => (State::Done, None),
        Ok(false) => unfinished(&run.folder()),
        Err(failure) => (State::Failed, Some(failure.message().to_string())),
    };
    Seen { state, reason, ..progress(run, state) }
}

/// The state of a folder without `DONE`, and why its run failed.
pub fn unfinished(folder: &Path) -> (State, Option<String>) {
    if at_work(folder) {
        return (State::Running, None);
    }
    match fs::read_to_string(folder.join(FAILED)) {
        Ok(reason) => (State::Failed, Some(reason.trim().to_string())),
        Err(_) if folder.join(RECORD).exists() => (State::Stopped, None),
        Err(_) => (State::Missing, None),
    }
}

/// What `train.csv` says. A row that is being written is no reason to say nothing more.
pub fn progress(run: &TrainRequest, state: State) -> Seen {
    let rows: Vec<TrainRow> = report::read(&run.folder().join(TRAIN)).unwrap_or_default();
    Seen::of(&rows, run.settings.train.steps, state)
}

impl Seen {
    /// What the rows of `train.csv` say; the last [`RECENT_ROWS`] are enough, but for the return.
    pub fn of(rows: &[TrainRow], steps: u64, state: State) -> Self {
        let step = rows.last().map_or(0, |row| row.step);
        let recent = &rows[rows.len().saturating_sub(RECENT_ROWS)..];
        // The mean time of a step: rows are as many steps apart. Steps without updates are no
        // measure of what is left.
        let times: Vec<f64> =
            recent.iter().filter(|row| row.updates > 0).map(|row| 1.0 / row.steps_per_s).collect();
        let slowness = times.iter().sum::<f64>() / times.len() as f64;
        let steps_per_s = (slowness.is_finite() && slowness > 0.0).then(|| 1.0 / slowness);
        let left = steps.saturating_sub(step) as f64;
        Self {
            state,
            step,
            steps,
            last_return: rows.iter().rev().find_map(|row| row.return_mean),
            steps_per_s,
            left_s: steps_per_s.filter(|_| state == State::Running).map(|speed| left / speed),
            reason: None,
        }
    }
}

/// Whether a run is finished.
///
/// # Errors
/// Its folder holds another finished run, which stays as it is.
pub fn finished(run: &TrainRequest) -> Outcome<bool> {
    let folder = run.folder();
    if !folder.join(DONE).exists() {
        return Ok(false);
    }
    let path = folder.join(RECORD);
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, "read", error))?;
    let record: DocumentMut = text
        .parse()
        .map_err(|_| Failure::Usage(format!("{}: damaged: not valid TOML", path.display())))?;
    match difference(&record, &run.shape()?) {
        None => Ok(true),
        Some((key, old, new)) => Err(Failure::Usage(format!(
            "{} holds a finished run with {key} = {old}, and the manifest has {new}; plan with \
             another --name or --out, or move the old run away",
            folder.display()
        ))),
    }
}

/// Forgets that the last attempt failed: another begins.
///
/// # Errors
/// The file is there and can't be deleted.
pub fn forget_failure(run: &TrainRequest) -> Outcome<()> {
    let path = run.folder().join(FAILED);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::file(&path, "delete", error))
        }
        _ => Ok(()),
    }
}

/// Notes why a run failed, unless its folder is another process's, finished or not there.
pub fn note_failure(run: &TrainRequest, reason: &str) {
    let folder = run.folder();
    if folder.is_dir() && !folder.join(DONE).exists() && !at_work(&folder) {
        // The reason is on stderr too: where it can't be written nothing is lost.
        let _ = fs::write(folder.join(FAILED), format!("{reason}\n"));
    }
}

/// "3 done, 1 running, 2 missing": those that there are.
pub fn count(states: impl Iterator<Item = State> + Clone) -> String {
    let of = |state: State| {
        let n = states.clone().filter(|other| *other == state).count();
        (n > 0).then(|| format!("{n} {}", state.word()))
    };
    State::ALL.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_before_the_first_update_say_nothing_of_the_time_that_is_left() {
        let row = |step, updates, steps_per_s| TrainRow {
            step,
            updates,
            steps_per_s,
            ..TrainRow::default()
        };
        let rows = [row(1000, 0, 20_000.0), row(2000, 1000, 50.0)];
        let left = |rows: &[TrainRow]| Seen::of(rows, 3000, State::Running).left_s;
        assert_eq!([left(&rows[..1]), left(&rows)], [None, Some(20.0)]);
    }
}
