//! What can be wrong with the input, the machine or the numbers: each ends in one line.

mod common;

use common::{SMALL, folder, metric, refused, repeatable, runner, stderr, train};
use std::fs;
use std::process::{Command, Output};

#[test]
fn wrong_input_is_one_line_that_names_the_nearest_name_and_touches_nothing() {
    let out = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--env", "Hoper-v4", "--seed", "1"], &["Hoper-v4", "'Hopper-v4'"]),
        (&["--env", "Ant-v4", "--seed", "1", "--algo", "smpf"], &["smpf", "'smfp'"]),
        (&["--env", "Ant-v4", "--seed", "1", "--preset", "papr"], &["papr", "'paper'"]),
        (
            &["--env", "Ant-v4", "--seed", "1", "--set", "mirror.candidats=2"],
            &["mirror.candidats", "'mirror.candidates'"],
        ),
        (
            &["--env", "Ant-v4", "--seed", "1", "--set", "actor.learning_rate=-0.1"],
            &["actor.learning_rate is -0.1", "expected a number from 0 to 1"],
        ),
        (
            &[
                "--env",
                "Ant-v4",
                "--seed",
                "1",
                "--algo",
                "dime",
                "--set",
                "diffusion.prior_std=0.2",
            ],
            &["diffusion.step_size is 0.1", "less than 2 diffusion.prior_std^2"],
        ),
        (&["--env", "Hopper", "--seed", "1"], &["did you mean 'Hopper-v4'?"]),
        (&["--env", "zebra", "--seed", "1"], &["unknown task 'zebra': (a file"]),
        (&["--env", "my/robot.xml", "--seed", "1"], &["'my/robot.xml'", "`runner task new`"]),
        (&["--env", "Ant-v4", "--seed", "-3"], &["-3", "--seed"]),
        (
            &["--env", "Ant-v4", "--seed", "9223372036854775808"],
            &["seed 9223372036854775808", "at most 9223372036854775807"],
        ),
        (&["--env", "Ant-v4", "--seed", "1", "--steps", "-3"], &["-3", "--steps"]),
        (&["--env", "Ant-v4", "--seed", "1", "--steps", "0"], &["train.steps is 0"]),
        (&["--env", "Ant-v4", "--seed", "1", "--threads", "0"], &["--threads"]),
        (&["--env", "Ant-v4", "--seed", "1", "--device", "gpu"], &["--device gpu", "cuda"]),
        (&["--env", "Ant-v4", "--seed", "1", "--name", "../x"], &["--name '../x'"]),
        (&["--env", "Ant-v4", "--seed", "1", "--name", ".x"], &["--name '.x'", "no '.' first"]),
        (&["--config", "."], &["--config .", "config.toml in it"]),
        (&["--env", "Ant-v4", "--seed", "1", "--config", "."], &["--config .: is a folder"]),
        (
            &[
                "--env",
                "Ant-v4",
                "--seed",
                "1",
                "--set",
                "critic.width=65536",
                "--set",
                "critic.depth=64",
            ],
            &["critic.width = 65536, critic.depth = 64", "memory"],
        ),
        (
            &["--env", "Ant-v4", "--seed", "1", "--set", "train.batch_size=-1"],
            &["train.batch_size", "`-1`, expected a whole number"],
        ),
        (
            &["--env", "Ant-v4", "--seed", "1", "--set", "train.eval_modes=[\"mean\", \"mean\"]"],
            &["train.eval_modes has \"mean\" twice"],
        ),
        (&["--env", "Ant-v4", "--seed", "1", "--config", "/no/such"], &["--config /no/such"]),
        (&["--env", "Ant-v4"], &["--seed"]),
        (&["train"], &["--env", "--seed"]),
        (&["eval", "--run", "/no/such"], &["/no/such", "folder of a run"]),
        (&["trian"], &["trian", "train"]),
        (&[], &["--env", "--seed", "runner --help"]),
    ];
    for (args, words) in cases {
        let output = runner().args(*args).current_dir(out.path()).output().unwrap();
        refused(&output, 2, words);
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn settings_from_a_pipe_are_refused_because_they_would_be_read_once_only() {
    let out = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.args(["--env", "Ant-v4", "--seed", "1", "--config", "/dev/stdin"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.current_dir(out.path()).stdin(reader);
    std::io::Write::write_all(&mut writer, b"[critic]\ngamma = 0.5\n").unwrap();
    drop(writer);
    refused(&command.output().unwrap(), 2, &["--config /dev/stdin", "a pipe", "expected a file"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn cuda_that_is_not_there_is_an_error_and_never_a_silent_fall_back() {
    if tch::Cuda::is_available() {
        return; // Then there is nothing to refuse.
    }
    let out = tempfile::tempdir().unwrap();
    let output = train(out.path(), "Hopper-v4", 1, &["--device", "cuda"]);
    refused(&output, 2, &["--device cuda", "--device cpu"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_or_altered_model_is_named_with_the_fix() {
    let models = tempfile::tempdir().unwrap();
    for file in fs::read_dir(envs::models_dir()).unwrap() {
        let file = file.unwrap();
        if file.path().is_file() {
            fs::copy(file.path(), models.path().join(file.file_name())).unwrap();
        }
    }
    let hopper = models.path().join("hopper.xml");
    let out = tempfile::tempdir().unwrap();
    let attempt = || {
        let mut command = runner();
        command.env("SMFP_MODELS", models.path()).args(["--env", "Hopper-v4", "--seed", "1"]);
        command.arg("--out").arg(out.path()).output().unwrap()
    };
    let text = fs::read_to_string(&hopper).unwrap();
    fs::write(&hopper, text.replace("0.05", "0.06")).unwrap();
    refused(&attempt(), 2, &["hopper.xml was altered", "setup"]);
    fs::remove_file(&hopper).unwrap();
    refused(&attempt(), 2, &["hopper.xml", "setup"]);
}

#[test]
fn an_output_folder_that_cannot_be_made_is_one_line() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&train(&file, "Hopper-v4", 1, &[]), 2, &["file", "is in the way of this folder"]);
}

#[test]
fn a_disk_without_room_for_the_replay_is_found_before_training() {
    // Humanoid's replay is the first file that is larger than this. A limit on the size of files simulates the full disk: the reservation fails
    // in the same place. The signal that comes with it is ignored, as a full
    // disk sends none.
    let out = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 700; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_runner")]);
    command
        .args(["--env", "Humanoid-v4", "--seed", "1", "--steps", "300", "--out"])
        .arg(out.path());
    let output = command.args(SMALL).output().unwrap();
    refused(&output, 1, &["replay.bin", "can't reserve the replay's space"]);
    let run = folder(out.path(), "Humanoid-v4", 1);
    assert!(
        !run.join("checkpoint/replay.bin").exists(),
        "half a file takes the room that is short"
    );
    // The same command begins where there is room.
    assert!(train(out.path(), "Humanoid-v4", 1, &[]).status.success());
}

#[test]
fn a_run_that_leaves_the_finite_numbers_stops_with_the_step_and_the_quantity() {
    let out = tempfile::tempdir().unwrap();
    let absurd = ["--set", "actor.learning_rate=1", "--set", "actor.activation=relu"];
    let more = ["--set", "actor.depth=30", "--set", "train.checkpoint_interval=10"];
    let attempt = || {
        let mut command = runner();
        command.args(["--env", "Hopper-v4", "--seed", "1", "--steps", "3000", "--out"]);
        command.arg(out.path()).args(SMALL).args(absurd).args(more).output().unwrap()
    };
    let output = attempt();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    // Which number is the first depends on the algorithm's form.
    let named =
        ["critic_loss is", "actor_loss is", "grad_norm is"].iter().any(|q| last.contains(q));
    assert!(last.contains("training diverged at step") && named, "{last}");
    let run = folder(out.path(), "Hopper-v4", 1);
    assert!(!run.join("DONE").exists());
    assert_eq!(format!("error: {}", fs::read_to_string(run.join("FAILED")).unwrap().trim()), last);
    // The checkpoint before is intact, and a run resumed from it ends the same way.
    let eval = runner().args(["eval", "--episodes", "1", "--run"]).arg(&run).output().unwrap();
    assert!(eval.status.success(), "{}", stderr(&eval));
    assert_eq!(stderr(&attempt()).lines().last().unwrap(), last);
}

#[test]
fn a_policy_whose_actions_are_not_finite_is_what_diverged_and_not_the_environment() {
    let out = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.args([
        "--env",
        "Hopper-v4",
        "--seed",
        "1",
        "--steps",
        "3000",
        "--algo",
        "dime",
        "--out",
    ]);
    command.arg(out.path()).args(["--set", "train.warmup_steps=200"]);
    // The actor's first step, after which there are no finite actions but still finite weights.
    command.args(["--set", "actor.learning_rate=1", "--set", "actor.update_every=1"]);
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    for words in
        ["training diverged at step 20", "Hopper-v4: component 0 of the policy's action is"]
    {
        assert!(last.contains(words), "{last}");
    }
}

#[test]
fn a_simulation_that_diverges_stops_the_run_until_a_setting_ends_such_episodes() {
    let out = tempfile::tempdir().unwrap();
    let model = out.path().join("strong.xml");
    let text = fs::read_to_string(envs::models_dir().join("hopper.xml")).unwrap();
    fs::write(&model, text.replace("gear=\"200.0\"", "gear=\"1e8\"")).unwrap();
    let attempt = |seed, more: &[&str]| {
        let shared = ["--algo", "sac", "--model", model.to_str().unwrap()];
        let often = ["--set", "train.eval_interval=100"];
        train(out.path(), "Hopper-v4", seed, &[&shared[..], &often, more].concat())
    };
    let last = |output: &Output| stderr(output).lines().last().unwrap().to_string();
    let run = |seed| out.path().join(format!("sac/Hopper-v4/seed-{seed}"));
    let setting = ["--set", "train.end_diverged_episodes=true"];

    let stopped = attempt(1, &[]);
    assert_eq!(stopped.status.code(), Some(1));
    for words in ["error: training step ", "simulation diverged", setting[1]] {
        assert!(last(&stopped).contains(words), "{}", last(&stopped));
    }
    assert_eq!(last(&attempt(1, &[])), last(&stopped), "resuming is exact");

    // The run goes on with the setting, as one that had it from the beginning.
    let resumed = attempt(1, &setting);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    for remark in ["the episode ends without that step", "episodes of the evaluation broke off"] {
        assert!(stderr(&resumed).contains(remark), "{}", stderr(&resumed));
    }
    let config = fs::read_to_string(run(1).join("config.toml")).unwrap();
    assert!(config.contains("\nend_diverged_episodes = true"), "the record repeats the run");
    assert!(attempt(1, &[&setting[..], &["--name", "whole"]].concat()).status.success());
    let whole = out.path().join("sac-whole/Hopper-v4/seed-1");
    assert!(repeatable(&run(1)) == repeatable(&whole));

    let (rows, _, _) = repeatable(&whole);
    let diverged: f64 = rows.iter().map(|row| metric(row, "diverged").unwrap()).sum();
    let episodes = rows.last().unwrap().episodes;
    assert!(diverged > 10.0 && episodes > 0, "{diverged} of {episodes}");

    // What went on without an error can't go on with one.
    assert!(attempt(2, &setting).status.success());
    refused(&attempt(2, &[]), 2, &["train.end_diverged_episodes = true"]);

    let mut eval = runner();
    eval.args(["eval", "--stochastic", "--episodes", "50", "--run"]).arg(&whole);
    let eval = eval.output().unwrap();
    assert!(eval.status.success(), "{}", stderr(&eval));
    for words in ["of 50 episodes of the evaluation broke off", "the simulation diverged"] {
        assert!(
            stderr(&eval).starts_with("warning: ") && stderr(&eval).contains(words),
            "{}",
            stderr(&eval)
        );
    }
}

#[test]
fn values_that_explode_stop_the_run_before_they_are_infinite() {
    let out = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.args(["--env", "Hopper-v4", "--seed", "1", "--steps", "3000", "--out"]).arg(out.path());
    for set in ["kind=mlp", "depth=4", "learning_rate=1", "tau=1"] {
        command.arg("--set").arg(format!("critic.{set}"));
    }
    let output = command.args(SMALL).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    for word in ["training diverged at step", "q_mean is", "100 times", "largest reward"] {
        assert!(last.contains(word), "'{word}' is not in: {last}");
    }
}

#[test]
fn a_panic_is_one_line_and_exit_code_1() {
    // A system that refuses a thread, here because its stack is larger than any address, is a panic.
    let mut command = runner();
    command.args(["bench", "update", "--algo", "td3", "--threads", "2"]);
    command.env("RUST_MIN_STACK", "200000000000000").env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    refused(&output, 1, &["internal failure", "thread", "RUST_BACKTRACE"]);
}
