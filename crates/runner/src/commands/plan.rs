//! `runner plan`: from lists of algorithms, tasks, seeds and values to a manifest.

use super::flags::{NumberList, RunFlags, number_list};
use crate::base::console::{self, message};
use crate::base::device;
use crate::base::failure::{Failure, Outcome, nearest};
use crate::sweep::manifest;
use crate::train::run_model::{compiled, task_file};
use crate::train::run_spec::{RunSpec, check_task, portable};
use crate::train::settings::{self, Settings, Sources};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml_edit::{Array, Value};

#[derive(Args)]
pub struct PlanArgs {
    /// Algorithms, separated by commas.
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "smfp")]
    algos: Vec<String>,
    /// Tasks, separated by commas, such as Ant-v4,Hopper-v4; a file's name ends in .toml.
    #[arg(long, value_name = "X,Y", value_delimiter = ',', required = true)]
    envs: Vec<String>,
    /// Seeds: a list of numbers and ranges, such as 0-4,7.
    #[arg(long, value_name = "LIST", default_value = "0", value_parser = number_list)]
    seeds: NumberList,
    /// Plan each of several values of a key, such as objective.lambda=0.1,0.3; grids multiply.
    #[arg(long, value_name = "KEY=V1,V2", allow_hyphen_values = true)]
    grid: Vec<String>,
    #[command(flatten)]
    flags: RunFlags,
}

/// The command.
///
/// # Errors
/// Anything that is wrong with one of the runs.
pub fn plan(args: &PlanArgs) -> Outcome<()> {
    let runs = runs(args)?;
    let lines = runs.iter().map(manifest::line).collect::<Outcome<Vec<_>>>()?;
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    console::data(text)?;
    let idle = |run: &RunSpec| {
        let lines = run.settings.idle.iter();
        lines.map(|line| format!("warning: {}: {line}", run.algo)).collect::<Vec<_>>()
    };
    let idle: BTreeSet<String> = runs.iter().flat_map(idle).collect();
    idle.into_iter().for_each(message);
    message(format!("{} runs planned", runs.len()));
    Ok(())
}

/// A key of a grid with one of its values.
#[derive(Clone)]
struct Choice {
    key: String,
    /// The value as `--set` reads it.
    value: String,
}

/// All runs, seed by seed: a sweep that is cut short has then compared everything on the first
/// seeds.
fn runs(args: &PlanArgs) -> Outcome<Vec<RunSpec>> {
    args.envs.iter().try_for_each(|env| check_task(env))?;
    device::named(&args.flags.device)?;
    let grids = args.grid.iter().map(|grid| choices(grid)).collect::<Outcome<Vec<_>>>()?;
    check_keys(args, &grids)?;
    let points = points(&grids);
    // Models are compiled once, not for every run.
    let tasks = args.envs.iter().map(|env| Task::new(args, env)).collect::<Outcome<Vec<_>>>()?;
    let mut runs = Vec::new();
    for seed in &args.seeds.0 {
        for algo in &args.algos {
            for task in &tasks {
                for point in &points {
                    runs.push(run(args, *seed, algo, task, point)?);
                }
            }
        }
    }
    match manifest::same_folder(&runs) {
        None => Ok(runs),
        Some((first, second)) => Err(Failure::Usage(format!(
            "two runs have the folder {}: {}",
            runs[second].folder().display(),
            match runs[first].env == runs[second].env {
                true => "give each algorithm, task and value once".into(),
                false => format!(
                    "{} and {} have one name; rename a file, or plan them with another --name or --out",
                    runs[first].env, runs[second].env
                ),
            }
        ))),
    }
}

/// A task with what is simulated.
struct Task<'a> {
    env: &'a str,
    model: Option<PathBuf>,
    model_sha256: Option<String>,
    task_sha256: Option<String>,
}

impl<'a> Task<'a> {
    fn new(args: &PlanArgs, env: &'a str) -> Outcome<Self> {
        let model = args.flags.model(env)?;
        let compiled = model.as_ref().map(|model| compiled(env, Some(model))).transpose()?;
        Ok(Self {
            env,
            model: model.map(|model| portable(&model)),
            model_sha256: compiled.map(|(_, sum)| sum),
            task_sha256: task_file(env)?.map(|(_, sum)| sum),
        })
    }

    /// Its id, or the path of its file.
    fn name(&self) -> String {
        match envs::is_file(self.env) {
            true => portable(Path::new(self.env)).display().to_string(),
            false => self.env.to_owned(),
        }
    }
}

fn run(args: &PlanArgs, seed: u64, algo: &str, task: &Task, point: &[Choice]) -> Outcome<RunSpec> {
    let env = task.env;
    let chosen = point.iter().map(|choice| format!("{}={}", choice.key, choice.value));
    let set: Vec<String> = args.flags.set.iter().cloned().chain(chosen).collect();
    let sources = Sources { set: &set, ..args.flags.sources(algo, env) };
    let settings = settings::resolve(&sources).map_err(|failure| match failure {
        // All algorithms share the flags: say which one they do not suit.
        Failure::Usage(message) if args.algos.len() > 1 => {
            Failure::Usage(format!("{algo} {env}: {message}"))
        }
        other => other,
    })?;
    let name = name(args.flags.name.as_deref(), point, &settings);
    RunSpec {
        name,
        model: task.model.clone(),
        model_sha256: task.model_sha256.clone(),
        task_sha256: task.task_sha256.clone(),
        ..args.flags.spec(algo, &task.name(), seed, settings)
    }
    .checked()
}

/// Reads `KEY=V1,V2`.
fn choices(grid: &str) -> Outcome<Vec<Choice>> {
    let fail = |problem: &str| {
        let expected = "expected KEY=V1,V2, for example --grid objective.lambda=0.1,0.3";
        Failure::Usage(format!("--grid {grid}: {problem}{expected}"))
    };
    let (key, list) = grid.split_once('=').ok_or_else(|| fail(""))?;
    // A TOML array may hold arrays; anything else is a list of words, without quotes.
    let values: Vec<String> = match format!("[{list}]").parse::<Value>() {
        Ok(Value::Array(array)) => texts(&array),
        _ => list.split(',').map(|value| value.trim().to_string()).collect(),
    };
    if values.is_empty() || values.contains(&String::new()) {
        return Err(fail("a value is empty, "));
    }
    Ok(values.into_iter().map(|value| Choice { key: key.trim().into(), value }).collect())
}

fn texts(array: &Array) -> Vec<String> {
    array.iter().map(|value| value.to_string().trim().to_string()).collect()
}

/// Every combination of one choice of each grid.
fn points(grids: &[Vec<Choice>]) -> Vec<Vec<Choice>> {
    grids.iter().fold(vec![Vec::new()], |points, grid| {
        let with = |point: &Vec<Choice>, choice: &Choice| {
            point.iter().chain([choice]).cloned().collect::<Vec<_>>()
        };
        points.iter().flat_map(|point| grid.iter().map(move |choice| with(point, choice))).collect()
    })
}

/// Checks that the keys of `--set` and `--grid` exist for every algorithm, and that no grid is
/// given twice.
fn check_keys(args: &PlanArgs, grids: &[Vec<Choice>]) -> Outcome<()> {
    let known =
        args.algos.iter().map(|algo| settings::keys_of(algo)).collect::<Outcome<Vec<_>>>()?;
    let keys = grids.iter().map(|grid| ("--grid", grid[0].key.as_str()));
    let set =
        args.flags.set.iter().filter_map(|set| Some(("--set", set.split_once('=')?.0.trim())));
    for (flag, key) in keys.clone().chain(set.clone()) {
        let lacks = |(_, known): &(&String, &Vec<String>)| !known.iter().any(|other| other == key);
        let lacking: Vec<&str> =
            args.algos.iter().zip(&known).filter(lacks).map(|(algo, _)| algo.as_str()).collect();
        if lacking.len() == args.algos.len() {
            let near = nearest(key, known.iter().flatten().map(String::as_str));
            let hint = near.map(|near| format!("did you mean '{near}'?"));
            let hint = hint.unwrap_or("`runner --algo ALGO --help` lists all keys".into());
            return Err(Failure::Usage(format!("{flag} {key}: unknown key '{key}': {hint}")));
        } else if !lacking.is_empty() {
            return Err(Failure::Usage(format!(
                "{flag} {key}: {} has no such key; plan it separately from those that have it",
                lacking.join(", ")
            )));
        }
    }
    for (i, (_, key)) in keys.clone().enumerate() {
        let twice = keys.clone().skip(i + 1).chain(set.clone()).any(|(_, other)| other == key);
        if twice || key == "train.steps" && args.flags.steps.is_some() {
            return Err(Failure::Usage(format!("--grid {key}: the key is given twice")));
        }
    }
    Ok(())
}

/// The name of a variant: `--name`, then each key of the grid with its resolved value, so that
/// 3e-4 and 0.0003 give the same name.
fn name(base: Option<&str>, point: &[Choice], settings: &Settings) -> Option<String> {
    let resolved = manifest::as_json(settings);
    let of = |key: &str| {
        let (section, key) = key.split_once('.')?;
        resolved.get(section)?.get(key)
    };
    let parts = point.iter().map(|Choice { key, value }| {
        let value = of(key).map_or(value.clone(), word);
        format!("{key}-{value}")
    });
    let parts: Vec<String> = base.map(str::to_string).into_iter().chain(parts).collect();
    (!parts.is_empty()).then(|| parts.join("_"))
}

/// A value in characters that a name may have.
fn word(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::Array(values) => {
            return values.iter().map(word).collect::<Vec<_>>().join("_");
        }
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().map(|c| if fine(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cli::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn refusal(args: &[&str]) -> String {
        let head = ["runner", "plan", "--envs", "Hopper-v4"];
        let cli = Cli::try_parse_from(head.iter().chain(args)).unwrap();
        let Some(Command::Plan(args)) = cli.command else { panic!("another command") };
        match runs(&args) {
            Err(Failure::Usage(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was planned"),
        }
    }

    #[test]
    fn what_cannot_be_planned_is_one_line_that_says_why() {
        let long = "x".repeat(300);
        let cases: &[(&[&str], &[&str])] = &[
            (&["--algos", "sac,smpf"], &["smpf", "'smfp'"]),
            (&["--algos", "sac,td3", "--preset", "layernorm"], &["td3", "preset 'layernorm'"]),
            (&["--grid", "objective.lamda=1,2"], &["objective.lamda", "'objective.lambda'"]),
            (&["--algos", "sac,smfp", "--grid", "objective.lambda=1"], &["sac has no such key"]),
            (&["--algos", "sac,smfp", "--set", "objective.lambda=1"], &["sac has no such key"]),
            (&["--grid", "objective.lambda=1,-1"], &["objective.lambda is -1"]),
            (&["--grid", "objective.lambda=1,high"], &["objective.lambda", "type float"]),
            (&["--grid", "objective.lambda"], &["KEY=V1,V2"]),
            (&["--grid", "objective.lambda=1,,2"], &["a value is empty"]),
            (&["--grid", "objective.lambda="], &["a value is empty"]),
            (&["--grid", "objective.lambda=1,1.0"], &["two runs have the folder", "lambda-1.0"]),
            (
                &["--grid", "actor.depth=1", "--grid", "actor.depth=2"],
                &["actor.depth", "given twice"],
            ),
            (&["--steps", "5", "--grid", "train.steps=5,6"], &["train.steps", "given twice"]),
            (
                &["--set", "actor.depth=1", "--grid", "actor.depth=2,3"],
                &["actor.depth", "given twice"],
            ),
            (&["--algos", "sac,sac"], &["two runs have the folder results/sac"]),
            (&["--name", "../x"], &["--name '../x'"]),
            (&["--name", &long], &["300 characters", "at most 200"]),
            (&["--device", "gpu"], &["--device gpu", "cuda"]),
            (&["--config", "/no/such"], &["/no/such"]),
        ];
        for (args, words) in cases {
            let message = refusal(args);
            assert!(!message.contains('\n'), "{message}");
            for word in *words {
                assert!(message.contains(word), "'{word}' is not in: {message}");
            }
        }
    }
}
