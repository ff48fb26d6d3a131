//! TensorBoard event files with the rows of a run's CSV files.
//!
//! A record is a length, its checksum, a protocol buffer message and its
//! checksum (TensorFlow's `record_writer.cc`, `event.proto`, `summary.proto`); only the
//! fields that scalars need are written.

use crate::{EvalRow, TrainRow};
use prost::Message;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Prefix by which TensorBoard recognises an event file.
const NAME: &str = "events.out.tfevents";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that grows with a run.
pub struct Events {
    path: PathBuf,
    file: File,
    /// Time at which the run's clock was at 0, in seconds since 1970.
    origin: f64,
}

impl Events {
    /// Creates the event file in a run's folder with the existing rows. It replaces
    /// older event files, which may contain rows after the checkpoint that a run resumes
    /// from. `wall_s` is the run's wall-clock time so far, in seconds.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn create(
        folder: &Path,
        wall_s: f64,
        train: &[TrainRow],
        eval: &[EvalRow],
    ) -> io::Result<Self> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(NAME) {
                fs::remove_file(entry.path())?;
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{NAME}.{:010}.{}", now.as_secs(), std::process::id());
        let path = folder.join(name);
        let file = File::create(&path)?;
        let mut events = Self { path, file, origin: now.as_secs_f64() - wall_s };
        let version = Some("brain.Event:2".to_string());
        events.write(&Event {
            wall_time: events.origin,
            file_version: version,
            ..Event::default()
        })?;
        train.iter().try_for_each(|row| events.train(row))?;
        eval.iter().try_for_each(|row| events.eval(row))?;
        Ok(events)
    }

    /// Its path, where it may no longer be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a row of `train.csv`: `train/return_mean`, `loss/critic` and so on.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn train(&mut self, row: &TrainRow) -> io::Result<()> {
        let fixed = [
            ("train/return_mean", row.return_mean),
            ("train/length_mean", row.length_mean),
            ("train/episodes", Some(row.episodes as f64)),
            ("train/updates", Some(row.updates as f64)),
            ("speed/steps_per_s", Some(row.steps_per_s)),
        ];
        let fixed = fixed.map(|(tag, value)| (tag.to_string(), value));
        let metrics = row.metrics.iter().map(|(name, value)| (tag(name), *value));
        let scalars = fixed.into_iter().chain(metrics);
        self.scalars(row.step, row.wall_s, scalars)
    }

    /// Adds a row of `eval.csv`: `eval-deterministic/return_mean` and so on.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn eval(&mut self, row: &EvalRow) -> io::Result<()> {
        let scalars = [
            ("return_mean", row.return_mean),
            ("return_std", row.return_std),
            ("return_min", row.return_min),
            ("return_max", row.return_max),
            ("length_mean", row.length_mean),
        ];
        let scalars =
            scalars.map(|(name, value)| (format!("eval-{}/{name}", row.mode), Some(value)));
        self.scalars(row.step, row.wall_s, scalars)
    }

    fn scalars(
        &mut self,
        step: u64,
        wall_s: f64,
        scalars: impl IntoIterator<Item = (String, Option<f64>)>,
    ) -> io::Result<()> {
        let scalar = |(tag, value): (String, Option<f64>)| {
            Some(Scalar { tag, simple_value: Some(value? as f32) })
        };
        let value = scalars.into_iter().filter_map(scalar).collect();
        self.write(&Event {
            wall_time: self.origin + wall_s,
            step: step as i64,
            summary: Some(Summary { value }),
            file_version: None,
        })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(masked(&length));
        record.extend(&message);
        record.extend(masked(&message));
        // One write call, so that a reader that follows the file sees no partial record.
        self.file.write_all(&record)
    }
}

/// The tag of a metric: `loss/actor_loss`, `critic/q_mean`, `policy/entropy`; a term of the reward,
/// `reward/forward`, has one already.
fn tag(name: &str) -> String {
    if name.contains('/') {
        return name.to_string();
    }
    let group = match name {
        _ if name.ends_with("_loss") => "loss",
        _ if name.starts_with("q_") => "critic",
        "diverged" => "train",
        _ => "policy",
    };
    format!("{group}/{name}")
}

/// The masked CRC-32C of a record, as in TensorFlow's `crc32c.h`: rotated and offset,
/// so that data may itself contain checksums.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
