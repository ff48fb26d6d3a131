//! Models of the user's: what is trained on, kept, and refused.

mod common;

use common::{SMALL, folder, refused, repeatable, runner, stderr, train};
use report::EvalRow;
use std::fs;

#[test]
fn a_model_of_the_users_is_trained_on_if_it_fits_and_named_if_not() {
    let out = tempfile::tempdir().unwrap();
    let model = out.path().join("heavy.xml");
    let text = fs::read_to_string(envs::models_dir().join("hopper.xml")).unwrap();
    fs::write(&model, text.replace("armature=\"1\"", "armature=\"2\"")).unwrap();
    let path = model.to_str().unwrap();
    let output = train(out.path(), "Hopper-v4", 1, &["--model", path]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(train(out.path(), "Hopper-v4", 1, &["--name", "own"]).status.success());
    let changed = folder(out.path(), "Hopper-v4", 1);
    let own = out.path().join("smfp-own/Hopper-v4/seed-1");
    assert!(repeatable(&changed).0 != repeatable(&own).0, "the model made no difference");
    let config = fs::read_to_string(changed.join("config.toml")).unwrap();
    assert!(config.contains("heavy.xml") && config.contains("model_sha256"));

    let refusal = train(out.path(), "Ant-v4", 1, &["--model", path]);
    refused(&refusal, 2, &["heavy.xml does not fit Ant-v4", "expected 15"]);
    fs::write(&model, "<mujoco>\n<worldbody>\n<bdy/>\n</worldbody></mujoco>").unwrap();
    let refusal = train(out.path(), "Hopper-v4", 2, &["--model", path]);
    refused(&refusal, 2, &["heavy.xml", "bdy", "line 3"]);
}

#[test]
fn a_run_keeps_its_model_and_is_evaluated_repeated_and_resumed_on_no_other() {
    let out = tempfile::tempdir().unwrap();
    let (main, part) = (out.path().join("main.xml"), out.path().join("actuators.xml"));
    let whole = fs::read_to_string(envs::models_dir().join("hopper.xml")).unwrap();
    let (start, end) = whole.split_once("<actuator>").unwrap();
    let (actuators, end) = end.split_once("</actuator>").unwrap();
    let include = |gear: &str| {
        let text = format!("<mujoco><actuator>{actuators}</actuator></mujoco>");
        fs::write(&part, text.replace("gear=\"200.0\"", gear)).unwrap();
    };
    fs::write(&main, format!("{start}<include file=\"actuators.xml\"/>{end}")).unwrap();
    include("gear=\"150\"");
    let own = ["--model", main.to_str().unwrap()];
    assert!(train(out.path(), "Hopper-v4", 1, &own).status.success());
    let run = folder(out.path(), "Hopper-v4", 1);
    let logged = repeatable(&run);

    // A file that the model includes has changed.
    include("gear=\"15\"");
    refused(&train(out.path(), "Hopper-v4", 1, &own), 2, &["holds a finished run", "model_sha256"]);

    // Neither the user's files nor the run's first place are needed.
    fs::remove_file(&main).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy");
    fs::rename(&run, &copy).unwrap();
    let evaluate = |more: &[&str]| {
        let mut eval = runner();
        eval.args(["eval", "--episodes", "2", "--run"]).arg(&copy).args(more).output().unwrap()
    };
    let mut evaluation = evaluate(&[]);
    assert!(evaluation.status.success(), "{}", stderr(&evaluation));
    let printed = elsewhere.path().join("printed.csv");
    fs::write(&printed, &evaluation.stdout).unwrap();
    let mut row: Vec<EvalRow> = report::read(&printed).unwrap();
    row[0].wall_s = 0.0;
    assert_eq!(row, logged.1);

    // A copy that was damaged before the run was resumed is written again.
    let part = |steps: &str| {
        let mut command = runner();
        command.args(["--env", "Hopper-v4", "--seed", "1", "--steps", steps]).args(SMALL);
        command.args(["--set", "train.keep_replay=true", "--set", "train.eval_interval=100"]);
        command.arg("--out").arg(elsewhere.path()).output().unwrap()
    };
    assert!(part("200").status.success());
    let model = folder(elsewhere.path(), "Hopper-v4", 1).join("model.mjb");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..500]).unwrap();
    let resumed = part("300");
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(fs::read(&model).unwrap() == whole);

    let again = tempfile::tempdir().unwrap();
    let config = copy.join("config.toml");
    let repeat = || train(again.path(), "Hopper-v4", 1, &["--config", config.to_str().unwrap()]);
    let repeated = repeat();
    assert!(repeated.status.success(), "{}", stderr(&repeated));
    assert!(repeatable(&folder(again.path(), "Hopper-v4", 1)) == logged);

    // Another model may be asked for, and is remarked on.
    let pinned = envs::models_dir().join("hopper.xml");
    evaluation = evaluate(&["--model", pinned.to_str().unwrap()]);
    assert!(evaluation.status.success() && stderr(&evaluation).contains("is not the model that"));
    evaluation = evaluate(&["--model", copy.join("model.mjb").to_str().unwrap()]);
    assert!(evaluation.status.success() && evaluation.stderr.is_empty());

    let gone = train(again.path(), "Hopper-v4", 1, &own);
    refused(&gone, 2, &["main.xml: no such file", "model.mjb"]);
    let gone = train(again.path(), "Hopper-v4", 2, &own);
    refused(&gone, 2, &["cannot read the model", "main.xml"]);
    assert!(!stderr(&gone).contains("setup"), "our models are no substitute");

    // A copy that is not the run's model is of no use.
    let mut bytes = fs::read(copy.join("model.mjb")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(copy.join("model.mjb"), bytes).unwrap();
    refused(&evaluate(&[]), 2, &["model.mjb was altered", "--model"]);
    refused(&repeat(), 2, &["model.mjb was altered"]);
    fs::remove_file(copy.join("model.mjb")).unwrap();
    refused(&evaluate(&[]), 2, &["model.mjb: missing", "main.xml", "--model"]);
}

#[test]
fn a_planned_run_has_the_model_that_it_was_planned_with() {
    let out = tempfile::tempdir().unwrap();
    let model = out.path().join("mine.xml");
    let text = fs::read_to_string(envs::models_dir().join("hopper.xml")).unwrap();
    let write = |gear: &str| fs::write(&model, text.replace("gear=\"200.0\"", gear)).unwrap();
    write("gear=\"150\"");
    let mut plan = runner();
    plan.current_dir(out.path()).args(["plan", "--envs", "Hopper-v4", "--seeds", "1,2"]);
    plan.args(["--steps", "300", "--out", "planned", "--model", "mine.xml"]);
    let planned = plan.args(SMALL).output().unwrap();
    assert!(planned.status.success(), "{}", stderr(&planned));
    let manifest = out.path().join("sweep.jsonl");
    fs::write(&manifest, &planned.stdout).unwrap();
    let here = out.path().canonicalize().unwrap();
    let lines = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(!lines.contains(here.to_str().unwrap()), "a copy of the folder can train it: {lines}");
    let run = |index: &str| {
        let mut run = runner();
        run.current_dir(out.path()).args(["run", "--index", index, "--manifest"]);
        run.arg(&manifest).output().unwrap()
    };
    assert!(run("0").status.success());
    let own = ["--model", model.to_str().unwrap()];
    assert!(train(out.path(), "Hopper-v4", 1, &own).status.success());
    let of = |results: &str| folder(&out.path().join(results), "Hopper-v4", 1);
    assert!(repeatable(&of("planned")) == repeatable(&of("")));

    write("gear=\"15\"");
    refused(&run("1"), 2, &["mine.xml", "changed since the run was planned"]);
    let status = runner().current_dir(out.path()).arg("status").arg(&manifest).output().unwrap();
    let table = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(table.contains("done"), "{table}{}", stderr(&status));
}

#[test]
fn a_model_that_cannot_be_trained_on_is_refused_or_remarked_on_before_training() {
    let out = tempfile::tempdir().unwrap();
    let model = out.path().join("mine.xml");
    let results = out.path().join("results");
    let text = fs::read_to_string(envs::models_dir().join("hopper.xml")).unwrap();
    let attempt = |from: &str, to: &str| {
        assert!(text.contains(from));
        fs::write(&model, text.replace(from, to)).unwrap();
        train(&results, "Hopper-v4", 1, &["--model", model.to_str().unwrap()])
    };
    let refusal = attempt("ctrlrange=\"-1.0 1.0\"", "ctrlrange=\"-3e38 3e38\"");
    refused(&refusal, 2, &["mine.xml", "ctrlrange of actuator 0", "two numbers of f32"]);
    assert!(!results.exists(), "a folder was made");

    let fallen = attempt("ref=\"1.25\"", "ref=\"0.3\"");
    assert!(fallen.status.success(), "{}", stderr(&fallen));
    let remarks = stderr(&fallen);
    let remarks: Vec<&str> = remarks.lines().filter(|line| line.contains("warning")).collect();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("every episode of Hopper-v4 ends at its first step"));
}
