//! What the runs of one algorithm and task differ in, and the algorithms of one task: their mean or their
//! comparison would be of different things.

use crate::run::{Origin, Run};
use std::collections::{BTreeMap, BTreeSet};

/// Sections of a run's record that are not compared.
const SECTIONS_LEFT_OUT: [&str; 2] = ["run", "versions"];
/// Keys of these that are compared all the same: where it is learned,
const DEVICE: &str = "run.device";
/// and what is simulated and rewarded, in which not even algorithms may differ.
const TASK: [&str; 3] = ["run.task_sha256", "run.model_sha256", "versions.mujoco"];
/// Keys that say how long a run is, what is watched, noted and saved meanwhile, or where and how the same updates
/// are computed.
const WATCHING: [&str; 12] = [
    "train.steps",
    "train.eval_interval",
    "train.eval_episodes",
    "train.eval_modes",
    "train.log_interval",
    "train.checkpoint_interval",
    "train.checkpoint_minutes",
    "train.tensorboard",
    "train.keep_replay",
    "train.show_every",
    "train.replay_on_device",
    "train.cuda_graph",
];
/// At most this many keys are named.
const MOST: usize = 6;

/// A remark that names the settings in which runs differ, with values and seeds; none if they are alike.
/// A key that some run lacks is not compared: an older version may have written that run.
pub fn differences(runs: &[&Run]) -> Option<String> {
    let runs: Vec<&&Run> = runs.iter().filter(|run| run.origin == Origin::Folder).collect();
    let mut values: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for run in &runs {
        for (key, value) in run.settings.iter().filter(|(key, _)| is_compared(key)) {
            values.entry(key).or_default().push((value, &run.seed));
        }
    }
    let whole = runs.iter().filter(|run| !run.settings.is_empty()).count();
    let differing: Vec<String> = values
        .iter()
        .filter(|(_, all)| all.len() == whole && all.iter().any(|(value, _)| *value != all[0].0))
        .map(|(key, all)| describe(key, "seed ", all))
        .collect();
    let more = differing.len().saturating_sub(MOST);
    let more = if more > 0 { format!("; and {more} more settings") } else { String::new() };
    (!differing.is_empty()).then(|| {
        let named = &differing[..differing.len().min(MOST)];
        format!("the runs differ in {}{more}", named.join("; "))
    })
}

/// A remark that names what the algorithms of one task differ in as to the task itself, with values and
/// algorithms; none if they ran the same. Runs that lack a key say nothing about it.
pub fn different_tasks(runs: &[&Run]) -> Option<String> {
    let of = |key: &str| {
        let value = |run: &&Run| {
            let (_, value) = run.settings.iter().find(|(known, _)| known == key)?;
            Some((value.clone(), run.algorithm.clone()))
        };
        let all: BTreeSet<(String, String)> = runs.iter().filter_map(value).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let (values, algorithms): (BTreeSet<&str>, BTreeSet<&str>) = all.iter().copied().unzip();
        // Of one algorithm, `differences` remarks on it.
        (values.len() > 1 && algorithms.len() > 1).then(|| describe(key, "", &all))
    };
    let differing: Vec<String> = TASK.into_iter().filter_map(of).collect();
    (!differing.is_empty()).then(|| {
        format!("the algorithms did not run the same task: they differ in {}", differing.join("; "))
    })
}

fn is_compared(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    TASK.contains(&key)
        || key == DEVICE
        || !(SECTIONS_LEFT_OUT.contains(&section) || WATCHING.contains(&key))
}

/// `critic.gamma (0.99: seed 0, 2; 0.5: seed 1)`, from values and the names of who has them.
fn describe(key: &str, word: &str, all: &[(&str, &str)]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (value, name) in all {
        match groups.iter_mut().find(|(known, _)| known == value) {
            Some((_, names)) => names.push(name),
            None => groups.push((value, vec![name])),
        }
    }
    // A checksum's beginning tells it from others.
    let short = |value: &str| value.trim_matches('"').chars().take(24).collect::<String>();
    let groups: Vec<String> = groups
        .iter()
        .map(|(value, names)| format!("{}: {word}{}", short(value), names.join(", ")))
        .collect();
    format!("{key} ({})", groups.join("; "))
}
