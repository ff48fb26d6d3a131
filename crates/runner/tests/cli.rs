//! The real program, driven from outside as its users drive it.

mod common;

use common::{SMALL, TASKS, folder, metric, refused, repeatable, runner, stderr, train};
use report::{EvalRow, ToyRow, TrainRow};
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

#[test]
fn every_task_trains_from_the_command_line_and_its_checkpoint_evaluates_to_what_was_logged() {
    for env in TASKS {
        let out = tempfile::tempdir().unwrap();
        let output = train(out.path(), env, 3, &[]);
        assert!(output.status.success(), "{env}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "progress belongs on stderr");
        let run = folder(out.path(), env, 3);
        assert!(run.join("DONE").is_file());

        let (train, eval, _) = repeatable(&run);
        let steps: Vec<u64> = train.iter().map(|row| row.step).collect();
        assert_eq!(steps, [100, 200, 300], "{env}");
        let last = train.last().unwrap();
        assert_eq!(last.updates, 150, "{env}");
        for name in ["critic_loss", "actor_loss", "mirror_loss", "entropy", "q_mean", "grad_norm"] {
            let value = metric(last, name);
            assert!(value.is_some_and(f64::is_finite), "{env}: {name} is {value:?}");
        }
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        for key in
            ["command", "commit", "processor", "instructions", "mujoco", "libtorch", "sigma_target"]
        {
            assert!(config.contains(&format!("{key} = ")), "{env}: no {key} in config.toml");
        }

        let evaluation =
            runner().args(["eval", "--episodes", "2", "--run"]).arg(&run).output().unwrap();
        assert!(evaluation.status.success(), "{}", stderr(&evaluation));
        let copy = out.path().join("printed.csv");
        fs::write(&copy, &evaluation.stdout).unwrap();
        let mut printed: Vec<EvalRow> = report::read(&copy).unwrap();
        printed[0].wall_s = 0.0;
        assert_eq!(printed, eval, "{env}");
    }
}

#[test]
fn every_algorithm_trains_from_the_command_line_and_its_checkpoint_evaluates_to_what_was_logged() {
    let out = tempfile::tempdir().unwrap();
    for algo in runner::algorithms() {
        let output = train(out.path(), "Hopper-v4", 3, &["--algo", algo]);
        assert!(output.status.success(), "{algo}: {}", stderr(&output));
        let run = out.path().join(algo).join("Hopper-v4/seed-3");
        let (train, eval, _) = repeatable(&run);
        let last = train.last().unwrap();
        assert_eq!((last.step, last.updates), (300, 150), "{algo}");
        for name in ["critic_loss", "actor_loss", "q_mean", "grad_norm"] {
            let value = metric(last, name);
            assert!(value.is_some_and(f64::is_finite), "{algo}: {name} is {value:?}");
        }
        let evaluation =
            runner().args(["eval", "--episodes", "2", "--run"]).arg(&run).output().unwrap();
        assert!(evaluation.status.success(), "{algo}: {}", stderr(&evaluation));
        let copy = out.path().join("printed.csv");
        fs::write(&copy, &evaluation.stdout).unwrap();
        let mut printed: Vec<EvalRow> = report::read(&copy).unwrap();
        printed[0].wall_s = 0.0;
        assert_eq!(printed, eval, "{algo}");

        let mean = runner().args(["eval", "--mode", "mean", "--run"]).arg(&run).output().unwrap();
        assert!(mean.status.success(), "{algo}: {}", stderr(&mean));
        assert!(String::from_utf8_lossy(&mean.stdout).contains("300,mean,10,"), "{algo}");
    }
}

#[test]
fn one_seed_gives_the_same_bytes_and_another_seed_others() {
    let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for out in &out {
        assert!(train(out.path(), "Hopper-v4", 1, &[]).status.success());
    }
    assert!(train(out[0].path(), "Hopper-v4", 2, &[]).status.success());
    let of = |out: &Path, seed| repeatable(&folder(out, "Hopper-v4", seed));
    let (first, second) = (of(out[0].path(), 1), of(out[1].path(), 1));
    assert_eq!(first.0, second.0);
    assert_eq!(first.1, second.1);
    assert!(first.2 == second.2, "the weights differ");
    // Neither threads nor the place of the minibatches count.
    let elsewhere = tempfile::tempdir().unwrap();
    let more = ["--threads", "2", "--set", "train.replay_on_device=true"];
    assert!(train(elsewhere.path(), "Hopper-v4", 1, &more).status.success());
    assert_eq!(first, of(elsewhere.path(), 1));
    let other = of(out[0].path(), 2);
    assert!(first.0 != other.0 && first.2 != other.2, "two seeds gave one run");
}

/// Critics that bootstrap from themselves without a stabiliser leave this range within 1,000 updates.
#[test]
fn the_value_of_flowrls_replay_stays_within_what_the_rewards_allow() {
    let out = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.args(["--algo", "flowrl", "--env", "Hopper-v4", "--seed", "0", "--steps", "2500"]);
    for set in ["warmup_steps=1000", "log_interval=500", "eval_episodes=1"] {
        command.arg("--set").arg(format!("train.{set}"));
    }
    let output = command.arg("--out").arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let run = out.path().join("flowrl").join("Hopper-v4").join("seed-0");
    let (rows, _, _) = repeatable(&run);
    let values: Vec<f64> = rows.iter().filter_map(|row| metric(row, "replay_q_mean")).collect();
    assert_eq!(values.len(), 3);
    // A reward is 1 and the velocity, which hardly reaches 4 m/s; gamma is 0.99.
    assert!(values.iter().all(|value| value.abs() < 500.0), "{values:?}");
}

#[test]
fn an_evaluation_changes_no_number_of_the_training() {
    let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    assert!(train(out[0].path(), "Hopper-v4", 1, &[]).status.success());
    let more = ["--set", "train.eval_interval=50", "--set", "train.eval_episodes=3"];
    assert!(train(out[1].path(), "Hopper-v4", 1, &more).status.success());
    let [rare, often] = out.each_ref().map(|out| repeatable(&folder(out.path(), "Hopper-v4", 1)));
    assert_eq!(often.1.len(), 6);
    assert_eq!(rare.0, often.0);
    assert!(rare.2 == often.2, "the weights differ");
}

#[test]
fn several_environments_step_side_by_side_with_one_update_per_step_unless_said_otherwise() {
    let out = tempfile::tempdir().unwrap();
    for (seed, ratio, updates) in [(1, "1", 150), (2, "0.5", 75), (3, "2", 300)] {
        let ratio = format!("train.updates_per_step={ratio}");
        let more = ["--envs", "3", "--set", &ratio];
        let output = train(out.path(), "Hopper-v4", seed, &more);
        assert!(output.status.success(), "{}", stderr(&output));
        let run = folder(out.path(), "Hopper-v4", seed);
        let (rows, _, _) = repeatable(&run);
        let last = rows.last().unwrap();
        assert_eq!((last.step, last.updates), (300, updates));
        let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
        assert_eq!(steps, [102, 201, 300], "a row at the first step past each multiple of 100");
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(config.contains("envs = 3"));
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    for (algo, kind) in [("smfp", "crossq"), ("sac", "mlp"), ("sac", "layernorm")] {
        let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let kind = format!("critic.kind={kind}");
        for (out, threads) in out.iter().zip(["1", "3"]) {
            let more = ["--envs", "4", "--threads", threads, "--algo", algo, "--set", &kind];
            let output = train(out.path(), "Walker2d-v4", 1, &more);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let [one, three] = out
            .each_ref()
            .map(|out| repeatable(&out.path().join(algo).join("Walker2d-v4").join("seed-1")));
        assert!(one == three, "{algo} with {kind}: threads changed the run");
    }
}

#[test]
fn a_recorded_configuration_repeats_its_run() {
    let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sets = ["--set", "objective.lambda=0.7", "--set", "critic.kind=layernorm"];
    assert!(train(out[0].path(), "Hopper-v4", 1, &sets).status.success());
    let record = folder(out[0].path(), "Hopper-v4", 1).join("config.toml");
    let again = |more: &[&str]| {
        let mut command = runner();
        command.arg("--config").arg(&record).arg("--out").arg(out[1].path()).args(more);
        command.output().unwrap()
    };
    refused(&again(&["--algo", "sac"]), 2, &["is of a run of 'smfp'", "--algo smfp"]);
    let output = again(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let [first, second] = out.each_ref().map(|out| repeatable(&folder(out.path(), "Hopper-v4", 1)));
    assert!(first == second, "the runs differ");

    let settings = out[0].path().join("settings.toml");
    fs::write(&settings, "[critic]\ngamma = 0.9\n").unwrap();
    let config = settings.to_str().unwrap();
    let alone = runner().args(["train", "--seed", "1", "--config", config]).output().unwrap();
    refused(&alone, 2, &["--env", "is not a run's config.toml"]);
    let text = fs::read_to_string(&record).unwrap();
    let old = text.replacen("commit = \"", "commit = \"0ld", 1).replacen("gamma", "discount", 1);
    fs::write(&settings, old).unwrap();
    let older = runner().args(["train", "--config", config]).output().unwrap();
    refused(&older, 2, &["of commit 0ld", "'critic.discount'"]);
}

#[test]
fn a_record_of_an_earlier_version_with_a_key_that_is_gone_names_its_commit() {
    let out = tempfile::tempdir().unwrap();
    let config = out.path().join("config.toml");
    let record = |run: &str| {
        fs::write(&config, format!("[run]\nalgo = \"sac\"\n{run}[critic]\nlearning_rat = 1.0\n"))
            .unwrap();
        let given = ["--algo", "sac", "--config", config.to_str().unwrap()];
        train(&out.path().join("results"), "Hopper-v4", 1, &given)
    };
    let commit = "commit = \"8d7afbc7d1a2b3c4d5e6\"\n";
    let words = ["unknown key 'critic.learning_rat'", "check out commit 8d7afbc7d1a2 to use that"];
    refused(&record(commit), 2, &words);
    refused(&record(""), 2, &["did you mean 'critic.learning_rate'?"]);
    assert!(!out.path().join("results").exists());
}

#[test]
fn a_run_whose_folder_is_deleted_and_begun_again_ends_and_leaves_it_to_the_other() {
    let out = tempfile::tempdir().unwrap();
    let begin = || {
        let mut command = runner();
        command.args(["--env", "Hopper-v4", "--seed", "1", "--steps", "100000", "--out"]);
        command.arg(out.path()).args(SMALL).args(["--set", "train.checkpoint_interval=100"]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let run = folder(out.path(), "Hopper-v4", 1);
    let wait = || {
        while !run.join("checkpoint/step-000000000200").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = begin();
    wait();
    // The first may be at work on a checkpoint there.
    while fs::remove_dir_all(&run).is_err() {}
    let mut second = begin();
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
    wait();
    second.kill().unwrap();
    second.wait().unwrap();
    let rows: Vec<TrainRow> = report::read(&run.join("train.csv")).unwrap();
    assert!(rows.iter().zip(1..).all(|(row, k)| row.step == 100 * k), "rows of both");
    let names = fs::read_dir(&run).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("old")));
}

#[test]
fn a_finished_run_is_never_overwritten_and_restart_keeps_it_under_another_name() {
    let out = tempfile::tempdir().unwrap();
    let run = folder(out.path(), "Swimmer-v4", 5);
    // Of an attempt that failed before it began.
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("FAILED"), "no space left\n").unwrap();
    assert!(train(out.path(), "Swimmer-v4", 5, &[]).status.success());
    assert!(!run.join("FAILED").exists(), "the reason of an attempt that is over");
    let before = fs::read(run.join("train.csv")).unwrap();
    // As if it had died between its mark and the last of its tidying up.
    let leftover = run.join("checkpoint/replay.bin");
    assert!(!leftover.exists());
    fs::write(&leftover, "").unwrap();
    let again = train(out.path(), "Swimmer-v4", 5, &[]);
    assert!(!leftover.exists());
    assert!(again.status.success() && stderr(&again).contains("this run is finished"));
    let late = stderr(&train(out.path(), "Swimmer-v4", 5, &["--show-every", "100"]));
    assert!(late.contains("too late for train.show_every = 100"), "{late}");
    let other = train(out.path(), "Swimmer-v4", 5, &["--set", "critic.gamma=0.999"]);
    let words = ["holds a finished run", "critic.gamma = 0.99", "0.999", "--restart"];
    refused(&other, 2, &words);
    assert_eq!(fs::read(run.join("train.csv")).unwrap(), before);

    assert!(train(out.path(), "Swimmer-v4", 5, &["--restart"]).status.success());
    let old = run.with_file_name("seed-5.old-1");
    assert_eq!(fs::read(old.join("train.csv")).unwrap(), before);
    assert!(run.join("DONE").is_file());
}

#[test]
fn instructions_can_be_chosen_and_an_unknown_name_is_one_line() {
    let doctor =
        |name: &str| runner().env("SMFP_INSTRUCTIONS", name).arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor("portable").stdout).unwrap();
    assert!(text.contains("instructions: portable (the processor has portable"), "{text}");
    refused(&doctor("sse9"), 2, &["SMFP_INSTRUCTIONS: 'sse9'", "avx512, avx2 or portable"]);
}

#[test]
fn bf16_trains_where_the_processor_has_it_and_is_refused_elsewhere() {
    let bench = |name: &str, more: &[&str]| {
        let mut command = runner();
        command.env("SMFP_INSTRUCTIONS", name).args(["bench", "update", "--algo", "sac"]);
        command.args(["--rounds", "1", "--set", "train.precision=bf16"]).args(more);
        command.output().unwrap()
    };
    let why = ["train.precision = \"bf16\"", "bfloat16", "use \"f32\""];
    refused(&bench("portable", &[]), 2, &why);
    refused(&bench("portable", &["--set", "train.precision=fp8"]), 2, &["fp8", "`f32` or `bf16`"]);

    let returns = |precision: &str| {
        let out = tempfile::tempdir().unwrap();
        let set = format!("train.precision={precision}");
        let output = train(out.path(), "Hopper-v4", 1, &["--set", &set]);
        let rows = fs::read_to_string(folder(out.path(), "Hopper-v4", 1).join("eval.csv"));
        (
            output,
            rows.map(|rows| rows.lines().nth(1).unwrap().split(',').nth(3).unwrap().to_owned()),
        )
    };
    let (output, in_bf16) = returns("bf16");
    if !fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains("avx512_bf16")) {
        return refused(&output, 2, &why);
    }
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(in_bf16.unwrap(), returns("f32").1.unwrap(), "products are rounded");
}

#[test]
fn two_processes_never_work_on_one_run() {
    let out = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.args(["--env", "Hopper-v4", "--seed", "1", "--steps", "1000000", "--out"]);
    let mut first = command.arg(out.path()).args(SMALL).stderr(Stdio::null()).spawn().unwrap();
    let record = folder(out.path(), "Hopper-v4", 1).join("config.toml");
    while !record.exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first process ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = train(out.path(), "Hopper-v4", 1, &["--restart"]);
    first.kill().unwrap();
    first.wait().unwrap();
    refused(&second, 2, &["another process"]);
}

#[test]
fn trace_replays_actions_into_an_archive_of_the_documented_shapes() {
    use ndarray::{Array1, Array2};
    let out = tempfile::tempdir().unwrap();
    let (actions, trace) = (out.path().join("actions.npy"), out.path().join("trace.npz"));
    ndarray_npy::write_npy(&actions, &Array2::<f32>::from_elem((50, 3), 0.3)).unwrap();
    let mut command = runner();
    command.args(["trace", "--env", "Hopper-v4", "--seed", "7", "--actions"]).arg(&actions);
    let output = command.arg("--out").arg(&trace).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut archive = ndarray_npy::NpzReader::new(fs::File::open(&trace).unwrap()).unwrap();
    let obs: Array2<f64> = archive.by_name("obs").unwrap();
    let resets: Array2<f64> = archive.by_name("reset_obs").unwrap();
    let reward: Array1<f64> = archive.by_name("reward").unwrap();
    let terminated: Array1<u8> = archive.by_name("terminated").unwrap();
    let truncated: Array1<u8> = archive.by_name("truncated").unwrap();
    assert_eq!((obs.dim(), reward.len(), truncated.len()), ((50, 11), 50, 50));
    assert_eq!(resets.dim(), (1 + terminated.iter().filter(|t| **t == 1).count(), 11));

    let wide = out.path().join("wide.npy");
    ndarray_npy::write_npy(&wide, &Array2::<f32>::zeros((2, 4))).unwrap();
    let mut command = runner();
    command.args(["trace", "--env", "Hopper-v4", "--seed", "7", "--actions"]).arg(&wide);
    let new = out.path().join("new.npz");
    refused(&command.arg("--out").arg(&new).output().unwrap(), 2, &["4 numbers", "expected 3"]);
    let mut command = runner();
    command.args(["trace", "--env", "Hopper-v4", "--seed", "7", "--actions"]).arg(&actions);
    let output = command.arg("--out").arg(out.path().join("./actions.npy")).output().unwrap();
    refused(&output, 2, &["--out", "exists; delete it"]);
    assert!(ndarray_npy::read_npy::<_, Array2<f32>>(&actions).is_ok(), "the actions are gone");
}

#[test]
fn benchmarks_print_a_json_document_for_programs() {
    let json = |args: &[&str]| -> serde_json::Value {
        let output = runner().arg("bench").args(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let env = json(&["env", "--env", "Swimmer-v4", "--steps", "100", "--rounds", "1"]);
    let task = &env["tasks"][0];
    for speed in ["limit", "step", "batch_1", "batch"] {
        assert!(task[speed].as_f64().unwrap() > 0.0, "{speed}: {task}");
    }
    let small = ["--rounds", "1", "--set", "critic.width=16", "--set", "actor.width=16"];
    for (what, figure) in [("update", "us_per_update"), ("act", "us_p50")] {
        let report = json(&[&[what][..], &small].concat());
        let algos: Vec<&str> = report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["algo"].as_str().unwrap())
            .collect();
        assert_eq!(algos, runner::algorithms());
        for row in report["rows"].as_array().unwrap() {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{row}");
            assert!(row["parameters"].as_i64().unwrap() > 1000, "{row}");
            let calls = match row["algo"].as_str() {
                Some("qvpo" | "dpmd") => 20,
                Some("dime") => 16,
                Some("flowrl") => 2,
                Some("sac-flow-g" | "sac-flow-t") => 4,
                _ => 1,
            };
            assert_eq!(row["calls_per_action"], calls, "{row}");
            let by_runtime = row["runtime_us_p50"].as_f64().is_some_and(|us| us > 0.0);
            assert_eq!(by_runtime, what == "act", "{row}");
        }
    }
}

#[test]
fn a_toy_writes_its_table_and_pictures_and_prints_the_last_rows() {
    let toy = |out: &Path, variants: &str| -> (Output, Vec<ToyRow>) {
        let args = ["toy", "three-modes", "--updates", "20", "--seeds", "3", "--variants"];
        let output = runner().args(args).arg(variants).arg("--out").arg(out).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let of = |picture| report::read(&out.join(format!("three-modes-{picture}.csv"))).unwrap();
        let mut rows: Vec<ToyRow> = [of("sigma"), of("entropy")].concat();
        rows.iter_mut().for_each(|row| row.wall_s = 0.0);
        (output, rows)
    };
    let out = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (output, rows) = toy(out[0].path(), "sac,semi-implicit-8-falling");
    let of = |variant: &str| {
        let rows = rows.iter().filter(|row| row.variant == variant && row.seed == 3);
        rows.map(|row| row.updates).collect::<Vec<_>>()
    };
    assert_eq!(of("exact"), [0, 0], "in both tables");
    assert_eq!(of("sac"), [0, 1, 2, 5, 10, 20]);
    assert_eq!(of("semi-implicit-8-falling"), [0, 1, 2, 5, 10, 20]);
    assert_eq!(rows[0].modes, 3, "the target has its modes");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.lines().count(), 1 + 3, "{printed}");
    let mut files: Vec<_> = fs::read_dir(out[0].path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected = ["entropy.csv", "entropy.png", "sigma.csv", "sigma.png"];
    assert_eq!(files, expected.map(|name| format!("three-modes-{name}")));

    // One seed, the same numbers; a table is replaced by one with the same rows, or more. By a
    // command that was refused it is not.
    assert_eq!(rows, toy(out[1].path(), "semi-implicit-8-falling,sac").1);
    assert_eq!(rows, toy(out[1].path(), "semi-implicit-8-falling,sac").1);
    let before = fs::read(out[1].path().join("three-modes-sigma.csv")).unwrap();
    for (args, words) in [
        (["three-mods", "--seeds", "0"], ["toy 'three-mods'", "'three-modes'"]),
        (["three-modes", "--variants", "lambda-10-brod"], ["variant", "'lambda-10-broad'"]),
        (["three-modes", "--pictures", "sigmas"], ["picture 'sigmas'", "'sigma'"]),
        (["three-modes", "--seeds", "2-0"], ["2-0", "such as 0-2,7"]),
        (["three-modes", "--updates", "0"], ["--updates", "0"]),
        (["three-modes", "--threads", "0"], ["--threads", "0"]),
        (["three-modes", "--seeds", "2"], ["csv: has rows of", "with seed 3"]),
    ] {
        let output = runner().arg("toy").args(args).arg("--out").arg(out[1].path()).output();
        refused(&output.unwrap(), 2, &words);
    }
    assert_eq!(fs::read(out[1].path().join("three-modes-sigma.csv")).unwrap(), before);
}

#[test]
fn help_explains_every_switch() {
    let output = runner().args(["train", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for key in ["critic.kind", "entropy.mode", "mirror.actions", "train.eval_interval"] {
        assert!(text.contains(&format!("{key} = ")), "{key}");
    }
    assert!(text.contains("semi-implicit"));
}
