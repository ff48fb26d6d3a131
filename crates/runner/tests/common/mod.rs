//! What the tests of the real program share.
#![allow(dead_code)] // Each test program uses its part.

use report::{EvalRow, TrainRow};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const TASKS: [&str; 7] = [
    "Ant-v4",
    "HalfCheetah-v4",
    "Hopper-v4",
    "Humanoid-v4",
    "HumanoidStandup-v4",
    "Swimmer-v4",
    "Walker2d-v4",
];

/// A metric of a row.
pub fn metric(row: &TrainRow, name: &str) -> Option<f64> {
    row.metrics.iter().find(|(other, _)| other == name).and_then(|(_, value)| *value)
}

/// Settings that make a run take a second: the whole path, on small networks.
pub const SMALL: [&str; 14] = [
    "--set",
    "train.warmup_steps=150",
    "--set",
    "train.batch_size=16",
    "--set",
    "train.log_interval=100",
    "--set",
    "train.eval_episodes=2",
    "--set",
    "train.eval_modes=[\"deterministic\"]",
    "--set",
    "critic.width=32",
    "--set",
    "actor.width=32",
];

pub fn runner() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.env_remove("SMFP_MODELS").env_remove("SMFP_INSTRUCTIONS").stdin(Stdio::null());
    command
}

pub fn train(out: &Path, env: &str, seed: u64, more: &[&str]) -> Output {
    let mut command = runner();
    command.args(["--env", env, "--seed", &seed.to_string(), "--out"]).arg(out);
    command.args(["--steps", "300"]).args(SMALL).args(more).output().unwrap()
}

pub fn folder(out: &Path, env: &str, seed: u64) -> PathBuf {
    out.join("smfp").join(env).join(format!("seed-{seed}"))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that a command was refused in one line that holds all of `words`.
pub fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("error: "), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

/// All that must repeat from run to run: CSV rows without the columns of time,
/// and the weights.
pub fn repeatable(run: &Path) -> (Vec<TrainRow>, Vec<EvalRow>, Vec<u8>) {
    let mut train: Vec<TrainRow> = report::read(&run.join("train.csv")).unwrap();
    for row in &mut train {
        (row.steps_per_s, row.wall_s) = (0.0, 0.0);
    }
    let mut eval: Vec<EvalRow> = report::read(&run.join("eval.csv")).unwrap();
    for row in &mut eval {
        row.wall_s = 0.0;
    }
    (train, eval, fs::read(checkpoint(run).join("agent.safetensors")).unwrap())
}

/// The folder of a run's newest checkpoint.
pub fn checkpoint(run: &Path) -> PathBuf {
    checkpoints(run).pop().expect("there is one")
}

/// The folders of a run's checkpoints, the oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoint")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-"));
    paths.sort();
    paths
}
