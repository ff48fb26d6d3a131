//! Damaged files of a run: each gives one clear line, and either the checkpoint
//! before or a refusal. A run that resumes ends with the bytes of an uninterrupted one.

mod common;

use common::{SMALL, checkpoint, checkpoints, folder, refused, repeatable, runner, stderr};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

const ENV: &str = "Hopper-v4";

fn command(out: &Path) -> Command {
    let mut command = runner();
    command.args(["--env", ENV, "--seed", "1", "--steps", "900", "--out"]).arg(out).args(SMALL);
    command.args(["--threads", "1", "--set", "train.checkpoint_interval=200"]);
    command
}

/// A run left alone, and one that was killed after its second checkpoint.
struct Runs {
    alone: TempDir,
    killed: TempDir,
}

static RUNS: LazyLock<Runs> = LazyLock::new(|| {
    let (alone, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(command(alone.path()).output().unwrap().status.success());
    let mut child = command(killed.path()).stderr(Stdio::null()).spawn().unwrap();
    let at = |step| folder(killed.path(), ENV, 1).join(format!("checkpoint/step-{step:012}"));
    while !at(400).exists() || at(0).exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Runs { alone, killed }
});

/// A copy of the killed run.
struct Copy {
    out: TempDir,
    run: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let out = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(RUNS.killed.path().join("smfp"))
            .arg(out.path())
            .status();
        assert!(copied.unwrap().success());
        let run = folder(out.path(), ENV, 1);
        Self { out, run }
    }

    fn go_on(&self) -> Output {
        command(self.out.path()).output().unwrap()
    }

    /// Goes on to the end, with the bytes of the run left alone; the warnings.
    fn ends_the_same(&self, case: &str) -> Vec<String> {
        let output = self.go_on();
        let text = stderr(&output);
        assert!(output.status.success(), "{case}: {text}");
        let alone = folder(RUNS.alone.path(), ENV, 1);
        assert!(repeatable(&self.run) == repeatable(&alone), "{case}: the runs differ");
        text.lines().filter(|line| line.starts_with("warning: ")).map(String::from).collect()
    }

    /// Refuses to resume, in one line after the warnings; all files are unchanged.
    fn refuses(&self, case: &str, words: &[&str]) {
        let before = fs::read(self.run.join("train.csv")).unwrap_or_default();
        let output = self.go_on();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{case}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("{case}: {text}") };
        for word in words {
            assert!(error.contains(word), "{case}: '{word}' is not in: {error}");
        }
        assert_eq!(fs::read(self.run.join("train.csv")).unwrap_or_default(), before, "{case}");
    }
}

/// A way to spoil a file: its name, and what becomes of the bytes.
type Damage = (&'static str, fn(Vec<u8>) -> Option<Vec<u8>>);

const DAMAGES: [Damage; 4] = [
    ("cut short", |bytes| Some(bytes[..bytes.len() * 2 / 3].to_vec())),
    ("one bit flipped", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        Some(bytes)
    }),
    ("emptied", |_| Some(Vec::new())),
    ("missing", |_| None),
];

fn spoil(file: &Path, damage: fn(Vec<u8>) -> Option<Vec<u8>>) {
    match damage(fs::read(file).unwrap()) {
        Some(bytes) => fs::write(file, bytes).unwrap(),
        None => fs::remove_file(file).unwrap(),
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    for file in ["agent.safetensors", "run.json", "SHA256SUMS"] {
        for (how, damage) in DAMAGES {
            let copy = Copy::new();
            let newest = checkpoint(&copy.run);
            spoil(&newest.join(file), damage);
            let case = format!("{file} {how}");
            let warnings = copy.ends_the_same(&case);
            let [warning] = &warnings[..] else { panic!("{case}: {warnings:?}") };
            let name = newest.file_name().unwrap().to_str().unwrap();
            assert!(warning.contains(name) && warning.contains(file), "{case}: {warning}");
            println!("{case}: {warning}");
        }
    }
}

#[test]
fn with_both_checkpoints_damaged_nothing_is_begun_or_lost() {
    let copy = Copy::new();
    for checkpoint in checkpoints(&copy.run) {
        spoil(&checkpoint.join("agent.safetensors"), DAMAGES[1].1);
    }
    copy.refuses(
        "both damaged",
        &["no checkpoint to resume from", "agent.safetensors", "--restart"],
    );
}

/// Changes `run.json` and its checksum.
fn forge(checkpoint: &Path, from: &str, to: &str) {
    let path = checkpoint.join("run.json");
    let run = fs::read_to_string(&path).unwrap();
    assert!(run.contains(from), "{run}");
    fs::write(&path, run.replace(from, to)).unwrap();
    let sums = Command::new("sha256sum")
        .args(["agent.safetensors", "run.json"])
        .current_dir(checkpoint)
        .output()
        .unwrap();
    fs::write(checkpoint.join("SHA256SUMS"), sums.stdout).unwrap();
}

#[test]
fn a_checkpoint_of_another_version_algorithm_task_or_seed_is_refused() {
    let cases = [
        ("\"format\":2", "\"format\":1"),
        ("\"algo\":\"smfp\"", "\"algo\":\"sac\""),
        ("\"env\":\"Hopper-v4\"", "\"env\":\"Ant-v4\""),
        ("\"seed\":1", "\"seed\":7"),
    ];
    for (ours, other) in cases {
        let copy = Copy::new();
        for checkpoint in checkpoints(&copy.run) {
            forge(&checkpoint, ours, other);
        }
        copy.refuses(other, &["a checkpoint of", other, "expected"]);
    }
    let copy = Copy::new();
    for checkpoint in checkpoints(&copy.run) {
        forge(&checkpoint, "\"due\":0.0", "\"due\":1e300");
    }
    copy.refuses("updates", &["updates are due"]);
}

#[test]
fn a_checkpoint_with_other_metrics_is_refused_by_their_names() {
    let copy = Copy::new();
    for checkpoint in checkpoints(&copy.run) {
        forge(&checkpoint, "[\"grad_norm\"", "[\"of_another_version\"");
    }
    copy.refuses("metrics", &["of_another_version", "this version has", "--restart"]);
}

#[test]
fn a_replay_that_is_not_what_the_checkpoints_saw_is_refused() {
    let cases: [(&str, Damage); 4] = [
        ("expected", ("too short", |bytes| Some(bytes[..bytes.len() - 4].to_vec()))),
        ("expected", ("too long", |bytes| Some([bytes, vec![0; 4]].concat()))),
        (
            "slot 10 has a wrong number or checksum",
            ("one bit flipped", |mut bytes| {
                bytes[10 * 4 * (11 + 3 + 5) + 7] ^= 1;
                Some(bytes)
            }),
        ),
        ("No such file", ("missing", |_| None)),
    ];
    for (words, (how, damage)) in cases {
        let copy = Copy::new();
        spoil(&copy.run.join("checkpoint/replay.bin"), damage);
        copy.refuses(&format!("replay.bin {how}"), &["replay.bin: damaged", words, "--restart"]);
    }
}

#[test]
fn rows_after_the_checkpoint_are_made_again_and_rows_before_it_must_be_there() {
    let copy = Copy::new();
    let log = copy.run.join("train.csv");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("{text}600,450,3")).unwrap();
    assert!(copy.ends_the_same("half a row").is_empty());

    // Shorter than the newest checkpoint saw it, as long as the one before did.
    let copy = Copy::new();
    let log = copy.run.join("train.csv");
    let rows: Vec<&str> = text.split_inclusive('\n').take(3).collect();
    fs::write(&log, rows.concat()).unwrap();
    let warnings = copy.ends_the_same("train.csv cut short");
    assert!(warnings.len() == 1 && warnings[0].contains("train.csv"), "{warnings:?}");

    for (how, damage) in [DAMAGES[2], DAMAGES[3]] {
        let copy = Copy::new();
        spoil(&copy.run.join("train.csv"), damage);
        copy.refuses(&format!("train.csv {how}"), &["train.csv", "0 bytes, expected"]);
    }
    let copy = Copy::new();
    let log = copy.run.join("train.csv");
    fs::write(&log, text.replacen("100,", "101,", 1)).unwrap();
    copy.refuses("train.csv altered", &["train.csv", "altered since the checkpoint"]);
}

#[test]
fn a_record_that_is_damaged_missing_or_of_other_settings_is_refused() {
    let copy = Copy::new();
    fs::write(copy.run.join("config.toml"), "[run\nalgo").unwrap();
    copy.refuses("not TOML", &["config.toml: damaged", "--restart"]);
    let copy = Copy::new();
    fs::remove_file(copy.run.join("config.toml")).unwrap();
    copy.refuses("missing", &["holds train.csv but no config.toml"]);
    assert!(!copy.run.join("config.toml").exists());
    let copy = Copy::new();
    let output = command(copy.out.path()).args(["--set", "mirror.candidates=5"]).output().unwrap();
    refused(&output, 2, &["holds a run with mirror.candidates = 4", "has 5", "--restart"]);
    // Another way to write the same number is the same number.
    let output = command(copy.out.path()).args(["--set", "actor.learning_rate=0.001"]).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn a_replay_that_is_to_be_kept_since_a_run_was_resumed_stays_when_the_command_is_repeated() {
    let copy = Copy::new();
    for _ in 0..2 {
        let mut command = command(copy.out.path());
        let output = command.args(["--set", "train.keep_replay=true"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(copy.run.join("checkpoint/replay.bin").exists());
    }
    let record = fs::read_to_string(copy.run.join("config.toml")).unwrap();
    assert!(record.contains("keep_replay = true"), "{record}");
}

#[test]
fn resume_refuses_to_begin_and_restart_keeps_the_stopped_run_under_another_name() {
    let out = tempfile::tempdir().unwrap();
    let output = command(out.path()).arg("--resume").output().unwrap();
    refused(&output, 2, &["holds no run to resume", "--resume"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);

    let copy = Copy::new();
    let old = checkpoint(&copy.run).file_name().unwrap().to_owned();
    let output = command(copy.out.path()).arg("--restart").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let aside = copy.run.with_file_name("seed-1.old-1");
    assert_eq!(checkpoint(&aside).file_name().unwrap(), old);
    let alone = folder(RUNS.alone.path(), ENV, 1);
    assert!(repeatable(&copy.run) == repeatable(&alone), "the runs differ");
}

/// What a user can do on a small disk of our own; nothing where the system gives
/// us no name space to mount it in.
fn on_a_small_disk(script: &str) -> Option<Output> {
    let namespace = ["--user", "--map-root-user", "--mount"];
    let mountable = "mount -t tmpfs tmpfs /mnt";
    let probe = Command::new("unshare").args(namespace).args(["sh", "-c", mountable]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        #[expect(clippy::print_stderr, reason = "says what was not tested")]
        {
            eprintln!("skipped: no mount name space here");
        }
        return None;
    }
    let script = format!("set -u; mount -t tmpfs -o size=3m tmpfs /mnt; {script}");
    let mut command = Command::new("unshare");
    command.args(namespace).args(["bash", "-c", &script, env!("CARGO_BIN_EXE_runner")]);
    command.args(["--env", ENV, "--seed", "1", "--steps", "900", "--out", "/mnt"]).args(SMALL);
    command.args(["--threads", "1", "--set", "train.checkpoint_interval=200"]);
    command.env_remove("SMFP_MODELS");
    Some(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_disk_that_fills_up_stops_the_run_and_it_goes_on_when_there_is_room() {
    let script = "run=/mnt/smfp/Hopper-v4/seed-1
        \"$0\" \"$@\" 2>/mnt/../tmp/full.$$ & child=$!
        until [ -e $run/checkpoint/step-000000000200 ]; do sleep 0.01; done
        cat /dev/zero >/mnt/filler 2>/dev/null
        wait $child; echo \"code $?\"; tail -n 1 /tmp/full.$$; rm /tmp/full.$$ /mnt/filler
        \"$0\" \"$@\" 2>/dev/null; echo \"code $?\"; cut -d, -f1-12 $run/train.csv";
    let Some(output) = on_a_small_disk(script) else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("code 1"), "{text}{}", stderr(&output));
    let error = lines.next().unwrap();
    assert!(error.starts_with("error: ") && error.contains("No space left"), "{error}");
    assert_eq!(lines.next(), Some("code 0"), "{text}");
    let alone = fs::read_to_string(folder(RUNS.alone.path(), ENV, 1).join("train.csv")).unwrap();
    let columns = |line: &str| line.split(',').take(12).collect::<Vec<_>>().join(",");
    assert!(lines.eq(alone.lines().map(columns)), "{text}");
}

#[test]
fn a_run_that_does_not_fit_or_must_not_write_is_refused_at_once() {
    let script = "\"$0\" \"${@/#900/1000000}\"; echo \"code $?\"
        \"$0\" --restart \"${@/#900/1000000}\" 2>/dev/null; echo \"code $?\"
        ls /mnt/smfp/Hopper-v4
        mount -o remount,ro /mnt; \"$0\" \"$@\"; echo \"code $?\"";
    let Some(output) = on_a_small_disk(script) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    // What is there is not moved for a run that does not fit.
    assert_eq!(text, "code 1\ncode 1\nseed-1\ncode 1\n", "{}", stderr(&output));
    let text = stderr(&output);
    let [too_big, read_only] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(too_big.contains("the replay needs") && too_big.contains("of disk"), "{too_big}");
    assert!(read_only.contains("Read-only file system"), "{read_only}");
}

#[test]
fn a_run_that_is_killed_as_it_ends_is_done_at_the_next_start() {
    // Between the last checkpoint, `DONE` and the replay's end, wherever the blow falls.
    for blow in 0..4 {
        let copy = Copy::new();
        let mut child = command(copy.out.path()).stderr(Stdio::null()).spawn().unwrap();
        while !copy.run.join("checkpoint/step-000000000900").exists() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended early");
        }
        std::thread::sleep(std::time::Duration::from_micros(200 * blow));
        child.kill().unwrap();
        child.wait().unwrap();
        copy.ends_the_same(&format!("blow {blow}"));
        assert!(copy.run.join("DONE").exists() && !copy.run.join("checkpoint/replay.bin").exists());
    }
    // After `DONE`, before the end of the replay and of the last but one checkpoint.
    let copy = Copy::new();
    assert!(copy.go_on().status.success());
    let replay = copy.run.join("checkpoint/replay.bin");
    let [last, before] =
        [900, 800].map(|step| copy.run.join(format!("checkpoint/step-{step:012}")));
    fs::write(&replay, "left over").unwrap();
    fs::create_dir(&before).unwrap();
    assert!(copy.go_on().status.success() && last.exists());
    assert!(!replay.exists() && !before.exists());
}

/// The time of day as a run sees it in the test below: at every call another day.
const JUMPING_CLOCK: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <time.h>
    int clock_gettime(clockid_t clock, struct timespec *time) {
        static int (*real)(clockid_t, struct timespec *);
        static int calls;
        if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
        int result = real(clock, time);
        if (clock == CLOCK_REALTIME) time->tv_sec += 86400 * (++calls % 2 ? -400 : 400);
        return result;
    }
"#;

#[test]
fn a_clock_that_jumps_moves_no_number_and_no_duration() {
    let tools = tempfile::tempdir().unwrap();
    let (source, library) = (tools.path().join("clock.c"), tools.path().join("clock.so"));
    fs::write(&source, JUMPING_CLOCK).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    let out = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    let mut jumping = command(out.path());
    let output = jumping.arg("--tensorboard").env("LD_PRELOAD", &library).output().unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder(out.path(), ENV, 1);
    assert!(repeatable(&run) == repeatable(&folder(RUNS.alone.path(), ENV, 1)));
    let rows: Vec<report::TrainRow> = report::read(&run.join("train.csv")).unwrap();
    assert!(rows.iter().all(|row| row.steps_per_s > 0.0 && row.wall_s <= took));
    assert!(rows.windows(2).all(|pair| pair[0].wall_s <= pair[1].wall_s));
    // Event files are named by the time of day: the clock did jump.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let names = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name());
    let mut seconds = names.filter_map(|name| name.to_str()?.split('.').nth(3)?.parse().ok());
    let named: u64 = seconds.next().expect("an event file");
    assert!(now.abs_diff(named) > 300 * 86400, "{named}");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf_8_is_used_or_refused_with_a_line() {
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsString::from_vec(b"a\xffb".to_vec()));
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(args).arg("--out").arg(&odd).output().unwrap()
    };
    let task = ["--algo", "sac", "--env", "Hopper-v4", "--seed", "0", "--steps", "20"];
    let trained = run(&[&task[..], &["--set", "train.eval_episodes=1", "--threads", "1"]].concat());
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    assert!(odd.join("sac/Hopper-v4/seed-0/eval.csv").is_file());
    let planned = run(&["plan", "--algos", "sac", "--envs", "Hopper-v4", "--seeds", "0"]);
    let text = String::from_utf8(planned.stderr).unwrap();
    assert_eq!(planned.status.code(), Some(2));
    assert!(text.contains("--out") && text.contains("not UTF-8"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

/// As a clone in a folder with a blank in its name: the libraries are found there by their paths.
#[cfg(unix)]
#[test]
fn the_libraries_are_found_at_a_path_with_a_blank() {
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clone = folder.path().join("a clone");
    std::fs::create_dir_all(clone.join("target/debug")).unwrap();
    let runner = clone.join("target/debug/runner");
    std::fs::copy(env!("CARGO_BIN_EXE_runner"), &runner).unwrap();
    // Links to files, as the loader reports where a file is reached, not where a link to its folder leads.
    fn link_files(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                link_files(&entry.path(), &to);
            } else if std::fs::hard_link(entry.path(), &to).is_err() {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
    for name in ["libtorch/lib", "mujoco/lib", "nvidia"] {
        link_files(&root.join("third_party").join(name), &clone.join("third_party").join(name));
    }
    for name in ["libtorch/build-version", "SHA256SUMS"] {
        std::fs::copy(root.join("third_party").join(name), clone.join("third_party").join(name))
            .unwrap();
    }
    std::os::unix::fs::symlink(root.join("models"), clone.join("models")).unwrap();
    let output = std::process::Command::new(&runner).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a clone/third_party/mujoco/lib/libmujoco.so"), "{text}");
    assert!(text.contains("ok     libraries"), "{text}");
}
