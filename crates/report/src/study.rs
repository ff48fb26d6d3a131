//! The content of a report: every task's scores and curves, computed from runs. Tables,
//! figures and page only display it.

use crate::aggregate::{Aggregate, aggregate};
use crate::differences::{differences, different_tasks};
use crate::run::{Origin, Point, Run};
use crate::statistics::{
    CURVE_REPETITIONS, Estimate, Interval, REPETITIONS, estimate, mean, mean_of_tasks, median,
};
use crate::terms::{Term, mean_terms};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A run's score is the mean of this many evaluations, its last.
const LAST: usize = 3;
/// Largest number of points of a drawn curve.
pub const MOST_POINTS: usize = 250;

/// Options of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Options {
    /// Step of comparison; by default the one that `horizon` computes.
    pub at: Option<u64>,
    /// The algorithm whose normalised score is 1.
    pub reference: String,
    /// Normalised score for the time to threshold.
    pub threshold: f64,
}

/// Everything that a report shows.
#[derive(Debug, Serialize)]
pub struct Study {
    /// The options.
    pub options: Options,
    /// Algorithms in the order of the runs, which determines their colours.
    pub algorithms: Vec<String>,
    /// Tasks, sorted by name.
    pub tasks: Vec<Task>,
    /// Aggregates over tasks, if there is anything to aggregate.
    pub aggregate: Option<Aggregate>,
    /// What the runs of each algorithm cost, where their times are known.
    pub costs: Vec<Cost>,
    /// All runs.
    pub runs: Vec<Run>,
    /// Runs that could not be read: `PATH: REASON`.
    pub left_out: Vec<String>,
    /// Times of actions, if a file was given.
    pub action_times: Vec<ActionTime>,
    /// Episodes in 3D, if there are any.
    #[serde(skip_serializing_if = "Replays::is_empty")]
    pub replays: Replays,
}

/// Episodes of runs, and the page that shows one.
#[derive(Debug, Default, Serialize)]
pub struct Replays {
    /// An HTML page that has `{"data": "here"}` in place of an episode.
    pub viewer: String,
    /// Places of runs in [`Study::runs`], and the JSON text of an episode of each.
    pub episodes: BTreeMap<usize, String>,
}

impl Replays {
    fn is_empty(&self) -> bool {
        self.episodes.is_empty()
    }
}

/// All results on one task.
#[derive(Debug, Serialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The step at which algorithms are compared.
    pub horizon: u64,
    /// Mean return of uniform actions: the normalised score 0.
    pub random: Option<f64>,
    /// The reference's mean score: the normalised score 1.
    pub reference: Option<f64>,
    /// The return at the threshold of [`Options`]; `None` if scores can't be normalised.
    pub threshold: Option<f64>,
    /// One cell for every algorithm with runs on this task.
    pub cells: Vec<Cell>,
    /// A remark for the reader: the algorithms did not run the same task.
    pub remark: Option<String>,
}

impl Task {
    /// Whether any algorithm was evaluated.
    pub fn has_curves(&self) -> bool {
        self.cells.iter().any(|cell| !cell.curve.is_empty())
    }
}

/// One algorithm on one task.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The algorithm.
    pub algorithm: String,
    /// Whether it is a published mean, whose single runs are unknown.
    pub published: bool,
    /// Indices of its runs in [`Study::runs`].
    pub runs: Vec<usize>,
    /// Scores of the runs that reach the horizon.
    pub scores: Vec<f64>,
    /// Mean of the scores; for a published mean, its score.
    pub score: Option<Estimate>,
    /// The mean score, normalised: uniform actions 0, the reference 1.
    pub normalised: Option<Estimate>,
    /// Learning curve: mean over the runs. A published mean's ends where the task's runs do.
    pub curve: Vec<CurvePoint>,
    /// The terms of the reward during training: means over the runs.
    pub terms: Vec<Term>,
    /// Time to threshold.
    pub to_threshold: Option<Reaching>,
    /// Seconds to the horizon: the median over the runs that reach it.
    pub wall_s: Option<f64>,
    /// Remarks for the reader: missing seeds, runs that ended early.
    pub remarks: Vec<String>,
}

/// The processor time that an algorithm's runs had to themselves: seconds until the last evaluation times
/// threads.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// The algorithm.
    pub algorithm: String,
    /// Number of its runs with a known time.
    pub runs: usize,
    /// Their environment steps, to the last evaluation of each.
    pub steps: u64,
    /// Their core-hours.
    pub core_hours: f64,
}

impl Cost {
    /// Core-hours of a run: the mean.
    pub fn per_run(&self) -> f64 {
        self.core_hours / self.runs as f64
    }

    /// Core-hours of a million environment steps.
    pub fn per_million_steps(&self) -> f64 {
        self.core_hours / self.steps as f64 * 1e6
    }
}

/// A point of a mean curve.
#[derive(Debug, Clone, Serialize)]
pub struct CurvePoint {
    /// Environment steps.
    pub step: u64,
    /// The statistic over runs.
    pub value: f64,
    /// Its interval; `None` with one run.
    pub interval: Option<Interval>,
    /// Number of runs included.
    pub runs: usize,
    /// Mean wall-clock time of these runs, in seconds.
    pub wall_s: Option<f64>,
}

/// Time to a threshold: how many runs reach it, and the median over all runs, where a run
/// that does not reach it counts as later than all others.
#[derive(Debug, Serialize)]
pub struct Reaching {
    /// Number of runs that reach it.
    pub reached: usize,
    /// Number of all runs.
    pub of: usize,
    /// Median steps; `None` if half of the runs don't reach it.
    pub step: Option<f64>,
    /// Median seconds.
    pub wall_s: Option<f64>,
}

/// A row of `results/bench/act.csv`: the time of an action at batch 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActionTime {
    /// The policy.
    pub policy: String,
    /// The system that computes it.
    pub system: String,
    /// Network calls per action.
    pub network_calls: u64,
    /// Median time in microseconds.
    pub us_p50: f64,
    /// 99th percentile in microseconds.
    pub us_p99: f64,
}

impl Study {
    /// Computes all scores, curves and aggregates from runs. A published mean counts where a task has
    /// runs.
    pub fn new(mut runs: Vec<Run>, options: Options, action_times: Vec<ActionTime>) -> Self {
        let single = runs.iter().filter(|run| run.origin != Origin::PublishedMean);
        let with_runs: BTreeSet<String> = single.map(|run| run.task.clone()).collect();
        runs.retain(|run| with_runs.contains(&run.task));
        let mut algorithms: Vec<String> = Vec::new();
        for run in &runs {
            if !algorithms.contains(&run.algorithm) {
                algorithms.push(run.algorithm.clone());
            }
        }
        let names: BTreeSet<&str> = runs.iter().map(|run| run.task.as_str()).collect();
        let tasks: Vec<Task> =
            names.into_iter().map(|name| task(name, &algorithms, &runs, &options)).collect();
        let aggregate = aggregate(&tasks, &algorithms, &runs);
        let costs = algorithms.iter().filter_map(|name| cost(name, &runs)).collect();
        let (left_out, replays) = (Vec::new(), Replays::default());
        Self { options, algorithms, tasks, aggregate, costs, runs, left_out, action_times, replays }
    }

    /// Whether some curves are published means.
    pub fn has_published(&self) -> bool {
        self.runs.iter().any(|run| run.origin == Origin::PublishedMean)
    }

    /// The remarks, one line per run that is left out, per task whose algorithms ran different ones, and per
    /// algorithm and task; one line for all tasks of an algorithm if they have the same.
    pub fn remarks(&self) -> Vec<String> {
        let of = |algorithm: &String| -> Vec<String> {
            let on_task = |task: &'_ Task| {
                let cell = task.cells.iter().find(|cell| cell.algorithm == *algorithm)?;
                Some((task.name.clone(), cell.remarks.join("; ")))
            };
            let found: Vec<(String, String)> = self.tasks.iter().filter_map(on_task).collect();
            match found.as_slice() {
                [(_, first), _, ..] if found.iter().all(|(_, text)| text == first) => {
                    vec![("every task".to_string(), first.clone())]
                }
                _ => found,
            }
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(task, text)| format!("{task}, {algorithm}: {text}"))
            .collect()
        };
        let empty = self.tasks.iter().filter(|task| !task.has_curves());
        let empty =
            empty.map(|task| format!("{}: no evaluation yet, so it is not drawn", task.name));
        let left_out = self.left_out.iter().map(|run| format!("left out: {run}"));
        let of_task = |task: &'_ Task| Some(format!("{}: {}", task.name, task.remark.as_ref()?));
        let of_tasks = self.tasks.iter().filter_map(of_task);
        left_out.chain(of_tasks).chain(self.algorithms.iter().flat_map(of)).chain(empty).collect()
    }
}

fn cost(algorithm: &str, runs: &[Run]) -> Option<Cost> {
    let of = runs.iter().filter(|run| run.algorithm == algorithm);
    let known: Vec<(u64, f64)> =
        of.filter_map(|run| Some((run.last_step(), run.core_seconds()?))).collect();
    (!known.is_empty()).then(|| Cost {
        algorithm: algorithm.to_string(),
        runs: known.len(),
        steps: known.iter().map(|(steps, _)| steps).sum(),
        core_hours: known.iter().map(|(_, seconds)| seconds).sum::<f64>() / 3600.0,
    })
}

fn task(name: &str, algorithms: &[String], runs: &[Run], options: &Options) -> Task {
    let of = |algorithm: &String| -> Vec<usize> {
        let here = |run: &Run| run.task == name && run.algorithm == *algorithm;
        (0..runs.len()).filter(|i| here(&runs[*i])).collect()
    };
    let groups: Vec<(&String, Vec<usize>)> =
        algorithms.iter().map(|name| (name, of(name))).filter(|(_, of)| !of.is_empty()).collect();
    let on_task: Vec<&Run> = groups.iter().flat_map(|(_, of)| of).map(|i| &runs[*i]).collect();
    let horizon = options.at.unwrap_or_else(|| {
        let runs_of =
            |(_, of): &(_, Vec<usize>)| -> Vec<&Run> { of.iter().map(|i| &runs[*i]).collect() };
        horizon(groups.iter().map(runs_of))
    });
    let mut cells: Vec<Cell> = groups
        .into_iter()
        .map(|(algorithm, of)| cell(algorithm, of, runs, &on_task, horizon))
        .collect();
    let random = random(&on_task);
    let reference = cells.iter().find(|cell| cell.algorithm == options.reference);
    let reference = reference.and_then(|cell| cell.score).map(|score| score.value);
    let mut threshold = None;
    if let (Some(random), Some(reference)) = (random, reference)
        && reference > random
    {
        let least = random + options.threshold * (reference - random);
        threshold = Some(least);
        for cell in &mut cells {
            let scale = |value: f64| (value - random) / (reference - random);
            cell.normalised = cell.score.map(|score| Estimate {
                value: scale(score.value),
                interval: score
                    .interval
                    .map(|ends| Interval { low: scale(ends.low), high: scale(ends.high) }),
            });
            let runs: Vec<&Run> = cell.runs.iter().map(|i| &runs[*i]).collect();
            cell.to_threshold = (!cell.published).then(|| reaching(&runs, least));
        }
    }
    let remark = different_tasks(&on_task);
    Task { name: name.to_string(), horizon, random, reference, threshold, cells, remark }
}

/// The step of comparison: the largest that more than half of the algorithms have
/// reached with at least one run; those without an evaluation do not count. Of three, one that
/// crashed early does not lower it, and one that is far ahead is compared at this earlier step.
fn horizon<'a>(algorithms: impl Iterator<Item = Vec<&'a Run>>) -> u64 {
    let furthest = |runs: Vec<&Run>| {
        let counted = runs.iter().filter(|run| run.origin != Origin::PublishedMean);
        counted.map(|run| run.last_step()).max().filter(|step| *step > 0)
    };
    let mut reached: Vec<u64> = algorithms.filter_map(furthest).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(reached.len() / 2).copied().unwrap_or(0)
}

/// Mean return of uniform actions, averaged over seeds: runs of the same seed draw the
/// same actions.
fn random(runs: &[&Run]) -> Option<f64> {
    let seeds: BTreeSet<&str> = runs.iter().map(|run| run.seed.as_str()).collect();
    let of_seed = |seed: &str| {
        let known = runs.iter().filter(|run| run.seed == seed).filter_map(|run| run.uniform);
        let known: Vec<f64> = known.collect();
        (!known.is_empty()).then(|| mean(&known))
    };
    let means: Vec<f64> = seeds.into_iter().filter_map(of_seed).collect();
    (!means.is_empty()).then(|| mean(&means))
}

/// The score of a run: the mean of its last evaluations up to the horizon, if it reaches it.
pub fn score(run: &Run, horizon: u64) -> Option<f64> {
    run.at(horizon)?;
    let seen = run.points.partition_point(|point| point.step <= horizon);
    let last = &run.points[seen.saturating_sub(LAST)..seen];
    Some(mean(&last.iter().map(|point| point.score).collect::<Vec<_>>()))
}

fn cell(algorithm: &str, places: Vec<usize>, all: &[Run], on_task: &[&Run], horizon: u64) -> Cell {
    let runs: Vec<&Run> = places.iter().map(|i| &all[*i]).collect();
    let reported: Vec<f64> = runs.iter().filter_map(|run| score(run, horizon)).collect();
    let published = runs.iter().any(|run| run.origin == Origin::PublishedMean);
    let end = on_task.iter().filter(|run| run.origin != Origin::PublishedMean);
    let end = end.map(|run| run.last_step()).max().unwrap_or(0);
    let mut curve = curve(&runs);
    if published {
        // Others' million steps would press short runs against the axis.
        curve.retain(|point| point.step <= end);
    }
    let score = (!reported.is_empty())
        .then(|| estimate(&vec![reported.clone()], REPETITIONS, mean_of_tasks));
    let walls: Vec<f64> =
        runs.iter().filter_map(|run| run.at(horizon)).filter_map(|point| point.wall_s).collect();
    Cell {
        algorithm: algorithm.to_string(),
        published,
        curve,
        terms: mean_terms(&runs),
        remarks: remarks(&runs, on_task, horizon),
        runs: places,
        scores: if published { Vec::new() } else { reported },
        score,
        normalised: None,
        to_threshold: None,
        wall_s: (!walls.is_empty()).then(|| median(&walls)),
    }
}

/// The mean over runs at every step at which one was evaluated. A run that was evaluated
/// at other steps counts with its last evaluation, until one is missing.
fn curve(runs: &[&Run]) -> Vec<CurvePoint> {
    let steps: BTreeSet<u64> =
        runs.iter().flat_map(|run| &run.points).map(|point| point.step).collect();
    let begin = runs.iter().filter_map(|run| run.points.first()).map(|point| point.step).max();
    let steps = steps.into_iter().filter(|step| begin.is_some_and(|begin| *step >= begin));
    let point = |step: &u64| {
        let points: Vec<&Point> = runs.iter().filter_map(|run| run.at(*step)).collect();
        let scores: Vec<f64> = points.iter().map(|point| point.score).collect();
        let walls: Option<Vec<f64>> = points.iter().map(|point| point.wall_s).collect();
        let runs = scores.len();
        let Estimate { value, interval } =
            estimate(&vec![scores], CURVE_REPETITIONS, mean_of_tasks);
        CurvePoint { step: *step, value, interval, runs, wall_s: walls.map(|walls| mean(&walls)) }
    };
    thin(&steps.collect::<Vec<_>>(), MOST_POINTS).iter().map(point).collect()
}

/// Every n-th element, including the last, if there are too many to draw.
pub fn thin<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let every = all.len().div_ceil(most).max(1);
    let mut kept: Vec<T> = all.iter().rev().step_by(every).cloned().collect();
    kept.reverse();
    kept
}

fn reaching(runs: &[&Run], least: f64) -> Reaching {
    let first = |run: &&Run| run.points.iter().find(|point| point.score >= least).copied();
    let firsts: Vec<Option<Point>> = runs.iter().map(first).collect();
    let middle = |of: &dyn Fn(&Point) -> Option<f64>| {
        let never = f64::INFINITY;
        let times: Option<Vec<f64>> =
            firsts.iter().map(|point| point.as_ref().map_or(Some(never), of)).collect();
        times.map(|times| median(&times)).filter(|time| time.is_finite())
    };
    Reaching {
        reached: firsts.iter().flatten().count(),
        of: runs.len(),
        step: middle(&|point| Some(point.step as f64)),
        wall_s: middle(&|point| point.wall_s),
    }
}

/// Remarks on missing or incomplete runs.
fn remarks(runs: &[&Run], on_task: &[&Run], horizon: u64) -> Vec<String> {
    if runs.iter().any(|run| run.origin == Origin::PublishedMean) {
        return runs.iter().flat_map(|run| run.remarks.iter().cloned()).collect();
    }
    let mut all = Vec::new();
    for run in runs {
        let (seed, at) = (&run.seed, thousands(run.reached));
        if let Some(reason) = &run.failed {
            all.push(format!("seed {seed}: failed at step {at}: {reason}"));
        } else if !run.finished {
            let of = run.asked.map(|asked| format!(" of {}", thousands(asked))).unwrap_or_default();
            all.push(format!("seed {seed}: stopped at step {at}{of} (or is still running)"));
        } else if run.at(horizon).is_none() && !run.points.is_empty() {
            all.push(format!("seed {seed}: ends at step {at}, as requested"));
        }
        if run.points.is_empty() && run.remarks.is_empty() {
            all.push(format!("seed {seed}: no evaluation yet"));
        }
        if run.finished && run.updates == Some(0) {
            all.push(format!("seed {seed}: made no update: its actions were never learned"));
        }
        all.extend(run.remarks.iter().map(|remark| format!("seed {seed}: {remark}")));
    }
    all.extend(differences(runs));
    let ours = |runs: &[&Run]| -> BTreeSet<u64> {
        let folders = runs.iter().filter(|run| run.origin == Origin::Folder);
        folders.filter_map(|run| run.seed.parse().ok()).collect()
    };
    let own = ours(runs);
    if !own.is_empty() {
        let others = ours(on_task);
        let missing: Vec<String> = others.difference(&own).map(u64::to_string).collect();
        if !missing.is_empty() {
            let word = if missing.len() == 1 { "seed" } else { "seeds" };
            all.push(format!("{word} {} missing, which other algorithms have", missing.join(", ")));
        }
    }
    let reach = runs.iter().filter(|run| run.at(horizon).is_some()).count();
    if reach < runs.len() {
        all.push(format!("{reach} of {} seeds reach {}", runs.len(), thousands(horizon)));
    }
    if reach == 1 {
        all.push("one seed: no interval".into());
    }
    let shortest = runs.iter().filter(|run| run.at(horizon).is_some());
    let shortest =
        shortest.map(|run| run.points.partition_point(|point| point.step <= horizon)).min();
    if let Some(few @ 1..LAST) = shortest {
        all.push(format!("scores are means of only {few} evaluations"));
    }
    all
}

/// A whole number with commas.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
