//! What users of comparable programs reported, tried on this one.

mod common;

use common::{SMALL, folder, refused, runner, stderr, train};
use report::{EvalRow, TrainRow};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const ENV: &str = "Hopper-v4";

/// The event files of a run.
fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("tfevents")).collect()
}

/// The number of records in an event file: each is a length of 8 bytes, its checksum of 4, that
/// many bytes, and their checksum of 4.
fn records(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (at, count) = (at + 16 + length as usize, count + 1);
    }
    assert_eq!(at, bytes.len(), "the last record is whole");
    count
}

/// TensorBoard #2634 and #6079: event files deleted while they were written; the rest of the run
/// went to files without a name.
#[test]
fn logs_that_are_deleted_during_a_run_are_written_again_with_every_row() {
    let out = tempfile::tempdir().unwrap();
    let run = folder(out.path(), ENV, 0);
    let mut command = runner();
    command.args(["--env", ENV, "--seed", "0", "--steps", "6000", "--threads", "1"]);
    command.args(SMALL).args(["--tensorboard", "--set", "train.eval_interval=500"]).arg("--out");
    let mut child = command.arg(out.path()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(run.join("eval.csv")).unwrap_or_default().lines().count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(Duration::from_millis(1));
    }
    let [events] = &event_files(&run)[..] else { panic!("one event file") };
    for file in [&run.join("train.csv"), &run.join("eval.csv"), events] {
        fs::remove_file(file).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    for name in ["train.csv", "eval.csv", "tfevents"] {
        let told = |line: &str| line.starts_with("warning: ") && line.contains("it was deleted");
        assert!(text.lines().any(|line| told(line) && line.contains(name)), "{name}: {text}");
    }
    let rows: Vec<TrainRow> = report::read(&run.join("train.csv")).unwrap();
    let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
    assert_eq!(steps, (1..=60).map(|row| row * 100).collect::<Vec<_>>());
    let evaluations: Vec<EvalRow> = report::read(&run.join("eval.csv")).unwrap();
    assert_eq!(evaluations.len(), 12);
    let [events] = &event_files(&run)[..] else { panic!("one event file") };
    assert_eq!(records(events), 1 + rows.len() + evaluations.len());
}

/// Stable-Baselines3 #1150 and #2175: training took more steps than it was told to.
#[test]
fn a_run_whose_environments_do_not_divide_its_steps_says_where_it_ends() {
    let out = tempfile::tempdir().unwrap();
    let output = train(out.path(), ENV, 0, &["--envs", "7"]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let warning = "train.steps, 300, is no multiple of train.envs, 7: the run ends at step 301";
    assert!(text.contains(warning), "{text}");
    let rows: Vec<EvalRow> = report::read(&folder(out.path(), ENV, 0).join("eval.csv")).unwrap();
    assert_eq!(rows.last().unwrap().step, 301);
    let even = train(out.path(), ENV, 1, &["--envs", "3"]);
    assert!(!stderr(&even).contains("warning"), "{}", stderr(&even));
}

/// Gymnasium #74: a refused seed was shown, but not what a seed must be.
#[test]
fn a_number_that_is_refused_is_named_with_what_was_expected() {
    let out = tempfile::tempdir().unwrap();
    let with = |args: [&str; 4]| {
        runner().args(["--env", ENV]).args(args).arg("--out").arg(out.path()).output().unwrap()
    };
    for seed in ["-1", "1e3", "0x10", "1.0", ""] {
        let words = ["--seed", seed, "expected a whole number in digits, 0 or more"];
        refused(&with(["--seed", seed, "--steps", "1"]), 2, &words);
    }
    let large = with(["--seed", "18446744073709551616", "--steps", "1"]);
    refused(&large, 2, &["--seed", "the number is too large"]);
    let steps = with(["--seed", "0", "--steps", "1e6"]);
    refused(&steps, 2, &["--steps", "'1e6'", "expected a whole number in digits"]);
    assert!(fs::read_dir(out.path()).unwrap().next().is_none(), "nothing is begun");
}

/// Stable-Baselines3 #2274: a setting was taken, stored, and without effect.
#[test]
fn a_setting_without_effect_is_remarked_on_by_train_and_once_by_plan() {
    let out = tempfile::tempdir().unwrap();
    let warning = "critic.tau = 0.5 has no effect: critic.kind = \"crossq\" has no target networks";
    let text = stderr(&train(out.path(), ENV, 0, &["--set", "critic.tau=0.5"]));
    assert!(text.starts_with(&format!("warning: {warning}\n")), "{text}");
    let mut plan = runner();
    plan.args(["plan", "--algos", "smfp,sac", "--envs", ENV, "--seeds", "0-2"]);
    let output = plan.args(["--grid", "critic.tau=0.005,0.5"]).output().unwrap();
    assert_eq!(stderr(&output), format!("warning: smfp: {warning}\n12 runs planned\n"));
}
