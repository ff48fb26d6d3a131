//! The specification of a run: from flags, or from a line of a manifest.

use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::train::run_folder::{RunFolder, StartMode};
use crate::train::run_model::{compiled, task_file};
use crate::train::settings::Settings;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, value};

/// Everything that a run depends on.
pub struct RunSpec {
    /// Algorithm, a name of [`crate::train::registry::ALGORITHMS`].
    pub algo: String,
    /// Task, an id of [`envs::ids`] or the path of a file.
    pub env: String,
    /// Master seed of every random stream.
    pub seed: u64,
    /// Name of a variant, which becomes part of the folder's name.
    pub name: Option<String>,
    /// Preset of the settings, for the record: `settings` are resolved.
    pub preset: String,
    /// Device of the networks: `cpu`, `cuda` or `cuda:INDEX`.
    pub device: String,
    /// Threads; if none, one per processor.
    pub threads: Option<u16>,
    /// Folder of results, in which the run has its own.
    pub out: PathBuf,
    /// A MJCF file of the user's instead of the task's.
    pub model: Option<PathBuf>,
    /// The SHA-256 that this model had, compiled, when the run was planned.
    pub model_sha256: Option<String>,
    /// The SHA-256 that the task's file had when the run was planned.
    pub task_sha256: Option<String>,
    /// How to start if the folder already holds a run.
    pub start: StartMode,
    /// All settings.
    pub settings: Settings,
}

impl RunSpec {
    /// A run on the CPU in `results/`, with the task's own model and one thread per processor.
    pub fn new(algo: &str, env: &str, seed: u64, settings: Settings) -> Self {
        Self {
            algo: algo.into(),
            env: env.into(),
            seed,
            name: None,
            preset: "default".into(),
            device: "cpu".into(),
            threads: None,
            out: "results".into(),
            model: None,
            model_sha256: None,
            task_sha256: None,
            start: StartMode::BeginOrResume,
            settings,
        }
    }

    /// Checks the task, the name and the device, without a look at the machine.
    ///
    /// # Errors
    /// An unknown task or device, a mistake in the task's file, or a name that a folder can't have.
    pub fn checked(self) -> Outcome<Self> {
        check_task(&self.env)?;
        self.checked_without_files()
    }

    /// The same without a look at the task's file, if it is one.
    ///
    /// # Errors
    /// An unknown task or device, or a name that a folder can't have.
    pub fn checked_without_files(self) -> Outcome<Self> {
        if !envs::is_file(&self.env) {
            check_task(&self.env)?;
        }
        self.name.as_deref().map_or(Ok(()), check_name)?;
        device::named(&self.device)?;
        Ok(self)
    }

    /// Where the run's files go.
    pub fn folder(&self) -> PathBuf {
        RunFolder::path_of(&self.out, &self.algo, self.name.as_deref(), self.task(), self.seed)
    }

    /// The task's name: its id, or the name of its file without `.toml`.
    pub fn task(&self) -> &str {
        envs::task_name(&self.env)
    }

    /// Everything that determines the run's numbers: two runs with the same are the same run.
    ///
    /// # Errors
    /// The user's model can't be read.
    pub fn shape(&self) -> Outcome<DocumentMut> {
        // TOML's integers have a sign.
        let seed = i64::try_from(self.seed).map_err(|_| {
            Failure::Usage(format!("seed {}: expected at most {}", self.seed, i64::MAX))
        })?;
        let mut run = Table::new();
        run["algo"] = value(&self.algo);
        run["env"] = value(self.task());
        run["seed"] = value(seed);
        run["device"] = value(&self.device);
        if let Some(model) = &self.model {
            let sum = match &self.model_sha256 {
                Some(planned) => planned.clone(),
                None => compiled(&self.env, Some(model))?.1,
            };
            run["model_sha256"] = value(sum);
            run["model"] = value(portable(model).display().to_string());
        }
        // Of a planned run the file itself is not needed.
        let sum = match &self.task_sha256 {
            Some(planned) => Some(planned.clone()),
            None => task_file(&self.env)?.map(|(_, found)| found),
        };
        if let Some(sum) = sum {
            run["task_sha256"] = value(sum);
            run["task"] = value(portable(Path::new(&self.env)).display().to_string());
        }
        let mut document = DocumentMut::new();
        document.insert("run", Item::Table(run));
        for (section, item) in self.settings.document.iter() {
            document.insert(section, item.clone());
        }
        Ok(document)
    }

    /// The run's name for people, such as "sac-wide Hopper-v4 seed 3".
    pub fn label(&self) -> String {
        let name = self.name.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
        format!("{}{name} {} seed {}", self.algo, self.task(), self.seed)
    }
}

/// A file's path as records and manifests have it: from the current folder if it is in there, so
/// that they are the same in every copy of a project, and whole if not.
pub fn portable(path: &Path) -> PathBuf {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    whole.strip_prefix(here).map_or_else(|_| whole.clone(), Path::to_owned)
}

/// Checks that there is such a task, and that its file can be read if it is one. No model is read.
///
/// # Errors
/// There is none, with the nearest name; a mistake in the file.
pub fn check_task(env: &str) -> Outcome<()> {
    Ok(envs::check_task(env)?)
}

/// The longest name: a folder's name may have 255 bytes, and the algorithm comes first.
const LONGEST_NAME: usize = 200;

/// Checks that a name can be part of a folder's name.
fn check_name(name: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let problem = if name.len() > LONGEST_NAME {
        format!("{} characters, expected at most {LONGEST_NAME}", name.len())
    } else if name.is_empty() || !name.chars().all(allowed) || name.starts_with('.') {
        "expected letters, digits, '-', '_' and '.', and no '.' first".into()
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!("--name '{}': {problem}", name.escape_debug())))
}
