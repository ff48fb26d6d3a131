//! `runner export` with the real program.

mod common;

use common::{folder, refused, runner, stderr, train};
use policy::Policy;
use std::fs;
use std::path::Path;
use std::process::Output;

fn export(run: &Path, out: &Path) -> Output {
    runner().args(["export", "--run"]).arg(run).arg("--out").arg(out).output().unwrap()
}

#[test]
fn an_export_says_what_it_is_and_returns_what_the_checkpoint_does() {
    let out = tempfile::tempdir().unwrap();
    let normalise = ["--set", "actor.normalise=true"];
    assert!(train(out.path(), "Hopper-v4", 1, &normalise).status.success());
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
    let readme = fs::read_to_string(to.join("README.md")).unwrap();
    assert!(readme.contains("float observation[11] = {0}, actions[3];"), "{readme}");
    for name in ["policy.onnx", "policy-mean.onnx"] {
        assert!(fs::metadata(to.join(name)).unwrap().len() > 10_000, "{name}");
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
