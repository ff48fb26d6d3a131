//! `runner video` on small runs, driven from outside. Without EGL only what needs no picture is
//! tested, and a line on stderr says so.

mod common;

use common::{folder, refused, runner, stderr, train};
use report::EvalRow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Output;

/// Runs the command in a folder of its own, which must stay as it was.
fn video(run: &Path, more: &[&str]) -> Output {
    let place = tempfile::tempdir().unwrap();
    let mut command = runner();
    command.current_dir(place.path()).args(["video", "--run"]).arg(run).args(more);
    let output = command.output().unwrap();
    // MuJoCo would write MUJOCO_LOG.TXT.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{}", stderr(&output));
    output
}

/// A run of 300 steps; nothing if this machine can't draw.
fn trained(out: &Path, task: &str, more: &[&str]) -> Option<std::path::PathBuf> {
    let output = train(out, task, 0, more);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder(out, envs::task_name(task), 0);
    let first = video(&run, &["--out", out.join("probe").to_str().unwrap(), "--size", "16x16"]);
    if stderr(&first).contains("EGL gives no OpenGL context") {
        // The harness hides what the printing macros print.
        let line = "left out: a test of `runner video`, because EGL gives no OpenGL context here\n";
        io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    assert!(first.status.success(), "{}", stderr(&first));
    Some(run)
}

/// The frames in a folder, as rows of pixels of three bytes.
fn frames(folder: &Path, size: [u32; 2]) -> Vec<Vec<u8>> {
    let count = fs::read_dir(folder).unwrap().count();
    let read = |index| {
        let file = File::open(folder.join(format!("frame-{index:05}.png"))).unwrap();
        let mut reader = png::Decoder::new(io::BufReader::new(file)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!([info.width, info.height], size);
        rgb
    };
    (0..count).map(read).collect()
}

/// The share of pixels with the colour of the models' robots, brown.
fn robot(rgb: &[u8]) -> f64 {
    let brown = rgb.chunks_exact(3).filter(|pixel| {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
        r > 60.0 && r > 1.15 * g && g > 1.15 * b
    });
    brown.count() as f64 / (rgb.len() / 3) as f64
}

/// The mean length of a run's episodes, in steps.
fn length(run: &Path, more: &[&str]) -> f64 {
    let table = tempfile::NamedTempFile::new().unwrap();
    let output = runner().args(["eval", "--run"]).arg(run).args(more).output().unwrap();
    fs::write(table.path(), output.stdout).unwrap();
    report::read::<EvalRow>(table.path()).unwrap()[0].length_mean
}

#[test]
fn frames_show_the_robot_and_what_it_does_in_every_kind_of_file() {
    let out = tempfile::tempdir().unwrap();
    let Some(run) = trained(out.path(), "Hopper-v4", &[]) else { return };
    let write = |name: &str, more: &[&str]| {
        let path = out.path().join(name);
        let same = ["--fps", "25", "--size", "160x120", "--episodes", "2", "--seed", "7", "--out"];
        let output = video(&run, &[&same[..], &[path.to_str().unwrap()], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), path.to_str().unwrap());
        path
    };
    let pictures = frames(&write("frames", &[]), [160, 120]);
    for picture in &pictures {
        let colours: HashSet<&[u8]> = picture.chunks_exact(3).collect();
        assert!(colours.len() > 100, "{} colours", colours.len());
        let share = robot(picture);
        assert!((0.005..0.5).contains(&share), "the robot is {share} of the picture");
    }
    assert!(pictures.windows(2).all(|pair| pair[0] != pair[1]), "it moves");
    // Two episodes: each frame lasts a twenty-fifth of a second, a step 0.008 s.
    let steps = length(&run, &["--episodes", "2", "--seed", "7"]);
    let seconds = 2.0 * steps * 0.008;
    let expected = 25.0 * seconds;
    let count = pictures.len();
    assert!((count as f64 - expected).abs() <= 2.0, "{count} frames, {expected}");

    let bytes = fs::read(write("a.mp4", &[])).unwrap();
    let tracks = mp4parse::read_mp4(&mut bytes.as_slice()).unwrap().tracks;
    let track = tracks.first().unwrap();
    let header = track.tkhd.as_ref().unwrap();
    assert_eq!([header.width >> 16, header.height >> 16], [160, 120]);
    assert_eq!(track.stsz.as_ref().unwrap().sample_sizes.len(), count);
    assert_eq!(track.duration.unwrap().0 * 25, track.timescale.unwrap().0 * count as u64);
    assert!(bytes == fs::read(write("a.mp4", &[])).unwrap(), "the same command, the same bytes");

    let gif = File::open(write("a.gif", &[])).unwrap();
    let mut gif = gif::DecodeOptions::new().read_info(gif).unwrap();
    let mut delays = Vec::new();
    while let Some(frame) = gif.next_frame_info().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!(delays, vec![4; count]);

    // Other cameras see something else; without shadows it is another picture of the same.
    let other = |name, more: &[&str]| frames(&write(name, more), [160, 120]);
    let own = other("track", &["--camera", "track"]);
    let free = other("free", &["--camera", "free"]);
    let above = other("above", &["--elevation", "-80", "--distance", "6"]);
    let plain = other("plain", &["--no-shadows"]);
    assert!([&own, &free, &above, &plain].iter().all(|film| film.len() == count));
    let first = [&pictures[0], &own[0], &free[0], &above[0], &plain[0]];
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 5);
    assert!(robot(&own[0]) > 0.005 && robot(&plain[0]) > 0.005);
    assert!(robot(&above[0]) < robot(&pictures[0]), "further away");
}

#[test]
fn earlier_policies_larger_robots_and_tasks_from_files_are_filmed_too() {
    let out = tempfile::tempdir().unwrap();
    let small = ["--size", "64x48", "--out", "x"];
    let film = |run: &Path, name: &str, more: &[&str]| {
        let path = out.path().join(name);
        let small = [&small[..3], &[path.to_str().unwrap()], more].concat();
        let output = video(run, &small);
        assert!(output.status.success(), "{}", stderr(&output));
        frames(&path, [64, 48])
    };
    let Some(run) = trained(out.path(), "Humanoid-v4", &["--show-every", "200"]) else { return };
    let newest = film(&run, "newest", &["--stochastic"]);
    assert!(robot(&newest[0]) > 0.005);
    assert!(film(&run, "untrained", &["--step", "0"]) != film(&run, "kept", &["--step", "200"]));
    refused(&video(&run, &["--step", "100"]), 2, &["step 100 was not kept", "0, 200"]);

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let task = root.join("examples/crawler/crawler.toml");
    let run = trained(out.path(), task.to_str().unwrap(), &[]).unwrap();
    let crawler = film(&run, "crawler", &["--episodes", "1"]);
    assert!(crawler.len() > 10 && crawler[0] != crawler[10]);
}

#[test]
fn what_cannot_be_filmed_is_refused_in_one_line_and_nothing_is_lost() {
    let out = tempfile::tempdir().unwrap();
    refused(&video(out.path(), &[]), 2, &["config.toml", "--run expects the folder of a run"]);
    assert!(train(out.path(), "HalfCheetah-v4", 0, &[]).status.success());
    let run = folder(out.path(), "HalfCheetah-v4", 0);

    for (flags, words) in [
        (["--size", "641x480"], &["641x480", "even", "642x480"][..]),
        (["--size", "4000x3000"], &["4000x3000", "at most 3840x2160"]),
        (["--size", "8x8"], &["at least 16"]),
        (["--size", "large"], &["such as 640x480"]),
        (["--fps", "0"], &["from 1 to 240"]),
        (["--camera", "trak"], &["unknown camera 'trak'", "'track'", "tracking, free, track"]),
        (["--step", "100"], &["history", "--show-every"]),
    ] {
        refused(&video(&run, &flags), 2, words);
    }
    refused(&video(&run, &["--camera", "track", "--azimuth", "3"]), 2, &["track", "--azimuth"]);
    let gif = out.path().join("a.gif");
    let gif = ["--out", gif.to_str().unwrap(), "--fps", "60"];
    refused(&video(&run, &gif), 2, &["--fps 60", "50"]);
    let mine = out.path().join("mine.mp4");
    fs::write(&mine, "mine").unwrap();
    refused(&video(&run, &["--out", mine.to_str().unwrap()]), 2, &["choose another --out"]);
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");

    // A machine without a driver: EGL's own variable for where drivers are described.
    let mut bare = runner();
    let none = out.path().join("none");
    bare.env("__EGL_VENDOR_LIBRARY_DIRS", &none).env_remove("__EGL_VENDOR_LIBRARY_FILENAMES");
    let bare = bare.args(["video", "--run"]).arg(&run).output().unwrap();
    refused(&bare, 2, &["libegl1", "libegl-mesa0", "libgl1-mesa-dri", "runner show"]);
    assert!(!run.join("video.mp4").exists());

    let mut homeless = runner();
    fs::remove_file(run.join("model.mjb")).unwrap();
    homeless.env("SMFP_MODELS", out.path().join("no models")).args(["video", "--run"]).arg(&run);
    refused(&homeless.output().unwrap(), 2, &["half_cheetah.xml", "scripts/just setup"]);
    fs::remove_dir_all(run.join("checkpoint")).unwrap();
    refused(&video(&run, &[]), 2, &["checkpoint"]);
}
