//! The runs below a folder.

use super::run::Watched;
use crate::base::failure::{Failure, Outcome};
use crate::train::logs::EVAL;
use crate::train::run_folder::{RECORD, must_be};
use crate::train::run_status::{FAILED, State};
use report::{Place, places};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most levels from the folder down to a run's: those of a folder of results.
const MOST_LEVELS: usize = 3;

/// All runs below a folder, those at work first.
pub struct Runs {
    /// The folder as it was given.
    pub folder: PathBuf,
    root: PathBuf,
    /// Levels from it down to a run's folder.
    levels: usize,
    all: Vec<Watched>,
    /// Why the folder could not be read the last time.
    problem: Option<String>,
}

impl Runs {
    /// Finds the runs of a folder: of results, of an algorithm, of a task or of one run.
    ///
    /// # Errors
    /// There is no such folder, it can't be read, or there is no run.
    pub fn find(folder: &Path) -> Outcome<Self> {
        must_be(folder)?;
        // A run's name is its path's end, and "." has none.
        let root = folder
            .canonicalize()
            .map_err(|error| Failure::file(folder, "read this folder", error))?;
        for levels in 0..=MOST_LEVELS {
            if places(&root, levels)?.iter().any(holds_a_run) {
                let (folder, all) = (folder.into(), Vec::new());
                let mut runs = Self { folder, root, levels, all, problem: None };
                runs.look();
                return Ok(runs);
            }
        }
        let folder = folder.display();
        Err(Failure::Usage(format!(
            "{folder}: no runs found; expected {folder}/ALGORITHM/TASK/seed-N/{RECORD}"
        )))
    }

    /// The runs, in the order in which they are shown.
    pub fn all(&self) -> &[Watched] {
        &self.all
    }

    /// Why they may be out of date.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Looks at all of them, and for new ones; whether anything has changed.
    pub fn look(&mut self) -> bool {
        let mut changed = self.find_new();
        for run in &mut self.all {
            changed |= run.look();
        }
        self.all.sort_by(|a, b| (rank(a), &a.place).cmp(&(rank(b), &b.place)));
        changed
    }

    /// Follows the folders that come and go; whether any did.
    fn find_new(&mut self) -> bool {
        let found = match places(&self.root, self.levels) {
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
        let mut known: BTreeMap<Place, Watched> = known.collect();
        let mut new = 0;
        for place in found {
            if let Some(run) = known.remove(&place) {
                self.all.push(run);
            } else if holds_a_run(&place) {
                self.all.push(Watched::new(place));
                new += 1;
            }
        }
        recovered || new > 0 || self.all.len() < before
    }
}

/// Those at work come first, then those that somebody may want to do something about.
fn rank(run: &Watched) -> usize {
    let order = [State::Running, State::Failed, State::Stopped, State::Done];
    order.iter().position(|state| *state == run.seen.state).unwrap_or(order.len())
}

/// Whether a folder with a run's name is one's.
fn holds_a_run(place: &Place) -> bool {
    [RECORD, EVAL, FAILED].iter().any(|name| place.folder.join(name).is_file())
}
