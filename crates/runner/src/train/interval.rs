//! Means between two rows of `train.csv`.

use report::{METRICS, TrainRow};
use serde::{Deserialize, Serialize};

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
        let metrics = all.into_iter().map(|name| (name.to_string(), 0.0, 0)).collect();
        Self { returns: Vec::new(), metrics, since: (0, 0.0) }
    }

    /// The names of the metrics, in their order.
    pub fn names(&self) -> Vec<&str> {
        self.metrics.iter().map(|(name, ..)| name.as_str()).collect()
    }

    /// Adds the metrics of an update.
    pub fn update(&mut self, metrics: &[(&'static str, f64)]) {
        for (name, value) in metrics {
            let known = self.metrics.iter_mut().find(|(other, ..)| other == name);
            let (_, sum, count) = known.expect("an agent's metrics were named at the start");
            *sum += value;
            *count += 1;
        }
    }

    /// Adds an episode that ended.
    pub fn episode(&mut self, total: f64, length: u32) {
        self.returns.push((total, length));
    }

    /// The row of this interval; the next one begins empty.
    pub fn row(&mut self, step: u64, updates: u64, episodes: u64, wall_s: f64) -> TrainRow {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let ended = self.returns.len() as u64;
        let lengths = self.returns.iter().map(|(_, length)| f64::from(*length));
        let (step_before, wall_before) = self.since;
        let metrics = self.metrics.iter();
        let row = TrainRow {
            step,
            updates,
            episodes,
            return_mean: mean(self.returns.iter().map(|(total, _)| total).sum(), ended),
            length_mean: mean(lengths.sum(), ended),
            metrics: metrics.map(|(name, sum, n)| (name.clone(), mean(*sum, *n))).collect(),
            steps_per_s: (step - step_before) as f64 / (wall_s - wall_before).max(1e-9),
            wall_s,
        };
        self.returns.clear();
        self.metrics.iter_mut().for_each(|(_, sum, count)| (*sum, *count) = (0.0, 0));
        self.since = (step, wall_s);
        row
    }
}
