//! What the runs of one algorithm and task differ in: their mean would be of different things.

use crate::run::{Origin, Run};
use std::collections::BTreeMap;

/// Sections of a run's record that are not compared.
const SECTIONS_LEFT_OUT: [&str; 2] = ["run", "versions"];
/// Keys of `[run]` and `[versions]` that are compared all the same: what is simulated, and where it is learned.
const ALSO: [&str; 3] = ["run.model_sha256", "run.device", "versions.mujoco"];
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
        .map(|(key, all)| describe(key, all))
        .collect();
    let more = differing.len().saturating_sub(MOST);
    let more = if more > 0 { format!("; and {more} more settings") } else { String::new() };
    (!differing.is_empty()).then(|| {
        let named = &differing[..differing.len().min(MOST)];
        format!("the runs differ in {}{more}", named.join("; "))
    })
}

fn is_compared(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    ALSO.contains(&key) || !(SECTIONS_LEFT_OUT.contains(&section) || WATCHING.contains(&key))
}

/// `critic.gamma (0.99: seed 0, 2; 0.5: seed 1)`.
fn describe(key: &str, all: &[(&str, &str)]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (value, seed) in all {
        match groups.iter_mut().find(|(known, _)| known == value) {
            Some((_, seeds)) => seeds.push(seed),
            None => groups.push((value, vec![seed])),
        }
    }
    // A checksum's beginning tells it from others.
    let short = |value: &str| value.trim_matches('"').chars().take(24).collect::<String>();
    let groups: Vec<String> = groups
        .iter()
        .map(|(value, seeds)| format!("{}: seed {}", short(value), seeds.join(", ")))
        .collect();
    format!("{key} ({})", groups.join("; "))
}
