//! A run as it lies in its folder, for commands that use what it learned.

use super::checkpoint::{self, Identity};
use super::evaluator::Evaluator;
use super::history;
use super::make_agent;
use super::run_folder::RECORD;
use super::run_model::{Recorded, compiled, task_of};
use super::settings::{self, Settings};
use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use agent::Agent;
use envs::Spec;
use std::path::{Path, PathBuf};
use tch::Device;
use toml_edit::DocumentMut;

/// A run's record, its settings and the model that it was trained on.
pub struct SavedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// The algorithm's name.
    pub algo: String,
    /// The task: an id, or the path of the run's copy of its file.
    pub env: String,
    /// The master seed.
    pub seed: u64,
    /// Its settings.
    pub settings: Settings,
    /// The model to simulate; nothing if it is the task's own.
    pub model: Option<PathBuf>,
    /// All of `config.toml`.
    pub record: DocumentMut,
}

impl SavedRun {
    /// Reads a run's record. `model` replaces the run's own model; one that the run was not
    /// trained on is remarked on.
    ///
    /// # Errors
    /// The folder holds no run, or its record or its model is damaged.
    pub fn open(folder: &Path, model: Option<&Path>) -> Outcome<Self> {
        let path = folder.join(RECORD);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::Usage(format!(
                "{}: {error}; --run expects the folder of a run",
                path.display()
            ))
        })?;
        let origin = path.display().to_string();
        let damaged = |what: &str| Failure::Usage(format!("{origin}: {what}"));
        let record: DocumentMut = text.parse().map_err(|_| damaged("not valid TOML"))?;
        let item = |key: &str| record.get("run").and_then(|run| run.get(key));
        let missing = |key: &str| damaged(&format!("run.{key} is missing"));
        let word = |key: &str| {
            item(key).and_then(|item| item.as_str()).ok_or_else(|| missing(key)).map(String::from)
        };
        let algo = word("algo")?;
        let env = task_of(&record, &word("env")?, folder)?;
        let recorded = Recorded::of(&record);
        let model = match model {
            None => recorded.find(folder)?,
            Some(model) => {
                let (_, sum) = compiled(&env, Some(model))?;
                if recorded.sha256.is_some_and(|trained| trained != sum) {
                    let other = "is not the model that the run was trained on";
                    console::message(format!("warning: {} {other}", model.display()));
                }
                Some(model.to_owned())
            }
        };
        let seed = item("seed").and_then(|item| item.as_integer());
        let seed = seed.ok_or_else(|| missing("seed"))? as u64;
        let settings = settings::of_run(&algo, &record, &origin)?;
        Ok(Self { folder: folder.to_owned(), algo, env, seed, settings, model, record })
    }

    /// The environments of an evaluation, on one thread. `seed` is that of their resets and of
    /// the policy's noise: by default the run's, hence those of its own evaluations.
    ///
    /// # Errors
    /// The model can't be used.
    pub fn evaluator(
        &self,
        episodes: usize,
        seed: Option<u64>,
        device: Device,
    ) -> Outcome<Evaluator> {
        let seed = seed.unwrap_or(self.seed);
        Evaluator::new(&self.env, self.model.as_deref(), episodes, 1, seed, device)
    }

    /// The agent that the run began with.
    pub fn untrained(&self, spec: &Spec, device: Device) -> Box<dyn Agent> {
        make_agent(self.settings.algorithm.as_ref(), spec, self.seed, device)
    }

    /// Whether the settings make the latent of deterministic actions zero, so that they are those
    /// of the mode `mean`.
    pub fn mean_is_deterministic(&self) -> bool {
        let latent =
            self.settings.document.get("policy").and_then(|table| table.get("eval_latent"));
        latent.and_then(|item| item.as_str()) == Some("zero")
    }

    /// The agent as it was at an earlier step: 0, or one that the run kept (`train.show_every`).
    ///
    /// # Errors
    /// It was not kept, or its file is damaged.
    pub fn earlier(&self, spec: &Spec, device: Device, step: u64) -> Outcome<Box<dyn Agent>> {
        let mut agent = self.untrained(spec, device);
        if step > 0 {
            history::load(&self.folder, step, agent.as_mut())?;
        }
        Ok(agent)
    }

    /// A name to show: that of the algorithm, with the name of the variant if the folder has one.
    pub fn label(&self) -> String {
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        // ALGORITHM[-NAME]/TASK/seed-N
        let name =
            folder.ancestors().nth(2).and_then(Path::file_name).and_then(|name| name.to_str());
        match name {
            Some(name) if name.starts_with(&self.algo) => name.to_owned(),
            _ => self.algo.clone(),
        }
    }

    /// The agent of the newest intact checkpoint, and that checkpoint's step.
    ///
    /// # Errors
    /// There is no checkpoint, or none that fits.
    pub fn agent(&self, spec: &Spec, device: Device) -> Outcome<(Box<dyn Agent>, u64)> {
        let mut agent = self.untrained(spec, device);
        let identity = Identity::new(&self.algo, envs::task_name(&self.env), self.seed);
        let step = checkpoint::load_agent(&self.folder, &identity, agent.as_mut())?;
        Ok((agent, step))
    }
}
