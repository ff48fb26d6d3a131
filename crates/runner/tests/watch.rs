//! `runner watch`, driven from outside: through a pipe, and on a terminal.

mod common;

use common::{refused, runner, stderr};
use report::{Log, TrainRow};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A run of ten thousand steps with rows up to `thousands` thousand.
fn begin(results: &Path, run: &str, thousands: u64) -> Log<TrainRow> {
    let folder = results.join(run);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "[train]\nsteps = 10000\n").unwrap();
    let mut log = Log::create(&folder.join("train.csv")).unwrap();
    (1..=thousands).for_each(|k| log.append(&row(k)).unwrap());
    log
}

fn row(thousand: u64) -> TrainRow {
    let return_mean = Some(100.5 + thousand as f64);
    TrainRow {
        step: 1000 * thousand,
        updates: 1,
        return_mean,
        steps_per_s: 50.0,
        ..Default::default()
    }
}

/// Every file below a folder, with its bytes and the time of its last change.
fn everything(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        files.push((path.display().to_string(), bytes, changed));
        if path.is_dir() {
            files.extend(everything(&path));
        }
    }
    files.sort();
    files
}

#[test]
fn through_a_pipe_or_on_a_dumb_terminal_it_prints_a_table_without_codes_and_ends() {
    let results = tempfile::tempdir().unwrap();
    begin(results.path(), "sac/Hopper-v4/seed-0", 3);
    begin(results.path(), "td3/Ant-v4/seed-12", 10);
    let before = everything(results.path());
    let output = runner().arg("watch").arg(results.path()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for word in ["stopped", "3000", "10000", "103.5", "sac Hopper-v4 seed 0"] {
        assert!(lines[1].contains(word), "{word}: {text}");
    }
    assert!(lines[2].contains("td3 Ant-v4 seed 12") && lines[3] == "2 stopped", "{text}");
    assert_eq!(everything(results.path()), before, "it wrote something");

    let mut terminal = Pseudo::start(results.path(), (24, 80), &[("TERM", "dumb")]);
    assert_eq!(terminal.ended(), Some(0));
    let shown = String::from_utf8(terminal.rest()).unwrap();
    assert_eq!(shown.replace("\r\n", "\n"), text);
}

#[test]
fn a_folder_that_is_none_or_has_no_runs_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let watch = |path: &Path| runner().arg("watch").arg(path).output().unwrap();
    refused(&watch(&folder.path().join("absent")), 2, &["absent: no such folder"]);
    refused(&watch(folder.path()), 2, &["no runs found", "ALGORITHM/TASK/seed-N"]);
    fs::write(folder.path().join("file"), "").unwrap();
    refused(&watch(&folder.path().join("file")), 2, &["file: not a folder"]);
    refused(&runner().arg("watch").output().unwrap(), 2, &["<DIR>"]);
}

#[test]
fn on_a_terminal_it_keeps_up_obeys_keys_and_gives_the_terminal_back() {
    for end in ["q", "\x1b", "\x03"] {
        let results = tempfile::tempdir().unwrap();
        let mut log = begin(results.path(), "sac/Hopper-v4/seed-0", 3);
        begin(results.path(), "td3/Ant-v4/seed-12", 10);
        let mut terminal = Pseudo::start(results.path(), (24, 80), &[]);
        terminal.shows("103.5");
        assert!(terminal.parser.screen().alternate_screen());
        assert!(!terminal.echoes(), "keys would be echoed");
        terminal.shows("sac Hopper-v4 seed 0");
        terminal.types("j");
        terminal.shows("td3 Ant-v4 seed 12");
        // The curve alone, and back: there, Esc ends nothing.
        terminal.types("\r");
        terminal.shows("⏎ table");
        terminal.types("\x1b");
        terminal.shows("⏎ curve");
        terminal.types("\x1b[A");
        terminal.shows("sac Hopper-v4 seed 0");
        if end == "q" {
            log.append(&row(4)).unwrap();
            terminal.shows("104.5");
            begin(results.path(), "mdpo/Ant-v4/seed-1", 1);
            terminal.shows("mdpo");
            terminal.resize((15, 40));
            // A key that comes with the change of size may wait for the next: first the size.
            terminal.shows("40%  104.5");
        }
        terminal.types(end);
        assert_eq!(terminal.ended(), Some(0), "{end:?}");
        terminal.was_given_back();
    }
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    let results = tempfile::tempdir().unwrap();
    begin(results.path(), "sac/Hopper-v4/seed-0", 3);
    for signal in ["-TERM", "-INT"] {
        let mut terminal = Pseudo::start(results.path(), (24, 80), &[]);
        terminal.shows("103.5");
        let process = terminal.child.id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
        assert_eq!(terminal.ended(), Some(0), "{signal}");
        terminal.was_given_back();
    }
}

#[test]
fn it_ends_when_its_terminal_is_closed() {
    let results = tempfile::tempdir().unwrap();
    let mut log = begin(results.path(), "sac/Hopper-v4/seed-0", 3);
    let mut terminal = Pseudo::start(results.path(), (24, 80), &[]);
    terminal.shows("103.5");
    terminal.close();
    log.append(&row(4)).unwrap();
    assert!(terminal.ended().is_some(), "it was ended by a signal");
}

#[test]
fn no_color_leaves_no_code_of_a_colour() {
    let results = tempfile::tempdir().unwrap();
    begin(results.path(), "sac/Hopper-v4/seed-0", 3);
    let colours = |env: &[(&str, &str)]| {
        let mut terminal = Pseudo::start(results.path(), (24, 80), env);
        terminal.shows("103.5");
        let screen = terminal.parser.screen();
        let cells = (0..24).flat_map(|y| (0..80).map(move |x| (y, x)));
        let cells = cells.filter_map(|(y, x)| screen.cell(y, x));
        let coloured = |cell: &&vt100::Cell| {
            [cell.fgcolor(), cell.bgcolor()].iter().any(|c| *c != vt100::Color::Default)
        };
        cells.filter(coloured).count()
    };
    assert!(colours(&[]) > 0);
    assert_eq!(colours(&[("NO_COLOR", "1")]), 0);
}

/// The program on a pseudo-terminal.
struct Pseudo {
    child: Child,
    /// Our end, to which keys go, and the program's.
    ours: File,
    theirs: File,
    written: Receiver<Vec<u8>>,
    parser: vt100::Parser,
}

impl Pseudo {
    fn start(results: &Path, size: (u16, u16), env: &[(&str, &str)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(path).unwrap();
        set_size(&theirs, size);
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let mut command = runner();
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(env.iter().copied());
        command.stdin(end()).stdout(end()).stderr(end()).arg("watch").arg(results);
        let child = command.spawn().unwrap();
        let ours = File::from(ours);
        let (sender, written) = channel();
        let mut reader = ours.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let parser = vt100::Parser::new(size.0.try_into().unwrap(), size.1.try_into().unwrap(), 0);
        Self { child, ours, theirs, written, parser }
    }

    fn types(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, size: (u16, u16)) {
        set_size(&self.theirs, size);
        let (rows, columns) = (size.0.try_into().unwrap(), size.1.try_into().unwrap());
        self.parser.screen_mut().set_size(rows, columns);
        // There is no shell here that would tell it.
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args(["-WINCH", &process]).status().unwrap().success());
    }

    /// Closes our end. (The thread that reads it holds another, until output comes.)
    fn close(&mut self) {
        self.ours = File::open("/dev/null").unwrap();
        let (_, nobody) = channel();
        self.written = nobody;
    }

    /// Waits until the screen shows a text.
    fn shows(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.parser.screen().contents().contains(text) {
            if let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(50)) {
                self.parser.process(&bytes);
            }
            let screen = self.parser.screen().contents();
            assert!(begun.elapsed() < Duration::from_secs(20), "no '{text}' in:\n{screen}");
        }
    }

    fn echoes(&self) -> bool {
        let wanted = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcgetattr(self.theirs.as_fd()).unwrap().local_modes.contains(wanted)
    }

    /// Waits for its end.
    fn ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Output that has not been read yet.
    fn rest(&mut self) -> Vec<u8> {
        let next = || self.written.recv_timeout(Duration::from_millis(300));
        std::iter::from_fn(|| next().ok()).flatten().collect()
    }

    fn was_given_back(&mut self) {
        let rest = self.rest();
        self.parser.process(&rest);
        let screen = self.parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(self.echoes(), "the terminal is left raw");
        assert_eq!(screen.contents().trim(), "", "something is left on the screen");
    }
}

impl Drop for Pseudo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &File, (rows, columns): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal.as_fd(), size).unwrap();
}
