//! The runs below a folder.

use super::run::WatchedRun;
use crate::base::failure::{Failure, Outcome};
use crate::train::logs::EVAL;
use crate::train::run_folder::{RECORD, check_is_folder};
use crate::train::run_status::{FAILED, State};
use report::{Place, places};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All runs below a folder, those that are running first.
pub struct Runs {
    /// The folder as it was given.
    pub folder: PathBuf,
    root: PathBuf,
    all: Vec<WatchedRun>,
    /// Why the folder could not be read the last time, if it could not.
    problem: Option<String>,
}

impl Runs {
    /// Finds the runs of a folder: of results, of an algorithm, of a task or of one run.
    ///
    /// # Errors
    /// There is no such folder, it can't be read, or there is no run.
    pub fn find(folder: &Path) -> Outcome<Self> {
        check_is_folder(folder)?;
        let root = folder
            .canonicalize()
            .map_err(|error| Failure::file(folder, "read this folder", error))?;
        if places(&root)?.iter().any(holds_a_run) {
            let (folder, all) = (folder.into(), Vec::new());
            let mut runs = Self { folder, root, all, problem: None };
            runs.update();
            return Ok(runs);
        }
        let folder = folder.display();
        Err(Failure::Usage(format!(
            "{folder}: no runs found; expected {folder}/ALGORITHM/TASK/seed-N/{RECORD}"
        )))
    }

    /// The runs, in the order in which they are shown.
    pub fn all(&self) -> &[WatchedRun] {
        &self.all
    }

    /// Why they may be out of date.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Updates all runs and looks for new ones. Returns whether anything has changed.
    pub fn update(&mut self) -> bool {
        let mut changed = self.find_new();
        for run in &mut self.all {
            changed |= run.update();
        }
        self.all.sort_by(|a, b| (rank(a), &a.place).cmp(&(rank(b), &b.place)));
        changed
    }

    /// Adds new runs and drops those whose folders are gone. Returns whether there were any.
    fn find_new(&mut self) -> bool {
        let found = match places(&self.root) {
            Ok(found) => found,
            Err(problem) => {
                let problem = Some(problem.to_string());
                let changed = problem != self.problem;
                self.problem = problem;
                return changed;
            }
        };
        let (before, recovered) = (self.all.len(), self.problem.take().is_some());
        let known = self.all.drain(..).map(|run| (run.place.clone(), run));
        let mut known: BTreeMap<Place, WatchedRun> = known.collect();
        let mut new = 0;
        for place in found {
            if let Some(run) = known.remove(&place) {
                self.all.push(run);
            } else if holds_a_run(&place) {
                self.all.push(WatchedRun::new(place));
                new += 1;
            }
        }
        recovered || new > 0 || self.all.len() < before
    }
}

/// Running ones come first, then those that may need attention.
fn rank(run: &WatchedRun) -> usize {
    let order = [State::Running, State::Failed, State::Stopped, State::Done];
    order.iter().position(|state| *state == run.status.state).unwrap_or(order.len())
}

/// Whether a folder with a run's name holds a run.
fn holds_a_run(place: &Place) -> bool {
    [RECORD, EVAL, FAILED].iter().any(|name| place.folder.join(name).is_file())
}
