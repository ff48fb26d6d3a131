//! From presets, files and flags to one validated configuration.
//!
//! Four layers, each overriding the one before: the preset `default` (which has
//! every key) with its table for the task; another preset with its table;
//! `--config FILE`; `--set KEY=VALUE`. The rest of the program sees only
//! [`Settings`].

use crate::base::failure::{Failure, Outcome, nearest, unknown};
use crate::train::idle;
use crate::train::registry::{ALGORITHMS, Algorithm};
use agent::{ActMode, AgentConfig, in_range, presets};
use networks::Precision;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml_edit::{DocumentMut, Item, Table, Value};

/// The training loop's defaults, with the meaning of each key.
const TRAIN_DEFAULTS: &str = include_str!("../../defaults.toml");
/// Sections of a recorded `config.toml` that describe the run, not its settings.
const RECORD_SECTIONS: [&str; 2] = ["run", "versions"];
/// Keys that change no number of a run: event files repeat the CSV files, a kept replay or policy is only
/// kept, and a CUDA graph makes the updates that would be made without.
pub const EXTRAS: [&str; 4] =
    ["train.tensorboard", "train.keep_replay", "train.show_every", "train.cuda_graph"];
/// `[train]`: the training loop. `defaults.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Environment steps of a run.
    pub steps: u64,
    /// Steps with uniformly random actions, before the first update.
    pub warmup_steps: u64,
    /// Transitions in an update.
    pub batch_size: usize,
    /// Environments that step together.
    pub envs: usize,
    /// Updates per environment step after the warm-up.
    pub updates_per_step: f64,
    /// Factors of an update's matrix products on a CPU.
    pub precision: Precision,
    /// Whether updates on a GPU are replays of CUDA graphs.
    pub cuda_graph: bool,
    /// Observations that the replay keeps.
    pub replay_capacity: usize,
    /// Whether a finished run keeps its replay, so that it can be trained further.
    pub keep_replay: bool,
    /// Whether to keep a copy of the replay on the device.
    pub replay_on_device: bool,
    /// Whether an episode whose simulation diverges ends without its last transition, instead of
    /// ending training.
    pub end_diverged_episodes: bool,
    /// Environment steps between evaluations.
    pub eval_interval: u64,
    /// Episodes of an evaluation.
    pub eval_episodes: usize,
    /// Names of the modes that are evaluated ([`modes`](Self::modes)).
    pub eval_modes: Vec<String>,
    /// Environment steps between rows of `train.csv`.
    pub log_interval: u64,
    /// Whether to write TensorBoard event files.
    pub tensorboard: bool,
    /// Environment steps between checkpoints.
    pub checkpoint_interval: u64,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f64,
    /// Environment steps between policies that are kept to be shown; 0 keeps none.
    pub show_every: u64,
}

/// A validated configuration, and the document that it was read from.
pub struct Settings {
    /// The training loop.
    pub train: TrainConfig,
    /// The algorithm.
    pub algorithm: Box<dyn AgentConfig>,
    /// Every key with its resolved value and its comment.
    pub document: DocumentMut,
    /// Keys that the user set, but that have no effect: a line for each.
    pub idle: Vec<String>,
}

impl Settings {
    /// The critics' discount, which every algorithm has.
    pub fn gamma(&self) -> f64 {
        self.document["critic"]["gamma"].as_float().expect("every algorithm has it")
    }

    /// The configuration of an algorithm, whose type the caller knows.
    ///
    /// # Panics
    /// The settings are of another algorithm.
    pub fn read<C: DeserializeOwned>(&self) -> C {
        let mut own = self.document.clone();
        own.remove("train");
        presets::read(own).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Where settings come from. `steps`, `envs`, `show_every` and `tensorboard` are short for keys
/// of `[train]`, and override `set`.
#[derive(Default)]
pub struct Sources<'a> {
    /// Algorithm, which must be given.
    pub algo: &'a str,
    /// Task, for the preset's table of it.
    pub env: &'a str,
    /// Preset, which must be given.
    pub preset: &'a str,
    /// TOML file that overrides the preset.
    pub config: Option<&'a Path>,
    /// Assignments `section.key=value` that override the file.
    pub set: &'a [String],
    /// `train.steps`.
    pub steps: Option<u64>,
    /// `train.envs`.
    pub envs: Option<u64>,
    /// `train.show_every`.
    pub show_every: Option<u64>,
    /// Sets `train.tensorboard`.
    pub tensorboard: bool,
}

/// All keys of an algorithm with their comments: `[train]` and the preset `default`.
fn base(algorithm: &Algorithm) -> DocumentMut {
    let mut document: DocumentMut = TRAIN_DEFAULTS.parse().expect("defaults.toml is valid TOML");
    for (section, item) in presets::defaults(&algorithm.presets()).iter() {
        document.insert(section, item.clone());
    }
    // The head of a preset file is for readers of that file only.
    for (_, item) in document.iter_mut() {
        if let Some(table) = item.as_table_mut() {
            table.decor_mut().set_prefix("\n");
            table.set_position(None);
        }
    }
    document
}

/// Resolves the layers.
///
/// # Errors
/// An unknown algorithm, preset or key (with the nearest name), a value of
/// the wrong type or out of range, a file that can't be read.
pub fn resolve(sources: &Sources) -> Outcome<Settings> {
    let algorithm = Algorithm::find(sources.algo)?;
    let mut document = base(algorithm);
    let presets = algorithm.presets();
    let names = algorithm.preset_names();
    if !names.iter().any(|name| name == sources.preset) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(unknown("preset", sources.preset, &names));
    }
    let origin = format!("preset '{}'", sources.preset);
    for layer in [&presets["default"], &presets[sources.preset]] {
        let layer = layer.as_table().expect("a preset is a table");
        for (section, item) in layer.iter().filter(|(section, _)| *section != "task") {
            overlay(&mut document, section, item, &origin)?;
        }
        if let Some(task) =
            layer.get("task").and_then(|tasks| tasks.get(envs::task_name(sources.env)))
        {
            for (section, item) in task.as_table_like().expect("a task is a table").iter() {
                overlay(&mut document, section, item, &origin)?;
            }
        }
    }
    let preset = document.clone();
    if let Some(path) = sources.config {
        if path.is_dir() {
            return Err(Failure::Usage(format!(
                "--config {}: is a folder, expected a file, such as a run's config.toml in it",
                path.display()
            )));
        }
        if path.exists() && !path.is_file() {
            // It is read for the run that it records, too, which would leave nothing of a pipe.
            return Err(Failure::Usage(format!(
                "--config {}: is a pipe or a device, expected a file",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("--config {}: {error}", path.display())))?;
        let file: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            let message = error.to_string().replace('\n', " ");
            Failure::Usage(format!("--config {}: {message}", path.display()))
        })?;
        let origin = written_by(&format!("--config {}", path.display()), &file);
        let algo = file.get("run").and_then(|run| run.get("algo")?.as_str());
        if let Some(other) = algo.filter(|algo| *algo != sources.algo) {
            return Err(Failure::Usage(format!(
                "{origin}: is of a run of '{other}', and this one is of '{}'; give --algo {other}",
                sources.algo
            )));
        }
        for (section, item) in file.iter().filter(|(name, _)| !RECORD_SECTIONS.contains(name)) {
            overlay(&mut document, section, item, &origin)?;
        }
    }
    for assignment in sources.set {
        let (key, value) = assignment.split_once('=').ok_or_else(|| {
            Failure::Usage(format!(
                "--set {assignment}: expected KEY=VALUE, for example --set actor.learning_rate=3e-4"
            ))
        })?;
        // A bare word is a string, so that `--set critic.kind=mlp` needs no quotes.
        let value: Value = value.trim().parse().unwrap_or_else(|_| value.trim().into());
        place(&mut document, key.trim(), &value, &format!("--set {assignment}"))?;
    }
    for (key, flag, value) in [
        ("train.steps", "--steps", sources.steps),
        ("train.envs", "--envs", sources.envs),
        ("train.show_every", "--show-every", sources.show_every),
    ] {
        if let Some(value) = value {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            place(&mut document, key, &value.into(), flag)?;
        }
    }
    if sources.tensorboard {
        place(&mut document, "train.tensorboard", &true.into(), "--tensorboard")?;
    }
    let settings = validate(algorithm, document)?;
    Ok(Settings { idle: idle::of(&settings, &preset), ..settings })
}

/// What follows the name of a file that another commit wrote.
const OF_COMMIT: &str = " (of commit ";

/// The name of a file with settings, with the commit that wrote it if it is another one's record: keys may
/// have changed since.
fn written_by(name: &str, record: &DocumentMut) -> String {
    let commit = record.get("run").and_then(|run| run.get("commit")?.as_str());
    match commit.filter(|commit| *commit != env!("SMFP_COMMIT")) {
        Some(commit) => {
            format!("{name}{OF_COMMIT}{})", commit.chars().take(12).collect::<String>())
        }
        None => name.to_string(),
    }
}

/// Reads the settings of a run from its `config.toml`, or of a line of a manifest.
///
/// # Errors
/// As [`resolve`].
pub fn of_run(algo: &str, record: &DocumentMut, origin: &str) -> Outcome<Settings> {
    let algorithm = Algorithm::find(algo)?;
    let mut document = base(algorithm);
    let origin = written_by(origin, record);
    for (section, item) in record.iter().filter(|(name, _)| !RECORD_SECTIONS.contains(name)) {
        overlay(&mut document, section, item, &origin)?;
    }
    validate(algorithm, document)
}

/// Overrides keys of the document with those of a table (or with a value).
fn overlay(document: &mut DocumentMut, path: &str, item: &Item, origin: &str) -> Outcome<()> {
    match item {
        Item::Value(Value::InlineTable(table)) => {
            for (key, value) in table.iter() {
                overlay(document, &format!("{path}.{key}"), &Item::Value(value.clone()), origin)?;
            }
            Ok(())
        }
        Item::Value(value) => place(document, path, value, origin),
        Item::Table(table) => {
            for (key, item) in table.iter() {
                overlay(document, &format!("{path}.{key}"), item, origin)?;
            }
            Ok(())
        }
        _ => Err(Failure::Usage(format!("{origin}: {path}: expected a value or a table"))),
    }
}

/// Replaces the value of a known key; its comment stays.
fn place(document: &mut DocumentMut, path: &str, value: &Value, origin: &str) -> Outcome<()> {
    let known = keys(document);
    let slot = path
        .split_once('.')
        .and_then(|(section, key)| document.get_mut(section)?.get_mut(key)?.as_value_mut());
    let Some(slot) = slot else {
        let hint =
            match (origin.split_once(OF_COMMIT), nearest(path, known.iter().map(String::as_str))) {
                (Some((_, commit)), _) => format!(
                    "this version has no such setting; check out commit {} to use that run",
                    commit.trim_end_matches(')')
                ),
                (None, Some(near)) => format!("did you mean '{near}'?"),
                (None, None) => "`runner --algo ALGO --help` lists all keys".into(),
            };
        return Err(Failure::Usage(format!("{origin}: unknown key '{path}': {hint}")));
    };
    // 1 is fine for a float, and 1.0 for an integer; a word for a number is a mistake.
    let fitting = match (&*slot, value) {
        (Value::Float(_), Value::Integer(whole)) => Some(Value::from(*whole.value() as f64)),
        (Value::Integer(_), Value::Float(real)) => {
            let real = *real.value();
            (real.fract() == 0.0 && real.abs() < 9e15).then(|| Value::from(real as i64))
        }
        (old, new) => (old.type_name() == new.type_name()).then(|| new.clone()),
    };
    let Some(fitting) = fitting else {
        let expected = slot.type_name();
        return Err(Failure::Usage(format!(
            "{origin}: {path} is {}, expected a value of type {expected}",
            value.to_string().trim()
        )));
    };
    *slot = fitting;
    slot.decor_mut().set_prefix(" ");
    Ok(())
}

/// All keys of an algorithm, as `section.key`.
///
/// # Errors
/// An unknown algorithm.
pub fn keys_of(algo: &str) -> Outcome<Vec<String>> {
    Ok(keys(&base(Algorithm::find(algo)?)))
}

/// All keys as `section.key`.
fn keys(document: &DocumentMut) -> Vec<String> {
    document
        .iter()
        .filter_map(|(section, item)| Some((section, item.as_table()?)))
        .flat_map(|(section, table)| table.iter().map(move |(key, _)| format!("{section}.{key}")))
        .collect()
}

fn validate(algorithm: &Algorithm, document: DocumentMut) -> Outcome<Settings> {
    let (mut train, mut own) = (DocumentMut::new(), document.clone());
    *train.as_table_mut() = document["train"].as_table().cloned().unwrap_or_default();
    own.remove("train");
    let train: TrainConfig =
        presets::read(train).map_err(|error| Failure::Usage(format!("train.{error}")))?;
    train.validate().map_err(Failure::Usage)?;
    let algorithm = (algorithm.read)(own).map_err(Failure::Usage)?;
    algorithm.validate().map_err(Failure::Usage)?;
    Ok(Settings { train, algorithm, document, idle: Vec::new() })
}

impl TrainConfig {
    fn validate(&self) -> Result<(), String> {
        in_range("train.steps", self.steps as f64, 1.0, 1e12)?;
        in_range("train.warmup_steps", self.warmup_steps as f64, 1.0, 1e12)?;
        in_range("train.batch_size", self.batch_size as f64, 2.0, 1e6)?;
        in_range("train.envs", self.envs as f64, 1.0, 1e5)?;
        in_range("train.updates_per_step", self.updates_per_step, 0.0, 1e3)?;
        in_range("train.replay_capacity", self.replay_capacity as f64, 3.0, 1e9)?;
        in_range("train.eval_interval", self.eval_interval as f64, 1.0, 1e12)?;
        in_range("train.eval_episodes", self.eval_episodes as f64, 1.0, 1e4)?;
        in_range("train.log_interval", self.log_interval as f64, 1.0, 1e12)?;
        in_range("train.checkpoint_interval", self.checkpoint_interval as f64, 1.0, 1e12)?;
        in_range("train.show_every", self.show_every as f64, 0.0, 1e12)?;
        in_range("train.checkpoint_minutes", self.checkpoint_minutes, 0.0, 1e9)?;
        // After an episode's end, the last two observations are of two episodes: no transition.
        if self.replay_capacity / self.envs < 3 {
            return Err(format!(
                "train.replay_capacity is {}, expected at least 3 for each of {} environments",
                self.replay_capacity, self.envs
            ));
        }
        if self.eval_modes.is_empty() {
            return Err("train.eval_modes is empty, expected at least \"deterministic\"".into());
        }
        let modes = self.modes()?;
        let twice = (1..modes.len()).find(|&i| modes[..i].contains(&modes[i]));
        twice
            .map_or(Ok(()), |i| Err(format!("train.eval_modes has {:?} twice", self.eval_modes[i])))
    }

    /// The evaluation modes.
    ///
    /// # Errors
    /// A name that is none.
    pub fn modes(&self) -> Result<Vec<ActMode>, String> {
        let parse = |name: &String| {
            name.parse()
                .map_err(|expected: String| format!("train.eval_modes has \"{name}\", {expected}"))
        };
        self.eval_modes.iter().map(parse).collect()
    }
}

/// The settings, for `--help`: those of the algorithm, preset and task that the command line names beside it.
pub fn help() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    help_for(&words.collect::<Vec<_>>())
}

fn help_for(words: &[String]) -> String {
    let given = |flag: &str| {
        let apart = words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
        apart.or_else(|| words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('=')))
    };
    let (algo, preset) =
        (given("--algo").unwrap_or("smfp"), given("--preset").unwrap_or("default"));
    let env = given("--env").unwrap_or_default();
    let sources = |algo, preset| Sources { algo, env, preset, ..Sources::default() };
    // What is wrong with a name is said when it is used.
    let (algo, preset, settings) = match resolve(&sources(algo, preset)) {
        Ok(settings) => (algo, preset, settings),
        Err(_) => ("smfp", "default", resolve(&sources("smfp", "default")).expect("it is valid")),
    };
    let algorithm = Algorithm::find(algo).expect("its settings were found");
    let on = if env.is_empty() { String::new() } else { format!(" --env {env}") };
    let names: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.name).collect();
    let mut text = format!(
        "Settings of --algo {algo} --preset {preset}{on} (--set SECTION.KEY=VALUE, or a TOML file for \
         --config). Its presets: {}. With --algo, --preset or --env before it, --help shows those of \
         another; algorithms: {}.\n\n",
        algorithm.preset_names().join(", "),
        names.join(", ")
    );
    list_keys(&settings.document, &mut text);
    text
}

fn list_keys(document: &DocumentMut, text: &mut String) {
    for (section, item) in document.iter() {
        let Some(table) = item.as_table() else { continue };
        for (key, value) in table.iter() {
            text.push_str(&format!("  {section}.{key} = {}\n", value.to_string().trim()));
            for line in comment(table, key) {
                text.push_str(&format!("      {line}\n"));
            }
        }
    }
}

/// The comment lines right above a key.
fn comment(table: &Table, key: &str) -> Vec<String> {
    let decor = table.key(key).and_then(|key| key.leaf_decor().prefix()?.as_str());
    decor
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().strip_prefix('#'))
        .map(|line| line.trim().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_the_settings_of_the_algorithm_preset_and_task_that_are_named() {
        let help = |line: &str| help_for(&line.split(' ').map(String::from).collect::<Vec<_>>());
        let has = |line: &str, what: &str| help(line).lines().any(|row| row.trim() == what);
        assert!(has("runner --help", "objective.lambda = 0.1"));
        assert!(has("runner --preset paper --env Walker2d-v5 --help", "objective.lambda = 10.0"));
        assert!(has("runner --algo=sac --preset=control --help", "actor.normalise = true"));
        assert!(!help("runner --algo sac --help").contains("objective.lambda"));
        assert_eq!(help("runner --algo smpf --help"), help("runner --help"));
    }

    fn with<'a>(env: &'a str, preset: &'a str, set: &'a [String]) -> Sources<'a> {
        Sources { algo: "smfp", env, preset, set, ..Default::default() }
    }

    fn lambda(settings: &Settings) -> f64 {
        settings.document["objective"]["lambda"].as_float().unwrap()
    }

    fn refusal(set: &str) -> String {
        match resolve(&with("Ant-v4", "default", &[set.to_string()])) {
            Err(Failure::Usage(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{set} was accepted"),
        }
    }

    #[test]
    fn later_layers_win_default_then_preset_then_its_task_then_flags() {
        assert_eq!(lambda(&resolve(&with("Ant-v4", "default", &[])).unwrap()), 0.1);
        assert_eq!(lambda(&resolve(&with("Swimmer-v4", "paper", &[])).unwrap()), 1.0);
        assert_eq!(lambda(&resolve(&with("Ant-v4", "paper", &[])).unwrap()), 3.0);
        let set = ["objective.lambda=7".to_string()];
        assert_eq!(lambda(&resolve(&with("Ant-v4", "paper", &set)).unwrap()), 7.0);
    }

    #[test]
    fn every_preset_is_valid_for_every_task() {
        for algo in ALGORITHMS.iter().map(|algorithm| algorithm.name) {
            for preset in &Algorithm::find(algo).unwrap().preset_names() {
                for env in envs::ids() {
                    let sources = Sources { algo, env, preset, ..Default::default() };
                    assert!(resolve(&sources).is_ok(), "{algo} {preset} {env}");
                }
            }
        }
    }

    /// docs/baselines.md says of these that they differ from SMFP by the policy and its objective.
    #[test]
    fn a_control_has_smfps_critics_and_smfps_network_and_optimiser_of_the_actor() {
        let section = |algo, preset, name: &str| {
            let sources = Sources { algo, env: "Ant-v4", preset, ..Default::default() };
            let document = resolve(&sources).unwrap().document;
            let table = document[name].as_table().unwrap().iter();
            table.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>()
        };
        let controls = [
            ("sac", "control"),
            ("td3", "control"),
            ("mdpo", "default"),
            ("meanflow", "default"),
            ("qvpo", "default"),
            ("dpmd", "default"),
        ];
        for (algo, preset) in controls {
            for name in ["critic", "actor"] {
                let smfp = section("smfp", "default", name);
                assert_eq!(section(algo, preset, name), smfp, "{algo} {preset} [{name}]");
            }
        }
        for algo in ["crossq", "sac-flow-g", "sac-flow-t", "dime", "flowrl"] {
            let (own, smfp) =
                (section(algo, "default", "critic"), section("smfp", "default", "critic"));
            assert_eq!(own, smfp, "{algo}");
        }
    }

    #[test]
    fn a_recorded_configuration_reads_back_as_the_settings_it_records() {
        let set = ["critic.kind=mlp".to_string(), "train.batch_size=64".to_string()];
        let settings = resolve(&with("Hopper-v4", "paper", &set)).unwrap();
        let again = of_run("smfp", &settings.document, "config.toml").unwrap();
        assert_eq!(again.train, settings.train);
        assert_eq!(again.document.to_string(), settings.document.to_string());
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        let cases = [
            ("actor.lr=1", "unknown key 'actor.lr'"),
            ("objective.lamda=1", "did you mean 'objective.lambda'?"),
            ("lambda=1", "did you mean 'objective.lambda'?"),
            ("actor.learning_rate=-1", "actor.learning_rate is -1, expected a number from 0 to 1"),
            ("train.batch_size=2.5", "expected a value of type integer"),
            ("actor.learning_rate=fast", "expected a value of type float"),
            ("critic.kind=mpl", "critic.kind: unknown variant `mpl`"),
            ("actor.learning_rate", "expected KEY=VALUE"),
            ("entropy.alpha=0", "entropy.alpha is 0, expected above 0"),
            ("train.eval_modes=[\"best\"]", "train.eval_modes has \"best\""),
            ("train.steps=-5", "train.steps"),
            ("actor.learning_rate=nan", "actor.learning_rate is NaN"),
        ];
        for (set, expected) in cases {
            let message = refusal(set);
            assert!(message.contains(expected), "{set}: {message}");
            assert!(!message.contains('\n'), "{set}: {message}");
        }
    }

    #[test]
    fn every_key_is_explained_in_the_help() {
        for algorithm in &ALGORITHMS {
            let document = base(algorithm);
            for (section, item) in document.iter() {
                let table = item.as_table().unwrap();
                for (key, _) in table.iter() {
                    assert!(!comment(table, key).is_empty(), "{section}.{key} has no comment");
                }
            }
        }
    }

    proptest::proptest! {
        /// Whatever a configuration file holds, it is read or refused in one line.
        #[test]
        fn a_spoilt_configuration_is_read_or_refused(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            length in 0usize..12,
            with in "[-0-9a-z\\[\\]{}=\".#\n ]{0,12}",
        ) {
            let mut text = resolve(&with_algo("dpmd")).ok().unwrap().document.to_string();
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            proptest::prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(end));
            text.replace_range(at..end, &with);
            let Ok(document) = text.parse::<DocumentMut>() else { return Ok(()) };
            if let Err(failure) = of_run("dpmd", &document, "config.toml") {
                proptest::prop_assert!(!failure.message().contains('\n'), "{}", failure.message());
            }
        }
    }

    fn with_algo(algo: &str) -> Sources<'_> {
        Sources { algo, env: "Hopper-v4", preset: "default", ..Default::default() }
    }
}
