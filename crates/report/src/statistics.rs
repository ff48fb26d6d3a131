//! Statistics of few runs on several tasks, as Agarwal et al. 2021 (arXiv 2108.13264)
//! define them and their package rliable computes them (`tests/rliable.rs` compares).
//!
//! An interval is a percentile bootstrap over runs, stratified by task: a resample draws
//! each task's number of runs with replacement. It estimates the variation over seeds on
//! the same tasks, not over tasks.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;

/// An algorithm's scores: one list per task, one entry per run.
pub type Scores = Vec<Vec<f64>>;

/// Bootstrap resamples for an interval in a table.
pub const REPETITIONS: usize = 10_000;
/// Bootstrap resamples for an interval at a point of a curve.
pub const CURVE_REPETITIONS: usize = 2_000;

/// Confidence level of the intervals.
const COVERAGE: f64 = 0.95;
/// Seed of every bootstrap, so that an interval depends on its scores only, not on the
/// rest of the report.
const SEED: u64 = 20260731;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A value with its interval, which is missing if a task has only one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its 95 % bootstrap interval.
    pub interval: Option<Interval>,
}

/// The mean of at least one number.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean over tasks of the means over runs.
pub fn mean_of_tasks(scores: &[Vec<f64>]) -> f64 {
    mean(&scores.iter().map(|task| mean(task)).collect::<Vec<_>>())
}

/// The mean of the middle half of the scores of all tasks: a quarter of them, rounded
/// down, is dropped at either end. If tasks have different numbers of runs (which rliable
/// does not support), each task's scores are repeated to a common number.
pub fn interquartile_mean(scores: &[Vec<f64>]) -> f64 {
    let as_many = scores.iter().fold(1, |all, task| lcm(all, task.len()));
    let repeated = |task: &Vec<f64>| {
        let times = as_many / task.len();
        task.iter().map(move |score| (*score, times)).collect::<Vec<_>>()
    };
    let mut all: Vec<(f64, usize)> = scores.iter().flat_map(repeated).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = as_many * scores.len();
    let kept = total / 4..total - total / 4;
    let (mut sum, mut begin) = (0.0, 0);
    for (score, times) in all {
        let end = begin + times;
        let inside = end.min(kept.end).saturating_sub(begin.max(kept.start));
        sum += score * inside as f64;
        begin = end;
    }
    sum / kept.len() as f64
}

/// The least common multiple.
fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

/// Probability that a run of `x` beats a run of `y` on the same task, a tie counting half:
/// the mean over tasks of the Mann-Whitney statistic divided by the number of pairs.
pub fn probability_of_improvement(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let on_task = |(x, y): (&Vec<f64>, &Vec<f64>)| {
        let pairs = x.iter().flat_map(|a| y.iter().map(move |b| (a, b)));
        let wins: f64 =
            pairs.map(|(a, b)| f64::from(u8::from(a > b) + u8::from(a >= b)) / 2.0).sum();
        wins / (x.len() * y.len()) as f64
    };
    mean(&x.iter().zip(y).map(on_task).collect::<Vec<_>>())
}

/// The performance profile: the share of scores above each threshold, with equal weight
/// per task.
pub fn profile(scores: &[Vec<f64>], thresholds: &[f64]) -> Vec<f64> {
    let above = |runs: &Vec<f64>, threshold: f64| {
        runs.iter().filter(|score| **score > threshold).count() as f64 / runs.len() as f64
    };
    let share = |threshold: &f64| {
        mean(&scores.iter().map(|runs| above(runs, *threshold)).collect::<Vec<_>>())
    };
    thresholds.iter().map(share).collect()
}

/// The p-quantile of sorted numbers, with linear interpolation (NumPy's default).
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    // Both neighbours may be the same infinity, whose difference is NaN.
    if below == above { below } else { below + (above - below) * at.fract() }
}

/// The median of at least one number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// A statistic of one algorithm's scores, with its interval.
pub fn estimate(
    scores: &Scores,
    repetitions: usize,
    statistic: impl Fn(&[Vec<f64>]) -> f64,
) -> Estimate {
    let interval = bootstrap([scores], repetitions, |[scores]| vec![statistic(scores)]);
    Estimate { value: statistic(scores), interval: interval.map(|ends| ends[0]) }
}

/// Intervals of the values that `statistic` computes from some algorithms' scores.
/// `None` if a task has only one run, which says nothing about the spread.
pub fn bootstrap<const N: usize>(
    scores: [&Scores; N],
    repetitions: usize,
    statistic: impl Fn([&Scores; N]) -> Vec<f64>,
) -> Option<Vec<Interval>> {
    if scores.iter().any(|tasks| tasks.iter().any(|runs| runs.len() < 2)) {
        return None;
    }
    let mut rng = Pcg64::seed_from_u64(SEED);
    let mut drawn = scores.map(Clone::clone);
    let mut draws: Vec<Vec<f64>> = Vec::new();
    for _ in 0..repetitions {
        for (drawn, tasks) in drawn.iter_mut().zip(scores) {
            for (drawn, runs) in drawn.iter_mut().zip(tasks) {
                drawn.fill_with(|| runs[rng.random_range(0..runs.len())]);
            }
        }
        let values = statistic(drawn.each_ref());
        draws.resize(values.len(), Vec::new());
        draws.iter_mut().zip(values).for_each(|(draws, value)| draws.push(value));
    }
    Some(draws.into_iter().map(ends).collect())
}

/// The central interval of the resampled values.
fn ends(mut draws: Vec<f64>) -> Interval {
    draws.sort_by(f64::total_cmp);
    let tail = (1.0 - COVERAGE) / 2.0;
    Interval { low: quantile(&draws, tail), high: quantile(&draws, 1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interquartile_mean_drops_a_quarter_of_all_scores_at_either_end() {
        // Sorted: -9 1 | 2 3 4 5 | 6 100.
        assert_eq!(
            interquartile_mean(&[vec![100.0, 2.0, 3.0, 4.0], vec![-9.0, 6.0, 1.0, 5.0]]),
            3.5
        );
        assert_eq!(interquartile_mean(&[vec![1.0, 2.0, 6.0]]), 3.0, "too few to drop one");
    }

    #[test]
    fn tasks_have_equal_weight_in_the_interquartile_mean_whatever_their_runs() {
        let few = [vec![1.0, 1.0], vec![4.0]];
        assert_eq!(interquartile_mean(&few), 2.5);
        // As 0 1 2 3 and 5 5 9 9, of which two are dropped at either end.
        let more = [vec![0.0, 1.0, 2.0, 3.0], vec![5.0, 9.0]];
        assert_eq!(interquartile_mean(&more), (2.0 + 3.0 + 5.0 + 5.0) / 4.0);
    }

    #[test]
    fn improvement_counts_pairs_of_runs_on_each_task_and_a_tie_as_half() {
        let (x, y) = (vec![vec![1.0, 3.0], vec![5.0]], vec![vec![2.0, 3.0], vec![0.0]]);
        // First task: 1<2, 1<3, 3>2, 3=3: 1.5 of 4. Second: certain.
        assert_eq!(probability_of_improvement(&x, &y), (1.5 / 4.0 + 1.0) / 2.0);
        assert_eq!(probability_of_improvement(&y, &x), 1.0 - (1.5 / 4.0 + 1.0) / 2.0);
        assert_eq!(probability_of_improvement(&x, &x), 0.5);
    }

    #[test]
    fn a_profile_is_the_share_strictly_above_with_equal_weight_per_task() {
        let scores = vec![vec![1.0, 2.0, 3.0, 4.0], vec![1.0]];
        assert_eq!(profile(&scores, &[0.0, 1.0, 3.0, 4.0]), [1.0, 3.0 / 8.0, 1.0 / 8.0, 0.0]);
    }

    #[test]
    fn quantiles_interpolate_linearly_and_may_be_infinite() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(&[f64::INFINITY, 7.0, f64::INFINITY]), f64::INFINITY);
    }

    #[test]
    fn an_interval_of_two_runs_is_their_range_and_one_run_has_none() {
        let two = estimate(&vec![vec![1.0, 3.0]], REPETITIONS, mean_of_tasks);
        // A quarter of the resamples draws the same run twice: more than the tails exclude.
        assert_eq!(two.interval, Some(Interval { low: 1.0, high: 3.0 }));
        assert_eq!(two.value, 2.0);
        let one = estimate(&vec![vec![1.0, 3.0], vec![2.0]], REPETITIONS, mean_of_tasks);
        assert_eq!(one, Estimate { value: 2.0, interval: None });
    }

    #[test]
    fn the_interval_of_a_mean_agrees_with_the_central_limit_theorem() {
        // 0..199: the standard deviation of the mean of 200 draws is known exactly, and with
        // 200 draws the bootstrap distribution is close to normal.
        let scores = vec![(0..200).map(f64::from).collect::<Vec<_>>()];
        let deviation = ((200.0f64.powi(2) - 1.0) / 12.0 / 200.0).sqrt();
        let interval = estimate(&scores, REPETITIONS, mean_of_tasks).interval.unwrap();
        for (end, expected) in
            [(interval.low, 99.5 - 1.96 * deviation), (interval.high, 99.5 + 1.96 * deviation)]
        {
            // With 10,000 resamples an end has a standard error of 0.027 of these; allow five.
            assert!((end - expected).abs() < 0.14 * deviation, "{end} {expected}");
        }
    }

    #[test]
    fn an_interval_depends_on_its_scores_only() {
        let scores = vec![vec![1.0, 3.0, 4.0], vec![2.0, 2.5, 7.0]];
        let once = estimate(&scores, REPETITIONS, interquartile_mean);
        let _ = estimate(&vec![vec![5.0, 6.0]], 100, interquartile_mean);
        assert_eq!(estimate(&scores, REPETITIONS, interquartile_mean), once);
    }
}
