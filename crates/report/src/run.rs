//! A run as used by a report, and reading it from its folder.

use crate::differences::differences;
use crate::place::{folder_with, places_and_misnamed};
use crate::terms::{RunTerm, terms_of};
use crate::{EvalRow, Place, Problem, Tail, TrainRow};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Value};

/// Larger numbers are mistakes, and would leave the range of the arithmetic here.
pub const MOST_STEPS: f64 = 1e15;
pub const MOST_RETURN: f64 = 1e100;

/// An evaluation in the mode `deterministic`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Environment steps trained.
    pub step: u64,
    /// Mean return of the evaluation's episodes.
    pub score: f64,
    /// Seconds since the run began, if known.
    pub wall_s: Option<f64>,
}

/// Where a curve comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A run's folder.
    Folder,
    /// A published run, from a table.
    Table,
    /// A published mean whose single runs are unknown; statistics exclude it.
    PublishedMean,
}

/// A run: algorithm, task, seed, evaluations and progress.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The algorithm, with the variant's name: the folder's name.
    pub algorithm: String,
    /// The task.
    pub task: String,
    /// The seed, or another label that identifies the run among those of its algorithm and
    /// task.
    pub seed: String,
    /// Where it was read from.
    pub origin: Origin,
    /// Its deterministic evaluations, in order of steps.
    pub points: Vec<Point>,
    /// Mean return of the episodes before the first update, whose actions are uniform.
    pub uniform: Option<f64>,
    /// Environment steps so far.
    pub reached: u64,
    /// Requested steps, if known.
    pub asked: Option<u64>,
    /// Whether it reached the requested steps.
    pub finished: bool,
    /// Why its last attempt failed, if it did.
    pub failed: Option<String>,
    /// Gradient steps so far, if known.
    pub updates: Option<u64>,
    /// What had to be left out on reading it.
    pub remarks: Vec<String>,
    /// Its folder, if it has one.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// All settings: `section.key`, and the value as TOML.
    pub settings: Vec<(String, String)>,
    /// The terms of its reward during training.
    #[serde(skip)]
    pub terms: Vec<RunTerm>,
}

impl Run {
    /// The last evaluation at or before `step`; `None` if the run should have been
    /// evaluated again by then but was not.
    pub fn at(&self, step: u64) -> Option<&Point> {
        let seen = self.points.partition_point(|point| point.step <= step);
        let covered = seen < self.points.len() || step < self.ends_before();
        self.points[..seen].last().filter(|_| covered)
    }

    /// The step of the first missing evaluation.
    fn ends_before(&self) -> u64 {
        match self.points.as_slice() {
            [] => 0,
            [only] => 2 * only.step.max(1),
            [.., before, last] => last.step + (last.step - before.step),
        }
    }

    /// Seconds until its last evaluation times its threads: what it cost. `None` if either is unknown,
    /// or if it was resumed with another number of threads.
    pub fn core_seconds(&self) -> Option<f64> {
        let setting = |name: &str| self.settings.iter().find(|(key, _)| key == name);
        let (_, threads) = setting("run.threads")?;
        if let Some((_, resumed)) = setting("run.resumed") {
            let document: toml_edit::DocumentMut = format!("resumed = {resumed}").parse().ok()?;
            let resumed = document["resumed"].as_array()?;
            let of =
                |one: &'_ toml_edit::Value| one.as_inline_table()?.get("threads")?.as_integer();
            let other = |one| of(one).is_some_and(|found| found.to_string() != *threads);
            if resumed.iter().any(other) {
                return None;
            }
        }
        Some(self.points.last()?.wall_s? * threads.parse::<f64>().ok()?)
    }

    /// The step of the last evaluation.
    pub fn last_step(&self) -> u64 {
        self.points.last().map_or(0, |point| point.step)
    }
}

/// The runs below some folders.
#[derive(Debug)]
pub struct Found {
    /// Those that could be read.
    pub runs: Vec<Run>,
    /// Why each of the others could not.
    pub left_out: Vec<Problem>,
}

/// All runs at or below some folders, `.../<algorithm>/<task>/seed-<n>/`, sorted by name and numerically
/// by seed. Where two folders of results have runs of the same algorithm and task with the same seed or with
/// different settings, the algorithm's name begins with the folder: `old/sac` and `new/sac`.
/// A damaged run is left out, so that it does not stop the report of the others.
///
/// # Errors
/// There is no run, or none can be read; or a run whose own folder is in `roots` can't.
pub fn read_folders(roots: &[PathBuf]) -> Result<Found, Problem> {
    let mut found = BTreeSet::new();
    // A folder may be named twice, and be reached by a link too.
    let mut seen = BTreeSet::new();
    for root in roots {
        let holds = |place: &Place, name: &str| place.folder.join(name).is_file();
        let mut here = places_and_misnamed(root)?;
        here.retain(|place| holds(place, "config.toml") || holds(place, "eval.csv"));
        if here.is_empty() {
            let root_name = root.display();
            let elsewhere = ["eval.csv", "config.toml"].iter().find_map(|name| {
                let folder = folder_with(root, name)?;
                Some(format!("; {} has a file {name}, but is not called so", folder.display()))
            });
            return Err(Problem::Input(format!(
                "{root_name}: no runs found; expected {root_name}/ALGORITHM/TASK/seed-N/eval.csv{}",
                elsewhere.unwrap_or_default()
            )));
        }
        // Of a run and a misnamed link to it, the run counts.
        here.sort_by_key(|place| !place.is_named_so());
        here.retain(|place| place.folder.canonicalize().map_or(true, |whole| seen.insert(whole)));
        found.extend(here);
    }
    let whole = |path: &PathBuf| path.canonicalize().ok();
    let named: BTreeSet<PathBuf> = roots.iter().filter_map(whole).collect();
    let (mut runs, mut left_out): (Vec<(Place, Run)>, _) = (Vec::new(), Vec::new());
    for place in found {
        match read_run(&place) {
            Ok(run) => runs.push((place, run)),
            // It was asked for by name.
            Err(problem) if whole(&place.folder).is_some_and(|folder| named.contains(&folder)) => {
                return Err(problem);
            }
            Err(problem) => left_out.push(problem),
        }
    }
    if runs.is_empty() {
        return Err(left_out.swap_remove(0));
    }
    tell_apart(&mut runs);
    runs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Found { runs: runs.into_iter().map(|(_, run)| run).collect(), left_out })
}

/// Puts the folder of results before the name of an algorithm whose runs in several folders are not those
/// of one experiment: they share a seed, or their settings differ.
fn tell_apart(runs: &mut [(Place, Run)]) {
    let results = |place: &Place| {
        let whole = place.folder.canonicalize().unwrap_or_else(|_| place.folder.clone());
        whole.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default()
    };
    let folders: Vec<PathBuf> = runs.iter().map(|(place, _)| results(place)).collect();
    let mut alike: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (i, (place, _)) in runs.iter().enumerate() {
        alike.entry((&place.algorithm, &place.task)).or_default().push(i);
    }
    let apart = |of: &Vec<usize>| {
        let seeds: BTreeSet<u64> = of.iter().map(|i| runs[*i].0.seed).collect();
        let several = of.iter().any(|i| folders[*i] != folders[of[0]]);
        let all: Vec<&Run> = of.iter().map(|i| &runs[*i].1).collect();
        several && (seeds.len() < of.len() || differences(&all).is_some())
    };
    let named: BTreeSet<String> =
        alike.iter().filter(|(_, of)| apart(of)).map(|((name, _), _)| name.to_string()).collect();
    let common = folders.iter().skip(1).fold(folders.first().cloned(), |common, folder| {
        common?.ancestors().find(|above| folder.starts_with(above)).map(Path::to_path_buf)
    });
    for ((place, run), folder) in runs.iter_mut().zip(&folders) {
        if named.contains(&place.algorithm) {
            let within = common.as_deref().and_then(|common| folder.strip_prefix(common).ok());
            place.algorithm = within.unwrap_or(folder).join(&place.algorithm).display().to_string();
            run.algorithm.clone_from(&place.algorithm);
        }
    }
}

fn read_run(place: &Place) -> Result<Run, Problem> {
    let folder = &place.folder;
    if !place.is_named_so() {
        let what =
            format!("a run of seed {0} lies in a folder named seed-{0}; rename it", place.seed);
        return Err(Problem::input(folder, what));
    }
    let train: Vec<TrainRow> = rows(&folder.join("train.csv"))?;
    let eval: Vec<EvalRow> = rows(&folder.join("eval.csv"))?;
    let settings = settings(&folder.join("config.toml"))?;
    let asked = settings.iter().find(|(key, _)| key == "train.steps");
    let asked = asked.and_then(|(_, steps)| steps.parse().ok());
    let mut points = Vec::new();
    for row in eval.iter().filter(|row| row.mode == "deterministic") {
        points.push(Point { step: row.step, score: row.return_mean, wall_s: Some(row.wall_s) });
    }
    check(&folder.join("eval.csv"), &points)?;
    let mut remarks = Vec::new();
    if let (true, Some(row)) = (points.is_empty(), eval.first()) {
        remarks.push(format!(
            "no deterministic evaluation, which a report compares; eval.csv has the mode {}",
            row.mode
        ));
    }
    let last = points.last().map_or(0, |point: &Point| point.step);
    let reached = train.last().map_or(last, |row| row.step.max(last));
    let done = folder.join("DONE").is_file();
    let failed = text(&folder.join("FAILED"))?.filter(|_| !done);
    Ok(Run {
        algorithm: place.algorithm.clone(),
        task: place.task.clone(),
        seed: place.seed.to_string(),
        origin: Origin::Folder,
        points,
        uniform: uniform(&train),
        reached,
        asked,
        finished: done || asked.is_some_and(|asked| reached >= asked),
        // A remark is one line.
        failed: failed.map(|text| text.trim().lines().next().unwrap_or_default().to_string()),
        updates: train.last().map(|row| row.updates),
        remarks,
        folder: Some(folder.clone()),
        settings,
        terms: terms_of(&train),
    })
}

/// Checks that steps increase and returns are numbers.
///
/// # Errors
/// They don't.
pub fn check(path: &Path, points: &[Point]) -> Result<(), Problem> {
    if let Some(point) = points.iter().find(|point| !point.score.is_finite()) {
        let what = format!("step {}: the return is {}, expected a number", point.step, point.score);
        return Err(Problem::input(path, what));
    }
    let far = |point: &&Point| point.step as f64 > MOST_STEPS || point.score.abs() > MOST_RETURN;
    if let Some(Point { step, score, .. }) = points.iter().find(far) {
        let expected = format!("expected at most {MOST_STEPS:e} and {MOST_RETURN:e}");
        return Err(Problem::input(path, format!("step {step}, return {score}: {expected}")));
    }
    match points.windows(2).find(|pair| pair[0].step >= pair[1].step) {
        Some(pair) => Err(Problem::input(
            path,
            format!(
                "step {} follows step {}, expected increasing steps",
                pair[1].step, pair[0].step
            ),
        )),
        None => Ok(()),
    }
}

/// Mean return of the episodes that ended before the first update.
fn uniform(train: &[TrainRow]) -> Option<f64> {
    let (mut total, mut before) = (0.0, 0);
    for row in train.iter().take_while(|row| row.updates == 0) {
        total += row.return_mean.unwrap_or(0.0) * row.episodes.saturating_sub(before) as f64;
        before = row.episodes;
    }
    (before > 0).then(|| total / before as f64)
}

/// The rows of a table; empty if the file does not exist yet.
fn rows<Row: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<Row>, Problem> {
    let news = Tail::new(path.into()).news()?;
    Ok(news.map(|news| news.rows).unwrap_or_default())
}

fn text(path: &Path) -> Result<Option<String>, Problem> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::system(path, "read", error)),
    }
}

/// All settings of a `config.toml` as (`section.key`, value).
fn settings(path: &Path) -> Result<Vec<(String, String)>, Problem> {
    let Some(text) = text(path)? else { return Ok(Vec::new()) };
    let invalid = |error: toml_edit::TomlError| Problem::input(path, error.message());
    let document: DocumentMut = text.parse().map_err(invalid)?;
    let mut all = Vec::new();
    for (section, item) in document.iter() {
        flatten(section, item, &mut all);
    }
    Ok(all)
}

fn flatten(path: &str, item: &Item, all: &mut Vec<(String, String)>) {
    match item.as_table_like() {
        Some(table) => {
            table.iter().for_each(|(key, item)| flatten(&format!("{path}.{key}"), item, all))
        }
        None => {
            let text = |value: &Value| match value {
                // So that 1e-3 and 0.001 are one value.
                Value::Float(number) => format!("{:?}", number.value()),
                other => other.clone().decorated("", "").to_string(),
            };
            all.extend(item.as_value().map(|value| (path.to_string(), text(value))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[u64]) -> Run {
        let point = |step: &u64| Point { step: *step, score: *step as f64, wall_s: None };
        Run {
            algorithm: "a".into(),
            task: "t".into(),
            seed: "0".into(),
            origin: Origin::Folder,
            points: steps.iter().map(point).collect(),
            uniform: None,
            reached: 0,
            asked: None,
            finished: false,
            failed: None,
            updates: None,
            remarks: vec![],
            folder: None,
            settings: vec![],
            terms: vec![],
        }
    }

    #[test]
    fn a_run_has_a_score_until_an_evaluation_is_missing() {
        let run = run(&[10, 20, 30]);
        let at = |step| run.at(step).map(|point| point.step);
        assert_eq!(
            [at(9), at(10), at(29), at(30), at(39), at(40)],
            [None, Some(10), Some(20), Some(30), Some(30), None]
        );
        assert_eq!(self::run(&[10]).at(19).map(|point| point.step), Some(10));
        assert!(self::run(&[10]).at(20).is_none() && self::run(&[]).at(0).is_none());
    }

    #[test]
    fn the_uniform_return_is_the_mean_over_episodes_before_the_first_update() {
        let row = |updates, episodes, return_mean| TrainRow {
            updates,
            episodes,
            return_mean,
            ..TrainRow::default()
        };
        let rows =
            [row(0, 3, Some(1.0)), row(0, 3, None), row(0, 4, Some(5.0)), row(7, 9, Some(99.0))];
        assert_eq!(uniform(&rows), Some(2.0));
        assert_eq!(uniform(&rows[3..]), None);
    }

    #[test]
    fn an_incomplete_last_line_is_skipped_and_an_invalid_one_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.csv");
        let head =
            "step,mode,episodes,return_mean,return_std,return_min,return_max,length_mean,wall_s\n";
        let row = "10,deterministic,1,1.5,0,0,0,0,0\n";
        std::fs::write(&path, format!("{head}{row}20,determ")).unwrap();
        assert_eq!(rows::<EvalRow>(&path).unwrap().len(), 1);
        for (broken, words) in [
            (
                "20,deterministic,1,oops,0,0,0,0,0\n",
                "eval.csv: row 3: column 4: invalid float literal",
            ),
            ("20,deterministic\n", "eval.csv: row 3: 2 fields, expected the header's 9"),
        ] {
            std::fs::write(&path, format!("{head}{row}{broken}")).unwrap();
            let message = rows::<EvalRow>(&path).unwrap_err().to_string();
            assert!(message.ends_with(words), "{message}");
        }
    }

    #[test]
    fn settings_are_flat_keys_in_their_order_without_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(
            &path,
            "[run]\nalgo = \"sac\"\n[train]\n# Why.\nsteps = 300 # A comment.\nrate = 1e-3\n",
        )
        .unwrap();
        let expected = [("run.algo", "\"sac\""), ("train.steps", "300"), ("train.rate", "0.001")];
        let found = settings(&path).unwrap();
        assert!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{found:?}");
    }
}
