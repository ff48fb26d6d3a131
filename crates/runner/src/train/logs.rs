//! The logs of a run: `train.csv`, `eval.csv`, event files for TensorBoard.

use crate::base::console::message;
use crate::base::failure::{Failure, Outcome};
use crate::train::checkpoint::{FileMark, RunState};
use report::{EvalRow, Events, Log, TrainRow};
use std::path::{Path, PathBuf};

/// A row for each interval of training.
pub const TRAIN: &str = "train.csv";
/// A row for each evaluation and mode.
pub const EVAL: &str = "eval.csv";

/// The path of a log in a run's folder.
pub fn log(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Whether a log is empty or missing.
pub fn is_empty(path: &Path) -> bool {
    FileMark::of(path).is_ok_and(|mark| mark.bytes == 0)
}

/// The logs of a run.
pub struct Logs {
    train: Log<TrainRow>,
    eval: Log<EvalRow>,
    /// The same rows for TensorBoard, if the settings ask for it.
    events: Option<Events>,
    folder: PathBuf,
}

impl Logs {
    /// Begins the logs.
    ///
    /// # Errors
    /// The files exist, or can't be written.
    pub fn create(folder: &Path, tensorboard: bool) -> Outcome<Self> {
        let fail = |name: &str, error| Failure::file(&log(folder, name), "write", error);
        let train = Log::create(&log(folder, TRAIN)).map_err(|error| fail(TRAIN, error))?;
        let eval = Log::create(&log(folder, EVAL)).map_err(|error| fail(EVAL, error))?;
        Self { train, eval, events: None, folder: folder.into() }.with_events(tensorboard, 0.0)
    }

    /// Resumes the logs after the rows that a checkpoint knows; later rows are dropped.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn resume(folder: &Path, state: &RunState, tensorboard: bool) -> Outcome<Self> {
        let fail = |name: &str, error| Failure::file(&log(folder, name), "write", error);
        let bytes = (state.train_csv.bytes, state.eval_csv.bytes);
        let train = Log::resume(&log(folder, TRAIN), bytes.0).map_err(|e| fail(TRAIN, e))?;
        let eval = Log::resume(&log(folder, EVAL), bytes.1).map_err(|e| fail(EVAL, e))?;
        Self { train, eval, events: None, folder: folder.into() }
            .with_events(tensorboard, state.wall_s)
    }

    fn with_events(mut self, wanted: bool, wall_s: f64) -> Outcome<Self> {
        if wanted {
            self.begin_events(wall_s)?;
        }
        Ok(self)
    }

    /// Writes the event file from the rows of both CSV files.
    fn begin_events(&mut self, wall_s: f64) -> Outcome<()> {
        let read = |name: &str, error| Failure::file(&log(&self.folder, name), "read", error);
        let train: Vec<TrainRow> =
            report::read(&log(&self.folder, TRAIN)).map_err(|error| read(TRAIN, error))?;
        let eval: Vec<EvalRow> =
            report::read(&log(&self.folder, EVAL)).map_err(|error| read(EVAL, error))?;
        let events = Events::create(&self.folder, wall_s, &train, &eval);
        self.events = Some(events.map_err(|error| self.failure("event file", error))?);
        Ok(())
    }

    /// Adds a row of training.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn train(&mut self, row: &TrainRow) -> Outcome<()> {
        self.train.append(row).map_err(|error| self.failure(TRAIN, error))?;
        let written = self.events.as_mut().map_or(Ok(()), |events| events.train(row));
        written.map_err(|error| self.failure("event file", error))
    }

    /// Adds a row of an evaluation.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn eval(&mut self, row: &EvalRow) -> Outcome<()> {
        self.eval.append(row).map_err(|error| self.failure(EVAL, error))?;
        let written = self.events.as_mut().map_or(Ok(()), |events| events.eval(row));
        written.map_err(|error| self.failure("event file", error))
    }

    /// Syncs both CSV files to the disk, and returns their marks for a checkpoint. A log that was
    /// deleted while the run wrote to it is written again, with a remark. `wall_s` is the run's
    /// wall-clock time so far, in seconds.
    ///
    /// # Errors
    /// The disk fails, or the folder was deleted.
    pub fn marks(&mut self, wall_s: f64) -> Outcome<[FileMark; 2]> {
        let restored = self.train.restore();
        self.remark(TRAIN, restored)?;
        let restored = self.eval.restore();
        self.remark(EVAL, restored)?;
        if let Some(gone) = self.events.as_ref().map(Events::path).filter(|path| !path.exists()) {
            message(format!("warning: {}: it was deleted; it is written again", gone.display()));
            self.begin_events(wall_s)?;
        }
        let mark = |name: &str, synced: std::io::Result<()>| {
            let mark = synced.and_then(|()| FileMark::of(&log(&self.folder, name)));
            mark.map_err(|error| self.failure(name, error))
        };
        Ok([mark(TRAIN, self.train.sync())?, mark(EVAL, self.eval.sync())?])
    }

    fn remark(&self, name: &str, restored: std::io::Result<Option<String>>) -> Outcome<()> {
        if let Some(found) = restored.map_err(|error| self.failure(name, error))? {
            let path = log(&self.folder, name);
            message(format!("warning: {}: {found}; it is written again", path.display()));
        }
        Ok(())
    }

    fn failure(&self, name: &str, error: std::io::Error) -> Failure {
        Failure::file(&log(&self.folder, name), "write", error)
    }
}
