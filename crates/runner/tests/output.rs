//! Output that nobody reads, or that does not fit, ends no run; a terminal that closes asks for a
//! checkpoint.

mod common;

use common::{SMALL, checkpoints, folder, refused, runner, stderr};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command that trains for some seconds; `more` may change that.
fn training(out: &Path, more: &[&str]) -> Command {
    let mut command = runner();
    command.args(["--env", "Hopper-v4", "--seed", "0", "--threads", "1", "--out"]).arg(out);
    command.args(SMALL).args(more);
    command
}

const SHORT: [&str; 2] = ["--steps", "300"];
const LONG: [&str; 4] = ["--steps", "1000000", "--set", "train.eval_interval=500"];

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Starts a command, reads the first line of its messages and closes the pipe.
fn abandon(mut command: Command) -> Child {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "it says something at its start");
    child
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the first row of `eval.csv`: training goes on.
fn wait_until_it_trains(out: &Path) {
    let path = folder(out, "Hopper-v4", 0).join("eval.csv");
    wait_for(&path);
    let begun = Instant::now();
    while fs::read_to_string(&path).unwrap().lines().count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no evaluation");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_done(out: &Path) -> bool {
    folder(out, "Hopper-v4", 0).join("DONE").exists()
}

#[test]
fn a_run_trains_to_its_end_when_its_messages_have_no_reader_or_no_room() {
    let out = tempfile::tempdir().unwrap();
    let status = abandon(training(out.path(), &SHORT)).wait().unwrap();
    assert!(status.success() && is_done(out.path()), "{status}");

    let out = tempfile::tempdir().unwrap();
    let status = training(out.path(), &SHORT).stderr(full()).status().unwrap();
    assert!(status.success() && is_done(out.path()), "{status}");

    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >&- 2>&-", "sh"]);
    let train = training(out.path(), &SHORT);
    let status = command.arg(train.get_program()).args(train.get_args()).status().unwrap();
    assert!(status.success() && is_done(out.path()), "{status}");
}

#[test]
fn an_interrupt_behind_a_closed_pipe_still_gives_a_checkpoint() {
    let out = tempfile::tempdir().unwrap();
    let mut child = abandon(training(out.path(), &LONG));
    wait_until_it_trains(out.path());
    send(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!checkpoints(&folder(out.path(), "Hopper-v4", 0)).is_empty());
}

#[test]
fn a_hangup_asks_for_a_checkpoint_unless_it_was_ignored_at_the_start() {
    let out = tempfile::tempdir().unwrap();
    let mut child = training(out.path(), &LONG).stderr(Stdio::null()).spawn().unwrap();
    wait_until_it_trains(out.path());
    send(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(75));

    let out = tempfile::tempdir().unwrap();
    let train = training(out.path(), &LONG);
    let mut command = Command::new("nohup");
    command.arg(train.get_program()).args(train.get_args());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until_it_trains(out.path());
    send(&child, "-HUP");
    let rows = || fs::read_to_string(folder(out.path(), "Hopper-v4", 0).join("train.csv")).unwrap();
    let before = rows().lines().count();
    let begun = Instant::now();
    while rows().lines().count() < before + 3 {
        assert!(child.try_wait().unwrap().is_none(), "the hangup ended it");
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

/// Plans runs of two seeds in a folder.
fn plan(place: &Path, more: &[&str]) -> Output {
    let mut command = runner();
    command.args(["plan", "--envs", "Hopper-v4", "--seeds", "0,1", "--threads", "1"]);
    let output = command.args(SMALL).args(more).current_dir(place).output().unwrap();
    fs::write(place.join("sweep.jsonl"), &output.stdout).unwrap();
    output
}

fn sweep(place: &Path) -> Command {
    let mut command = runner();
    command.args(["sweep", "sweep.jsonl", "--jobs", "2"]).current_dir(place);
    command
}

#[test]
fn a_sweep_goes_on_when_its_reader_goes_away() {
    let place = tempfile::tempdir().unwrap();
    assert!(plan(place.path(), &SHORT).status.success());
    let results = place.path().join("results");
    let status = abandon(sweep(place.path())).wait().unwrap();
    assert!(status.success() && is_done(&results), "{status}");
}

#[test]
fn a_sweep_whose_terminal_went_away_is_still_stopped_with_checkpoints() {
    let place = tempfile::tempdir().unwrap();
    assert!(plan(place.path(), &LONG).status.success());
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let end = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&end, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = sweep(place.path());
    let mut child = command.env("TERM", "xterm").stderr(end).spawn().unwrap();
    drop(command); // and its copy of the terminal
    let mut terminal = File::from(terminal);
    let mut drawn = Vec::new();
    while !String::from_utf8_lossy(&drawn).contains('%') {
        let mut bytes = [0; 256];
        let count = terminal.read(&mut bytes).unwrap();
        drawn.extend_from_slice(&bytes[..count]);
    }
    drop(terminal); // every later write fails
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn a_hangup_stops_a_sweep_and_its_runs() {
    let place = tempfile::tempdir().unwrap();
    assert!(plan(place.path(), &LONG).status.success());
    let mut child = sweep(place.path()).stderr(Stdio::null()).spawn().unwrap();
    let results = place.path().join("results");
    wait_until_it_trains(&results);
    // The other run may have begun later.
    wait_for(&folder(&results, "Hopper-v4", 1).join("eval.csv"));
    send(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let output =
        runner().args(["status", "sweep.jsonl"]).current_dir(place.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 stopped"), "{output:?}");
}

#[test]
fn data_that_cannot_be_written_is_one_line_and_exit_code_1() {
    let place = tempfile::tempdir().unwrap();
    assert!(plan(place.path(), &SHORT).status.success());
    let manifest = place.path().join("sweep.jsonl");
    let manifest = manifest.to_str().unwrap();
    let run = place.path().join("sac/Hopper-v4/seed-0");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("config.toml"), "[train]\nsteps = 10\n").unwrap();
    for args in [
        &["--help"][..],
        &["--version"],
        &["doctor"],
        &["plan", "--envs", "Hopper-v4", "--seeds", "0"],
        &["status", manifest],
        &["watch", place.path().to_str().unwrap()],
    ] {
        let output = runner().args(args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        refused(&output, 1, &["stdout", "No space left"]);
    }
    // A reader that has gone, and a message that has nowhere to go.
    let mut child =
        runner().arg("doctor").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!stderr(&output).contains("internal failure"), "{}", stderr(&output));
    let status = runner().arg("doctor").stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
