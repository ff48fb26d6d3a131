//! `runner plan`: from lists of algorithms, tasks, seeds and values to a manifest.

use crate::base::device;
use crate::base::failure::{Failure, Outcome, nearest};
use crate::commands::cli::PlanArgs;
use crate::sweep::manifest;
use crate::train::evaluator::make_envs;
use crate::train::run_spec::TrainRequest;
use crate::train::settings::{self, Settings, Sources};
use std::io::Write;
use toml_edit::{Array, Value};

/// The command.
///
/// # Errors
/// Anything that would be wrong with one of the runs.
pub fn plan(args: &PlanArgs) -> Outcome<()> {
    let runs = runs(args)?;
    let text: String = runs.iter().map(|run| manifest::line(run) + "\n").collect();
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Failed(format!("stdout: {error}")))?;
    eprintln!("{} runs planned", runs.len());
    Ok(())
}

/// One key with one of its values.
#[derive(Clone)]
struct Choice {
    key: String,
    /// As `--set` reads it.
    value: String,
}

/// All runs, seed by seed: a sweep that is cut short has compared all on the first seeds.
fn runs(args: &PlanArgs) -> Outcome<Vec<TrainRequest>> {
    args.envs.iter().try_for_each(|env| make_envs(env, None, 1, 1).map(|_| ()))?;
    device::named(&args.shared.device)?;
    let grids = args.grid.iter().map(|grid| choices(grid)).collect::<Outcome<Vec<_>>>()?;
    check_keys(args, &grids)?;
    let points = points(&grids);
    let mut runs = Vec::new();
    for seed in &args.seeds.0 {
        for algo in &args.algos {
            for env in &args.envs {
                for point in &points {
                    runs.push(run(args, *seed, algo, env, point)?);
                }
            }
        }
    }
    match manifest::same_folder(&runs) {
        None => Ok(runs),
        Some((_, second)) => Err(Failure::Usage(format!(
            "two runs have the folder {}: give each algorithm, task and value once",
            runs[second].folder().display()
        ))),
    }
}

fn run(
    args: &PlanArgs,
    seed: u64,
    algo: &str,
    env: &str,
    point: &[Choice],
) -> Outcome<TrainRequest> {
    let chosen = point.iter().map(|choice| format!("{}={}", choice.key, choice.value));
    let set: Vec<String> = args.shared.set.iter().cloned().chain(chosen).collect();
    let sources = Sources { set: &set, ..Sources::of(&args.shared, algo, env) };
    let settings = settings::resolve(&sources).map_err(|failure| match failure {
        // The flags are one for all: which of the algorithms they do not suit must be said.
        Failure::Usage(message) if args.algos.len() > 1 => {
            Failure::Usage(format!("{algo} {env}: {message}"))
        }
        other => other,
    })?;
    let name = name(args.shared.name.as_deref(), point, &settings);
    TrainRequest::new(&args.shared, algo, env, seed, name, settings)
}

/// Reads `KEY=V1,V2`.
fn choices(grid: &str) -> Outcome<Vec<Choice>> {
    let fail = |problem: &str| {
        let expected = "expected KEY=V1,V2, for example --grid objective.lambda=0.1,0.3";
        Failure::Usage(format!("--grid {grid}: {problem}{expected}"))
    };
    let (key, list) = grid.split_once('=').ok_or_else(|| fail(""))?;
    // As an array of TOML a list may hold arrays; otherwise its words need no quotes.
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

/// The keys of `--set` and `--grid` exist for every algorithm, and no grid stands twice.
fn check_keys(args: &PlanArgs, grids: &[Vec<Choice>]) -> Outcome<()> {
    let known =
        args.algos.iter().map(|algo| settings::keys_of(algo)).collect::<Outcome<Vec<_>>>()?;
    let keys = grids.iter().map(|grid| ("--grid", grid[0].key.as_str()));
    let set =
        args.shared.set.iter().filter_map(|set| Some(("--set", set.split_once('=')?.0.trim())));
    for (flag, key) in keys.clone().chain(set) {
        let lacks = |(_, known): &(&String, &Vec<String>)| !known.iter().any(|other| other == key);
        let lacking: Vec<&str> =
            args.algos.iter().zip(&known).filter(lacks).map(|(algo, _)| algo.as_str()).collect();
        if lacking.len() == args.algos.len() {
            let near = nearest(key, known.iter().flatten().map(String::as_str));
            let hint = near.map(|near| format!("did you mean '{near}'?"));
            let hint = hint.unwrap_or("`runner train --help` lists all keys".into());
            return Err(Failure::Usage(format!("{flag} {key}: unknown key '{key}': {hint}")));
        } else if !lacking.is_empty() {
            return Err(Failure::Usage(format!(
                "{flag} {key}: {} has no such key; plan it apart from those that have it",
                lacking.join(", ")
            )));
        }
    }
    for (i, (_, key)) in keys.clone().enumerate() {
        let twice = keys.clone().skip(i + 1).any(|(_, other)| other == key);
        if twice || key == "train.steps" && args.shared.steps.is_some() {
            return Err(Failure::Usage(format!("--grid {key}: the key is given twice")));
        }
    }
    Ok(())
}

/// The name of a variant: `--name`, then each key of the grid with its value. A value is
/// named as it was resolved, so that 3e-4 and 0.0003 are one.
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

/// A value in letters that a name may have.
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
    use super::*;
    use crate::commands::cli::{Cli, Command};
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
