//! `train.csv`: fixed columns, and one for each metric of the algorithm.

use crate::Record;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::fmt;

/// Metrics that every `train.csv` has a column for, empty where the algorithm lacks them; further
/// ones of the algorithm come after these.
pub const METRICS: [&str; 7] =
    ["critic_loss", "actor_loss", "mirror_loss", "entropy", "alpha", "q_mean", "grad_norm"];

/// A row of `train.csv`. Quantities that the algorithm lacks, or that have no value since
/// the previous row, are empty fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainRow {
    /// Environment steps so far.
    pub step: u64,
    /// Critic updates so far.
    pub updates: u64,
    /// Episodes finished so far.
    pub episodes: u64,
    /// Mean return of the episodes that ended since the previous row.
    pub return_mean: Option<f64>,
    /// Mean length of these episodes in steps.
    pub length_mean: Option<f64>,
    /// Metrics by name, the same in every row of a file: means over the updates since the
    /// previous row.
    pub metrics: Vec<(String, Option<f64>)>,
    /// Environment steps per second since the previous row.
    pub steps_per_s: f64,
    /// Seconds since the run began.
    pub wall_s: f64,
}

impl Record for TrainRow {
    fn header(&self) -> Option<Vec<String>> {
        let before = ["step", "updates", "episodes", "return_mean", "length_mean"];
        let metrics = self.metrics.iter().map(|(name, _)| name.as_str());
        let all = before.into_iter().chain(metrics).chain(["steps_per_s", "wall_s"]);
        Some(all.map(String::from).collect())
    }
}

/// The fields in the order of the header.
impl Serialize for TrainRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_seq(Some(self.metrics.len() + 7))?;
        [self.step, self.updates, self.episodes]
            .iter()
            .try_for_each(|count| fields.serialize_element(count))?;
        [self.return_mean, self.length_mean]
            .iter()
            .chain(self.metrics.iter().map(|(_, value)| value))
            .try_for_each(|value| fields.serialize_element(value))?;
        fields.serialize_element(&self.steps_per_s)?;
        fields.serialize_element(&self.wall_s)?;
        fields.end()
    }
}

/// By the names of the columns: every one that is not fixed is a metric.
impl<'de> Deserialize<'de> for TrainRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;

        impl<'de> Visitor<'de> for Columns {
            type Value = TrainRow;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a row of train.csv")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut columns: A) -> Result<TrainRow, A::Error> {
                let (mut row, mut steps) = (TrainRow::default(), None);
                while let Some(name) = columns.next_key::<String>()? {
                    match name.as_str() {
                        "step" => steps = Some(columns.next_value()?),
                        "updates" => row.updates = columns.next_value()?,
                        "episodes" => row.episodes = columns.next_value()?,
                        "return_mean" => row.return_mean = columns.next_value()?,
                        "length_mean" => row.length_mean = columns.next_value()?,
                        "steps_per_s" => row.steps_per_s = columns.next_value()?,
                        "wall_s" => row.wall_s = columns.next_value()?,
                        _ => row.metrics.push((name, columns.next_value()?)),
                    }
                }
                row.step = steps.ok_or_else(|| serde::de::Error::missing_field("step"))?;
                Ok(row)
            }
        }

        deserializer.deserialize_map(Columns)
    }
}
