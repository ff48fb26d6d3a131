//! Runs that are killed again and again end with the bytes of one that was left alone.
//!
//! `SMFP_KILLS=20 cargo test -p runner --test survive` kills each of the three long
//! runs twenty times instead of three.

mod common;

use common::{SMALL, TASKS, repeatable, runner, stderr};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// A run of some seconds with many checkpoints, whose ring of the replay wraps several times.
struct Case {
    algo: &'static str,
    env: &'static str,
    steps: u64,
    more: &'static [&'static str],
}

impl Case {
    fn command(&self, out: &Path) -> Command {
        let mut command = runner();
        command.args(["--algo", self.algo, "--env", self.env, "--seed", "4", "--out"]).arg(out);
        command.args(SMALL).args(["--steps", &self.steps.to_string(), "--threads", "1"]);
        for set in ["train.replay_capacity=500", "train.checkpoint_interval=60"] {
            command.args(["--set", set]);
        }
        command.args(["--set", "train.eval_interval=400"]).args(self.more);
        command.stderr(Stdio::piped());
        command
    }

    fn run(&self, out: &Path) -> Output {
        self.command(out).output().unwrap()
    }

    fn folder(&self, out: &Path) -> PathBuf {
        out.join(self.algo).join(self.env).join("seed-4")
    }
}

/// How a process is stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    /// `kill -9` at a random moment.
    Kill,
    /// `kill -9` while a checkpoint is being written.
    KillInCheckpoint,
    /// SIGTERM or SIGINT, which leave time for a checkpoint.
    Ask(&'static str),
}

/// What a blow met.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Met {
    /// The run had ended before.
    Nothing,
    Training,
    /// A checkpoint that was being written.
    Checkpoint,
}

/// Starts the run and stops it.
fn strike(case: &Case, out: &Path, blow: Blow, rng: &mut impl Rng) -> Met {
    let began = SystemTime::now();
    let mut child = case.command(out).spawn().unwrap();
    let draft = case.folder(out).join("checkpoint/unfinished");
    let wait = if blow == Blow::KillInCheckpoint { 20_000 } else { rng.random_range(300..1500) };
    let patience = Instant::now() + Duration::from_millis(wait);
    while Instant::now() < patience && child.try_wait().unwrap().is_none() {
        if blow == Blow::KillInCheckpoint && draft.exists() {
            break;
        }
        sleep(Duration::from_micros(200));
    }
    if let Blow::Ask(signal) = blow {
        kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(75 | 0)) || code.is_none(), "{}", stderr(&output));
        return if code == Some(0) { Met::Nothing } else { Met::Training };
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code().is_some() {
        assert!(output.status.success(), "{}", stderr(&output));
        return Met::Nothing;
    }
    // One from an earlier blow may still be there.
    let fresh = draft.metadata().and_then(|data| data.modified()).is_ok_and(|at| at > began);
    if fresh { Met::Checkpoint } else { Met::Training }
}

fn kill(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// Kills a run several times, lets it end, and compares it with an uninterrupted one.
/// Returns how many of the kills came during a checkpoint.
fn survives(case: &Case, kills: usize) -> usize {
    let (alone, struck) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = case.run(alone.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let mut rng = StdRng::seed_from_u64(kills as u64);
    let (mut fell, mut within) = (0, 0);
    while fell < kills {
        let blow = match fell % 4 {
            0 | 2 => Blow::Kill,
            1 => Blow::KillInCheckpoint,
            _ => Blow::Ask(["-TERM", "-INT"][fell / 4 % 2]),
        };
        match strike(case, struck.path(), blow, &mut rng) {
            Met::Nothing => break,
            Met::Training => {}
            Met::Checkpoint => within += 1,
        }
        fell += 1;
    }
    assert_eq!(fell, kills, "{} {}: it ended before", case.algo, case.env);
    let output = case.run(struck.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let [left, killed] = [alone.path(), struck.path()].map(|out| repeatable(&case.folder(out)));
    assert!(left == killed, "{} {}: the runs differ", case.algo, case.env);
    println!("{} {}: {kills} kills, {within} within a checkpoint: the same", case.algo, case.env);
    within
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_left_alone() {
    let kills = std::env::var("SMFP_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let steps = 1500 + 300 * kills as u64;
    let cases = [
        Case { algo: "smfp", env: "Hopper-v4", steps, more: &[] },
        Case {
            algo: "dpmd",
            env: "Walker2d-v4",
            steps,
            more: &["--envs", "2", "--set", "diffusion.steps=4"],
        },
        Case { algo: "sac", env: "Humanoid-v4", steps, more: &["--set", "critic.kind=layernorm"] },
    ];
    let within: usize = cases.iter().map(|case| survives(case, kills)).sum();
    assert!(within > 0, "no blow fell into a checkpoint");
}

#[test]
fn every_algorithm_and_task_goes_on_after_a_kill() {
    for (algo, env) in runner::algorithms().into_iter().zip(TASKS.into_iter().cycle()) {
        survives(&Case { algo, env, steps: 5000, more: &[] }, 1);
    }
    // The scale of returns, and every environment's running return, are part of a checkpoint.
    let more = &["--envs", "2", "--set", "critic.kind=xqc"];
    survives(&Case { algo: "sac", env: "Hopper-v4", steps: 6000, more }, 1);
}
