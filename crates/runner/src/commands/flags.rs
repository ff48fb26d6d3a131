//! Flags and values that several commands share.

use crate::base::failure::Outcome;
use crate::train::run_model::{Recorded, task_of};
use crate::train::run_spec::RunSpec;
use crate::train::settings::{Settings, Sources};
use agent::ActMode;
use clap::Args;
use std::path::{Path, PathBuf};
use toml_edit::DocumentMut;

/// Flags shared by the commands that show a run's policy: how its episodes are played.
#[derive(Args)]
pub struct EpisodeFlags {
    /// Seed of the environments and of the policy's noise, as in `eval` (default: those of the
    /// run's own evaluations).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// With the noise of the policy's head.
    #[arg(long)]
    pub stochastic: bool,
    /// A model of your own instead of the run's: an MJCF file, or a run's model.mjb.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

impl EpisodeFlags {
    /// How the policy acts.
    pub fn mode(&self) -> ActMode {
        if self.stochastic { ActMode::Stochastic } else { ActMode::Deterministic }
    }
}

/// Flags shared by `train` and `plan`.
#[derive(Args)]
pub struct RunFlags {
    /// Environment steps (short for --set train.steps=N).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// Device of the networks: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of a run (default: one per processor; in a sweep, the run's share of them).
    /// They change the speed, never the results.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Preset of hyperparameters.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub preset: String,
    /// A MJCF file of your own instead of the task's, or the model.mjb of a run; its sizes must
    /// match. (With --config RUN/config.toml: the model of that run, if it was not the task's.)
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// TOML file with settings that override the preset's. A run's config.toml repeats that run: `train`
    /// takes its algorithm too, and its task and seed unless it is given others.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, such as objective.lambda=0.3; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub set: Vec<String>,
    /// Name of a variant, appended to the algorithm's folder; a grid's values follow it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder for results.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// Also write TensorBoard event files (short for --set train.tensorboard=true).
    #[arg(long)]
    pub tensorboard: bool,
}

/// Which run `--config` is the record of; nothing where it is none.
#[derive(Default)]
pub struct Recording {
    /// The algorithm.
    pub algo: Option<String>,
    /// The task: an id, or the path of the run's copy of its file.
    pub env: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
}

impl RunFlags {
    /// Which run the file of `--config` is the record of; its task only where it is needed, as a copy of
    /// a record alone lacks the task's file.
    ///
    /// # Errors
    /// The run's copy of its task is missing or altered.
    pub fn recorded(&self, with_task: bool) -> Outcome<Recording> {
        let Some(config) = &self.config else { return Ok(Recording::default()) };
        // That the file can't be read is found where its settings are.
        let text = std::fs::read_to_string(config).unwrap_or_default();
        let record: DocumentMut = text.parse().unwrap_or_default();
        let item = |key: &str| record.get("run").and_then(|run| run.get(key));
        let word = |key: &str| item(key).and_then(|item| item.as_str());
        let folder = config.parent().unwrap_or(Path::new(""));
        Ok(Recording {
            algo: word("algo").map(String::from),
            env: word("env")
                .filter(|_| with_task)
                .map(|env| task_of(&record, env, folder))
                .transpose()?,
            seed: item("seed").and_then(|item| item.as_integer()).map(|seed| seed as u64),
        })
    }

    /// Where the settings of a run of an algorithm on a task come from.
    pub fn sources<'a>(&'a self, algo: &'a str, env: &'a str) -> Sources<'a> {
        Sources {
            algo,
            env,
            preset: &self.preset,
            config: self.config.as_deref(),
            set: &self.set,
            steps: self.steps,
            envs: None,
            show_every: None,
            tensorboard: self.tensorboard,
        }
    }

    /// The model of the user's for a task: the one given, that of the run whose record
    /// `--config` is, or the one that the task's file names.
    ///
    /// # Errors
    /// That run's model is not known any more.
    pub fn model(&self, env: &str) -> Outcome<Option<PathBuf>> {
        if self.model.is_some() {
            return Ok(self.model.clone());
        }
        let trained = self.config.as_ref().map(|config| model_of(config, env)).transpose()?;
        // A task's file names its model, which is the user's too.
        trained.flatten().map_or_else(|| Ok(envs::model_of(env)?), |model| Ok(Some(model)))
    }

    /// A run with these flags and settings that were resolved from them.
    pub fn spec(&self, algo: &str, env: &str, seed: u64, settings: Settings) -> RunSpec {
        RunSpec {
            name: self.name.clone(),
            preset: self.preset.clone(),
            device: self.device.clone(),
            threads: self.threads,
            out: self.out.clone(),
            ..RunSpec::new(algo, env, seed, settings)
        }
    }
}

/// The model of the user's that a run was trained on, if `config` is the record of a run of the
/// same task: settings alone do not repeat it.
fn model_of(config: &Path, env: &str) -> Outcome<Option<PathBuf>> {
    // That the file can't be read is found where its settings are.
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let record: DocumentMut = text.parse().unwrap_or_default();
    let same_task =
        record.get("run").and_then(|run| run.get("env")?.as_str()) == Some(envs::task_name(env));
    let recorded = Recorded::of(&record);
    if !same_task || recorded.file.is_none() {
        return Ok(None);
    }
    recorded.find(config.parent().unwrap_or(Path::new(".")))
}

/// A list of numbers, such as seeds, in their order and each once.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberList(pub Vec<u64>);

/// Most numbers of a range.
const LONGEST_RANGE: u64 = 1000;

/// Reads a list such as `0-2,7`.
pub fn number_list(text: &str) -> Result<NumberList, String> {
    let fail = || format!("expected numbers and ranges, such as 0-2,7 (at most {LONGEST_RANGE})");
    // A run's record has integers with a sign.
    let number = |text: &str| match text.trim().parse() {
        Ok(number) if number <= i64::MAX as u64 => Ok(number),
        _ => Err(fail()),
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first >= LONGEST_RANGE {
            return Err(fail());
        }
        all.extend((first..=last).filter(|number| !all.contains(number)).collect::<Vec<_>>());
    }
    Ok(NumberList(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges_in_their_order_and_each_once() {
        assert_eq!(number_list("0-2"), Ok(NumberList(vec![0, 1, 2])));
        assert_eq!(number_list("7,0-2,1"), Ok(NumberList(vec![7, 0, 1, 2])));
        for wrong in ["", "a", "2-0", "-1", "0-", "0-5000", "1,,2", "1.5"] {
            assert!(number_list(wrong).is_err(), "{wrong}");
        }
    }
}
