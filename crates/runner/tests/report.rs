//! `runner report` on copies of the reference runs, driven from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/reference")
}

fn report(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg("report").arg(folder).args(more).stdin(Stdio::null()).output().unwrap()
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["config.toml", "train.csv", "eval.csv"] {
        fs::copy(reference().join(from).join(name), to.join(name)).unwrap();
    }
}

/// All files of a run with every return multiplied, as if another seed had got there.
fn perturbed(from: &str, to: &Path, factor: f64) {
    copy(from, to);
    let path = to.join("eval.csv");
    let mut rows: Vec<report::EvalRow> = report::read(&path).unwrap();
    rows.iter_mut().for_each(|row| row.return_mean *= factor);
    fs::remove_file(&path).unwrap();
    let mut log = report::Log::create(&path).unwrap();
    rows.iter().for_each(|row| log.append(row).unwrap());
}

fn refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Writes a file with words of it replaced.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "'{from}' is not in {}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The study that a page shows.
fn data(page: &Path) -> serde_json::Value {
    let text = fs::read_to_string(page).unwrap();
    let (_, after) = text.split_once("id=\"data\">").unwrap();
    serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn one_run_makes_a_report_and_a_table_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    copy("smfp/Hopper-v4/seed-0", &folder.path().join("smfp/Hopper-v4/seed-0"));
    let output = report(folder.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().nth(1).unwrap();
    // The mean of its three evaluations, added up by hand from eval.csv.
    let rows: Vec<report::EvalRow> =
        report::read(&folder.path().join("smfp/Hopper-v4/seed-0/eval.csv")).unwrap();
    let deterministic = rows.iter().filter(|row| row.mode == "deterministic");
    let mean = deterministic.map(|row| row.return_mean).sum::<f64>() / 3.0;
    let shown: f64 = row.split(',').nth(4).unwrap().parse().unwrap();
    assert!((shown - mean).abs() < 1e-9, "{row}");
    assert!(row.starts_with("Hopper-v4,smfp,30000,1,") && row.ends_with(",,,"), "{row}");
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(messages.contains("one seed: no interval"), "{messages}");
    let data = data(&folder.path().join("report/index.html"));
    assert!(data["tasks"][0]["cells"][0]["score"]["interval"].is_null());
    assert!(data["aggregate"].is_null(), "there is no reference to be normalised by");
}

#[test]
fn the_reference_runs_report_their_crashes_gaps_and_settings_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    for (algo, seed) in [("sac", 0), ("sac", 1), ("smfp", 0), ("smfp", 1)] {
        let run = format!("{algo}/HalfCheetah-v4/seed-{seed}");
        copy(&run, &folder.path().join(&run));
    }
    let cut = |run: &str, name: &str, lines: usize, rest: &str| {
        let path = folder.path().join(run).join(name);
        let text = fs::read_to_string(&path).unwrap();
        let kept: Vec<&str> = text.lines().take(lines).collect();
        fs::write(path, format!("{}\n{rest}", kept.join("\n"))).unwrap();
    };
    // As a crash leaves it: asked for more, and a row that was being written.
    cut("sac/HalfCheetah-v4/seed-1", "train.csv", 15, "2000");
    cut("sac/HalfCheetah-v4/seed-1", "eval.csv", 4, "2000");
    // One that was asked for less.
    cut("smfp/HalfCheetah-v4/seed-1", "train.csv", 21, "");
    cut("smfp/HalfCheetah-v4/seed-1", "eval.csv", 7, "");
    let record = folder.path().join("smfp/HalfCheetah-v4/seed-1/config.toml");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("\nsteps = 30000"), "{text}");
    fs::write(&record, text.replace("\nsteps = 30000", "\nsteps = 20000")).unwrap();
    let once = report(folder.path(), &["--out", folder.path().join("a").to_str().unwrap()]);
    let again = report(folder.path(), &["--out", folder.path().join("b").to_str().unwrap()]);
    assert!(once.status.success() && again.status.success());
    let messages = String::from_utf8(once.stderr).unwrap();
    for line in [
        "seed 1: stopped at step 14,000 of 30,000 (or is still running); 1 of 2 seeds reach 30,000",
        "seed 1: ends at step 20,000, as requested; 1 of 2 seeds reach 30,000",
    ] {
        assert!(messages.contains(line), "'{line}' is not in: {messages}");
    }
    let mut names: Vec<_> = fs::read_dir(folder.path().join("a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    for name in &names {
        let bytes = |report: &str| fs::read(folder.path().join(report).join(name)).unwrap();
        assert!(bytes("a") == bytes("b"), "{name:?}");
    }
    for name in ["index.html", "report.md", "scores.csv", "curves.svg", "profile.png"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    let data = data(&folder.path().join("a/index.html"));
    let settings = data["runs"][2]["settings"].as_array().unwrap();
    assert!(settings.contains(&serde_json::json!(["train.steps", "30000"])), "{settings:?}");
    // What results_table.py prints as uniform actions: the mean of both seeds' there.
    let random = data["tasks"][0]["random"].as_f64().unwrap();
    assert!((random - (-317.0 - 300.0) / 2.0).abs() < 1.0, "{random}");
}

#[test]
fn seventy_runs_take_seconds_and_the_page_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    for algo in ["crossq", "sac"] {
        for task in 0..7 {
            for seed in 0..5 {
                let to = folder.path().join(format!("{algo}/Task{task}-v4/seed-{seed}"));
                let factor = 1.0 + 0.1 * f64::from((seed * 7 + task * 3) % 5);
                perturbed(&format!("{algo}/HalfCheetah-v4/seed-{}", seed % 2), &to, factor);
            }
        }
    }
    let begun = Instant::now();
    let output = report(folder.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let page = folder.path().join("report/index.html");
    assert!(fs::metadata(&page).unwrap().len() < 3_000_000);
    let data = data(&page);
    assert_eq!(data["runs"].as_array().unwrap().len(), 70);
    let members = data["aggregate"]["members"].as_array().unwrap();
    assert_eq!(members.len(), 2);
    for member in members {
        assert!(member["iqm"]["interval"]["low"].is_f64(), "five seeds have an interval");
    }
    // Every run of CrossQ beats every run of SAC here.
    let pair = &data["aggregate"]["improvements"][0]["probability"];
    assert_eq!((pair["value"].as_f64(), pair["interval"]["low"].as_f64()), (Some(1.0), Some(1.0)));
}

#[test]
fn a_report_has_curves_of_others_and_times_of_actions_too() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    copy("sac/Hopper-v4/seed-0", &runs.join("sac/Hopper-v4/seed-0"));
    let mapping = folder.path().join("others.toml");
    fs::write(folder.path().join("others.csv"), "step,one,two\n10000,5,6\n20000,7,8\n30000,9,10\n")
        .unwrap();
    let entry = "[[curves]]\nfile = \"others.csv\"\nalgorithm = \"Theirs\"\ntask = \"Hopper-v4\"\n\
                 step = \"step\"\nreturns = [\"one\", \"two\"]\n";
    fs::write(&mapping, entry).unwrap();
    let act = reference().join("../bench/act.csv");
    let more = ["--curves", mapping.to_str().unwrap(), "--act-times", act.to_str().unwrap()];
    let output = report(&runs, &more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Hopper-v4,Theirs,30000,2,7.5,7.0,8.0,"), "{text}");
    let times = fs::read_to_string(runs.join("report/action-times.csv")).unwrap();
    assert!(times.contains("smfp,ours,1,"), "{times}");

    fs::write(&mapping, entry.replace("Theirs", "sac")).unwrap();
    refused(&report(&runs, &more), &["others.toml", "'sac' is also the name of an algorithm"]);
    fs::write(&mapping, entry.replace("\"two\"", "\"three\"")).unwrap();
    refused(&report(&runs, &more), &["others.csv", "'three'", "all: step, one, two"]);
}

#[test]
fn wrong_input_is_refused_in_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    refused(&report(folder.path(), &[]), &["no runs found", "seed-N"]);
    refused(&report(&folder.path().join("nowhere"), &[]), &["nowhere", "no such folder"]);
    let run = folder.path().join("sac/Hopper-v4/seed-0");
    copy("sac/Hopper-v4/seed-0", &run);
    let whole = fs::read_to_string(run.join("eval.csv")).unwrap();
    fs::write(
        run.join("eval.csv"),
        whole.replacen("20000,deterministic,10,", "20000,deterministic,ten,", 1),
    )
    .unwrap();
    refused(&report(folder.path(), &[]), &["seed-0/eval.csv: row 5: column 3"]);
    let far = whole.replace("20000,deterministic,", "9223372036854775808,deterministic,");
    fs::write(run.join("eval.csv"), far).unwrap();
    refused(&report(folder.path(), &[]), &["seed-0/eval.csv: step 9223372036854775808", "1e15"]);
    fs::write(run.join("eval.csv"), &whole).unwrap();
    for (flag, value) in [("--at", "-1"), ("--threshold", "high")] {
        refused(&report(folder.path(), &[flag, value]), &[flag]);
    }
    assert!(!folder.path().join("report").exists());

    let thesis = folder.path().join("thesis");
    fs::create_dir(&thesis).unwrap();
    fs::write(thesis.join("index.html"), "mine").unwrap();
    let out = ["--out", thesis.to_str().unwrap()];
    refused(&report(folder.path(), &out), &["thesis", "--out"]);
    assert_eq!(fs::read_to_string(thesis.join("index.html")).unwrap(), "mine");
}

#[test]
fn several_folders_at_any_depth_make_one_report_and_equal_runs_keep_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for sweep in ["may/old", "june/a/new"] {
        copy("sac/Hopper-v4/seed-0", &root.join(sweep).join("sac/Hopper-v4/seed-0"));
    }
    copy("td3/Hopper-v4/seed-0", &root.join("june/a/new/td3/Hopper-v4/seed-0"));
    let june = root.join("june");
    refused(&report(&root.join("may"), &[june.to_str().unwrap()]), &["--out DIR"]);
    let out = root.join("out");
    let more = [june.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = report(&root.join("may"), &more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = data(&out.join("index.html"))["algorithms"].clone();
    assert_eq!(names, serde_json::json!(["june/a/new/sac", "may/old/sac", "td3"]));
}

#[test]
fn tasks_of_one_file_name_have_a_figure_each() {
    let folder = tempfile::tempdir().unwrap();
    for (task, factor) in [("my robot", 1.0), ("my-robot", 2.0)] {
        perturbed(
            "sac/Hopper-v4/seed-0",
            &folder.path().join("sac").join(task).join("seed-0"),
            factor,
        );
    }
    said(&report(folder.path(), &[]));
    let [one, other] = ["curves-my-robot.svg", "curves-my-robot-2.svg"]
        .map(|name| fs::read_to_string(folder.path().join("report").join(name)).unwrap());
    assert!(one.contains("my robot") && other.contains("my-robot"));
}

#[test]
fn runs_of_two_folders_are_one_algorithm_if_they_are_seeds_of_one_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("a"), folder.path().join("b"));
    copy("sac/Hopper-v4/seed-0", &here.join("sac/Hopper-v4/seed-0"));
    let other = there.join("sac/Hopper-v4/seed-1");
    copy("sac/Hopper-v4/seed-1", &other);
    let names = || {
        assert!(report(folder.path(), &[]).status.success());
        data(&folder.path().join("report/index.html"))["algorithms"].clone()
    };
    // The same number, written in another way.
    let config = other.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let rewritten = text.replace("learning_rate = 3e-4", "learning_rate = 0.0003");
    assert_ne!(text, rewritten);
    fs::write(&config, &rewritten).unwrap();
    assert_eq!(names(), serde_json::json!(["sac"]));
    fs::write(&config, rewritten.replace("gamma = 0.99", "gamma = 0.9")).unwrap();
    assert_eq!(names(), serde_json::json!(["a/sac", "b/sac"]));
}

#[test]
fn a_reference_without_runs_is_refused_and_a_missing_default_remarked_on() {
    let folder = tempfile::tempdir().unwrap();
    copy("smfp/Hopper-v4/seed-0", &folder.path().join("smfp/Hopper-v4/seed-0"));
    refused(&report(folder.path(), &["--reference", "smpf"]), &["'smpf'", "did you mean 'smfp'?"]);
    let text = String::from_utf8(report(folder.path(), &[]).stderr).unwrap();
    assert!(text.contains("no run of sac, so no score is normalised"), "{text}");
}

#[test]
fn a_run_without_deterministic_evaluations_is_not_said_to_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("smfp/Hopper-v4/seed-0");
    copy("smfp/Hopper-v4/seed-0", &run);
    let rows = fs::read_to_string(run.join("eval.csv")).unwrap();
    let others: Vec<&str> = rows.lines().filter(|row| !row.contains(",deterministic,")).collect();
    fs::write(run.join("eval.csv"), others.join("\n") + "\n").unwrap();
    let text = String::from_utf8(report(folder.path(), &[]).stderr).unwrap();
    assert!(text.contains("no deterministic evaluation, which a report compares"), "{text}");
    assert!(!text.contains("no evaluation yet;"), "{text}");
}

#[test]
fn runs_that_lie_elsewhere_below_are_named() {
    let folder = tempfile::tempdir().unwrap();
    copy("sac/Hopper-v4/seed-0", &folder.path().join("sac/Hopper-v4/first"));
    refused(
        &report(folder.path(), &[]),
        &["no runs found", "sac/Hopper-v4/first has a file eval.csv"],
    );
}

#[test]
fn what_the_runs_of_an_algorithm_differ_in_is_named_but_not_what_only_watches() {
    let folder = tempfile::tempdir().unwrap();
    let seed = |n: u32| folder.path().join(format!("sac/Hopper-v4/seed-{n}"));
    for n in 0..3 {
        copy("sac/Hopper-v4/seed-0", &seed(n));
    }
    let config = seed(1).join("config.toml");
    edit(&config, "log_interval = 1000", "log_interval = 500");
    edit(&config, "processor = ", "processor = \"another\" # ");
    assert!(!said(&report(folder.path(), &[])).contains("differ"));
    edit(&config, "gamma = 0.99", "gamma = 0.5");
    let expected = "Hopper-v4, sac: the runs differ in critic.gamma (0.99: seed 0, 2; 0.5: seed 1)";
    assert!(said(&report(folder.path(), &[])).contains(expected));
    let page = fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(page.contains("the runs differ in critic.gamma"));
}

#[test]
fn failed_runs_runs_without_updates_and_tasks_without_evaluations_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    copy("sac/Hopper-v4/seed-0", &at("sac/Hopper-v4/seed-0"));
    copy("sac/Hopper-v4/seed-0", &at("sac/Hopper-v4/seed-1"));
    fs::write(at("sac/Hopper-v4/seed-1/FAILED"), "the critic's loss is NaN at step 7\nand more\n")
        .unwrap();
    // No row with an update, and no evaluation.
    copy("sac/Hopper-v4/seed-0", &at("sac/Ant-v4/seed-0"));
    let rows = fs::read_to_string(at("sac/Ant-v4/seed-0/train.csv")).unwrap();
    let warm: Vec<&str> = rows.lines().take(4).collect();
    fs::write(at("sac/Ant-v4/seed-0/train.csv"), warm.join("\n") + "\n").unwrap();
    fs::write(at("sac/Ant-v4/seed-0/DONE"), "").unwrap();
    fs::remove_file(at("sac/Ant-v4/seed-0/eval.csv")).unwrap();
    let output = report(folder.path(), &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    for words in [
        "seed 1: failed at step 30,000: the critic's loss is NaN at step 7",
        "Ant-v4, sac: seed 0: no evaluation yet; seed 0: made no update",
        "Ant-v4: no evaluation yet, so it is not drawn",
    ] {
        assert!(text.contains(words), "'{words}' is not in: {text}");
    }
    assert!(!text.contains("and more"), "a remark is one line: {text}");
    let figure = fs::read_to_string(folder.path().join("report/curves.svg")).unwrap();
    assert!(figure.contains("Hopper-v4") && !figure.contains("Ant-v4"));
}

/// A run of a task that is a file with this checksum.
fn of_task_file(to: &Path, sha256: &str) {
    copy("sac/Hopper-v4/seed-0", to);
    let key = format!("[run]\ntask_sha256 = \"{sha256}\"\n");
    edit(&to.join("config.toml"), "[run]\n", &key);
}

#[test]
fn seeds_of_a_task_whose_reward_was_edited_between_them_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (seed, sha256) in ["0f77", "7cf3"].into_iter().enumerate() {
        of_task_file(&folder.path().join(format!("sac/hop/seed-{seed}")), sha256);
    }
    let text = said(&report(folder.path(), &[]));
    let expected = "hop, sac: the runs differ in run.task_sha256 (0f77: seed 0; 7cf3: seed 1)";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("the algorithms"), "there is one: {text}");
}

#[test]
fn algorithms_that_did_not_run_the_same_task_are_named_wherever_they_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    of_task_file(&at("sac/hop/seed-0"), "0f77");
    of_task_file(&at("smfp/hop/seed-0"), "0f77");
    // An older record, without the key, says nothing about it.
    copy("td3/Hopper-v4/seed-0", &at("td3/hop/seed-0"));
    let text = said(&report(folder.path(), &[]));
    assert!(!text.contains("the algorithms"), "{text}");

    edit(&at("smfp/hop/seed-0/config.toml"), "0f77", "7cf3");
    for (run, model) in [("sac", "aaaa"), ("smfp", "aaaa"), ("td3", "bbbb")] {
        let key = format!("[run]\nmodel_sha256 = \"{model}\"\n");
        edit(&at(run).join("hop/seed-0/config.toml"), "[run]\n", &key);
    }
    let expected = "hop: the algorithms did not run the same task: they differ in run.task_sha256 \
                    (0f77: sac; 7cf3: smfp); run.model_sha256 (aaaa: sac, smfp; bbbb: td3)";
    let text = said(&report(folder.path(), &[]));
    assert!(text.contains(expected), "{text}");
    let page = fs::read_to_string(at("report/report.md")).unwrap();
    assert!(page.contains(expected), "{page}");
    let shown = data(&at("report/index.html"))["tasks"][0]["remark"].clone();
    assert!(expected.ends_with(shown.as_str().unwrap()), "{shown}");
}

#[test]
fn a_run_that_cannot_be_read_is_left_out_with_a_remark_and_the_others_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let seed = |n: &str| folder.path().join(format!("sac/Hopper-v4/seed-{n}"));
    for n in ["0", "1", "2", "3", "00"] {
        copy("sac/Hopper-v4/seed-0", &seed(n));
    }
    let whole = report(&seed("0"), &["--out", folder.path().join("one").to_str().unwrap()]);
    fs::write(seed("1").join("config.toml"), "][\n").unwrap();
    let rows = fs::read_to_string(seed("2").join("eval.csv")).unwrap();
    fs::write(seed("2").join("eval.csv"), rows.replace(',', ";")).unwrap();
    let mut rows: Vec<report::EvalRow> = report::read(&seed("3").join("eval.csv")).unwrap();
    rows[0].return_mean = f64::INFINITY;
    fs::remove_file(seed("3").join("eval.csv")).unwrap();
    let mut log = report::Log::create(&seed("3").join("eval.csv")).unwrap();
    rows.iter().for_each(|row| log.append(row).unwrap());

    let output = report(folder.path(), &[]);
    let text = said(&output);
    assert_eq!(output.stdout, whole.stdout, "seed 0 alone");
    let page = fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    let data = data(&folder.path().join("report/index.html"));
    let shown: Vec<&str> =
        data["left_out"].as_array().unwrap().iter().map(|run| run.as_str().unwrap()).collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
    for (n, file, reason) in [
        ("00", "", "a run of seed 0 lies in a folder named seed-0; rename it"),
        ("1", "/config.toml", "missing table open"),
        ("2", "/eval.csv", "row 2: missing field `step`"),
        ("3", "/eval.csv", "the return is inf, expected a number"),
    ] {
        let run = format!("{}{file}: ", seed(n).display());
        let run = shown.iter().find(|shown| shown.starts_with(&run)).expect(&run);
        assert!(run.contains(reason), "'{reason}' is not in: {run}");
        let remark = format!("left out: {run}\n");
        assert!(text.contains(&remark) && page.contains(&format!("- {remark}")), "{text}{page}");
    }

    // Named by its own path, or the last one, it is an error.
    let out = folder.path().join("two");
    let more = [seed("1").to_str().unwrap().to_string(), "--out".into(), out.display().to_string()];
    refused(&report(folder.path(), &more.each_ref().map(String::as_str)), &["seed-1/config.toml"]);
    fs::write(seed("0").join("config.toml"), "][\n").unwrap();
    refused(&report(folder.path(), &["--out", more[2].as_str()]), &["seed-0"]);
    assert!(!out.exists());
}
