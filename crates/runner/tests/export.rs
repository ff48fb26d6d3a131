//! `runner export` with the real program.

mod common;

use agent::ActMode;
use common::{TASKS, folder, refused, runner, stderr, train};
use policy::Policy;
use rand::RngExt;
use runner::base::stop::Stop;
use runner::train::evaluator::{ActionScale, Evaluation, to_rows};
use runner::train::saved_run::SavedRun;
use std::fs;
use std::path::Path;
use std::process::Output;
use tch::{Device, Tensor};

fn export(run: &Path, out: &Path) -> Output {
    runner().args(["export", "--run"]).arg(run).arg("--out").arg(out).output().unwrap()
}

#[test]
fn an_export_says_what_it_is_and_returns_what_the_checkpoint_does() {
    let out = tempfile::tempdir().unwrap();
    // With a latent that is drawn, deterministic actions are not the mean.
    let drawn = ["--set", "policy.eval_latent=drawn"];
    assert!(train(out.path(), "Hopper-v4", 1, &drawn).status.success());
    let (run, to) = (folder(out.path(), "Hopper-v4", 1), out.path().join("export"));
    let output = export(&run, &to);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["mode", "return_runtime", "return_checkpoint"]);
    assert_eq!([rows[1][0], rows[2][0]], ["mean", "deterministic"]);
    for row in &rows[1..] {
        let [runtime, checkpoint] = [1, 2].map(|i| row[i].parse::<f64>().unwrap());
        // The two round differently, and episodes diverge from there: a few steps of 1 each.
        assert!((runtime - checkpoint).abs() < 2.0, "{table}");
    }
    // The checkpoint's return is the one that `eval` finds.
    let eval = runner().args(["eval", "--run"]).arg(&run).output().unwrap();
    let eval = String::from_utf8(eval.stdout).unwrap();
    let reported: f64 = eval.lines().nth(1).unwrap().split(',').nth(3).unwrap().parse().unwrap();
    assert!((reported - rows[2][2].parse::<f64>().unwrap()).abs() < 1e-9, "{eval}{table}");

    let mut policy = Policy::from_bytes(&fs::read(to.join("policy.smfp")).unwrap()).unwrap();
    assert_eq!(policy.sizes(), [11, 3, 3, 3]);
    let mut actions = [0.0; 3];
    policy.act(&[0.1; 11], Some(&[9.0; 3]), None, &mut actions).unwrap();
    assert!(actions.iter().all(|action| action.abs() <= 1.0));

    let facts = fs::read_to_string(to.join("policy.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["task"], "Hopper-v4");
    assert_eq!(facts["step"], 300);
    assert_eq!(facts["control_period_s"], 0.008);
    assert_eq!(facts["observation"][0]["entries"][2], "thigh_joint");
    assert_eq!(facts["actions"][1]["name"], "leg_joint");
    assert_eq!(facts["actions"][1]["high"], 1.0);
    assert!(facts["position_targets"].is_null());
    let readme = fs::read_to_string(to.join("README.md")).unwrap();
    assert!(readme.contains("float observation[11] = {0}, actions[3];"), "{readme}");
    for name in ["policy.onnx", "policy-mean.onnx"] {
        assert!(fs::metadata(to.join(name)).unwrap().len() > 5_000, "{name}");
    }
}

#[test]
fn an_export_of_a_files_policy_names_the_files_terms_and_what_its_actions_are() {
    let out = tempfile::tempdir().unwrap();
    let crawler = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/crawler/crawler.toml");
    assert!(train(out.path(), crawler, 1, &[]).status.success());
    let to = out.path().join("export");
    let output = export(&folder(out.path(), "crawler", 1), &to);
    assert!(output.status.success(), "{}", stderr(&output));
    let facts = fs::read_to_string(to.join("policy.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    let terms: Vec<_> = facts["observation"].as_array().unwrap().iter().collect();
    let names: Vec<_> = terms.iter().map(|term| term["name"].as_str().unwrap()).collect();
    let of_the_file = ["height", "orientation", "velocity", "rotation", "joints"];
    assert_eq!(names[..5], of_the_file);
    assert_eq!((&terms[4]["start"], &terms[4]["length"]), (&10.into(), &8.into()));
    assert_eq!(terms[4]["entries"][1], "front_right_hip");
    let clipped = "clip(0.1 * qvel('*_hip', '*_knee'), -5, 5)";
    assert_eq!(terms[5]["expression"], clipped);
    let copy = fs::read(to.join("task.toml")).unwrap();
    assert!(copy == fs::read(crawler).unwrap(), "the expressions may use other terms of the file");
    let targets = &facts["position_targets"];
    assert_eq!((&targets["kp"], &targets["scale"]), (&12.0.into(), &0.6.into()));
    assert_eq!(targets["default"].as_array().unwrap().len(), 8);
    let readme = fs::read_to_string(to.join("README.md")).unwrap();
    assert!(readme.contains("default + scale * action") && !readme.contains("actuators' units"));
    assert!(readme.contains("scaled and clipped as there"));
    assert_eq!(facts["task"], "crawler");
    // An export of another task leaves nothing of this one.
    assert!(train(out.path(), "Hopper-v4", 1, &[]).status.success());
    for _ in 0..2 {
        let output = export(&folder(out.path(), "Hopper-v4", 1), &to);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!to.join("task.toml").exists());
    }
}

/// Least number of steps that a task is played for.
const STEPS: u32 = 1000;

#[test]
fn a_thousand_steps_of_each_task_return_what_the_checkpoint_does_within_rounding() {
    for task in TASKS {
        let out = tempfile::tempdir().unwrap();
        assert!(train(out.path(), task, 1, &["--set", "actor.normalise=true"]).status.success());
        let (run, to) = (folder(out.path(), task, 1), out.path().join("export"));
        assert!(export(&run, &to).status.success());
        let mut policy = Policy::from_bytes(&fs::read(to.join("policy.smfp")).unwrap()).unwrap();
        let run = SavedRun::open(&run, None).unwrap();

        // Episodes are played until they have so many steps, always from the same starts.
        let mut episodes = 2;
        let mut play = |act: &mut dyn FnMut(&[f32]) -> Vec<f32>| loop {
            let mut envs = run.evaluator(episodes, None, Device::Cpu).unwrap();
            let found = envs.play(&mut *act, &Stop::default()).unwrap().unwrap();
            if found.episodes.iter().map(|(_, steps)| steps).sum::<u32>() >= STEPS {
                return found;
            }
            episodes *= 2;
        };
        let mut runtime = |obs: &[f32]| {
            let [obs_dim, .., act_dim] = policy.sizes();
            let mut actions = vec![0.0; obs.len() / obs_dim * act_dim];
            for (obs, action) in obs.chunks(obs_dim).zip(actions.chunks_mut(act_dim)) {
                policy.act(obs, None, None, action).unwrap();
            }
            actions
        };

        // The actions, in every state that the checkpoint comes to.
        let spec = run.evaluator(1, None, Device::Cpu).unwrap().spec().clone();
        let (agent, _) = run.agent(&spec, Device::Cpu).unwrap();
        let mut noise = agent::stream(0, "unused");
        let mut off = 0.0_f32;
        let checkpoint = play(&mut |obs| {
            let rows = Tensor::from_slice(obs).view([-1, spec.obs_dim as i64]);
            let mut actions = to_rows(&agent.act(&rows, ActMode::Mean, &mut noise));
            ActionScale::of(&spec).apply(&mut actions);
            for (theirs, ours) in actions.iter().zip(runtime(obs)) {
                off = off.max((theirs - ours).abs());
            }
            actions
        });
        assert!(off < 1e-5, "{task}: an action is {off} off");

        // The returns differ as much as those of the runtime itself with actions changed by as
        // little: what rounding explains.
        let exact = play(&mut runtime);
        let apart = |other: &Evaluation| {
            let each = exact.episodes.iter().zip(&other.episodes);
            let squares = each.map(|((a, _), (b, _))| (a - b).powi(2));
            (squares.sum::<f64>() / exact.episodes.len() as f64).sqrt()
        };
        let explained = (0..3).map(|seed| {
            let mut rng = agent::stream(seed, "rounding");
            apart(&play(&mut |obs| {
                let mut actions = runtime(obs);
                actions.iter_mut().for_each(|x| *x += off * rng.random_range(-1.0..1.0_f32));
                actions
            }))
        });
        let explained = explained.fold(0.0, f64::max);
        let found = apart(&checkpoint);
        println!(
            "{task}: {} episodes, actions at most {off:.0e} off, returns {found:.1e}, explained \
             {explained:.1e}",
            exact.episodes.len()
        );
        assert!(found <= 3.0 * explained, "{task}: returns are {found} off, {explained} explained");
    }
}

#[test]
fn an_export_is_replaced_and_another_folder_is_refused_and_left_as_it_is() {
    let out = tempfile::tempdir().unwrap();
    assert!(train(out.path(), "Hopper-v4", 1, &[]).status.success());
    let (run, to) = (folder(out.path(), "Hopper-v4", 1), out.path().join("mine"));
    fs::create_dir(&to).unwrap();
    fs::write(to.join("notes.txt"), "mine").unwrap();
    refused(&export(&run, &to), 2, &["mine", "is no export"]);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    refused(&export(out.path(), &out.path().join("e")), 2, &["config.toml", "--run expects"]);

    // A chain whose file would be large is refused.
    let wide = ["--algo", "sac-flow-t", "--set", "actor.width=512"];
    assert!(train(out.path(), "Hopper-v4", 1, &wide).status.success());
    let flow = out.path().join("sac-flow-t/Hopper-v4/seed-1");
    refused(
        &export(&flow, &out.path().join("f")),
        2,
        &["the policy's 4 network calls", "expected at most 20 MB", "actor.width"],
    );

    // A run that goes on can be exported: the message names the step.
    fs::remove_file(run.join("DONE")).unwrap();
    for _ in 0..2 {
        let output = export(&run, &run.join("export"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("not finished; this is its policy at step 300"));
    }
    let first = fs::read(run.join("export/policy.smfp")).unwrap();
    assert!(Policy::from_bytes(&first).is_ok());
}

#[test]
fn an_export_replaces_an_export_whole_and_no_other_file() {
    let out = tempfile::tempdir().unwrap();
    assert!(train(out.path(), "Hopper-v4", 1, &[]).status.success());
    let (run, to) = (folder(out.path(), "Hopper-v4", 1), out.path().join("export"));
    let foreign = out.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("policy.json"), "precious").unwrap();
    refused(&export(&run, &foreign), 2, &["policy.json: is no export of this version"]);
    assert_eq!(fs::read_to_string(foreign.join("policy.json")).unwrap(), "precious");
    let file = foreign.join("policy.json");
    refused(&export(&run, &file), 2, &["policy.json: is a file, expected a folder"]);

    assert!(export(&run, &to).status.success());
    fs::write(to.join("notes.txt"), "mine").unwrap();
    assert!(export(&run, &to).status.success(), "an unchanged export, and a file of another name");
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&to)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    // The last file can't be written: none is replaced.
    let blocked = to.join("policy.json.unfinished");
    fs::create_dir(&blocked).unwrap();
    let output = export(&run, &to);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(files() == before);
    fs::remove_dir(&blocked).unwrap();
    fs::write(to.join("README.md"), "with my remarks").unwrap();
    refused(&export(&run, &to), 2, &["README.md: was not exported, or was changed since"]);
}
