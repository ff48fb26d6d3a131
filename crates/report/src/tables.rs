//! A study as tables: CSV for programs, Markdown for readers.

use crate::run::Run;
use crate::statistics::{Estimate, Interval};
use crate::study::{Cell, Cost, CurvePoint, Reaching, Study, Task, score, thousands};
use serde::Serialize;
use std::fmt::Write;

/// A row of `scores.csv`: one algorithm on one task.
#[derive(Debug, Serialize)]
pub struct ScoreRow {
    /// The task.
    pub task: String,
    /// The algorithm.
    pub algorithm: String,
    /// The step of comparison.
    pub step: u64,
    /// Runs that reach the step of comparison; 0 with a score means a published mean.
    pub runs: usize,
    /// Mean score of these runs.
    pub mean: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
    /// The mean score, normalised: uniform actions 0, the reference 1.
    pub normalised: Option<f64>,
}

#[derive(Serialize)]
struct TimeRow<'a> {
    task: &'a str,
    algorithm: &'a str,
    step: u64,
    wall_s: Option<f64>,
    threshold: Option<f64>,
    reached: Option<usize>,
    of: Option<usize>,
    step_at_threshold: Option<f64>,
    wall_s_at_threshold: Option<f64>,
}

#[derive(Serialize)]
struct RunRow<'a> {
    algorithm: &'a str,
    task: &'a str,
    seed: &'a str,
    score: Option<f64>,
    reached: u64,
    asked: Option<u64>,
    finished: bool,
    uniform: Option<f64>,
}

impl<'a> RunRow<'a> {
    fn new(run: &'a Run, horizon: u64) -> Self {
        Self {
            algorithm: &run.algorithm,
            task: &run.task,
            seed: &run.seed,
            score: score(run, horizon),
            reached: run.reached,
            asked: run.asked,
            finished: run.finished,
            uniform: run.uniform,
        }
    }
}

#[derive(Serialize)]
struct CostRow<'a> {
    algorithm: &'a str,
    runs: usize,
    steps: u64,
    core_hours: f64,
    core_hours_per_run: f64,
    core_hours_per_million_steps: f64,
}

impl<'a> From<&'a Cost> for CostRow<'a> {
    fn from(cost: &'a Cost) -> Self {
        Self {
            algorithm: &cost.algorithm,
            runs: cost.runs,
            steps: cost.steps,
            core_hours: cost.core_hours,
            core_hours_per_run: cost.per_run(),
            core_hours_per_million_steps: cost.per_million_steps(),
        }
    }
}

#[derive(Serialize)]
struct CurveRow<'a> {
    task: &'a str,
    algorithm: &'a str,
    step: u64,
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
    runs: usize,
    wall_s: Option<f64>,
}

#[derive(Serialize)]
struct MemberRow<'a> {
    algorithm: &'a str,
    tasks: usize,
    runs: usize,
    iqm: f64,
    iqm_low: Option<f64>,
    iqm_high: Option<f64>,
    mean: f64,
    mean_low: Option<f64>,
    mean_high: Option<f64>,
}

#[derive(Serialize)]
struct ProfileRow<'a> {
    algorithm: &'a str,
    threshold: f64,
    share: f64,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Serialize)]
struct ImprovementRow<'a> {
    x: &'a str,
    y: &'a str,
    probability: f64,
    low: Option<f64>,
    high: Option<f64>,
}

/// The rows of `scores.csv`.
pub fn scores(study: &Study) -> Vec<ScoreRow> {
    let cells = study.tasks.iter().flat_map(|task| task.cells.iter().map(move |cell| (task, cell)));
    cells
        .map(|(task, cell)| {
            let (low, high) = ends(cell.score.and_then(|score| score.interval));
            ScoreRow {
                task: task.name.clone(),
                algorithm: cell.algorithm.clone(),
                step: task.horizon,
                runs: cell.scores.len(),
                mean: cell.score.map(|score| score.value),
                low,
                high,
                normalised: cell.normalised.map(|score| score.value),
            }
        })
        .collect()
}

fn ends(interval: Option<Interval>) -> (Option<f64>, Option<f64>) {
    (interval.map(|ends| ends.low), interval.map(|ends| ends.high))
}

/// All tables as CSV: file names and contents.
pub fn csv_files(study: &Study) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("scores.csv", text(scores(study))),
        ("times.csv", text(times(study))),
        ("runs.csv", text(runs(study))),
        ("curves.csv", text(curves(study))),
        ("costs.csv", text(study.costs.iter().map(CostRow::from))),
    ];
    if let Some(aggregate) = &study.aggregate {
        let over = |curve: &'_ [CurvePoint], algorithm| curve_rows("all", algorithm, curve);
        let members = aggregate.members.iter().map(|member| {
            let ((iqm_low, iqm_high), (mean_low, mean_high)) =
                (ends(member.iqm.interval), ends(member.mean.interval));
            MemberRow {
                algorithm: &member.algorithm,
                tasks: aggregate.tasks.len(),
                runs: member.runs.iter().sum(),
                iqm: member.iqm.value,
                iqm_low,
                iqm_high,
                mean: member.mean.value,
                mean_low,
                mean_high,
            }
        });
        let profiles = aggregate.members.iter().flat_map(|member| {
            let points = aggregate.thresholds.iter().zip(&member.above).enumerate();
            points.map(|(i, (threshold, share))| {
                let (low, high) = ends(member.above_intervals.as_ref().map(|all| all[i]));
                ProfileRow {
                    algorithm: &member.algorithm,
                    threshold: *threshold,
                    share: *share,
                    low,
                    high,
                }
            })
        });
        let improvements = aggregate.improvements.iter().map(|pair| {
            let (low, high) = ends(pair.probability.interval);
            let probability = pair.probability.value;
            ImprovementRow { x: &pair.x, y: &pair.y, probability, low, high }
        });
        let curves = aggregate.members.iter().map(|member| over(&member.curve, &member.algorithm));
        files.extend([
            ("aggregate.csv", text(members)),
            ("aggregate-curve.csv", text(curves.flatten())),
            ("profile.csv", text(profiles)),
            ("improvement.csv", text(improvements)),
        ]);
    }
    if !study.action_times.is_empty() {
        files.push(("action-times.csv", text(&study.action_times)));
    }
    files
}

/// Rows with their header.
fn text<Row: Serialize>(rows: impl IntoIterator<Item = Row>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.into_iter().for_each(|row| writer.serialize(row).expect("writing to memory succeeds"));
    let bytes = writer.into_inner().expect("writing to memory succeeds");
    String::from_utf8(bytes).expect("names and numbers are UTF-8")
}

fn times(study: &Study) -> Vec<TimeRow<'_>> {
    let cells = study.tasks.iter().flat_map(|task| task.cells.iter().map(move |cell| (task, cell)));
    cells
        .map(|(task, cell)| {
            let reaching = cell.to_threshold.as_ref();
            TimeRow {
                task: &task.name,
                algorithm: &cell.algorithm,
                step: task.horizon,
                wall_s: cell.wall_s,
                threshold: task.threshold,
                reached: reaching.map(|reaching| reaching.reached),
                of: reaching.map(|reaching| reaching.of),
                step_at_threshold: reaching.and_then(|reaching| reaching.step),
                wall_s_at_threshold: reaching.and_then(|reaching| reaching.wall_s),
            }
        })
        .collect()
}

fn runs(study: &Study) -> Vec<RunRow<'_>> {
    let horizon = |name: &str| {
        study.tasks.iter().find(|task| task.name == name).map_or(0, |task| task.horizon)
    };
    study.runs.iter().map(|run| RunRow::new(run, horizon(&run.task))).collect()
}

fn curves(study: &Study) -> Vec<CurveRow<'_>> {
    let cells = study.tasks.iter().flat_map(|task| task.cells.iter().map(move |cell| (task, cell)));
    cells.flat_map(|(task, cell)| curve_rows(&task.name, &cell.algorithm, &cell.curve)).collect()
}

fn curve_rows<'a>(task: &'a str, algorithm: &'a str, curve: &[CurvePoint]) -> Vec<CurveRow<'a>> {
    let row = |point: &CurvePoint| {
        let (low, high) = ends(point.interval);
        let CurvePoint { step, value, runs, wall_s, .. } = *point;
        CurveRow { task, algorithm, step, value, low, high, runs, wall_s }
    };
    curve.iter().map(row).collect()
}

const PUBLISHED: &str =
    " A published mean is others', without single runs: it is drawn, and in no statistic.";

/// The study as a page of Markdown.
pub fn markdown(study: &Study) -> String {
    let mut page = String::from("# Report\n\n");
    let reference = &study.options.reference;
    let _ = write!(
        page,
        "A run's score is the mean of its last three deterministic evaluations up to the step at \
         which its task is compared. Brackets hold a 95 % percentile bootstrap interval over \
         seeds; a number of one seed has none.{}\n\n## Scores\n\n",
        if study.has_published() { PUBLISHED } else { "" }
    );
    let heads =
        study.tasks.iter().map(|task| format!("{} at {}", task.name, thousands(task.horizon)));
    grid(&mut page, study, heads, |cell| {
        let runs = match cell.scores.len() {
            0 => "published mean".to_string(),
            1 => "1 seed".to_string(),
            many => format!("{many} seeds"),
        };
        cell.score.map(|score| format!("{}, {runs}", estimate(&score, 0)))
    });
    if study.tasks.iter().any(|task| task.threshold.is_some()) {
        let _ = write!(page, "\nNormalised: uniform actions 0, `{reference}` 1.\n\n");
        grid(&mut page, study, study.tasks.iter().map(|task| task.name.clone()), |cell| {
            cell.normalised.map(|score| estimate(&score, 2))
        });
        let _ = write!(
            page,
            "\n## Steps to a normalised score of {}\n\nThe median over seeds, and how many reach \
             it.\n\n",
            study.options.threshold
        );
        grid(&mut page, study, study.tasks.iter().map(|task| task.name.clone()), |cell| {
            cell.to_threshold.as_ref().map(reaching)
        });
    }
    let _ = write!(
        page,
        "\n## Wall-clock\n\nSeconds to the step of comparison on each run's machine, the median over seeds.\n\n"
    );
    grid(&mut page, study, study.tasks.iter().map(|task| task.name.clone()), |cell| {
        cell.wall_s.map(|seconds| thousands(seconds.round() as u64))
    });
    costs(&mut page, study);
    over_tasks(&mut page, study);
    if !study.action_times.is_empty() {
        page.push_str("\n## Time of an action\n\n| policy | system | network calls | p50, µs | p99, µs |\n|---|---|--:|--:|--:|\n");
        for row in &study.action_times {
            let calls = row.network_calls;
            let _ = writeln!(
                page,
                "| {} | {} | {calls} | {:.1} | {:.1} |",
                escape(&row.policy),
                escape(&row.system),
                row.us_p50,
                row.us_p99
            );
        }
    }
    remarks(&mut page, study);
    page
}

/// A table with one column per task and one row per algorithm.
fn grid(
    page: &mut String,
    study: &Study,
    heads: impl Iterator<Item = String>,
    show: impl Fn(&Cell) -> Option<String>,
) {
    let heads: Vec<String> = heads.map(|head| escape(&head)).collect();
    let _ = writeln!(page, "| algorithm | {} |", heads.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(heads.len()));
    for name in &study.algorithms {
        let of = |task: &'_ Task| task.cells.iter().position(|cell| cell.algorithm == *name);
        let cells: Vec<_> =
            study.tasks.iter().map(|task| of(task).map(|i| &task.cells[i])).collect();
        let shown: Vec<Option<String>> = cells.iter().map(|cell| cell.and_then(&show)).collect();
        // A published mean has no times.
        let published = cells.iter().flatten().all(|cell| cell.published);
        if published && shown.iter().all(Option::is_none) {
            continue;
        }
        let shown: Vec<String> =
            shown.into_iter().map(|text| text.unwrap_or_else(|| "–".into())).collect();
        let _ = writeln!(page, "| {} | {} |", escape(name), shown.join(" | "));
    }
}

fn costs(page: &mut String, study: &Study) {
    if study.costs.is_empty() {
        return;
    }
    page.push_str(
        "\n## Cost\n\nCore-hours: hours until the last evaluation times threads, on each run's machine.\n\n\
         | algorithm | runs | steps | core-hours | per run | per million steps |\n|---|--:|--:|--:|--:|--:|\n",
    );
    for cost in &study.costs {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} |",
            escape(&cost.algorithm),
            cost.runs,
            thousands(cost.steps),
            cost.core_hours,
            cost.per_run(),
            cost.per_million_steps()
        );
    }
}

fn over_tasks(page: &mut String, study: &Study) {
    let Some(aggregate) = &study.aggregate else { return };
    let _ = write!(
        page,
        "\n## Over tasks\n\nNormalised scores on {}.\n\n| algorithm | runs | interquartile mean | \
         mean |\n|---|--:|---|---|\n",
        aggregate.tasks.join(", ")
    );
    for member in &aggregate.members {
        let (iqm, mean) = (estimate(&member.iqm, 2), estimate(&member.mean, 2));
        let runs: usize = member.runs.iter().sum();
        let _ = writeln!(page, "| {} | {runs} | {iqm} | {mean} |", escape(&member.algorithm));
    }
    if !aggregate.left_out.is_empty() {
        let _ = writeln!(page, "\nExcluded: {}.", aggregate.left_out.join("; "));
    }
    if aggregate.members.len() < 2 {
        return;
    }
    page.push_str("\nProbability that a run of the row beats one of the column:\n\n");
    let names: Vec<String> = aggregate.members.iter().map(|m| escape(&m.algorithm)).collect();
    let _ = writeln!(page, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for x in &aggregate.members {
        let _ = write!(page, "| {} |", escape(&x.algorithm));
        for y in &aggregate.members {
            let same = |pair: &&crate::Improvement| pair.x == x.algorithm && pair.y == y.algorithm;
            let pair = aggregate.improvements.iter().find(same);
            let _ = write!(
                page,
                " {} |",
                pair.map_or("–".into(), |pair| estimate(&pair.probability, 2))
            );
        }
        page.push('\n');
    }
}

fn remarks(page: &mut String, study: &Study) {
    let remarks = study.remarks();
    if !remarks.is_empty() {
        let _ = writeln!(page, "\n## Remarks\n\n- {}", remarks.join("\n- "));
    }
}

fn estimate(estimate: &Estimate, decimals: usize) -> String {
    let Estimate { value, interval } = estimate;
    match interval {
        Some(Interval { low, high }) => {
            format!("{value:.decimals$} [{low:.decimals$}, {high:.decimals$}]")
        }
        None => format!("{value:.decimals$}"),
    }
}

fn reaching(reaching: &Reaching) -> String {
    let Reaching { reached, of, .. } = reaching;
    match reaching.step {
        Some(step) => format!("{} ({reached} of {of})", thousands(step.round() as u64)),
        None => format!("not reached ({reached} of {of})"),
    }
}

/// A name, escaped for a Markdown table.
fn escape(name: &str) -> String {
    name.replace('|', "\\|")
}
