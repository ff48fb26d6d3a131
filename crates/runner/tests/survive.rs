//! Runs that are killed again and again, or made longer, end with the bytes of one that was
//! left alone.
//!
//! `SMFP_KILLS=20 cargo test -p runner --test survive` kills each of the three long
//! runs twenty times instead of three.

mod common;

use common::{SMALL, TASKS, refused, repeatable, runner, stderr};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// A run of some seconds with many checkpoints, whose ring of the replay wraps several times.
#[derive(Clone, Copy)]
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
    /// `kill -9` at a random moment after the first checkpoint.
    KillAfterCheckpoint,
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

/// Starts the run and stops it, after `wait` at the latest.
fn strike(case: &Case, out: &Path, blow: Blow, wait: Duration) -> Met {
    let began = SystemTime::now();
    let mut child = case.command(out).spawn().unwrap();
    let checkpoints = case.folder(out).join("checkpoint");
    let draft = checkpoints.join("unfinished");
    let wait = if blow == Blow::KillInCheckpoint { Duration::from_secs(20) } else { wait };
    let mut patience = Instant::now() + wait;
    while Instant::now() < patience && child.try_wait().unwrap().is_none() {
        match blow {
            Blow::KillInCheckpoint if draft.exists() => break,
            Blow::KillAfterCheckpoint if !has_finished_checkpoint(&checkpoints) => {
                patience = Instant::now() + wait;
            }
            _ => {}
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

fn has_finished_checkpoint(checkpoints: &Path) -> bool {
    std::fs::read_dir(checkpoints).is_ok_and(|names| {
        names.flatten().any(|name| name.file_name().to_string_lossy().starts_with("step-"))
    })
}

fn kill(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// Stops a run once for each of `blows`, lets it end, and compares it with an uninterrupted one.
/// Returns how many of the blows came during a checkpoint.
#[expect(clippy::print_stdout, reason = "the figures of the test")]
fn survives(case: &Case, blows: &[Blow]) -> usize {
    let kills = blows.len();
    let (alone, mut struck) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let began = Instant::now();
    let output = case.run(alone.path());
    let whole = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut rng = StdRng::seed_from_u64(kills as u64);
    let (mut fell, mut within, mut early) = (0, 0, 0);
    while fell < kills {
        // Machines differ in speed: a run that has ended before its last blow begins again, and
        // its blows come sooner.
        let latest = (0.9 * whole).min(1.5) * 0.8_f64.powi(early);
        let wait = Duration::from_secs_f64(latest * rng.random_range(0.2..1.0));
        match strike(case, struck.path(), blows[fell], wait) {
            Met::Nothing => {
                early += 1;
                assert!(early < 10, "{} {}: it always ends before", case.algo, case.env);
                struck = tempfile::tempdir().unwrap();
                (fell, within) = (0, 0);
                continue;
            }
            Met::Training => {}
            Met::Checkpoint => within += 1,
        }
        fell += 1;
    }
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
    let blow = |number: usize| match number % 4 {
        0 | 2 => Blow::Kill,
        1 => Blow::KillInCheckpoint,
        _ => Blow::Ask(["-TERM", "-INT"][number / 4 % 2]),
    };
    let blows: Vec<_> = (0..kills).map(blow).collect();
    let within: usize = cases.iter().map(|case| survives(case, &blows)).sum();
    assert!(within > 0, "no blow fell into a checkpoint");
}

#[test]
fn every_algorithm_and_task_goes_on_after_a_kill() {
    for (algo, env) in runner::algorithms().into_iter().zip(TASKS.into_iter().cycle()) {
        survives(&Case { algo, env, steps: 1600, more: &[] }, &[Blow::KillAfterCheckpoint]);
    }
    // The scale of returns, and every environment's running return, are part of a checkpoint.
    let more = &["--envs", "2", "--set", "critic.kind=xqc"];
    let case = Case { algo: "sac", env: "Hopper-v4", steps: 1600, more };
    survives(&case, &[Blow::KillAfterCheckpoint]);
}

/// A run of `steps` steps that keeps its replay, in the folder `out`.
fn lengthened(case: &Case, out: &Path, steps: u64) -> Output {
    let mut command = Case { steps, ..*case }.command(out);
    command.args(["--set", "train.keep_replay=true"]).output().unwrap()
}

#[test]
fn a_finished_run_that_becomes_longer_ends_as_one_that_was_long_from_the_start() {
    // A ring that has wrapped, one that has never been full and must grow, and two of them.
    let growing: &[_] = &["--set", "train.replay_capacity=100000"];
    let two = &["--envs", "2", "--set", "train.replay_capacity=100000"];
    for (algo, more) in [("smfp", &[][..]), ("sac", growing), ("td3", two)] {
        let case = Case { algo, env: "Hopper-v4", steps: 2000, more };
        let (long, short) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let output = case.run(long.path());
        assert!(output.status.success(), "{}", stderr(&output));
        for steps in [800, 1200, 2000] {
            let output = lengthened(&case, short.path(), steps);
            assert!(output.status.success(), "{algo}: {}", stderr(&output));
            let rows = repeatable(&case.folder(short.path())).0;
            assert_eq!(rows.last().unwrap().step, steps);
            let again = lengthened(&case, short.path(), steps);
            assert!(stderr(&again).contains("this run is finished"), "{}", stderr(&again));
        }
        let [long, short] = [long.path(), short.path()].map(|out| repeatable(&case.folder(out)));
        assert!(long == short, "{algo} {more:?}: the runs differ");
    }
}

/// A run of 800 steps that died on its way to `towards` of them, after its record had changed and before a
/// checkpoint, becomes one of 2000; `then` changes its folder further.
fn dies_while_it_becomes_longer(towards: u64, then: impl Fn(&Path)) {
    let more = &["--set", "train.replay_capacity=100000"];
    let case = Case { algo: "td3", env: "Hopper-v4", steps: 2000, more };
    let (long, short) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(case.run(long.path()).status.success());
    assert!(lengthened(&case, short.path(), 800).status.success());
    let folder = case.folder(short.path());
    std::fs::remove_file(folder.join("DONE")).unwrap();
    let record = std::fs::read_to_string(folder.join("config.toml")).unwrap();
    let longer = record.replace("\nsteps = 800\n", &format!("\nsteps = {towards}\n"));
    assert!(longer != record, "{record}");
    std::fs::write(folder.join("config.toml"), longer).unwrap();
    then(&folder.join("checkpoint"));
    let output = lengthened(&case, short.path(), 2000);
    assert!(output.status.success(), "{}", stderr(&output));
    let [long, short] = [long.path(), short.path()].map(|out| repeatable(&case.folder(out)));
    assert!(long == short, "the runs differ");
}

#[test]
fn a_run_dies_while_it_becomes_longer_and_the_same_command_goes_on() {
    // The replay grows under another name, which an earlier death may have left.
    dies_while_it_becomes_longer(2000, |checkpoints| {
        std::fs::write(checkpoints.join("replay.grown"), "half a file").unwrap();
    });
}

#[test]
fn a_run_that_died_while_it_became_longer_may_become_longer_still() {
    // Its replay had grown: a ring has two slots for each step, and one step more.
    dies_while_it_becomes_longer(1200, |checkpoints| {
        let replay = std::fs::File::options().write(true).open(checkpoints.join("replay.bin"));
        let replay = replay.unwrap();
        let bytes = replay.metadata().unwrap().len();
        assert_eq!(bytes % (2 * 801), 0);
        replay.set_len(bytes / (2 * 801) * (2 * 1201)).unwrap();
    });
}

#[test]
fn a_run_that_cannot_become_longer_is_refused_with_the_reason_and_kept() {
    let case = Case { algo: "td3", env: "Hopper-v4", steps: 400, more: &[] };
    let out = tempfile::tempdir().unwrap();
    assert!(case.run(out.path()).status.success());
    let before = repeatable(&case.folder(out.path()));
    let train = |steps, more: &'static [_]| Case { steps, more, ..case }.run(out.path());
    refused(&train(800, &[]), 2, &["steps = 400", "train.keep_replay", "--restart"]);
    refused(&train(300, &[]), 2, &["steps = 400", "has 300", "--restart"]);
    let other = train(800, &["--set", "actor.width=33"]);
    refused(&other, 2, &["actor.width = 32", "--restart"]);
    assert!(before == repeatable(&case.folder(out.path())));
    assert!(case.folder(out.path()).join("DONE").exists());

    // It kept its replay, which is damaged: it stays the finished run that it was.
    let out = tempfile::tempdir().unwrap();
    assert!(lengthened(&case, out.path(), 400).status.success());
    let replay = case.folder(out.path()).join("checkpoint/replay.bin");
    std::fs::write(&replay, vec![7; std::fs::metadata(&replay).unwrap().len() as usize]).unwrap();
    let output = lengthened(&case, out.path(), 800);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("damaged"));
    let output = lengthened(&case, out.path(), 400);
    assert!(stderr(&output).contains("this run is finished"), "{}", stderr(&output));
    // It is not there any more, as in a clone of tables.
    std::fs::remove_file(replay).unwrap();
    refused(&lengthened(&case, out.path(), 800), 2, &["replay.bin, is missing", "--restart"]);

    // Its last evaluation and row are ones that the longer run would not have.
    let out = tempfile::tempdir().unwrap();
    assert!(lengthened(&case, out.path(), 450).status.success());
    refused(&lengthened(&case, out.path(), 800), 2, &["steps = 450", "train.eval_interval = 400"]);
}
