//! A run that is watched.

use crate::train::logs::{EVAL, TRAIN};
use crate::train::run_folder::{DONE, RECORD};
use crate::train::run_status::{self, RECENT_ROWS, RunStatus, State};
use report::{EvalRow, News, Place, Tail, TrainRow};
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::time::SystemTime;
use toml_edit::DocumentMut;

/// A run, and the position in each of its logs.
pub struct WatchedRun {
    pub place: Place,
    pub status: RunStatus,
    /// Steps, and mean returns of the episodes that ended.
    pub train: Vec<(f64, f64)>,
    /// Steps, and mean returns of deterministic evaluations.
    pub evaluations: Vec<(f64, f64)>,
    /// The step of the last evaluation in any mode.
    evaluated: u64,
    /// The last rows of `train.csv`.
    recent: Vec<TrainRow>,
    train_log: Follow<TrainRow>,
    eval_log: Follow<EvalRow>,
    /// The modification time of `config.toml` when it was last read.
    recorded: Option<SystemTime>,
}

impl WatchedRun {
    /// A run of which nothing has been read yet.
    pub fn new(place: Place) -> Self {
        Self {
            status: RunStatus::from_rows(&[], 0, State::Missing),
            train: Vec::new(),
            evaluations: Vec::new(),
            evaluated: 0,
            recent: Vec::new(),
            train_log: Follow::new(&place.folder, TRAIN),
            eval_log: Follow::new(&place.folder, EVAL),
            recorded: None,
            place,
        }
    }

    /// The run's name for people.
    pub fn label(&self) -> String {
        format!("{} {} seed {}", self.place.algorithm, self.place.task, self.place.seed)
    }

    /// The last deterministic evaluation.
    pub fn evaluation(&self) -> Option<f64> {
        self.evaluations.last().map(|(_, score)| *score)
    }

    /// Reads what was added to its folder. Returns whether anything has changed.
    pub fn update(&mut self) -> bool {
        let (trained, evaluated) = (self.follow_training(), self.follow_evaluations());
        let steps = self.steps();
        let (state, reason) = self.state(steps);
        let problem = self.train_log.problem.as_ref().or(self.eval_log.problem.as_ref());
        let status = RunStatus {
            // The recent rows may have no return.
            last_return: self.train.last().map(|(_, score)| *score),
            reason: reason.or_else(|| problem.cloned()),
            ..RunStatus::from_rows(&self.recent, steps, state)
        };
        let changed = trained || evaluated || status != self.status;
        self.status = status;
        changed
    }

    fn follow_training(&mut self) -> bool {
        let Some(news) = self.train_log.news() else { return false };
        if news.rewritten {
            self.train.clear();
            self.recent.clear();
        }
        let points = news.rows.iter().map(|row| (row.step, row.return_mean));
        self.train.extend(points.filter_map(|(step, score)| point(step, score?)));
        self.recent.extend(news.rows);
        self.recent.drain(..self.recent.len().saturating_sub(RECENT_ROWS));
        true
    }

    fn follow_evaluations(&mut self) -> bool {
        let Some(news) = self.eval_log.news() else { return false };
        if news.rewritten {
            self.evaluations.clear();
            self.evaluated = 0;
        }
        let deterministic = news.rows.iter().filter(|row| row.mode == "deterministic");
        self.evaluations.extend(deterministic.filter_map(|row| point(row.step, row.return_mean)));
        self.evaluated = news.rows.last().map_or(self.evaluated, |row| row.step);
        true
    }

    /// The steps of the whole run: `train.steps` of its record.
    fn steps(&mut self) -> u64 {
        let path = self.place.folder.join(RECORD);
        let recorded = fs::metadata(&path).and_then(|file| file.modified()).ok();
        if recorded == self.recorded {
            return self.status.steps;
        }
        self.recorded = recorded;
        let record = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        let steps = |record: DocumentMut| record.get("train")?.get("steps")?.as_integer();
        record.and_then(steps).map_or(0, |steps| steps.max(0) as u64)
    }

    fn state(&self, steps: u64) -> (State, Option<String>) {
        if self.place.folder.join(DONE).exists() {
            return (State::Done, None);
        }
        let (state, reason) = run_status::unfinished(&self.place.folder);
        let trained = self.recent.last().map_or(0, |row| row.step);
        match state {
            // A copy of the curves without `DONE`.
            State::Stopped if steps > 0 && trained.min(self.evaluated) >= steps => {
                (State::Done, None)
            }
            // A folder with CSV files only.
            State::Missing => (State::Stopped, reason),
            state => (state, reason),
        }
    }
}

/// A point of a curve, if the value is finite.
fn point(step: u64, score: f64) -> Option<(f64, f64)> {
    score.is_finite().then_some((step as f64, score))
}

/// A log that is read as it grows, and the last problem with it.
struct Follow<Row> {
    tail: Tail<Row>,
    problem: Option<String>,
}

impl<Row: for<'de> Deserialize<'de>> Follow<Row> {
    fn new(folder: &Path, name: &str) -> Self {
        Self { tail: Tail::new(folder.join(name)), problem: None }
    }

    fn news(&mut self) -> Option<News<Row>> {
        match self.tail.news() {
            Ok(None) => None,
            Ok(news) => {
                self.problem = None;
                news
            }
            Err(problem) => {
                let folder = self.tail.path().parent().unwrap_or(Path::new(""));
                let folder = format!("{}/", folder.display());
                self.problem = Some(problem.to_string().replace(&folder, ""));
                Some(News { rows: Vec::new(), rewritten: true })
            }
        }
    }
}
