//! `runner show` on small runs, driven from outside.

mod common;

use common::{folder, refused, repeatable, runner, stderr, train};
use report::EvalRow;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

fn show(run: &Path, more: &[&str]) -> Output {
    runner().args(["show", "--run"]).arg(run).args(more).output().unwrap()
}

/// What a page shows.
fn data(page: &Path) -> Value {
    let text = fs::read_to_string(page).unwrap();
    let (_, after) = text.split_once("id=\"data\">").unwrap();
    serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap()
}

fn returns(run: &Value) -> Vec<f64> {
    let episodes = run["episodes"].as_array().unwrap().iter();
    episodes.map(|episode| episode["return"].as_f64().unwrap()).collect()
}

#[test]
fn a_page_has_the_very_episodes_of_an_evaluation() {
    let out = tempfile::tempdir().unwrap();
    let trained = train(out.path(), "Hopper-v4", 0, &[]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let run = folder(out.path(), "Hopper-v4", 0);
    for more in [&[][..], &["--seed", "7", "--stochastic"]] {
        let shown = show(&run, &[&["--episodes", "4"], more].concat());
        assert!(shown.status.success(), "{}", stderr(&shown));
        let page = run.join("show.html");
        assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), page.to_str().unwrap());
        let page = data(&page);

        let mut eval = runner();
        let eval = eval.args(["eval", "--episodes", "4", "--run"]).arg(&run).args(more).output();
        let table = out.path().join("rows.csv");
        fs::write(&table, eval.unwrap().stdout).unwrap();
        let rows: Vec<EvalRow> = report::read(&table).unwrap();
        let found = returns(&page["runs"][0]);
        assert_eq!(found.len(), 4);
        // To the bit: recording does not touch the simulation.
        assert_eq!(found.iter().copied().fold(f64::INFINITY, f64::min), rows[0].return_min);
        assert_eq!(found.iter().copied().fold(f64::NEG_INFINITY, f64::max), rows[0].return_max);
        assert_eq!(found.iter().sum::<f64>() / 4.0, rows[0].return_mean);
    }
}

#[test]
fn runs_stand_side_by_side_with_their_untrained_policies_and_share_a_model() {
    let out = tempfile::tempdir().unwrap();
    for seed in [0, 1] {
        assert!(train(out.path(), "Hopper-v4", seed, &[]).status.success());
    }
    let other = folder(out.path(), "Hopper-v4", 1);
    let page = out.path().join("both.html");
    let more = ["--run", other.to_str().unwrap(), "--untrained", "--seed", "3", "--episodes", "1"];
    let shown = show(
        &folder(out.path(), "Hopper-v4", 0),
        &[&more[..], &["--out", page.to_str().unwrap()]].concat(),
    );
    assert!(shown.status.success(), "{}", stderr(&shown));
    let page = data(&page);
    let runs = page["runs"].as_array().unwrap();
    let names: Vec<_> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["smfp, untrained", "smfp", "smfp, untrained", "smfp"]);
    assert_eq!(page["scenes"].as_array().unwrap().len(), 1);
    assert!(returns(&runs[0]) != returns(&runs[1]), "training changed the policy");
    assert!(returns(&runs[1]) != returns(&runs[3]), "the seeds differ");
}

#[test]
fn policies_of_earlier_steps_are_kept_and_stand_side_by_side_and_training_does_not_change() {
    let out = tempfile::tempdir().unwrap();
    let plain = folder(&out.path().join("plain"), "Hopper-v4", 0);
    assert!(train(&out.path().join("plain"), "Hopper-v4", 0, &[]).status.success());
    refused(&show(&plain, &["--over-training"]), 2, &["history", "--show-every"]);

    let trained = train(out.path(), "Hopper-v4", 0, &["--show-every", "40"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let run = folder(out.path(), "Hopper-v4", 0);
    assert!(repeatable(&run) == repeatable(&plain), "keeping policies changes nothing");
    let shown = show(&run, &["--over-training", "--episodes", "1"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let page = data(&run.join("show.html"));
    let runs = page["runs"].as_array().unwrap();
    let about: Vec<_> = runs.iter().map(|run| run["about"].as_str().unwrap()).collect();
    // Kept at 0, 40, ... 280, of which five fit before the newest.
    let steps = ["0", "80", "160", "200", "280", "300"];
    assert_eq!(about, steps.map(|step| format!("seed 0, step {step}")));
    assert_eq!(runs[0]["name"], "smfp, untrained");
    assert_eq!(runs[4]["name"], "smfp, step 280");
    // No update yet at step 80: the policy is still the first one.
    assert_eq!(returns(&runs[0]), returns(&runs[1]));
    assert!(returns(&runs[0]) != returns(&runs[4]));
    let newest = show(&run, &["--episodes", "1"]);
    assert!(newest.status.success());
    assert_eq!(returns(&data(&run.join("show.html"))["runs"][0]), returns(&runs[5]));

    fs::write(run.join("history/step-000000000160.safetensors"), "cut").unwrap();
    let damaged = show(&run, &["--over-training", "--episodes", "1"]);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(stderr(&damaged).lines().last().unwrap().contains("delete this file"));
}

#[test]
fn a_live_page_has_what_it_simulates_and_what_it_cannot_simulate_is_refused() {
    let out = tempfile::tempdir().unwrap();
    for task in ["Hopper-v4", "InvertedPendulum-v4"] {
        assert!(train(out.path(), task, 0, &[]).status.success());
    }
    let pendulum = folder(out.path(), "InvertedPendulum-v4", 0);
    refused(&show(&pendulum, &["--live"]), 2, &["InvertedPendulum-v4", "leave --live out"]);
    let run = folder(out.path(), "Hopper-v4", 0);
    let compiled = run.join("model.mjb");
    let compiled = compiled.to_str().unwrap();
    refused(&show(&run, &["--live", "--model", compiled]), 2, &["model.mjb", "MJCF only"]);
    let parts = out.path().join("parts.xml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/hopper.xml");
    fs::write(&parts, format!("<mujoco><include file=\"{}\"/></mujoco>", root.display())).unwrap();
    let parts = show(&run, &["--live", "--model", parts.to_str().unwrap()]);
    assert_eq!(parts.status.code(), Some(2));
    assert!(stderr(&parts).lines().last().unwrap().contains("a page has no other files"));

    let shown = show(&run, &["--live", "--untrained", "--episodes", "1"]);
    let installed = root.parent().unwrap().join("../third_party/mujoco-wasm/mujoco.wasm");
    if !installed.exists() {
        refused(&shown, 2, &["mujoco-wasm", "scripts/just setup-live"]);
        return;
    }
    assert!(shown.status.success(), "{}", stderr(&shown));
    let text = fs::read_to_string(run.join("show.html")).unwrap();
    assert!(text.len() < 5_000_000, "{} bytes", text.len());
    assert!(text.contains("class Live") && !text.contains("/* live"));
    let page = data(&run.join("show.html"));
    assert_eq!(page["live"]["version"], "3.14.0");
    for run in page["runs"].as_array().unwrap() {
        assert_eq!(run["live"]["robot"], "Hopper");
        assert!(run["live"]["model"].as_str().unwrap().contains("thigh_joint"));
    }
    // The page without live mode has none of it.
    assert!(show(&run, &["--episodes", "1"]).status.success());
    let text = fs::read_to_string(run.join("show.html")).unwrap();
    assert!(text.len() < 200_000 && !text.contains("class Live") && !text.contains("unsafe-eval"));
}

#[test]
fn a_report_has_a_replay_of_each_algorithm_and_task_as_far_as_they_fit() {
    let out = tempfile::tempdir().unwrap();
    for (task, seed) in [("Hopper-v4", 0), ("Hopper-v4", 1), ("HalfCheetah-v4", 0)] {
        assert!(train(out.path(), task, seed, &[]).status.success());
    }
    let page = out.path().join("report/index.html");
    let report = |most: &str| {
        let output = runner().arg("report").arg(out.path()).args(["--replays", most]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (data(&page), stderr(&output))
    };
    let (full, messages) = report("5");
    assert!(!messages.contains("replay"), "{messages}");
    let episodes = full["replays"]["episodes"].as_object().unwrap();
    assert_eq!(episodes.len(), 2, "one run of each");
    for (at, text) in episodes {
        let run = &full["runs"][at.parse::<usize>().unwrap()];
        let episode: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert_eq!(episode["runs"][0]["task"], run["task"]);
        assert_eq!(returns(&episode["runs"][0]).len(), 1);
    }
    let (none, messages) = report("0");
    assert!(none["replays"].is_null() && !messages.contains("replay"), "{messages}");
    // What cannot be replayed is said, and does not cost the report.
    fs::remove_dir_all(folder(out.path(), "HalfCheetah-v4", 0).join("checkpoint")).unwrap();
    fs::create_dir(folder(out.path(), "HalfCheetah-v4", 0).join("checkpoint")).unwrap();
    let (some, messages) = report("5");
    assert_eq!(some["replays"]["episodes"].as_object().unwrap().len(), 1);
    assert!(messages.contains("warning: no replay: "), "{messages}");
}

#[test]
fn what_cannot_be_shown_is_refused_in_one_line_and_nothing_is_lost() {
    let out = tempfile::tempdir().unwrap();
    refused(&show(out.path(), &[]), 2, &["config.toml", "--run expects the folder of a run"]);

    assert!(train(out.path(), "HalfCheetah-v4", 0, &[]).status.success());
    let run = folder(out.path(), "HalfCheetah-v4", 0);

    let theirs = out.path().join("notes.html");
    fs::write(&theirs, "mine").unwrap();
    let to = |page: &Path| ["--out".to_owned(), page.to_str().unwrap().to_owned()];
    let [flag, path] = to(&theirs);
    refused(&show(&run, &[&flag, &path]), 2, &["notes.html", "choose another --out"]);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "mine");
    let [flag, path] = to(&out.path().join("none/page.html"));
    refused(&show(&run, &[&flag, &path]), 2, &["its folder does not exist"]);

    let large = show(&run, &["--episodes", "20", "--stochastic", "--max-mb", "1"]);
    let text = stderr(&large);
    assert_eq!(large.status.code(), Some(2), "{text}");
    let last = text.lines().last().unwrap();
    for word in ["error: the page would have", "at most 1 are allowed", "fewer --episodes"] {
        assert!(last.contains(word), "{last}");
    }
    assert!(!run.join("show.html").exists());

    let mut homeless = runner();
    fs::remove_file(run.join("model.mjb")).unwrap();
    let empty = out.path().join("no models");
    homeless.env("SMFP_MODELS", &empty).args(["show", "--run"]).arg(&run);
    refused(&homeless.output().unwrap(), 2, &["half_cheetah.xml", "scripts/just setup"]);

    fs::remove_dir_all(run.join("checkpoint")).unwrap();
    refused(&show(&run, &[]), 2, &["checkpoint"]);
    let many = ["--run", run.to_str().unwrap()].repeat(6);
    refused(&show(&run, &many), 2, &["at most 6"]);
}

#[cfg(not(feature = "video"))]
#[test]
fn a_build_without_video_says_how_to_get_it() {
    let output = runner().args(["video", "--run", "run"]).output().unwrap();
    refused(&output, 2, &["--features video", "runner show"]);
    let help = runner().args(["video", "--help"]).output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("--camera"));
}
