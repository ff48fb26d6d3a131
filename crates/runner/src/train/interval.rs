//! What is gathered between two rows of `train.csv`.

use agent::Metrics;
use report::TrainRow;
use serde::{Deserialize, Serialize};

/// Sums since the row before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Return and length of the episodes that ended.
    returns: Vec<(f64, u32)>,
    /// Sum and count of each metric, in the order of `Metrics::named`.
    metrics: [(f64, u64); 7],
    /// Step and time of the row before.
    since: (u64, f64),
}

impl Interval {
    /// Takes in what an update measured.
    pub fn update(&mut self, metrics: &Metrics) {
        for ((sum, count), (_, value)) in self.metrics.iter_mut().zip(metrics.named()) {
            if let Some(value) = value {
                *sum += value;
                *count += 1;
            }
        }
    }

    /// Takes in an episode.
    pub fn episode(&mut self, total: f64, length: u32) {
        self.returns.push((total, length));
    }

    /// The row of what was gathered; the next interval begins empty.
    pub fn row(&mut self, step: u64, updates: u64, episodes: u64, wall_s: f64) -> TrainRow {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let ended = self.returns.len() as u64;
        let lengths = self.returns.iter().map(|(_, length)| f64::from(*length));
        let [critic_loss, actor_loss, mirror_loss, entropy, alpha, q_mean, grad_norm] =
            self.metrics.map(|(sum, count)| mean(sum, count));
        let (step_before, wall_before) = self.since;
        let row = TrainRow {
            step,
            updates,
            episodes,
            return_mean: mean(self.returns.iter().map(|(total, _)| total).sum(), ended),
            length_mean: mean(lengths.sum(), ended),
            critic_loss,
            actor_loss,
            mirror_loss,
            entropy,
            alpha,
            q_mean,
            grad_norm,
            steps_per_s: (step - step_before) as f64 / (wall_s - wall_before).max(1e-9),
            wall_s,
        };
        *self = Self { since: (step, wall_s), ..Self::default() };
        row
    }
}
