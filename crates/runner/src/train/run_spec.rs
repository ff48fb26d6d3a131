//! A run that is asked for: by flags, or by a line of a manifest.

use crate::base::device;
use crate::base::digest::sha256_of;
use crate::base::failure::{Failure, Outcome};
use crate::commands::cli::{SharedArgs, TrainArgs};
use crate::train::evaluator::make_envs;
use crate::train::run_folder::{RunFolder, Wish};
use crate::train::settings::{self, Settings, Sources};
use std::path::PathBuf;
use toml_edit::{DocumentMut, Item, Table, value};

/// All that a run depends on, with settings that are valid.
pub struct TrainRequest {
    pub algo: String,
    pub env: String,
    pub seed: u64,
    pub name: Option<String>,
    /// Where its settings come from, for the record.
    pub preset: String,
    pub device: String,
    /// None: as many as there are processors.
    pub threads: Option<u16>,
    pub out: PathBuf,
    pub model: Option<PathBuf>,
    /// What to do where its folder holds a run.
    pub wish: Wish,
    pub settings: Settings,
}

impl TrainRequest {
    /// Resolves the flags of `train`.
    ///
    /// # Errors
    /// Anything that is wrong with them: it is found before a folder is touched.
    pub fn resolve(args: &TrainArgs) -> Outcome<Self> {
        // An unknown task comes first: presets depend on it.
        make_envs(&args.env, args.model.as_deref(), 1, 1)?;
        let shared = &args.shared;
        let settings = settings::resolve(&Sources {
            envs: args.envs,
            ..Sources::of(shared, &args.algo, &args.env)
        })?;
        device::named(&shared.device)?;
        Ok(Self {
            model: args.model.clone(),
            wish: match (args.resume, args.restart) {
                (true, _) => Wish::Resume,
                (_, true) => Wish::Restart,
                _ => Wish::Any,
            },
            ..Self::new(shared, &args.algo, &args.env, args.seed, shared.name.clone(), settings)?
        })
    }

    /// A run of the task's own model, to begin or to go on with.
    ///
    /// # Errors
    /// The name is none for a folder.
    pub fn new(
        shared: &SharedArgs,
        algo: &str,
        env: &str,
        seed: u64,
        name: Option<String>,
        settings: Settings,
    ) -> Outcome<Self> {
        name.as_deref().map_or(Ok(()), check_name)?;
        Ok(Self {
            algo: algo.into(),
            env: env.into(),
            seed,
            name,
            preset: shared.preset.clone(),
            device: shared.device.clone(),
            threads: shared.threads,
            out: shared.out.clone(),
            model: None,
            wish: Wish::Any,
            settings,
        })
    }

    /// Where the run's files go.
    pub fn folder(&self) -> PathBuf {
        RunFolder::path_of(&self.out, &self.algo, self.name.as_deref(), &self.env, self.seed)
    }

    /// All that shapes the run's numbers: two requests with one shape are one run.
    ///
    /// # Errors
    /// The user's model can't be read.
    pub fn shape(&self) -> Outcome<DocumentMut> {
        let mut run = Table::new();
        run["algo"] = value(&self.algo);
        run["env"] = value(&self.env);
        run["seed"] = value(self.seed as i64);
        run["device"] = value(&self.device);
        if let Some(model) = &self.model {
            let fail = |error| Failure::file(model, "read", error);
            let absolute = model.canonicalize().map_err(fail)?;
            run["model_sha256"] = value(sha256_of(&absolute).map_err(fail)?);
            run["model"] = value(absolute.display().to_string());
        }
        let mut document = DocumentMut::new();
        document.insert("run", Item::Table(run));
        for (section, item) in self.settings.document.iter() {
            document.insert(section, item.clone());
        }
        Ok(document)
    }

    /// The run's name for people.
    pub fn label(&self) -> String {
        let name = self.name.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
        format!("{}{name} {} seed {}", self.algo, self.env, self.seed)
    }
}

/// Longest name: a folder's name has 255 bytes, and the algorithm stands before it.
const LONGEST_NAME: usize = 200;

/// A name becomes part of a folder's name.
///
/// # Errors
/// It can't.
pub fn check_name(name: &str) -> Outcome<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let problem = if name.len() > LONGEST_NAME {
        format!("{} characters, expected at most {LONGEST_NAME}", name.len())
    } else if name.is_empty() || !name.chars().all(fine) || name.starts_with('.') {
        "expected letters, digits, '-', '_' and '.'".into()
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!("--name '{}': {problem}", name.escape_debug())))
}
