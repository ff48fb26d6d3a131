//! Algorithms over tasks: interquartile means, profiles, probabilities of improvement.

use crate::run::Run;
use crate::statistics::{
    CURVE_REPETITIONS, Estimate, Interval, REPETITIONS, Scores, bootstrap, estimate,
    interquartile_mean, mean_of_tasks, probability_of_improvement, profile,
};
use crate::study::{CurvePoint, MOST_POINTS, Task, score, thin};
use serde::Serialize;
use std::collections::BTreeSet;

/// Thresholds of a performance profile.
const THRESHOLDS: usize = 101;

/// Aggregates over tasks. Scores are normalised: uniform actions 0, the reference 1.
#[derive(Debug, Serialize)]
pub struct Aggregate {
    /// The tasks included.
    pub tasks: Vec<String>,
    /// The algorithms with a score on each of them.
    pub members: Vec<Member>,
    /// Thresholds of the performance profiles.
    pub thresholds: Vec<f64>,
    /// Every ordered pair of members.
    pub improvements: Vec<Improvement>,
    /// Excluded algorithms and tasks, each with the reason.
    pub left_out: Vec<String>,
}

/// One algorithm, aggregated over tasks.
#[derive(Debug, Serialize)]
pub struct Member {
    /// The algorithm.
    pub algorithm: String,
    /// Number of runs per task.
    pub runs: Vec<usize>,
    /// Interquartile mean.
    pub iqm: Estimate,
    /// Mean over tasks of the means over runs.
    pub mean: Estimate,
    /// Share of runs above each threshold.
    pub above: Vec<f64>,
    /// Intervals of `above`; none if a task has only one run.
    pub above_intervals: Option<Vec<Interval>>,
    /// Interquartile mean as a function of the step.
    pub curve: Vec<CurvePoint>,
}

/// Probability that a run of one algorithm beats a run of another.
#[derive(Debug, Serialize)]
pub struct Improvement {
    /// The first algorithm.
    pub x: String,
    /// The second algorithm.
    pub y: String,
    /// P(x > y) + P(x = y) / 2.
    pub probability: Estimate,
}

/// Aggregates over the tasks that can be normalised and on which more than half of the
/// algorithms have a score, and over the algorithms that have a score on each of those.
/// `None` if there are no such tasks or algorithms.
pub fn aggregate(tasks: &[Task], algorithms: &[String], runs: &[Run]) -> Option<Aggregate> {
    let scored = |task: &Task, algorithm: &str| {
        task.cells.iter().any(|cell| cell.algorithm == algorithm && !cell.scores.is_empty())
    };
    let counted: Vec<&String> =
        algorithms.iter().filter(|name| tasks.iter().any(|task| scored(task, name))).collect();
    let mut left_out = Vec::new();
    let mut chosen: Vec<&Task> = Vec::new();
    for task in tasks {
        let here = counted.iter().filter(|name| scored(task, name)).count();
        if task.threshold.is_none() {
            let missing = match (task.random, task.reference) {
                (_, None) => "the reference has no score",
                (None, _) => "no run has the return of uniform actions",
                _ => "the reference is no better than uniform actions",
            };
            left_out.push(format!("{}: {missing}", task.name));
        } else if 2 * here <= counted.len() {
            let of = counted.len();
            left_out.push(format!("{}: only {here} of {of} algorithms have a score", task.name));
        } else {
            chosen.push(task);
        }
    }
    let mut members = Vec::new();
    for name in counted {
        let missing: Vec<&str> = chosen
            .iter()
            .filter(|task| !scored(task, name))
            .map(|task| task.name.as_str())
            .collect();
        if missing.is_empty() {
            members.push(name);
        } else {
            left_out.push(format!("{name}: no score on {}", missing.join(", ")));
        }
    }
    if chosen.is_empty() || members.is_empty() {
        return None;
    }
    let scores: Vec<Scores> = members.iter().map(|name| scores(&chosen, name)).collect();
    let thresholds = thresholds(&scores);
    let improvements = pairs(&members, &scores);
    let members = members
        .into_iter()
        .zip(&scores)
        .map(|(name, scores)| member(name, scores, &thresholds, &chosen, runs))
        .collect();
    let tasks = chosen.iter().map(|task| task.name.clone()).collect();
    Some(Aggregate { tasks, members, thresholds, improvements, left_out })
}

/// A return's normalised score.
fn normalise(task: &Task, value: f64) -> f64 {
    let (random, reference) = task.random.zip(task.reference).expect("chosen tasks have both");
    (value - random) / (reference - random)
}

/// An algorithm's normalised scores per task.
fn scores(tasks: &[&Task], algorithm: &str) -> Scores {
    let of = |task: &&Task| -> Vec<f64> {
        let cells = task.cells.iter().filter(|cell| cell.algorithm == algorithm);
        cells.flat_map(|cell| &cell.scores).map(|score| normalise(task, *score)).collect()
    };
    tasks.iter().map(of).collect()
}

/// From 0, or the lowest score if that is lower, to the highest.
fn thresholds(scores: &[Scores]) -> Vec<f64> {
    let all = || scores.iter().flatten().flatten().copied();
    let (low, high) = (all().fold(0.0, f64::min), all().fold(1.0, f64::max));
    let part = |i: usize| i as f64 / (THRESHOLDS - 1) as f64;
    (0..THRESHOLDS).map(|i| low + (high - low) * part(i)).collect()
}

fn pairs(members: &[&String], scores: &[Scores]) -> Vec<Improvement> {
    let mut all = Vec::new();
    for (x, theirs) in members.iter().zip(scores) {
        for (y, others) in members.iter().zip(scores).filter(|(y, _)| *y != x) {
            let interval = bootstrap([theirs, others], REPETITIONS, |[x, y]| {
                vec![probability_of_improvement(x, y)]
            });
            let value = probability_of_improvement(theirs, others);
            let probability = Estimate { value, interval: interval.map(|ends| ends[0]) };
            all.push(Improvement { x: x.to_string(), y: y.to_string(), probability });
        }
    }
    all
}

fn member(
    name: &str,
    scores: &Scores,
    thresholds: &[f64],
    tasks: &[&Task],
    runs: &[Run],
) -> Member {
    Member {
        algorithm: name.to_string(),
        runs: scores.iter().map(Vec::len).collect(),
        iqm: estimate(scores, REPETITIONS, interquartile_mean),
        mean: estimate(scores, REPETITIONS, mean_of_tasks),
        above: profile(scores, thresholds),
        above_intervals: bootstrap([scores], CURVE_REPETITIONS, |[scores]| {
            profile(scores, thresholds)
        }),
        curve: curve(name, tasks, runs),
    }
}

/// The interquartile mean over the runs that reach their task's horizon, at the steps where
/// all of them have an evaluation.
fn curve(name: &str, tasks: &[&Task], runs: &[Run]) -> Vec<CurvePoint> {
    let of = |task: &&Task| -> Vec<&Run> {
        let cells = task.cells.iter().filter(|cell| cell.algorithm == name);
        let all = cells.flat_map(|cell| &cell.runs).map(|i| &runs[*i]);
        all.filter(|run| score(run, task.horizon).is_some()).collect()
    };
    let by_task: Vec<Vec<&Run>> = tasks.iter().map(of).collect();
    let end = tasks.iter().map(|task| task.horizon).min().unwrap_or(0);
    let points = by_task.iter().flatten().flat_map(|run| &run.points);
    let steps: BTreeSet<u64> = points.map(|point| point.step).filter(|step| *step <= end).collect();
    let at = |step: &u64| -> Option<CurvePoint> {
        let on_task = |(task, runs): (&&Task, &Vec<&Run>)| -> Option<Vec<f64>> {
            runs.iter().map(|run| Some(normalise(task, run.at(*step)?.score))).collect()
        };
        let scores: Scores = tasks.iter().zip(&by_task).map(on_task).collect::<Option<_>>()?;
        let Estimate { value, interval } = estimate(&scores, CURVE_REPETITIONS, interquartile_mean);
        let runs = scores.iter().map(Vec::len).sum();
        Some(CurvePoint { step: *step, value, interval, runs, wall_s: None })
    };
    thin(&steps.into_iter().collect::<Vec<_>>(), MOST_POINTS).iter().filter_map(at).collect()
}
