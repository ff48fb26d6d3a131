//! Reports of runs with known scores, and which files a report never changes.

use report::{Options, Origin, Output, Point, Problem, Run, Study, Term};
use std::fs;
use std::path::Path;

fn options() -> Options {
    Options { at: None, reference: "sac".into(), threshold: 1.0 }
}

/// A run that is evaluated every 10 steps.
fn run(algorithm: &str, task: &str, seed: u64, scores: &[f64]) -> Run {
    let point = |(score, i): (&f64, u64)| Point {
        step: 10 * (i + 1),
        score: *score,
        wall_s: Some(60.0 * (i + 1) as f64),
    };
    Run {
        algorithm: algorithm.into(),
        task: task.into(),
        seed: seed.to_string(),
        origin: Origin::Folder,
        points: scores.iter().zip(0..).map(point).collect(),
        uniform: Some(-100.0),
        reached: 10 * scores.len() as u64,
        asked: Some(10 * scores.len() as u64),
        finished: true,
        failed: None,
        updates: None,
        remarks: Vec::new(),
        folder: None,
        settings: vec![("train.steps".into(), (10 * scores.len()).to_string())],
        terms: Vec::new(),
    }
}

fn study(runs: Vec<Run>) -> Study {
    Study::new(runs, options(), Vec::new())
}

#[test]
fn a_score_is_the_mean_of_the_last_three_evaluations_up_to_the_step_of_comparison() {
    let long = run("smfp", "Ant", 0, &[0.0, 10.0, 20.0, 30.0, 900.0]);
    let study = study(vec![run("sac", "Ant", 0, &[1.0, 2.0, 3.0, 7.0]), long]);
    let task = &study.tasks[0];
    assert_eq!(task.horizon, 40, "both have the first four evaluations");
    assert_eq!(task.cells[0].scores, [4.0]);
    assert_eq!(task.cells[1].scores, [20.0]);
}

#[test]
fn uniform_actions_are_0_the_reference_is_1_and_intervals_are_scaled_with_them() {
    let study = study(vec![
        run("sac", "Ant", 0, &[100.0, 100.0, 100.0]),
        run("smfp", "Ant", 0, &[300.0, 300.0, 300.0]),
        run("smfp", "Ant", 1, &[0.0, 0.0, 0.0]),
    ]);
    let [sac, smfp] = study.tasks[0].cells.as_slice() else { panic!("two algorithms") };
    assert_eq!(sac.normalised.unwrap().value, 1.0);
    assert!(sac.normalised.unwrap().interval.is_none(), "one seed has no interval");
    let smfp = smfp.normalised.unwrap();
    let ends = smfp.interval.unwrap();
    assert_eq!((smfp.value, ends.low, ends.high), (1.25, 0.5, 2.0));
}

#[test]
fn crashed_missing_and_short_runs_are_reported_and_do_not_lower_the_step_of_comparison() {
    let scores = [1.0, 2.0, 3.0, 4.0];
    let mut crashed = run("td3", "Ant", 0, &scores[..1]);
    (crashed.reached, crashed.asked, crashed.finished) = (14_000, Some(30_000), false);
    let mut runs = vec![crashed];
    for algorithm in ["sac", "smfp"] {
        runs.extend((0..3).map(|seed| run(algorithm, "Ant", seed, &scores)));
    }
    runs.push(run("sac", "Ant", 3, &scores[..2]));
    let study = study(runs);
    let task = &study.tasks[0];
    assert_eq!(task.horizon, 40);
    let of = |name: &str| task.cells.iter().find(|cell| cell.algorithm == name).unwrap();
    assert_eq!(
        of("td3").remarks,
        [
            "seed 0: stopped at step 14,000 of 30,000 (or is still running)",
            "seeds 1, 2, 3 missing, which other algorithms have",
            "0 of 1 seeds reach 40",
        ]
    );
    assert!(of("td3").score.is_none() && !of("td3").curve.is_empty());
    assert_eq!(
        of("sac").remarks,
        ["seed 3: ends at step 20, as requested", "3 of 4 seeds reach 40"]
    );
    let runs: Vec<usize> = of("sac").curve.iter().map(|point| point.runs).collect();
    assert_eq!(runs, [4, 4, 3, 3]);
}

#[test]
fn an_algorithm_without_an_evaluation_leaves_the_others_scores() {
    let study = study(vec![run("sac", "Ant", 0, &[1.0, 2.0, 3.0]), run("td3", "Ant", 0, &[])]);
    let task = &study.tasks[0];
    assert_eq!((task.horizon, &task.cells[0].scores[..]), (30, &[2.0][..]));
    assert!(task.cells[1].score.is_none());
}

#[test]
fn the_time_to_a_threshold_is_a_median_in_which_runs_that_never_reach_it_are_last() {
    let sac = run("sac", "Ant", 0, &[100.0, 100.0, 100.0]);
    let reaching = |scores: &[[f64; 3]]| {
        let others = scores.iter().zip(0..).map(|(scores, seed)| run("smfp", "Ant", seed, scores));
        let study = study(others.chain([sac.clone()]).collect());
        let time = study.tasks[0].cells[0].to_threshold.as_ref().unwrap();
        (time.reached, time.of, time.step, time.wall_s)
    };
    let (early, late, never) = ([150.0, 0.0, 0.0], [0.0, 0.0, 100.0], [0.0, 99.0, 0.0]);
    assert_eq!(reaching(&[early, late, never]), (2, 3, Some(30.0), Some(180.0)));
    assert_eq!(reaching(&[early, late]), (2, 2, Some(20.0), Some(120.0)));
    assert_eq!(reaching(&[early, never, never]), (1, 3, None, None));
}

#[test]
fn over_tasks_only_algorithms_with_a_score_on_every_task_are_compared() {
    let scores = [100.0, 100.0, 100.0];
    let mut runs = Vec::new();
    for task in ["Ant", "Hopper"] {
        for algorithm in ["sac", "smfp"] {
            runs.extend((0..2).map(|seed| run(algorithm, task, seed, &scores)));
        }
    }
    runs.push(run("dpmd", "Ant", 0, &scores));
    runs.push(run("smfp", "Swimmer", 0, &scores));
    let study = study(runs);
    let all = study.aggregate.unwrap();
    assert_eq!(all.tasks, ["Ant", "Hopper"]);
    let members: Vec<&str> = all.members.iter().map(|member| member.algorithm.as_str()).collect();
    assert_eq!(members, ["sac", "smfp"]);
    assert_eq!(all.left_out, ["Swimmer: the reference has no score", "dpmd: no score on Hopper"]);
    assert!(all.improvements.iter().all(|pair| pair.probability.value == 0.5));
}

#[test]
fn a_published_mean_is_drawn_as_others_as_far_as_our_runs_and_where_there_are_any() {
    let published = |task: &str| {
        let mut run = run("SAC (reported)", task, 0, &[1.0, 2.0, 3.0, 4.0, 9.0]);
        run.points.iter_mut().for_each(|point| point.wall_s = None);
        Run { origin: Origin::PublishedMean, settings: Vec::new(), ..run }
    };
    let ours = |task: &str| run("sac", task, 0, &[1.0, 2.0, 3.0]);
    let runs = vec![ours("Ant"), ours("Hopper")];
    let others = ["Ant", "Hopper", "Swimmer"].map(published);
    let study = study(runs.into_iter().chain(others).collect());
    assert_eq!(study.tasks.len(), 2, "nothing of ours to compare with on Swimmer");
    let cell = &study.tasks[0].cells[1];
    assert_eq!(cell.curve.last().unwrap().step, 30);
    assert_eq!(cell.score.unwrap().value, 2.0);
    assert!(cell.to_threshold.is_none());
    assert!(study.remarks().iter().all(|remark| !remark.contains("(reported)")));
    let folder = tempfile::tempdir().unwrap();
    Output::look(&folder.path().join("r")).unwrap().write(&study).unwrap();
    let page = fs::read_to_string(folder.path().join("r/report.md")).unwrap();
    let (scores, times) = page.split_once("## Wall-clock").unwrap();
    assert!(scores.contains("in no statistic") && scores.contains("| SAC (reported) |"), "{page}");
    assert!(times.contains("| sac |") && !times.contains("SAC (reported)"), "{page}");
    let svg = fs::read_to_string(folder.path().join("r/curves-Ant.svg")).unwrap();
    let hollow = svg.matches("fill=\"#FFFFFF\"").count();
    assert_eq!(hollow, 1 + 1 + 3, "the ground, the legend and three marks");
}

#[test]
fn a_run_that_is_reached_by_two_paths_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("2026/sac/Ant-v4/seed-0");
    fs::create_dir_all(&run).unwrap();
    let head = "step,mode,episodes,return_mean,return_std,return_min,return_max,length_mean,wall_s";
    fs::write(run.join("eval.csv"), format!("{head}\n10,deterministic,1,5,0,5,5,9,1\n")).unwrap();
    std::os::unix::fs::symlink("2026", folder.path().join("latest")).unwrap();
    // Found before the run, and not the name of one.
    std::os::unix::fs::symlink("seed-0", run.with_file_name("seed-+0")).unwrap();
    let roots = [folder.path().to_path_buf(), folder.path().join("2026")];
    let found = report::read_folders(&roots).unwrap();
    assert_eq!((found.runs.len(), found.left_out.len()), (1, 0));
}

#[test]
fn a_run_costs_the_time_until_its_last_evaluation_times_its_threads() {
    let with = |algorithm: &str, threads: &str, scores: &[f64]| {
        let mut run = run(algorithm, "Ant", 0, scores);
        run.settings.push(("run.threads".into(), threads.into()));
        run
    };
    let resumed = |threads: &str| {
        let mut run = with("sac", "1", &[0.0; 60]);
        let text = format!("[{{ step = 3, threads = {threads} }}]");
        run.settings.push(("run.resumed".into(), text));
        run
    };
    let mut changed = resumed("8");
    changed.algorithm = "crossq".into();
    let runs =
        vec![with("sac", "2", &[0.0; 30]), resumed("1"), changed, run("td3", "Ant", 0, &[0.0])];
    let study = study(runs);
    let [cost] = study.costs.as_slice() else {
        panic!("the threads of td3 are unknown, and those of crossq changed")
    };
    assert_eq!((cost.runs, cost.steps, cost.core_hours), (2, 900, 2.0));
    assert_eq!((cost.per_run(), cost.per_million_steps()), (1.0, 2.0 / 900.0 * 1e6));
}

/// Writes a table and a mapping of it, and reads them.
fn mapped(table: &str, mapping: &str) -> Result<Vec<Run>, Problem> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), table).unwrap();
    let path = folder.path().join("map.toml");
    fs::write(&path, mapping).unwrap();
    report::read_mapping(&path)
}

#[test]
fn long_tables_wide_ones_and_published_means_become_runs() {
    let long = mapped(
        "algo,env,t,seed,ret,time\nTD,ant,0.02,7,5,90\nTD,ant,0.01,7,4,50\nTD,ant,0.01,8,6,\n",
        "[[curves]]\nfile = \"t.csv\"\nalgorithm = { column = \"algo\" }\ntask = { column = \"env\" }\n\
         step = \"t\"\nstep_scale = 1000\nreturn = \"ret\"\nseed = \"seed\"\nwall_s = \"time\"\n\
         rename = { ant = \"Ant-v4\" }\n",
    )
    .unwrap();
    assert_eq!(long.len(), 2);
    assert_eq!((long[0].algorithm.as_str(), long[0].task.as_str()), ("TD", "Ant-v4"));
    let point = |step, score, wall_s| Point { step, score, wall_s };
    assert_eq!(long[0].points, [point(10, 4.0, Some(50.0)), point(20, 5.0, Some(90.0))]);
    assert_eq!(long[1].points, [point(10, 6.0, None)]);

    let head = "[[curves]]\nfile = \"t.csv\"\nalgorithm = \"Theirs\"\ntask = \"Ant-v4\"\nstep = \"step\"\n";
    let table = "# a comment\nstep,a,b\n10,1,2\n20,3,\n30,5,\n";
    let wide = mapped(table, &format!("{head}returns = [\"a\", \"b\"]\n")).unwrap();
    assert_eq!(wide[0].points, [point(10, 1.0, None), point(20, 3.0, None), point(30, 5.0, None)]);
    assert_eq!(wide[1].points, [point(10, 2.0, None)]);

    let mean = mapped(table, &format!("{head}mean = \"a\"\n")).unwrap();
    assert_eq!(mean[0].origin, Origin::PublishedMean);
    let mut runs = vec![run("sac", "Ant-v4", 0, &[1.0, 1.0, 1.0])];
    runs.extend(mean);
    let study = study(runs);
    let theirs = &study.tasks[0].cells[1];
    assert!(theirs.scores.is_empty(), "its runs are unknown");
    let score = theirs.score.unwrap();
    assert_eq!((score.value, score.interval), (3.0, None));
    assert_eq!(study.tasks[0].horizon, 30, "a published mean does not move the comparison");
    assert_eq!(study.aggregate.unwrap().members.len(), 1);
}

#[test]
fn errors_in_a_mapping_or_a_table_are_reported_with_their_place() {
    let head = "[[curves]]\nfile = \"t.csv\"\nalgorithm = \"A\"\ntask = \"T\"\nstep = \"step\"\n";
    let table = "step,r\n10,1\n20,oops\n";
    for (table, mapping, words) in [
        (table, format!("{head}return = \"ret\"\n"), "there is no column 'ret' (all: step, r)"),
        (table, format!("{head}return = \"r\"\n"), "row 3: r is 'oops', expected a number"),
        (table, head.to_string(), "curves 1: expected exactly one of return, returns and mean"),
        (table, format!("{head}retrun = \"r\"\n"), "row 6: unknown field `retrun`"),
        ("step,r\n10,1\n10,2\n", format!("{head}return = \"r\"\n"), "step 10 follows step 10"),
        ("step,r\n", format!("{head}return = \"r\"\n"), "no row has both a step and a return"),
    ] {
        let message = mapped(table, &mapping).unwrap_err().to_string();
        assert!(message.contains(words), "'{words}' is not in: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_replaces_an_earlier_report_and_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let both = |task: &str| study(vec![run("sac", "Ant", 0, &[1.0]), run("sac", task, 0, &[1.0])]);
    Output::look(&out).unwrap().write(&both("Hopper")).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    assert!(out.join("curves-Hopper.svg").exists());
    Output::look(&out).unwrap().write(&both("Swimmer")).unwrap();
    assert!(!out.join("curves-Hopper.svg").exists() && out.join("curves-Swimmer.svg").exists());
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");

    fs::write(out.join("curves-Walker.svg"), "mine").unwrap();
    let before = names(&out);
    let error = Output::look(&out).unwrap().write(&both("Walker")).unwrap_err().to_string();
    assert!(error.contains("curves-Walker.svg: is not a report's"), "{error}");
    assert_eq!(fs::read_to_string(out.join("curves-Walker.svg")).unwrap(), "mine");
    assert_eq!(names(&out), before);

    let other = folder.path().join("thesis");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "mine").unwrap();
    assert!(Output::look(&other).is_err());
    fs::write(other.join("FILES"), "index.html\n").unwrap();
    assert!(Output::look(&other).is_err(), "a list that is not a report's must not count");
}

#[test]
fn a_report_that_was_killed_at_its_first_file_does_not_keep_the_next_one_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FILES.unfinished"), "# Files of").unwrap();
    let study = study(vec![run("sac", "Ant", 0, &[1.0])]);
    Output::look(folder.path()).unwrap().write(&study).unwrap();
    assert!(!names(folder.path()).contains(&"FILES.unfinished".into()));
}

#[test]
fn a_list_of_files_cannot_name_files_outside_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let study = study(vec![run("sac", "Ant", 0, &[1.0])]);
    Output::look(&out).unwrap().write(&study).unwrap();
    fs::write(folder.path().join("precious"), "mine").unwrap();
    let list = fs::read_to_string(out.join("FILES")).unwrap();
    fs::write(out.join("FILES"), format!("{list}../precious\n")).unwrap();
    Output::look(&out).unwrap().write(&study).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("precious")).unwrap(), "mine");
}

#[test]
fn terms_of_rewards_are_means_over_rows_and_seeds_and_those_of_a_long_run_are_few() {
    let term = |name: &str, points: &[(u64, f64)]| (name.to_owned(), points.to_vec());
    let [mut a, mut b] = [0, 1].map(|seed| run("smfp", "robot", seed, &[1.0, 2.0]));
    a.terms = vec![term("forward", &[(10, 1.0), (20, 2.0)]), term("effort", &[(10, 0.5)])];
    b.terms = vec![term("forward", &[(10, 3.0)])];
    let short = study(vec![a.clone(), b]);
    let terms = &short.tasks[0].cells[0].terms;
    let of =
        |term: &Term| term.points.iter().map(|p| (p.step, p.value, p.runs)).collect::<Vec<_>>();
    assert_eq!(
        terms.iter().map(|term| term.name.as_str()).collect::<Vec<_>>(),
        ["forward", "effort"]
    );
    assert_eq!(of(&terms[0]), [(10, 2.0, 2), (20, 2.0, 1)]);
    assert_eq!(of(&terms[1]), [(10, 0.5, 1)]);

    let rows: Vec<(u64, f64)> = (1..=600).map(|row| (row, row as f64)).collect();
    a.terms = vec![term("forward", &rows)];
    let long = study(vec![a]);
    let points = of(&long.tasks[0].cells[0].terms[0]);
    assert_eq!((points.len(), points[0], points[59]), (60, (10, 5.5, 1), (600, 595.5, 1)));
}

#[test]
fn names_cannot_become_markup_or_paths_and_the_page_makes_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let evil = "</script><img src=http://example.org/>";
    let runs = vec![
        run("sac", "Ant", 0, &[1.0]),
        run("a|b", "../../x", 0, &[1.0]),
        run(evil, "Ant", 0, &[1.0]),
    ];
    let page = Output::look(&out).unwrap().write(&study(runs)).unwrap();
    let text = fs::read_to_string(page).unwrap();
    assert_eq!(text.matches("</script>").count(), 2, "the page's own two");
    assert!(!text.contains("<img"));
    assert!(
        text.contains("viewer.replace('{\"data\": \"here\"}'"),
        "data in the middle of a script"
    );
    let address = text.replace("http://www.w3.org/2000/svg", "").replace("http://example.org", "");
    assert!(!address.contains("http:") && !address.contains("https:"), "an external address");
    assert!(out.join("curves-..-..-x.svg").exists());
    assert_eq!(names(folder.path()), ["report"]);
    let svg = fs::read_to_string(out.join("curves.svg")).unwrap();
    assert!(svg.contains("&lt;/script&gt;") && !svg.contains("<img"), "{svg}");
    let table = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(table.contains("a\\|b"));
}

#[test]
fn ten_algorithms_have_marks_along_long_lines_since_colours_repeat() {
    let scores: Vec<f64> = (0..100).map(f64::from).collect();
    let marks = |algorithms: usize| {
        let folder = tempfile::tempdir().unwrap();
        let runs = (0..algorithms).map(|i| run(&format!("a{i}"), "Ant", 0, &scores)).collect();
        Output::look(&folder.path().join("r")).unwrap().write(&study(runs)).unwrap();
        let text = fs::read_to_string(folder.path().join("r/curves.svg")).unwrap();
        text.matches("<polygon").count()
    };
    assert_eq!(marks(8), 8, "one of the legend for each");
    assert_eq!(marks(10), 10 + 10 * 12);
}
