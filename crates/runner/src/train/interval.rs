//! Means between two rows of `train.csv`.

use report::{METRICS, TERMS, TrainRow};
use serde::{Deserialize, Serialize};

/// The column of the episodes that ended because their simulation diverged.
const DIVERGED: &str = "diverged";

/// Sums since the row before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Return and length of the episodes that ended.
    returns: Vec<(f64, u32)>,
    /// Name, sum and count of each metric, in the order of their columns.
    metrics: Vec<(String, f64, u64)>,
    /// Step and time of the row before.
    since: (u64, f64),
}

impl Interval {
    /// Nothing yet of an algorithm's metrics: the common ones, then its own.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = METRICS.to_vec();
        all.extend(names.into_iter().filter(|name| !METRICS.contains(name)));
        all.push(DIVERGED);
        let metrics = all.into_iter().map(|name| (name.to_string(), 0.0, 0)).collect();
        Self { returns: Vec::new(), metrics, since: (0, 0.0) }
    }

    /// Whether the rows of `before` have the same columns as these. (Those of a run that an
    /// earlier version began do not count diverged episodes, and lack the terms of the reward.)
    pub fn continues(&self, before: &Self) -> bool {
        let (mut now, before) = (self.names(), before.names());
        let lacks = |of: fn(&str) -> bool| !before.iter().any(|name| of(name));
        for newer in [|name: &str| name == DIVERGED, |name: &str| name.starts_with(TERMS)] {
            if lacks(newer) {
                now.retain(|name| !newer(name));
            }
        }
        now == before
    }

    /// The names of the metrics, in their order.
    pub fn names(&self) -> Vec<&str> {
        self.metrics.iter().map(|(name, ..)| name.as_str()).collect()
    }

    /// Adds the metrics of an update.
    pub fn update(&mut self, metrics: &[(&'static str, f64)]) {
        for (name, value) in metrics {
            self.add(name, *value, 1);
        }
    }

    /// Adds `count` values of a metric with this sum.
    fn add(&mut self, name: &str, sum: f64, count: u64) {
        let known = self.metrics.iter_mut().find(|(other, ..)| other == name);
        let (_, sums, counts) = known.expect("the metric was named at the start");
        *sums += sum;
        *counts += count;
    }

    /// Adds values of a term of the reward; nothing in a run that lacks its column.
    pub fn term(&mut self, name: &str, sum: f64, count: u64) {
        if self.metrics.iter().any(|(other, ..)| other == name) {
            self.add(name, sum, count);
        }
    }

    /// Adds an episode that ended.
    pub fn episode(&mut self, total: f64, length: u32) {
        self.returns.push((total, length));
    }

    /// Counts an episode whose simulation diverged. Returns whether it is the first since the row
    /// before.
    pub fn diverged(&mut self) -> bool {
        match self.metrics.iter_mut().find(|(name, ..)| name == DIVERGED) {
            Some((_, sum, _)) => {
                *sum += 1.0;
                *sum == 1.0
            }
            None => true,
        }
    }

    /// The row of this interval; the next one begins empty.
    pub fn row(&mut self, step: u64, updates: u64, episodes: u64, wall_s: f64) -> TrainRow {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let ended = self.returns.len() as u64;
        let lengths = self.returns.iter().map(|(_, length)| f64::from(*length));
        let (step_before, wall_before) = self.since;
        let value = |name: &str, sum, n| if name == DIVERGED { Some(sum) } else { mean(sum, n) };
        let metrics = self.metrics.iter();
        let row = TrainRow {
            step,
            updates,
            episodes,
            return_mean: mean(self.returns.iter().map(|(total, _)| total).sum(), ended),
            length_mean: mean(lengths.sum(), ended),
            metrics: metrics.map(|(name, sum, n)| (name.clone(), value(name, *sum, *n))).collect(),
            steps_per_s: (step - step_before) as f64 / (wall_s - wall_before).max(1e-9),
            wall_s,
        };
        self.returns.clear();
        self.metrics.iter_mut().for_each(|(_, sum, count)| (*sum, *count) = (0.0, 0));
        self.since = (step, wall_s);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_what_diverged_since_the_one_before_unless_an_earlier_version_began_the_run() {
        let mut interval = Interval::new(["own", "reward/forward"]);
        let count = |row: TrainRow| row.metrics.last().cloned();
        assert!(interval.diverged() && !interval.diverged(), "the first is told from the others");
        assert_eq!(count(interval.row(1, 0, 0, 1.0)), Some((DIVERGED.to_string(), Some(2.0))));
        assert_eq!(count(interval.row(2, 0, 0, 2.0)), Some((DIVERGED.to_string(), Some(0.0))));

        let mut earlier = interval.clone();
        earlier.metrics.retain(|(name, ..)| name != DIVERGED && !name.starts_with(TERMS));
        assert!(interval.continues(&interval) && interval.continues(&earlier));
        assert!(!Interval::new(["other"]).continues(&earlier));
        assert!(!Interval::new(["own", "reward/other"]).continues(&interval));
        earlier.diverged();
        earlier.term("reward/forward", 1.0, 1);
        assert_eq!(count(earlier.row(3, 0, 0, 3.0)), Some(("own".to_string(), None)));
    }
}
