//! Published curves, from CSV tables of any layout: a mapping file describes the columns
//! (example in `docs/report.md`).

use crate::run::{self, Origin, Point, Run};
use crate::{ActionTime, Problem};
use csv::StringRecord;
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
    /// Column of the environment steps.
    step: String,
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
    /// Column of the seconds since the run began.
    wall_s: Option<String>,
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

fn one() -> f64 {
    1.0
}

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
    let fail = |error: csv::Error| Problem::csv(path, &error);
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).map_err(fail)?;
    let header = reader.headers().map_err(fail)?.clone();
    let place = |name: &str| {
        header.iter().position(|known| known.trim() == name).ok_or_else(|| {
            let all: Vec<&str> = header.iter().collect();
            Problem::input(path, format!("there is no column '{name}' (all: {})", all.join(", ")))
        })
    };
    let optional = |name: &Option<String>| name.as_deref().map(place).transpose();
    let named = |name: &Name| match name {
        Name::Is(_) => Ok(None),
        Name::In { column } => place(column).map(Some),
    };
    let (algorithm, task) = (named(&entry.algorithm)?, named(&entry.task)?);
    let (step, wall, seed) =
        (place(&entry.step)?, optional(&entry.wall_s)?, optional(&entry.seed)?);
    let (columns, origin) = entry.form();
    let scores = columns.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
    let mut runs: Vec<Run> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(fail)?;
        let wall_s = wall.map(|at| number(path, &record, &header, at)).transpose()?.flatten();
        let Some(at) = number(path, &record, &header, step)? else { continue };
        if at.is_nan() || at < 0.0 {
            let row = record.position().map_or(0, csv::Position::line);
            let what = format!("row {row}: step {at}, expected a number of at least 0");
            return Err(Problem::input(path, what));
        }
        let name = |name: &Name, at: Option<usize>| match (name, at) {
            (Name::Is(name), _) => name.clone(),
            (Name::In { .. }, at) => {
                let found = at.and_then(|at| record.get(at)).unwrap_or_default().trim();
                entry.rename.get(found).cloned().unwrap_or_else(|| found.to_string())
            }
        };
        let (algorithm, task) = (name(&entry.algorithm, algorithm), name(&entry.task, task));
        for (column, label) in scores.iter().zip(&columns) {
            let Some(score) = number(path, &record, &header, *column)? else { continue };
            let label = match (seed, origin) {
                (Some(at), _) => record.get(at).unwrap_or_default().trim(),
                (None, Origin::PublishedMean) => "mean",
                (None, _) => label,
            };
            let point = Point { step: (at * entry.step_scale).round() as u64, score, wall_s };
            let same = |run: &&mut Run| {
                run.algorithm == algorithm && run.task == task && run.seed == label
            };
            match runs.iter_mut().find(same) {
                Some(run) => run.points.push(point),
                None => runs.push(begin(&algorithm, &task, label, origin, point)),
            }
        }
    }
    if runs.is_empty() {
        return Err(Problem::input(path, "no row has both a step and a return"));
    }
    for run in &mut runs {
        run.points.sort_by_key(|point| point.step);
        run.reached = run.last_step();
        run::check(path, &run.points).map_err(|problem| match problem {
            Problem::Input(what) => Problem::Input(format!(
                "{what} ({} on {}, '{}'); set `seed` to the column that identifies the run",
                run.algorithm, run.task, run.seed
            )),
            other => other,
        })?;
    }
    Ok(runs)
}

/// A field as a number; `None` if it is empty.
fn number(
    path: &Path,
    record: &StringRecord,
    header: &StringRecord,
    at: usize,
) -> Result<Option<f64>, Problem> {
    let field = record.get(at).unwrap_or_default().trim();
    if field.is_empty() {
        return Ok(None);
    }
    field.parse().map(Some).map_err(|_| {
        let row = record.position().map_or(0, csv::Position::line);
        let column = header.get(at).unwrap_or_default();
        Problem::input(path, format!("row {row}: {column} is '{field}', expected a number"))
    })
}

fn begin(algorithm: &str, task: &str, seed: &str, origin: Origin, point: Point) -> Run {
    Run {
        algorithm: algorithm.to_string(),
        task: task.to_string(),
        seed: seed.to_string(),
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
        settings: Vec::new(),
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
