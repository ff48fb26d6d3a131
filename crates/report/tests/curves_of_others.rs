//! Tables as other programs write them become curves.

use ndarray::{Array1, Array2, arr1, arr2};
use ndarray_npy::{NpzWriter, WriteNpyExt, write_npy};
use report::{Problem, Run, read_mapping};
use std::fs;
use std::io::Write;
use std::path::Path;

/// The runs of one table, whose mapping has these lines beside file, algorithm and task.
fn read(folder: &Path, file: &str, lines: &str) -> Result<Vec<Run>, Problem> {
    let mapping = folder.join("map.toml");
    let entry =
        format!("[[curves]]\nfile = \"{file}\"\nalgorithm = \"X\"\ntask = \"T\"\n{lines}\n");
    fs::write(&mapping, entry).unwrap();
    read_mapping(&mapping)
}

/// The same for a table of text.
fn text(table: &str, lines: &str) -> Result<Vec<Run>, Problem> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), table).unwrap();
    read(folder.path(), "t.csv", lines)
}

fn points(run: &Run) -> Vec<(u64, f64)> {
    run.points.iter().map(|point| (point.step, point.score)).collect()
}

const CURVE: [(u64, f64); 2] = [(500, 10.5), (1000, 20.0)];

#[test]
fn separators_decimal_commas_and_tables_without_a_header() {
    for (table, lines) in [
        (
            "steps\ttest\n500\t10.5\n1000\t20\n",
            "separator = \"\\t\"\nstep = \"steps\"\nreturn = \"test\"",
        ),
        (
            "steps;test\n500;10,5\n1000;20\n",
            "separator = \";\"\ndecimal = \",\"\nstep = \"steps\"\nreturn = \"test\"",
        ),
        (
            "  5.0e+02   1.05e+01\n1.0e+03 2.0e+01\n",
            "separator = \"blanks\"\nheader = false\nstep = \"0\"\nreturn = \"1\"",
        ),
    ] {
        let runs = text(table, lines).unwrap();
        assert_eq!(points(&runs[0]), CURVE, "{lines}");
    }
}

#[test]
fn numpys_files_are_read_whatever_the_type_of_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_npy(at("a.npy"), &arr2(&[[500.0, 10.5], [1000.0, 20.0]])).unwrap();
    write_npy(at("b.npy"), &arr2(&[[500.0f32, 10.5], [1000.0, 20.0]])).unwrap();
    for file in ["a.npy", "b.npy"] {
        let runs = read(folder.path(), file, "step = \"0\"\nreturn = \"1\"").unwrap();
        assert_eq!(points(&runs[0]), CURVE, "{file}");
    }
    write_npy(at("c.npy"), &ndarray::Array3::<f64>::zeros((2, 2, 2))).unwrap();
    let problem = read(folder.path(), "c.npy", "step = \"0\"\nreturn = \"1\"").unwrap_err();
    assert!(problem.to_string().ends_with("c.npy: shape [2, 2, 2], expected rows and columns"));
}

/// The arrays of `EvalCallback` of Stable-Baselines3: one row per evaluation, one column per episode.
#[test]
fn an_evaluation_of_stable_baselines_is_a_row_and_its_return_the_mean_over_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluations.npz");
    let mut archive = NpzWriter::new(fs::File::create(&path).unwrap());
    archive.add_array("timesteps", &arr1(&[500i64, 1000])).unwrap();
    archive.add_array("results", &arr2(&[[10.0, 11.0], [15.0, 25.0]])).unwrap();
    archive.add_array("ep_lengths", &Array2::<i64>::ones((2, 2))).unwrap();
    archive.add_array("empty", &Array1::<f64>::zeros(0)).unwrap();
    archive.finish().unwrap();
    let mapping = "step = \"timesteps\"\nreturn = \"results\"";
    assert_eq!(points(&read(folder.path(), "evaluations.npz", mapping).unwrap()[0]), CURVE);
}

#[test]
fn an_array_that_claims_more_than_its_file_holds_is_refused_and_not_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let mut npy = Vec::new();
    arr1(&[500.0, 1000.0]).write_npy(&mut npy).unwrap();
    let (fact, claim) = (b"(2,)".as_slice(), b"(4000000000000000,)".as_slice());
    let at = npy.windows(fact.len()).position(|bytes| bytes == fact).unwrap();
    // Blanks at the end of the header make room.
    let end = npy.iter().position(|byte| *byte == b'\n').unwrap();
    npy.drain(end - (claim.len() - fact.len())..end);
    npy.splice(at..at + fact.len(), claim.iter().copied());
    let path = folder.path().join("evaluations.npz");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    archive.start_file("timesteps.npy", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(&npy).unwrap();
    archive.finish().unwrap();
    let mapping = "step = \"timesteps\"\nreturn = \"timesteps\"";
    let problem = read(folder.path(), "evaluations.npz", mapping).unwrap_err().to_string();
    assert!(problem.contains("evaluations.npz: timesteps.npy: "), "{problem}");
}

/// `Monitor` of Stable-Baselines3: one row per episode with return, length and seconds.
#[test]
fn the_lengths_of_episodes_add_up_to_steps() {
    let monitor = "#{\"t_start\": 0.0}\nr,l,t\n10.5,500,1\n20,500,2\n";
    let runs = text(monitor, "step = { sum = \"l\" }\nreturn = \"r\"\nwall_s = \"t\"").unwrap();
    assert_eq!(points(&runs[0]), CURVE);
    assert_eq!(runs[0].points[1].wall_s, Some(2.0));
    let problem = text(monitor, "step = \"l\"\nreturn = \"r\"").unwrap_err().to_string();
    assert!(
        problem.contains("step 500 follows step 500") && problem.contains("sum ="),
        "{problem}"
    );
}

#[test]
fn nan_is_an_empty_field_and_is_remarked_on() {
    let table = "Step,a,b\n500,10.5,NaN\n1000,20,7\n";
    let runs = text(table, "step = \"Step\"\nreturns = [\"a\", \"b\"]").unwrap();
    assert_eq!((points(&runs[0]), runs[0].remarks.len()), (CURVE.to_vec(), 0));
    assert_eq!(points(&runs[1]), [(1000, 7.0)]);
    assert_eq!(runs[1].remarks, ["1 row left out, where the return is NaN"]);
}

#[test]
fn times_of_the_clock_are_counted_from_the_first_row() {
    let table = "clock,Step,Value\n1700000000,500,10.5\n1700000100,1000,20\n";
    let lines = "step = \"Step\"\nreturn = \"Value\"\nwall_s = \"clock\"";
    let run = &text(table, lines).unwrap()[0];
    let times: Vec<f64> = run.points.iter().filter_map(|point| point.wall_s).collect();
    assert_eq!(times, [0.0, 100.0]);
    assert!(run.remarks[0].contains("of the clock"));
}

#[test]
fn numbers_beyond_all_reason_are_refused_with_their_row() {
    for row in ["1e30,2", "1,1e200", "1,-inf"] {
        let lines = "step = \"s\"\nreturn = \"r\"";
        let problem = text(&format!("s,r\n{row}\n"), lines).unwrap_err().to_string();
        assert!(problem.contains("row 2: step") && !problem.contains('\n'), "{problem}");
    }
}

#[test]
fn wrong_layouts_are_named() {
    for (lines, words) in [
        (
            "separator = \"::\"",
            "curves 1: separator is '::', expected one ASCII character or \"blanks\"",
        ),
        ("decimal = \",\"", "decimal is ',', expected \".\" or \",\", and not the separator"),
        ("header = false", "there is no column 's' (all: 0, 1)"),
    ] {
        let lines = format!("{lines}\nstep = \"s\"\nreturn = \"r\"");
        let problem = text("s,r\n1,2\n", &lines).unwrap_err().to_string();
        assert!(problem.contains(words) && !problem.contains('\n'), "{problem}");
    }
}
