//! Sweeps, driven from outside: plan, run, sweep, status, and the script for Slurm.

mod common;

use common::{refused, runner, stderr};
use report::{EvalRow, TrainRow};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A run of a second: small networks, a short warm-up, one short evaluation.
const SMALL: [&str; 10] = [
    "--set",
    "train.warmup_steps=100",
    "--set",
    "train.batch_size=16",
    "--set",
    "train.log_interval=100",
    "--set",
    "train.eval_modes=[\"deterministic\"]",
    "--set",
    "train.eval_episodes=1",
];
const NARROW: [&str; 4] = ["--set", "critic.width=16", "--set", "actor.width=16"];
const ENV: &str = "InvertedPendulum-v4";

/// A place for a manifest and its results. Commands run in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = runner();
        command.args(args).current_dir(self.0.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Plans narrow runs of a second on one task; adds them to `sweep.jsonl`.
    fn plan(&self, more: &[&str]) -> Vec<Value> {
        let args = [&["plan", "--envs", ENV, "--steps", "300"][..], &SMALL, &NARROW, more].concat();
        let output = self.run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        let path = self.path("sweep.jsonl");
        let old = fs::read(&path).unwrap_or_default();
        fs::write(&path, [old, output.stdout].concat()).unwrap();
        self.lines()
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("sweep.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn write_lines(&self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path("sweep.jsonl"), text).unwrap();
    }

    fn status(&self) -> Vec<Value> {
        let output = self.run(&["status", "sweep.jsonl", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn states(&self) -> Vec<String> {
        let state = |entry: &Value| entry["state"].as_str().unwrap().to_string();
        self.status().iter().map(state).collect()
    }

    fn index(&self, index: usize) -> Output {
        self.run(&["run", "--manifest", "sweep.jsonl", "--index", &index.to_string()])
    }
}

fn folder(algo: &str, seed: u64) -> String {
    format!("results/{algo}/{ENV}/seed-{seed}")
}

fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in a minute: not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

fn children(process: &Child) -> Vec<u32> {
    let list = format!("/proc/{0}/task/{0}/children", process.id());
    let text = fs::read_to_string(list).unwrap_or_default();
    text.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Rows without what the clock says.
fn curves(run: &Path) -> (Vec<TrainRow>, Vec<EvalRow>) {
    let mut train: Vec<TrainRow> = report::read(&run.join("train.csv")).unwrap();
    train.iter_mut().for_each(|row| (row.steps_per_s, row.wall_s) = (0.0, 0.0));
    let mut eval: Vec<EvalRow> = report::read(&run.join("eval.csv")).unwrap();
    eval.iter_mut().for_each(|row| row.wall_s = 0.0);
    (train, eval)
}

#[test]
fn a_manifest_may_end_in_empty_lines_and_its_status_needs_no_file_of_a_task() {
    let place = Place::new();
    let task = place.path("hop.toml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("models/hopper.xml").canonicalize().unwrap();
    let text = fs::read_to_string(root.join("crates/envs/tests/tasks/Hopper-v4.toml")).unwrap();
    let own = text.replace("../../../../models/hopper.xml", model.to_str().unwrap());
    fs::write(&task, own).unwrap();
    let plan = place.run(&["plan", "--envs", "hop.toml", "--seeds", "0-1"]);
    assert!(plan.status.success(), "{}", stderr(&plan));
    let bytes = [&b"\xef\xbb\xbf"[..], &plan.stdout, b"\n\n"].concat();
    fs::write(place.path("sweep.jsonl"), bytes).unwrap();
    fs::remove_file(&task).unwrap();
    assert_eq!(place.states(), ["missing", "missing"]);
    let sweep = place.run(&["sweep", "sweep.jsonl", "--jobs", "1"]);
    refused(&sweep, 2, &["hop.toml"]);
}

#[test]
fn a_plan_has_a_line_for_every_combination_each_with_its_settings_and_a_folder_of_its_own() {
    let place = Place::new();
    let plan = || {
        let grids = ["--grid", "actor.learning_rate=3e-4,0.001", "--grid"];
        let more = ["train.eval_modes=[\"deterministic\"],[\"stochastic\",\"best-of-2\"]"];
        let lists = ["plan", "--algos", "smfp,sac", "--envs", "Ant-v4,Hopper-v4", "--seeds", "0,7"];
        let flags = ["--name", "x", "--set", "critic.kind=mlp"];
        let args = [&lists[..], &grids, &more, &flags, &["--steps", "500"]].concat();
        let output = place.run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let text = plan();
    assert!(text == plan(), "the same plan twice gave other bytes");
    let lines: Vec<Value> = String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2 * 2 * 2 * 2 * 2);
    let key =
        |line: &Value| format!("{}{}{}{}", line["algo"], line["env"], line["seed"], line["name"]);
    assert_eq!(lines.iter().map(key).collect::<HashSet<_>>().len(), lines.len());
    for line in &lines {
        let (name, settings) = (line["name"].as_str().unwrap(), &line["settings"]);
        let rate = settings["actor"]["learning_rate"].to_string();
        let modes = settings["train"]["eval_modes"].as_array().unwrap();
        let modes: Vec<&str> = modes.iter().map(|mode| mode.as_str().unwrap()).collect();
        let expected = format!("x_actor.learning_rate-{rate}_train.eval_modes-{}", modes.join("_"));
        assert_eq!(name, expected);
        assert_eq!(settings["critic"]["kind"], "mlp");
        assert_eq!(settings["train"]["steps"], 500);
    }
    let rates = lines.iter().map(|line| line["settings"]["actor"]["learning_rate"].to_string());
    assert_eq!(rates.collect::<HashSet<_>>(), HashSet::from(["0.0003".into(), "0.001".into()]));
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0, "a plan writes no file");
}

#[test]
fn a_plan_that_cannot_be_is_refused_in_one_line_before_a_line_is_printed() {
    let place = Place::new();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--envs", "Hoper-v4"], &["Hoper-v4", "'Hopper-v4'"]),
        (&["--seeds", "3-1"], &["3-1", "such as 0-2,7"]),
        (&["--threads", "0"], &["--threads"]),
    ];
    for (args, words) in cases {
        let env: &[&str] = if args.contains(&"--envs") { &[] } else { &["--envs", "Hopper-v4"] };
        let output = place.run(&[&["plan"], env, args].concat());
        refused(&output, 2, words);
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    refused(&place.run(&["plan"]), 2, &["--envs"]);
}

#[test]
fn a_line_trains_the_run_that_train_does_with_its_settings_and_a_finished_run_is_left_alone() {
    let place = Place::new();
    let mut lines = place.plan(&["--algos", "sac", "--seeds", "1"]);
    // The line decides, not the preset that it was planned from.
    lines[0]["settings"]["critic"]["width"] = 24.into();
    place.write_lines(&lines);
    let output = place.index(0);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = place.path(&folder("sac", 1));
    assert!(run.join("DONE").is_file());
    let train = ["train", "--env", ENV, "--seed", "1", "--algo", "sac", "--out", "other"];
    let width = ["--set", "critic.width=24", "--steps", "300"];
    let output = place.run(&[&train[..], &SMALL, &NARROW, &width].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let other = place.path(&folder("sac", 1).replace("results", "other"));
    assert_eq!(curves(&run), curves(&other));

    let before = fs::read(run.join("train.csv")).unwrap();
    let again = place.index(0);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stderr(&again).contains("this run is finished"), "{}", stderr(&again));
    assert_eq!(fs::read(run.join("train.csv")).unwrap(), before);
    // The same folder with other settings is another run: neither done nor overwritten.
    lines[0]["settings"]["critic"]["width"] = 16.into();
    place.write_lines(&lines);
    refused(&place.index(0), 2, &["critic.width = 24", "has 16", "--name"]);
    assert_eq!(place.states(), ["failed"]);
    let output = place.run(&["sweep", "sweep.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("critic.width = 24, and this one has 16"),
        "{}",
        stderr(&output)
    );
    assert!(!run.join("log.txt").exists() && !run.join("FAILED").exists());
    fs::remove_file(run.join("DONE")).unwrap();
    refused(&place.index(0), 2, &["holds a run with critic.width = 24"]);
    assert!(!run.join("FAILED").exists(), "the run that is there did not fail");
}

#[test]
fn a_manifest_that_cannot_be_used_is_named_with_its_line() {
    let place = Place::new();
    let sweep = |args: &[&str]| place.run(&[&["sweep", "sweep.jsonl"], args].concat());
    refused(&sweep(&[]), 2, &["sweep.jsonl", "runner plan"]);
    let lines = place.plan(&["--seeds", "0-1"]);
    refused(&place.index(2), 2, &["no index 2", "expected 0 to 1"]);
    refused(&sweep(&["--indices", "1-2"]), 2, &["--indices 2", "0 to 1"]);
    refused(&sweep(&["--jobs", "0"]), 2, &["--jobs"]);
    place.write_lines(&[lines[0].clone(), lines[1].clone(), lines[0].clone()]);
    refused(&sweep(&[]), 2, &["sweep.jsonl line 3", "seed-0 is that of index 0 too"]);
    // A line that is cut off spoils neither the others nor the folder.
    let path = place.path("sweep.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() * 2 / 3 - 40]).unwrap();
    refused(&place.index(1), 2, &["sweep.jsonl line 2 (index 1): damaged", "runner plan"]);
    refused(&place.run(&["status", "sweep.jsonl"]), 2, &["line 2", "damaged"]);
    fs::write(&path, "").unwrap();
    refused(&place.index(0), 2, &["no index 0", "empty"]);
    refused(&sweep(&[]), 2, &["no line"]);
    assert!(!place.path("results").exists());
}

#[test]
fn a_run_that_fails_stops_no_other_and_is_listed_and_what_is_finished_is_never_repeated() {
    let place = Place::new();
    place.plan(&["--algos", "sac", "--seeds", "0"]);
    let absurd = ["--set", "actor.learning_rate=1", "--set", "actor.activation=relu"];
    let deep = ["--set", "actor.depth=30"];
    let mut lines = place.plan(&[&["--name", "absurd"][..], &absurd, &deep].concat());
    lines[1]["settings"]["train"]["steps"] = 3000.into();
    place.write_lines(&lines);
    place.plan(&["--algos", "td3", "--seeds", "0"]);
    let output = place.run(&["sweep", "sweep.jsonl", "--jobs", "2"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let listed = text.lines().rev().nth(1).unwrap();
    for words in ["failed: index 1, smfp-absurd", "training diverged at step", "log.txt"] {
        assert!(listed.contains(words), "{words}: {text}");
    }
    assert_eq!(text.lines().last(), Some("error: 2 of 3 runs done, 1 failed"));
    assert_eq!(place.states(), ["done", "failed", "done"]);
    let status = place.status();
    assert_eq!((&status[0]["step"], &status[0]["steps"]), (&300.into(), &300.into()));
    assert!(status[0]["last_return"].as_f64().unwrap() > 0.0, "{}", status[0]);
    assert!(status[1]["reason"].as_str().unwrap().contains("diverged"), "{}", status[1]);
    let log = fs::read_to_string(place.path(&folder("sac", 0)).join("log.txt")).unwrap();
    assert!(log.contains("step 300/300"), "{log}");

    // Meanwhile a line has come to the manifest.
    place.plan(&["--algos", "sac", "--seeds", "1"]);
    let before = fs::read(place.path(&folder("sac", 0)).join("train.csv")).unwrap();
    let output = place.run(&["sweep", "sweep.jsonl", "--jobs", "1", "--indices", "0,2-3"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let begun = |line: &&str| line.ends_with(": begins");
    let text = stderr(&output);
    let begun: Vec<&str> = text.lines().filter(begun).collect();
    assert_eq!(begun, [format!("sac {ENV} seed 1: begins")]);
    assert_eq!(fs::read(place.path(&folder("sac", 0)).join("train.csv")).unwrap(), before);
    assert_eq!(place.states(), ["done", "failed", "done", "done"]);
    let table = String::from_utf8(place.run(&["status", "sweep.jsonl"]).stdout).unwrap();
    assert_eq!(table.lines().last(), Some("3 done, 1 failed"), "{table}");
}

#[test]
fn a_finished_run_that_cannot_go_on_has_failed_and_is_not_at_work_elsewhere() {
    let place = Place::new();
    let keep = ["--set", "train.keep_replay=true", "--set", "train.eval_interval=100"];
    let mut lines = place.plan(&[&["--algos", "sac", "--seeds", "0"][..], &keep].concat());
    let sweep = || place.run(&["sweep", "sweep.jsonl", "--jobs", "1"]);
    assert_eq!(sweep().status.code(), Some(0));
    lines[0]["settings"]["train"]["steps"] = 600.into();
    place.write_lines(&lines);
    let replay = place.path(&folder("sac", 0)).join("checkpoint/replay.bin");
    let bytes = fs::metadata(&replay).unwrap().len();
    fs::write(&replay, vec![7; bytes as usize]).unwrap();
    let output = sweep();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("failed: index 0") && text.contains("damaged"), "{text}");
}

/// Steps that take minutes: such runs end by being stopped.
const ENDLESS: u64 = 1_000_000;

/// A sweep of three runs, two of which are at work.
fn at_work(place: &Place, steps: u64) -> Child {
    place.plan(&["--algos", "sac", "--seeds", "0-2", "--set", "train.warmup_steps=200"]);
    let mut lines = place.lines();
    for line in &mut lines {
        line["settings"]["train"]["steps"] = steps.into();
        line["settings"]["train"]["replay_capacity"] = 1000.into();
    }
    place.write_lines(&lines);
    let mut command = place.command(&["sweep", "sweep.jsonl", "--jobs", "2"]);
    let mut sweep = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("two runs with a row", || {
        assert!(sweep.try_wait().unwrap().is_none(), "the sweep ended");
        let rows = |seed| fs::read_to_string(place.path(&folder("sac", seed)).join("train.csv"));
        (0..2).all(|seed| rows(seed).is_ok_and(|rows| rows.lines().count() > 1))
    });
    sweep
}

#[test]
fn a_sweep_that_is_asked_to_stop_has_its_runs_stop_and_ends_with_75() {
    let place = Place::new();
    let sweep = at_work(&place, ENDLESS);
    let status = place.status();
    assert_eq!(place.states(), ["running", "running", "missing"]);
    assert!(status[0]["left_s"].as_f64().unwrap() > 0.0, "{}", status[0]);
    // A second sweep leaves them to the first.
    let output = place.run(&["sweep", "sweep.jsonl", "--indices", "0-1"]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("another process is at work on 2"), "{}", stderr(&output));

    signal(sweep.id(), "-TERM");
    let output = sweep.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(75), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("stopped: 0 of 3 runs done, 0 failed"), "{text}");
    assert_eq!(place.states(), ["stopped", "stopped", "missing"]);
}

#[test]
fn a_sweep_that_was_stopped_goes_on_to_the_curves_of_one_that_never_was() {
    let place = Place::new();
    let sweep = at_work(&place, 4000);
    signal(sweep.id(), "-INT");
    assert_eq!(sweep.wait_with_output().unwrap().status.code(), Some(75));
    assert_eq!(place.states(), ["stopped", "stopped", "missing"]);
    let output = place.run(&["sweep", "sweep.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(place.states(), ["done", "done", "done"]);

    let whole = Place::new();
    whole.write_lines(&place.lines());
    let output = whole.run(&["sweep", "sweep.jsonl", "--indices", "0-1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for seed in 0..2 {
        let of = |place: &Place| curves(&place.path(&folder("sac", seed)));
        assert_eq!(of(&place), of(&whole), "seed {seed}");
    }
}

#[test]
fn a_signal_that_reaches_sweep_and_runs_alike_is_one_request() {
    // As some schedulers end a job: every process gets the signal, and the sweep passes it on.
    let place = Place::new();
    let sweep = at_work(&place, ENDLESS);
    children(&sweep).into_iter().for_each(|child| signal(child, "-TERM"));
    signal(sweep.id(), "-TERM");
    signal(sweep.id(), "-TERM");
    let output = sweep.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    for seed in 0..2 {
        let run = place.path(&folder("sac", seed));
        let log = fs::read_to_string(run.join("log.txt")).unwrap();
        let last = log.lines().last().unwrap();
        assert!(last.starts_with("stopped: "), "no checkpoint was written: {log}");
        assert!(!run.join("FAILED").exists());
    }
}

#[test]
fn a_child_that_is_killed_is_one_failed_run_and_the_next_begins() {
    let place = Place::new();
    let sweep = at_work(&place, ENDLESS);
    signal(children(&sweep)[0], "-KILL");
    eventually("the third run at work", || place.states()[2] == "running");
    let mut states = place.states();
    states.sort();
    assert_eq!(states, ["failed", "running", "running"]);
    let status = place.status();
    let failed = status.iter().find(|run| run["state"] == "failed").unwrap();
    assert_eq!(failed["reason"], "ended by signal 9");
    signal(sweep.id(), "-TERM");
    let output = sweep.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).contains("ended by signal 9"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let place = Place::new();
    place.plan(&["--algos", "sac", "--seeds", "0"]);
    place.plan(&["--algos", "sac", "--seeds", "1", "--threads", "3"]);
    let output = place.run(&["sweep", "sweep.jsonl", "--dry-run", "--jobs", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let threads = std::thread::available_parallelism().unwrap();
    let expected = [
        format!("missing  runner run --index 0 --threads {threads} --manifest sweep.jsonl"),
        "missing  runner run --index 1 --manifest sweep.jsonl".to_string(),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(!place.path("results").exists());
}

#[test]
fn the_script_for_slurm_asks_for_what_the_runs_need_and_shell_reads_it() {
    let place = Place::new();
    place.plan(&["--algos", "sac", "--seeds", "0-9", "--device", "cuda", "--threads", "2"]);
    let slurm = |args: &[&str]| place.run(&[&["slurm", "sweep.jsonl", "--dry-run"], args].concat());
    let flags = ["--gpus-per-run", "0.25", "--array-limit", "2", "--time", "1-00:00:00"];
    let more = ["--mem", "3G", "--partition", "gpu", "--stop-before", "60"];
    let output = slurm(&[&flags[..], &more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let script = String::from_utf8(output.stdout).unwrap();
    for option in [
        "array=0-2%2",
        "gres=gpu:1",
        "cpus-per-task=8",
        "mem=12G",
        "time=1-00:00:00",
        "partition=gpu",
        "requeue",
        "open-mode=append",
        "signal=TERM@60",
    ] {
        assert!(script.lines().any(|line| line == format!("#SBATCH --{option}")), "{script}");
    }
    // The script itself, with the program replaced by one that shows its arguments.
    let program = format!("{:?}", fs::canonicalize(env!("CARGO_BIN_EXE_runner")).unwrap());
    assert!(script.contains(&program), "{script}");
    let shown = "srun() { shift 2; \"$@\"; }\n".to_string() + &script.replace(&program, "echo");
    for (task, indices) in [("0", "0-3"), ("2", "8-9")] {
        let mut bash = Command::new("bash");
        let output = bash.args(["-c", &shown]).env("SLURM_ARRAY_TASK_ID", task).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("--indices {indices} --jobs 4")), "{text}");
    }
    refused(&slurm(&[]), 2, &["10 runs are planned with --device cuda", "--gpus-per-run"]);
    for wrong in ["0", "1.5", "-1", "nan", "1e-300"] {
        refused(&slurm(&["--gpus-per-run", wrong]), 2, &["--gpus-per-run", "0.001 to 1"]);
    }
    let gpu = ["--gpus-per-run", "1"];
    for wrong in ["3", "0G", "G", "3GB", "-3G"] {
        let mem = format!("--mem={wrong}");
        refused(&slurm(&[&gpu[..], &[&mem]].concat()), 2, &["--mem", "a whole number"]);
    }
    refused(&slurm(&[&gpu[..], &["--time", "1\n#SBATCH"]].concat()), 2, &["--time"]);
    for short in ["3", "2:59", "0:03:00", "0-0:3"] {
        refused(&slurm(&[&gpu[..], &["--time", short]].concat()), 2, &["--time", "--stop-before"]);
    }
    for long in ["0-1", "0"] {
        assert!(slurm(&[&gpu[..], &["--time", long]].concat()).status.success(), "{long}");
    }
    assert!(!place.path("results").exists() && !place.path("sweep.slurm").exists());

    let mut command = place.command(&["slurm", "sweep.jsonl", "--gpus-per-run", "1"]);
    refused(&command.env("PATH", "/no/such").output().unwrap(), 1, &["sbatch", "--dry-run"]);
}
