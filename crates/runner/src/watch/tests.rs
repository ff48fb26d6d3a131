//! The view of real folders, in windows of several sizes.

use super::runs::Runs;
use super::table;
use super::view::{self, View};
use crate::train::run_status::State;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use report::{EvalRow, Log, TrainRow};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const SIZES: [(u16, u16); 3] = [(120, 40), (80, 24), (40, 15)];

/// Draws a view.
fn buffer(runs: &Runs, size: (u16, u16), selected: usize, curve: bool, colours: bool) -> Buffer {
    let (folder, problem) = ("results", runs.problem());
    let view = View { folder, runs: runs.all(), selected, curve, colours, problem };
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| view::draw(frame, &view)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of a view.
fn lines(runs: &Runs, size: (u16, u16), selected: usize, curve: bool) -> Vec<String> {
    let buffer = buffer(runs, size, selected, curve, true);
    let symbols: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    symbols.chunks(size.0.into()).map(|line| line.concat()).collect()
}

/// The only line with a word.
fn line_with<'a>(lines: &'a [String], word: &str) -> &'a str {
    let found: Vec<&String> = lines.iter().filter(|line| line.contains(word)).collect();
    assert_eq!(found.len(), 1, "{word}: {lines:#?}");
    found[0]
}

fn reference(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/reference").join(run)
}

/// Copies a real run.
fn copy(root: &Path, run: &str) -> PathBuf {
    let folder = root.join(run);
    fs::create_dir_all(&folder).unwrap();
    for name in ["config.toml", "train.csv", "eval.csv"] {
        fs::copy(reference(run).join(name), folder.join(name)).unwrap();
    }
    folder
}

/// A run of a million steps in progress, with the lock of its process.
struct Begun {
    folder: PathBuf,
    log: Log<TrainRow>,
    lock: File,
}

fn begin(root: &Path, run: &str, thousands: u64) -> Begun {
    let folder = root.join(run);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "[train]\nsteps = 1000000\n").unwrap();
    let mut log = Log::create(&folder.join("train.csv")).unwrap();
    (1..=thousands).for_each(|k| log.append(&row(k)).unwrap());
    let mut eval = Log::create(&folder.join("eval.csv")).unwrap();
    for k in 1..=thousands / 10 {
        for (mode, score) in [("deterministic", 0.25), ("stochastic", 0.125)] {
            let row = EvalRow::summarise(10_000 * k, mode.into(), &[(k as f64 + score, 9)], 0.0);
            eval.append(&row).unwrap();
        }
    }
    let lock = File::create(folder.join("lock")).unwrap();
    lock.try_lock().unwrap();
    Begun { folder, log, lock }
}

fn row(thousand: u64) -> TrainRow {
    let return_mean = Some(-1000.0 - thousand as f64 / 2.0);
    TrainRow {
        step: 1000 * thousand,
        updates: 1,
        return_mean,
        steps_per_s: 50.0,
        ..Default::default()
    }
}

#[test]
fn one_run_is_shown_in_windows_of_all_sizes() {
    let root = tempfile::tempdir().unwrap();
    let run = copy(root.path(), "smfp/HalfCheetah-v4/seed-1");
    let runs = Runs::find(root.path()).unwrap();
    let train: Vec<TrainRow> = report::read(&run.join("train.csv")).unwrap();
    let eval: Vec<EvalRow> = report::read(&run.join("eval.csv")).unwrap();
    let last_return = format!("{:.1}", train.last().unwrap().return_mean.unwrap());
    let last = eval.iter().rfind(|row| row.mode == "deterministic").unwrap();
    let evaluation = format!("{:.1}", last.return_mean);
    for size in SIZES {
        let lines = lines(&runs, size, 0, false);
        let run = lines[1].as_str();
        let words: &[&str] = match size.0 {
            40 => &["✓", "smfp", "HalfC", "-v4", "100%", &last_return],
            80 => &["✓ done", "smfp", "HalfCheetah-v4", "30k/30k", &last_return, &evaluation],
            _ => &["✓ done", "smfp", "30k/30k  ██████████", &last_return, &evaluation],
        };
        for word in words {
            assert!(run.contains(word), "{size:?} {word}: {lines:#?}");
        }
        let bottom = lines.last().unwrap();
        assert!(bottom.contains("1/1  1 done") && bottom.contains("q quit"), "{bottom}");
        // If there is room, its curve is below the table.
        let title = lines.iter().filter(|line| line.contains("smfp HalfCheetah-v4 seed 1"));
        assert_eq!(title.count(), usize::from(size.1 > 15), "{lines:#?}");
        let curve = lines.concat();
        assert_eq!(curve.contains("30k steps") && curve.contains('•'), size.1 > 15, "{lines:#?}");
    }
    // If there is none, it may fill the window, with what the table left out.
    let lines = lines(&runs, (40, 15), 0, true);
    let all = lines.concat();
    for word in ["smfp HalfCheetah-v4 seed 1", "step 30000 of 30000", &evaluation, "30k steps", "•"]
    {
        assert!(all.contains(word), "{word}: {lines:#?}");
    }
}

#[test]
fn three_runs_stand_in_an_order_that_says_which_are_at_work() {
    let root = tempfile::tempdir().unwrap();
    copy(root.path(), "sac/Hopper-v4/seed-0");
    let failed = copy(root.path(), "td3/Hopper-v4/seed-0");
    fs::write(failed.join("FAILED"), "training diverged at step 30000: critic loss is NaN\n")
        .unwrap();
    let _running = begin(root.path(), "td3/Hopper-v4/seed-1", 250);
    let mut runs = Runs::find(root.path()).unwrap();
    for size in SIZES {
        assert!(!runs.update(), "nothing has changed, the order neither");
        let lines = lines(&runs, size, 1, false);
        let signs: Vec<char> = lines[1..4].iter().filter_map(|line| line.chars().next()).collect();
        assert_eq!(signs, ['▶', '✗', '✓'], "{lines:#?}");
        assert!(lines[1].contains("-1125.0"), "{lines:#?}");
        let running: &[&str] = match size.0 {
            40 => &["25%"],
            80 => &["250k/1M", "25.2", "4:10:00"],
            _ => &["250k/1M  ██░░░░░░░░", "25.2", " 50 ", "4:10:00"],
        };
        running.iter().for_each(|word| assert!(lines[1].contains(word), "{word}: {lines:#?}"));
        line_with(&lines, "1 done, 1 running, 1 failed");
        let reason = lines.iter().any(|line| line.contains("diverged at step 30000"));
        assert_eq!(reason, size.1 > 15, "{lines:#?}");
    }
    assert!(lines(&runs, (40, 15), 1, true).concat().contains("critic loss is NaN"));
}

#[test]
fn of_seventy_runs_those_around_the_selected_one_are_shown_with_nothing_cut_in_80_columns() {
    let root = tempfile::tempdir().unwrap();
    let (algorithms, tasks) = (["smfp", "meanflow"], ["HumanoidStandup-v4", "Humanoid-v4"]);
    let mut begun = Vec::new();
    for number in 0..70 {
        let seed = number / 4;
        let run = format!("{}/{}/seed-{seed}", algorithms[number % 2], tasks[number / 2 % 2]);
        begun.push(begin(root.path(), &run, 20 + number as u64));
    }
    // Three are at work.
    begun.drain(3..);
    let runs = Runs::find(root.path()).unwrap();
    assert_eq!(runs.all().len(), 70);
    for size in SIZES {
        for selected in [0, 34, 69] {
            let lines = lines(&runs, size, selected, false);
            let bottom = line_with(&lines, "3 running, 67 stopped");
            assert!(bottom.contains(&format!("{}/70", selected + 1)), "{bottom}");
            let shown: Vec<&String> =
                lines[1..].iter().take_while(|line| line.starts_with(['▶', '■'])).collect();
            assert!(shown.len() >= if size.1 == 15 { 13 } else { 11 }, "{lines:#?}");
            let is_in = |index: usize| {
                let run = &runs.all()[index];
                let last_return = format!("{:.1}", run.status.last_return.unwrap());
                let whole = |line: &str| size.0 == 40 || line.contains(&run.place.task);
                let line = shown.iter().find(|line| line.contains(&last_return));
                line.is_some_and(|line| line.contains(&run.place.algorithm) && whole(line))
            };
            let seen: Vec<usize> = (0..70).filter(|index| is_in(*index)).collect();
            assert_eq!(seen.len(), shown.len(), "{lines:#?}");
            assert!(seen.contains(&selected), "{lines:#?}");
            let cut = lines.iter().any(|line| line.contains('…'));
            assert!(!cut || size.0 == 40, "{lines:#?}");
        }
    }
}

#[test]
fn a_window_without_room_is_no_reason_to_fail() {
    let root = tempfile::tempdir().unwrap();
    let name = "smfp-tune_objective.lambda-0.1_critic.kind-mlp_train.batch_size-256_actor.width-32";
    let _run = begin(root.path(), &format!("{name}/Hopper-v4/seed-0"), 500);
    let runs = Runs::find(root.path()).unwrap();
    for width in [1, 2, 7, 20, 33, 60, 100, 1000] {
        for height in [1, 2, 5, 18, 300] {
            for curve in [false, true] {
                lines(&runs, (width, height), 0, curve);
            }
        }
    }
    // The ends of a name tell variants apart.
    let lines = lines(&runs, (80, 24), 0, false);
    for word in ["smfp-tune", "…", "width-32", "Hopper-v4", "500k/1M", "-1250.0", "50.2"] {
        assert!(lines[1].contains(word), "{word}: {lines:#?}");
    }
    let whole = format!("{name} Hopper-v4 seed 0");
    assert!(lines.concat().contains(&whole), "{lines:#?}");
}

#[test]
fn runs_that_appear_go_on_stop_fail_and_end_are_followed() {
    let root = tempfile::tempdir().unwrap();
    let Begun { folder, mut log, lock } = begin(root.path(), "sac/Ant-v4/seed-0", 20);
    let mut runs = Runs::find(root.path()).unwrap();
    assert!(!runs.update(), "nothing has changed");
    let first = |runs: &Runs| lines(runs, (80, 24), 0, false)[1].clone();
    assert!(first(&runs).contains("20k/1M") && first(&runs).contains("-1010.0"));

    log.append(&row(21)).unwrap();
    // Half a row is a row that is being written.
    let half = |text: &str| {
        let mut file = File::options().append(true).open(folder.join("train.csv")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    half("22000,0,0,-99");
    assert!(runs.update());
    assert!(first(&runs).contains("21k/1M"), "{}", first(&runs));
    assert!(runs.all()[0].status.reason.is_none());
    half("9.5,,50.0,0.0\n");
    assert!(runs.update());
    assert!(first(&runs).contains("22k/1M") && first(&runs).contains("-999.5"));
    assert_eq!((runs.all()[0].train.len(), runs.all()[0].evaluations.len()), (22, 2));

    let other = begin(root.path(), "crossq/Ant-v4/seed-7", 30);
    assert!(runs.update());
    let both = lines(&runs, (80, 24), 0, false);
    assert!(both[1].contains("crossq") && both[2].contains("sac"), "{both:#?}");

    drop(lock);
    assert!(runs.update());
    let state = |runs: &Runs, algorithm: &str| {
        runs.all().iter().find(|run| run.place.algorithm == algorithm).unwrap().status.state
    };
    assert_eq!((state(&runs, "sac"), state(&runs, "crossq")), (State::Stopped, State::Running));
    fs::write(folder.join("FAILED"), "ended by signal 9\n").unwrap();
    fs::write(other.folder.join("DONE"), "").unwrap();
    assert!(runs.update());
    assert_eq!((state(&runs, "sac"), state(&runs, "crossq")), (State::Failed, State::Done));
    fs::remove_dir_all(root.path().join("crossq")).unwrap();
    assert!(runs.update());
    assert_eq!(runs.all().len(), 1);
    fs::remove_dir_all(root.path()).unwrap();
    assert!(runs.update());
    assert!(lines(&runs, (80, 24), 0, false).last().unwrap().contains("can't read this folder"));
}

#[test]
fn a_wrong_row_is_said_and_is_no_reason_to_end() {
    let root = tempfile::tempdir().unwrap();
    let folder = copy(root.path(), "sac/Hopper-v4/seed-0");
    let path = folder.join("eval.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("deterministic,10,", "deterministic,x,", 1)).unwrap();
    let mut runs = Runs::find(root.path()).unwrap();
    let wrong = "eval.csv: row 2: column 3: invalid digit found in string";
    line_with(&lines(&runs, (80, 24), 0, false), wrong);
    runs.update();
    assert_eq!(runs.all()[0].status.reason.as_deref(), Some(wrong), "it is wrong still");
    fs::write(&path, text).unwrap();
    runs.update();
    assert_eq!((runs.all()[0].status.reason.as_ref(), runs.all()[0].evaluations.len()), (None, 3));
}

#[test]
fn the_folder_of_an_algorithm_a_task_or_a_run_will_do_and_names_are_the_same() {
    let root = tempfile::tempdir().unwrap();
    copy(root.path(), "sac/Hopper-v4/seed-0");
    copy(root.path(), "sac/HalfCheetah-v4/seed-0");
    copy(root.path(), "td3/Hopper-v4/seed-1");
    // Others' folders are no runs.
    for other in ["sac/Hopper-v4/seed-3", "sac/Hopper-v4/seed-0.old-1", "report/figures/a"] {
        fs::create_dir_all(root.path().join(other)).unwrap();
        fs::write(root.path().join(other).join("notes.txt"), "").unwrap();
    }
    let labels = |folder: &str| -> Vec<String> {
        let runs = Runs::find(&root.path().join(folder)).unwrap();
        runs.all().iter().map(|run| run.label()).collect()
    };
    let (hopper, cheetah) = ("sac Hopper-v4 seed 0", "sac HalfCheetah-v4 seed 0");
    assert_eq!(labels(""), [cheetah, hopper, "td3 Hopper-v4 seed 1"]);
    assert_eq!(labels("sac"), [cheetah, hopper]);
    assert_eq!(labels("sac/Hopper-v4"), [hopper]);
    assert_eq!(labels("sac/Hopper-v4/seed-0/"), [hopper]);
    let failure = Runs::find(&root.path().join("sac/Hopper-v4/seed-3")).err().unwrap();
    assert!(failure.message().contains("no runs found"), "{}", failure.message());
}

#[test]
fn without_colours_there_are_none_and_the_same_is_said() {
    let runs = Runs::find(&reference("")).unwrap();
    let [with, without] = [true, false].map(|colours| buffer(&runs, (120, 40), 3, false, colours));
    assert!(with.content().iter().any(|cell| cell.fg == Color::Cyan));
    let plain = |buffer: &Buffer| {
        buffer.content().iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset))
    };
    assert!(!plain(&with) && plain(&without));
    let symbols =
        |buffer: &Buffer| buffer.content().iter().map(|cell| cell.symbol()).collect::<String>();
    assert_eq!(symbols(&with), symbols(&without));
}

#[test]
fn the_table_of_a_file_has_every_run_in_a_line() {
    let root = tempfile::tempdir().unwrap();
    let _running = begin(root.path(), "td3/Hopper-v4/seed-1", 250);
    let failed = copy(root.path(), "sac/Hopper-v4/seed-0");
    fs::write(failed.join("FAILED"), "ended by signal 9\n").unwrap();
    let text = table::text(Runs::find(root.path()).unwrap().all());
    let lines: Vec<String> = text.lines().map(str::to_string).collect();
    let running = line_with(&lines, "td3 Hopper-v4 seed 1");
    let words: Vec<&str> = running.split_whitespace().collect();
    let expected = ["running", "250000", "1000000", "-1125.0", "25.2", "50", "4:10:00"];
    assert_eq!(words[..7], expected, "{text}");
    assert!(line_with(&lines, "sac").ends_with("sac Hopper-v4 seed 0: ended by signal 9"));
    assert_eq!(lines.last().unwrap(), "1 running, 1 failed");
}
