//! Tasks that are files, from the command line.

mod common;

use common::{SMALL, folder, refused, repeatable, runner, stderr, train};
use report::{EvalRow, TrainRow};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Gymnasium's Hopper as a file, in a folder of its own with its model.
fn hopper(folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::copy(root.join("models/hopper.xml"), folder.join("hopper.xml")).unwrap();
    let text = fs::read_to_string(root.join("crates/envs/tests/tasks/Hopper-v4.toml")).unwrap();
    let path = folder.join("Hopper-v4.toml");
    fs::write(&path, text.replace("../../../../models/", "")).unwrap();
    path.display().to_string()
}

/// Takes the terms of the reward out of a row; they must have these names.
fn terms(row: &mut TrainRow, names: &[&str]) -> Vec<f64> {
    let metrics = std::mem::take(&mut row.metrics);
    let (terms, others) = metrics.into_iter().partition(|(name, _)| name.starts_with("reward/"));
    row.metrics = others;
    let terms: Vec<(String, Option<f64>)> = terms;
    let found: Vec<&str> = terms.iter().map(|(name, _)| &name["reward/".len()..]).collect();
    assert_eq!(found, names);
    terms.iter().map(|(_, mean)| mean.expect("there were steps")).collect()
}

#[test]
fn a_file_trains_to_the_bytes_of_the_built_in_task_and_resumes_to_them() {
    let out = tempfile::tempdir().unwrap();
    let task = hopper(out.path());
    let [built_in, whole, resumed] = ["a", "b", "c"].map(|name| out.path().join(name));
    for (out, env) in [(&built_in, "Hopper-v4"), (&whole, task.as_str())] {
        let output = train(out, env, 3, &["--envs", "2"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let mut expected = repeatable(&folder(&built_in, "Hopper-v4", 3));
    let run = folder(&whole, "Hopper-v4", 3);
    let mut found = repeatable(&run);
    for (ours, built_in) in found.0.iter_mut().zip(&mut expected.0) {
        let ours = terms(ours, &["forward", "control", "bounded", "upright", "healthy"]);
        let built_in = terms(built_in, &["forward", "survive", "ctrl"]);
        assert_eq!((ours[0], ours[1]), (built_in[0], -built_in[2]));
        assert!(ours[4] > 0.5 && ours[4] <= 1.0, "most steps are healthy");
        assert_eq!(built_in[1], 1.0, "v4 rewards the last step too");
    }
    assert_eq!((&found.0, &found.1), (&expected.0, &expected.1));
    assert!(found.2 == expected.2, "the weights differ");

    // A shorter run is the beginning of the longer one.
    for steps in ["200", "300"] {
        let mut command = runner();
        command.args(["--env", &task, "--seed", "3", "--envs", "2", "--steps", steps]).args(SMALL);
        command.args(["--set", "train.keep_replay=true", "--set", "train.eval_interval=100"]);
        let output = command.arg("--out").arg(&resumed).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let resumed = repeatable(&folder(&resumed, "Hopper-v4", 3));
    assert!(resumed.2 == expected.2, "the weights of a resumed run differ");
}

#[test]
fn a_run_keeps_its_task_and_needs_no_other_file_to_be_evaluated() {
    let out = tempfile::tempdir().unwrap();
    let source = out.path().join("source");
    fs::create_dir(&source).unwrap();
    let task = hopper(&source);
    let results = out.path().join("results");
    assert!(train(&results, &task, 3, &[]).status.success());
    let run = folder(&results, "Hopper-v4", 3);
    assert!(fs::read(run.join("Hopper-v4.toml")).unwrap() == fs::read(&task).unwrap());

    // The same file again: the run is finished. Another content is another run.
    assert!(train(&results, &task, 3, &[]).status.success());
    let text = fs::read_to_string(&task).unwrap();
    fs::write(&task, text.replace("forward + 1", "forward + 2")).unwrap();
    refused(&train(&results, &task, 3, &[]), 2, &["run.task_sha256", "--restart"]);
    refused(&train(&results, "Hopper-v4", 3, &[]), 2, &["run.task_sha256"]);

    fs::remove_dir_all(&source).unwrap();
    let eval = || runner().args(["eval", "--episodes", "2", "--run"]).arg(&run).output().unwrap();
    let printed = out.path().join("printed.csv");
    fs::write(&printed, eval().stdout).unwrap();
    let mut printed: Vec<EvalRow> = report::read(&printed).unwrap();
    printed[0].wall_s = 0.0;
    assert_eq!(printed, repeatable(&run).1);

    fs::write(run.join("Hopper-v4.toml"), text.replace("forward + 1", "forward + 3")).unwrap();
    refused(&eval(), 2, &["Hopper-v4.toml", "altered", "run.task_sha256"]);
}

#[test]
fn a_planned_file_that_changes_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let task = hopper(out.path());
    let mut plan = runner();
    plan.args(["plan", "--envs", &task, "--seeds", "3", "--steps", "300", "--out"]);
    let plan = plan.arg(out.path().join("results")).args(SMALL).output().unwrap();
    assert!(plan.status.success(), "{}", stderr(&plan));
    let manifest = out.path().join("plan.jsonl");
    fs::write(&manifest, &plan.stdout).unwrap();
    let run = || {
        let mut run = runner();
        run.args(["run", "--index", "0", "--threads", "1", "--manifest"]).arg(&manifest);
        run.output().unwrap()
    };
    let text = fs::read_to_string(&task).unwrap();
    fs::write(&task, format!("{text}\n# another\n")).unwrap();
    let refusal = run();
    assert_eq!(refusal.status.code(), Some(2));
    assert!(stderr(&refusal).contains("changed since the run was planned"), "{}", stderr(&refusal));
    fs::write(&task, text).unwrap();
    let output = run();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(out.path().join("results/smfp/Hopper-v4/seed-3/DONE").exists());
}

#[test]
fn a_term_that_is_infinite_leaves_a_checkpoint_that_can_be_read() {
    let out = tempfile::tempdir().unwrap();
    let task = hopper(out.path());
    let text = fs::read_to_string(&task).unwrap();
    fs::write(&task, text.replace("[terms]", "[terms]\nodd = \"1 / (qpos[0] - qpos[0])\""))
        .unwrap();
    let mut command = runner();
    command.args(["--env", &task, "--seed", "3", "--steps", "100000"]).args(SMALL);
    // Its sum is in every checkpoint before the first row.
    command.args(["--set", "train.log_interval=100000", "--set", "train.checkpoint_interval=50"]);
    let mut child = command.arg("--out").arg(out.path()).stderr(Stdio::null()).spawn().unwrap();
    let run = folder(out.path(), "Hopper-v4", 3);
    while !run.join("checkpoint/step-000000000100").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = runner().args(["eval", "--episodes", "1", "--run"]).arg(&run).output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("damaged"), "{}", stderr(&output));
}

#[test]
fn a_new_file_is_checked_and_trains_and_is_not_overwritten() {
    let out = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for model in
        ["models/ant.xml", "models/dm_control/cartpole.xml", "examples/crawler/crawler.xml"]
    {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("robot.xml");
        fs::copy(root.join(model), &copy).unwrap();
        let common = root.join("models/dm_control/common");
        fs::create_dir(folder.path().join("common")).unwrap();
        for file in common.read_dir().unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join("common").join(file.file_name())).unwrap();
        }
        let new = || runner().args(["task", "new"]).arg(&copy).output().unwrap();
        assert!(new().status.success(), "{model}");
        let task = folder.path().join("robot.toml").display().to_string();
        let check = runner().args(["task", "check", &task]).output().unwrap();
        assert!(check.status.success(), "{model}: {}", stderr(&check));
        let table = String::from_utf8(check.stdout).unwrap();
        for word in ["observation", "position", "velocity", "forward", "reward"] {
            assert!(table.contains(word), "no {word} in {table}");
        }
        let output = train(out.path(), &task, 3, &["--restart"]);
        assert!(output.status.success(), "{model}: {}", stderr(&output));
        // Its suggestions can be taken as they are.
        let text = fs::read_to_string(&task).unwrap();
        let taken: String = text
            .lines()
            .map(|line| if line.contains("sensordata") { &line[2..] } else { line })
            .flat_map(|line| [line, "\n"])
            .collect();
        fs::write(&task, taken).unwrap();
        let check = runner().args(["task", "check", &task]).output().unwrap();
        assert!(check.status.success(), "{model}: {}", stderr(&check));
        refused(&new(), 2, &["robot.toml exists", "--out"]);
    }
}

#[test]
fn a_check_warns_of_what_cannot_be_learned() {
    let folder = tempfile::tempdir().unwrap();
    let task = hopper(folder.path());
    let text = fs::read_to_string(&task).unwrap();
    let changed = text
        .replace("forward + 1 - control", "still")
        .replace("not healthy", "qpos[1] > 0")
        .replace("[terms]", "nothing = \"0 * qpos[0]\"\n\n[terms]\nstill = \"3\"");
    fs::write(&task, changed).unwrap();
    let check = runner().args(["task", "check", &task]).output().unwrap();
    assert!(check.status.success(), "{}", stderr(&check));
    let said = stderr(&check);
    for warning in [
        "every episode ends at its first step",
        "observation nothing is constant",
        "term still never moved: it was always 3",
        "the reward never moved",
    ] {
        assert!(said.contains(warning), "'{warning}' is not in: {said}");
    }
    fs::write(&task, text.replace("clip(qvel", "clip(qval")).unwrap();
    let check = runner().args(["task", "check", &task]).output().unwrap();
    refused(&check, 2, &["Hopper-v4.toml:", "unknown name 'qval'", "did you mean 'qvel'?"]);
}

#[test]
fn a_new_file_has_a_name_that_a_task_can_have_and_finds_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in ["my robots", "tasks"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let model = "my robots/my robot.xml";
    fs::copy(root.join("models/hopper.xml"), folder.path().join(model)).unwrap();
    let run = |args: &[&str]| {
        let output = runner().args(args).current_dir(folder.path()).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output)
    };
    let checked = |file: &str| {
        let (_, output) = run(&["task", "check", file]);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let (printed, output) = run(&["task", "new", model]);
    assert_eq!(printed, "my robots/my-robot.toml\n", "{}", stderr(&output));
    let next = "next: runner task check 'my robots/my-robot.toml'";
    assert!(stderr(&output).contains(next), "{}", stderr(&output));
    checked("my robots/my-robot.toml");

    let (_, output) = run(&["task", "new", model, "--out", "tasks/hop.toml"]);
    assert!(
        stderr(&output).contains("next: runner task check tasks/hop.toml"),
        "{}",
        stderr(&output)
    );
    let text = fs::read_to_string(folder.path().join("tasks/hop.toml")).unwrap();
    assert!(text.contains("model = \"../my robots/my robot.xml\""), "{text}");
    checked("tasks/hop.toml");

    let bare = folder.path().join("bare.xml");
    fs::write(&bare, "<mujoco/>").unwrap();
    for (args, words) in [
        (&["bare.xml"][..], "its number of actuators is 0, expected at least 1"),
        (&[model, "--out", "my hop.toml"], "my hop.toml: the name of the file"),
        (&[model, "--out", "missing/hop.toml"], "missing/hop.toml: its folder does not exist"),
        (&[model, "--out", "hop"], "ends in .toml"),
    ] {
        let (_, output) = run(&[&["task", "new"], args].concat());
        refused(&output, 2, &[words]);
    }
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 3, "nothing was written");
}

#[test]
fn a_check_prints_what_each_number_of_an_observation_is() {
    let crawler = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/crawler/crawler.toml");
    let check = runner().args(["task", "check", crawler]).output().unwrap();
    assert!(check.status.success(), "{}", stderr(&check));
    let table = String::from_utf8(check.stdout).unwrap();
    for words in [
        "    = qpos('*_hip', '*_knee')\n      10 front_left_hip, 11 front_right_hip, ",
        " 14 front_left_knee",
        "    = clip(0.1 * qvel('*_hip', '*_knee'), -5, 5)\n",
    ] {
        assert!(table.contains(words), "no {words} in {table}");
    }
    assert!(table.lines().all(|line| line.len() < 110), "{table}");
}

#[test]
fn a_check_says_once_and_how_often_that_a_model_diverges() {
    let folder = tempfile::tempdir().unwrap();
    let model = "<mujoco><option timestep='0.01'/><worldbody><body><joint name='x' type='slide'/>\
                 <geom size='1'/></body></worldbody>\
                 <actuator><motor joint='x' gear='1e15' ctrlrange='-1 1'/></actuator></mujoco>";
    fs::write(folder.path().join("wild.xml"), model).unwrap();
    let task = folder.path().join("wild.toml");
    let rules = "model = \"wild.xml\"\nreward = \"qpos[0]\"\n[observation]\nall = \"qpos\"\n";
    fs::write(&task, rules).unwrap();
    let check = runner().args(["task", "check"]).arg(&task).output().unwrap();
    assert!(check.status.success(), "{}", stderr(&check));
    let said = stderr(&check);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("diverged")).collect();
    let [warning] = warnings[..] else { panic!("{said}") };
    assert!(
        warning.contains("under random actions (") && warning.ends_with(" times)"),
        "{warning}"
    );
}

#[test]
fn an_unknown_task_beside_a_file_of_its_name_is_refused_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.toml"), "").unwrap();
    let run = |task: &str| {
        let mut command = runner();
        command.args(["--env", task, "--seed", "0"]).current_dir(folder.path()).output().unwrap()
    };
    refused(&run("base"), 2, &["unknown task 'base': did you mean the file base.toml?"]);
    refused(&run("cheetah-run"), 2, &["models/dm_control/cheetah-run.toml?"]);
}

#[test]
fn files_can_be_traced_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let task = hopper(folder.path());
    let mut bench = runner();
    bench.args(["bench", "env", "--rounds", "1", "--steps", "300", "--envs", "3", "--env", &task]);
    let bench = bench.output().unwrap();
    assert!(bench.status.success(), "{}", stderr(&bench));
    assert!(String::from_utf8_lossy(&bench.stdout).contains("Hopper-v4"));

    let actions = folder.path().join("actions.npy");
    ndarray_npy::write_npy(&actions, &ndarray::Array2::<f32>::ones((50, 3))).unwrap();
    let trace = |env: &str, name: &str| {
        let out = folder.path().join(name);
        let mut command = runner();
        command.args(["trace", "--env", env, "--seed", "5", "--actions"]).arg(&actions);
        assert!(command.arg("--out").arg(&out).status().unwrap().success());
        ndarray_npy::NpzReader::new(fs::File::open(out).unwrap()).unwrap()
    };
    let (mut file, mut built_in) = (trace(&task, "file.npz"), trace("Hopper-v4", "built-in.npz"));
    for name in ["obs.npy", "reset_obs.npy", "reward.npy", "term_forward.npy"] {
        let array = |archive: &mut ndarray_npy::NpzReader<fs::File>| {
            archive.by_name::<ndarray::OwnedRepr<f64>, ndarray::IxDyn>(name).unwrap()
        };
        assert!(array(&mut file) == array(&mut built_in), "{name}");
    }
}

#[test]
fn a_number_that_a_formula_makes_of_a_simulation_in_order_is_named_and_not_called_divergence() {
    let out = tempfile::tempdir().unwrap();
    let task = hopper(out.path());
    let text = fs::read_to_string(&task).unwrap();
    let attempt = |changes: &[(&str, &str)], words: &[&str]| {
        let changed = changes.iter().fold(text.clone(), |text, (from, to)| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        });
        fs::write(&task, changed).unwrap();
        let output = train(out.path(), &task, 3, &["--restart"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let last = stderr(&output).lines().last().unwrap().to_string();
        assert!(words.iter().all(|word| last.contains(word)), "{last}");
        assert!(!last.contains("diverged"), "{last}");
    };
    let odd = "[terms]\nodd = \"log(qpos[0] - qpos[0] - 1)\"";
    attempt(
        &[("forward + 1", "forward + odd"), ("[terms]", odd)],
        &[
            "training step 1: ",
            "the reward is NaN, its term 'odd' NaN, while the simulation is fine",
        ],
    );
    attempt(
        &[("\"qpos[1:]\"", "\"log(qpos[1:] - 9)\"")],
        &["at the start of an episode number 0 of the observation ('position'[0]) is NaN"],
    );
    // In an evaluation, where an episode breaks off without an error.
    let late = odd.replace("qpos[0] - qpos[0] - 1", "0.1 - time");
    let changed = text.replace("forward + 1", "forward + odd").replace("[terms]", &late);
    fs::write(&task, changed).unwrap();
    let output =
        train(out.path(), &task, 3, &["--restart", "--set", "train.end_diverged_episodes=true"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let remark =
        "episodes of the evaluation broke off and are scored as they stood before; the first:";
    for words in [remark, "its term 'odd' NaN, while the simulation is fine"] {
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // What is wrong before the first step leaves no damaged checkpoint.
    fs::write(&task, &text).unwrap();
    let output = train(out.path(), &task, 3, &["--restart"]);
    assert!(output.status.success(), "{}", stderr(&output));
}
