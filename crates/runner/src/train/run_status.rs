//! The status of a run, read from its folder alone.

use crate::base::failure::{Failure, Outcome};
use crate::train::logs::TRAIN;
use crate::train::run_folder::{DONE, RECORD, Relation, is_running, relation};
use crate::train::run_spec::RunSpec;
use report::TrainRow;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use toml_edit::DocumentMut;

/// The file that says in one line why a run's last attempt failed.
pub const FAILED: &str = "FAILED";
/// The number of last rows of `train.csv` from which the speed is estimated.
pub const RECENT_ROWS: usize = 10;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Finished, with these settings.
    Done,
    /// A process holds its lock.
    Running,
    /// Its last attempt failed, or its folder holds another run.
    Failed,
    /// Begun, but no process works on it, and none noted a failure.
    Stopped,
    /// Not begun.
    Missing,
}

impl State {
    /// All states, in the order in which [`count`] lists them.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Running, Self::Stopped, Self::Failed, Self::Missing];

    /// The state's name.
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

/// State and progress of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStatus {
    /// What it is doing.
    pub state: State,
    /// Environment steps so far, as of the last row of `train.csv`.
    pub step: u64,
    /// Environment steps of the whole run.
    pub steps: u64,
    /// The last `return_mean` of `train.csv`.
    pub last_return: Option<f64>,
    /// Environment steps per second over the last rows with updates.
    pub steps_per_s: Option<f64>,
    /// Seconds until the end at this speed; only if it is running.
    pub left_s: Option<f64>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// The state of a run whose folder has no `DONE`, and the reason if it failed.
pub fn unfinished(folder: &Path) -> (State, Option<String>) {
    if is_running(folder) {
        return (State::Running, None);
    }
    match fs::read_to_string(folder.join(FAILED)) {
        Ok(reason) => (State::Failed, Some(reason.trim().to_string())),
        Err(_) if folder.join(RECORD).exists() => (State::Stopped, None),
        Err(_) => (State::Missing, None),
    }
}

impl RunStatus {
    /// The status of a run, from its folder.
    pub fn of(run: &RunSpec) -> Self {
        let (state, reason) = match is_finished(run) {
            Ok(true) => (State::Done, None),
            Ok(false) => unfinished(&run.folder()),
            Err(failure) => (State::Failed, Some(failure.message().to_string())),
        };
        Self { reason, ..Self::in_state(run, state) }
    }

    /// The progress of a run whose state is known. Without a readable `train.csv` it is 0.
    pub fn in_state(run: &RunSpec, state: State) -> Self {
        let rows: Vec<TrainRow> = report::read(&run.folder().join(TRAIN)).unwrap_or_default();
        Self::from_rows(&rows, run.settings.train.steps, state)
    }

    /// The progress after these rows of `train.csv`, of a run of `steps` steps. The last
    /// [`RECENT_ROWS`] give the same, except that the return may be in an earlier one.
    pub fn from_rows(rows: &[TrainRow], steps: u64, state: State) -> Self {
        let step = rows.last().map_or(0, |row| row.step);
        let recent = &rows[rows.len().saturating_sub(RECENT_ROWS)..];
        // The mean time of a step, as rows are equally many steps apart. Steps of the warm-up,
        // which have no updates, say nothing about the rest.
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

/// Whether a run is finished: the one with these settings, not a shorter beginning of it.
///
/// # Errors
/// Its folder holds another finished run, or a record that can't be read.
pub fn is_finished(run: &RunSpec) -> Outcome<bool> {
    let folder = run.folder();
    if !folder.join(DONE).exists() {
        return Ok(false);
    }
    let path = folder.join(RECORD);
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, "read", error))?;
    let record: DocumentMut = text
        .parse()
        .map_err(|_| Failure::Usage(format!("{}: damaged: not valid TOML", path.display())))?;
    match relation(&folder, &record, &run.shape()?) {
        Relation::Same => Ok(true),
        Relation::Beginning => Ok(false),
        Relation::Other(why) => Err(Failure::Usage(format!(
            "{} holds a finished run {why}; plan with another --name or --out, or move the old \
             run away",
            folder.display()
        ))),
    }
}

/// Deletes the note that the last attempt failed, before another begins.
///
/// # Errors
/// The note can't be deleted.
pub fn forget_failure(run: &RunSpec) -> Outcome<()> {
    let path = run.folder().join(FAILED);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::file(&path, "delete", error))
        }
        _ => Ok(()),
    }
}

/// Notes why a run failed, unless its folder is missing, finished, in use by another process, or
/// holds another run.
pub fn note_failure(run: &RunSpec, reason: &str) {
    let folder = run.folder();
    let record = fs::read_to_string(folder.join(RECORD)).ok().and_then(|text| text.parse().ok());
    let of_another = record.zip(run.shape().ok()).is_some_and(|(record, shape)| {
        matches!(relation(&folder, &record, &shape), Relation::Other(_))
    });
    if folder.is_dir() && !of_another && !folder.join(DONE).exists() && !is_running(&folder) {
        // An error here loses nothing: the reason is on stderr too.
        let _ = fs::write(folder.join(FAILED), format!("{reason}\n"));
    }
}

/// How many runs are in each state, such as "3 done, 1 running"; states without runs are left out.
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
    fn steps_before_the_first_update_do_not_count_for_the_time_that_is_left() {
        let row = |step, updates, steps_per_s| TrainRow {
            step,
            updates,
            steps_per_s,
            ..TrainRow::default()
        };
        let rows = [row(1000, 0, 20_000.0), row(2000, 1000, 50.0)];
        let left = |rows: &[TrainRow]| RunStatus::from_rows(rows, 3000, State::Running).left_s;
        assert_eq!([left(&rows[..1]), left(&rows)], [None, Some(20.0)]);
    }
}
