//! Published curves, from tables of any layout: a mapping file describes the columns
//! (examples in `docs/report.md`).

use crate::run::{self, MOST_RETURN, MOST_STEPS, Origin, Point, Run};
use crate::table::{Layout, Table};
use crate::{ActionTime, Problem};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A mapping file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    curves: Vec<Entry>,
}

/// A table and the meaning of its columns. Exactly one of `return`, `returns` and `mean`
/// is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The table, relative to the mapping file.
    file: PathBuf,
    algorithm: Name,
    task: Name,
    /// Column of the environment steps, or of numbers of steps that add up to them.
    step: Steps,
    /// Unit of that column in steps, such as 1e6.
    #[serde(default = "one")]
    step_scale: f64,
    /// Long form: the column of returns; `seed` is the column that identifies the run.
    #[serde(rename = "return")]
    score: Option<String>,
    seed: Option<String>,
    /// Wide form: one column per run.
    #[serde(default)]
    returns: Vec<String>,
    /// The column of a mean over runs that are not in the table.
    mean: Option<String>,
    /// Column of the seconds since the run began, or of the clock (Unix time).
    wall_s: Option<String>,
    /// How the file is read, if it is text.
    #[serde(default = "comma")]
    separator: String,
    #[serde(default = "point")]
    decimal: char,
    #[serde(default = "yes")]
    header: bool,
    /// Maps names of algorithms and tasks in the table to names in the report.
    #[serde(default)]
    rename: BTreeMap<String, String>,
}

/// A constant name, or the column that contains it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name or { column = \"...\" }")]
enum Name {
    Is(String),
    In { column: String },
}

/// The column of steps, or of lengths whose sum so far is the step.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a column's name or { sum = \"...\" }")]
enum Steps {
    At(String),
    Sum { sum: String },
}

fn one() -> f64 {
    1.0
}

fn comma() -> String {
    Layout::default().separator
}

fn point() -> char {
    Layout::default().decimal
}

fn yes() -> bool {
    true
}

/// Seconds above this are the time of day, not of a run: three years.
const LONGEST_RUN: f64 = 1e8;

/// Reads the runs that a mapping file names.
///
/// # Errors
/// The mapping is invalid, or a table does not match it.
pub fn read_mapping(path: &Path) -> Result<Vec<Run>, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| Problem::input(path, error))?;
    let mapping: Mapping = toml_edit::de::from_str(&text).map_err(|error| {
        let line = |at: std::ops::Range<usize>| text[..at.start].matches('\n').count() + 1;
        let row = error.span().map(|at| format!("row {}: ", line(at))).unwrap_or_default();
        Problem::input(path, format!("{row}{}", error.message().replace('\n', " ")))
    })?;
    let mut runs = Vec::new();
    for (entry, number) in mapping.curves.iter().zip(1..) {
        let at = |what: &str| Problem::input(path, format!("curves {number}: {what}"));
        entry.check().map_err(at)?;
        entry.layout().check().map_err(|what| at(&what))?;
        let table = path.with_file_name("").join(&entry.file);
        runs.extend(read_table(&table, entry)?);
    }
    Ok(runs)
}

impl Entry {
    fn check(&self) -> Result<(), &'static str> {
        let forms = [self.score.is_some(), !self.returns.is_empty(), self.mean.is_some()];
        if forms.iter().filter(|given| **given).count() != 1 {
            return Err("expected exactly one of return, returns and mean");
        }
        if self.seed.is_some() && self.score.is_none() {
            return Err("seed is given, expected it only together with return");
        }
        if self.step_scale.is_nan() || self.step_scale <= 0.0 {
            return Err("step_scale must be above 0");
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let (separator, decimal, header) = (self.separator.clone(), self.decimal, self.header);
        Layout { separator, decimal, header }
    }

    /// The columns of returns, and whether they are runs or published means.
    fn form(&self) -> (Vec<&str>, Origin) {
        match (&self.score, &self.mean) {
            (Some(column), _) => (vec![column], Origin::Table),
            (None, Some(column)) => (vec![column], Origin::PublishedMean),
            (None, None) => (self.returns.iter().map(String::as_str).collect(), Origin::Table),
        }
    }
}

fn read_table(path: &Path, entry: &Entry) -> Result<Vec<Run>, Problem> {
    let table = Table::read(path, &entry.layout())?;
    let place = |name: &str| table.column(path, name);
    let optional = |name: &Option<String>| name.as_deref().map(place).transpose();
    let named = |name: &Name| match name {
        Name::Is(_) => Ok(None),
        Name::In { column } => place(column).map(Some),
    };
    let (algorithm, task) = (named(&entry.algorithm)?, named(&entry.task)?);
    let (wall, seed) = (optional(&entry.wall_s)?, optional(&entry.seed)?);
    let (step, sums) = match &entry.step {
        Steps::At(column) => (place(column)?, false),
        Steps::Sum { sum } => (place(sum)?, true),
    };
    let (columns, origin) = entry.form();
    let scores = columns.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
    let mut runs: Vec<Run> = Vec::new();
    let mut sum: BTreeMap<[String; 3], f64> = BTreeMap::new();
    let mut left_out: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for row in 0..table.len() {
        let wall_s = wall.map(|at| table.number(path, row, at)).transpose()?.flatten();
        let wall_s = wall_s.filter(|seconds| seconds.is_finite());
        let Some(steps) = table.number(path, row, step)? else { continue };
        if steps.is_nan() || steps < 0.0 {
            let what =
                format!("row {}: step {steps}, expected a number of at least 0", table.line(row));
            return Err(Problem::input(path, what));
        }
        let name = |name: &Name, at: Option<usize>| match (name, at) {
            (Name::In { .. }, Some(at)) => {
                let found = table.text(row, at);
                entry.rename.get(found).cloned().unwrap_or_else(|| found.to_string())
            }
            (Name::Is(name) | Name::In { column: name }, _) => name.clone(),
        };
        let (algorithm, task) = (name(&entry.algorithm, algorithm), name(&entry.task, task));
        for (column, label) in scores.iter().zip(&columns) {
            let label = match (seed, origin) {
                (Some(at), _) => table.text(row, at),
                (None, Origin::PublishedMean) => "mean",
                (None, _) => label,
            };
            let key = [algorithm.clone(), task.clone(), label.to_string()];
            let at = if sums {
                let so_far = sum.entry(key.clone()).or_default();
                *so_far += steps;
                *so_far
            } else {
                steps
            };
            let Some(score) = table.number(path, row, *column)? else { continue };
            if score.is_nan() {
                *left_out.entry(key).or_default() += 1;
                continue;
            }
            let at = (at * entry.step_scale).round();
            if at > MOST_STEPS || score.abs() > MOST_RETURN {
                let what = format!(
                    "row {}: step {at}, return {score}: expected at most {MOST_STEPS:e} and {MOST_RETURN:e}",
                    table.line(row)
                );
                return Err(Problem::input(path, what));
            }
            let point = Point { step: at as u64, score, wall_s };
            let same = |run: &&mut Run| [&run.algorithm, &run.task, &run.seed] == key.each_ref();
            match runs.iter_mut().find(same) {
                Some(run) => run.points.push(point),
                None => runs.push(begin(key, origin, point)),
            }
        }
    }
    if runs.is_empty() {
        return Err(Problem::input(path, "no row has both a step and a return"));
    }
    for run in &mut runs {
        let key = [run.algorithm.clone(), run.task.clone(), run.seed.clone()];
        if let Some(rows) = left_out.get(&key) {
            let word = if *rows == 1 { "row" } else { "rows" };
            run.remarks.push(format!("{rows} {word} left out, where the return is NaN"));
        }
        since_the_first(run);
        run.points.sort_by_key(|point| point.step);
        run.reached = run.last_step();
        run::check(path, &run.points).map_err(|problem| match problem {
            Problem::Input(what) => Problem::Input(format!(
                "{what} ({} on {}, '{}'); set `seed` to the column that identifies the run, or \
                 `step = {{ sum = \"...\" }}` if steps are an episode's",
                run.algorithm, run.task, run.seed
            )),
            other => other,
        })?;
    }
    Ok(runs)
}

/// Counts times of the clock from the run's first.
fn since_the_first(run: &mut Run) {
    let times = run.points.iter().filter_map(|point| point.wall_s);
    let first = times.fold(f64::INFINITY, f64::min);
    if first > LONGEST_RUN && first.is_finite() {
        for point in &mut run.points {
            point.wall_s = point.wall_s.map(|time| time - first);
        }
        run.remarks.push("times are counted from its first row, as they are of the clock".into());
    }
}

fn begin([algorithm, task, seed]: [String; 3], origin: Origin, point: Point) -> Run {
    Run {
        algorithm,
        task,
        seed,
        origin,
        points: vec![point],
        uniform: None,
        reached: 0,
        asked: None,
        // Nothing else is known of published runs.
        finished: true,
        failed: None,
        updates: None,
        remarks: Vec::new(),
        folder: None,
        settings: Vec::new(),
        terms: Vec::new(),
    }
}

/// Reads a table of action times, such as `results/bench/act.csv`.
///
/// # Errors
/// It can't be read, or lacks a column.
pub fn read_action_times(path: &Path) -> Result<Vec<ActionTime>, Problem> {
    let fail = |error: csv::Error| match error.kind() {
        csv::ErrorKind::Io(error) => Problem::input(path, error),
        _ => Problem::csv(path, &error),
    };
    let reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).map_err(fail)?;
    reader.into_deserialize().collect::<Result<_, _>>().map_err(fail)
}
