//! `runner show` on small runs, driven from outside.

mod common;

use common::{folder, refused, runner, stderr, train};
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

    let large = show(&run, &["--episodes", "20", "--max-mb", "1"]);
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
