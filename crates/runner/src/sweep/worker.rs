//! A worker of a sweep: a child process, `runner run`, that trains one run.

use crate::base::failure::{Failure, Outcome};
use crate::train::run_folder::is_running;
use crate::train::run_spec::RunSpec;
use crate::train::run_status::{is_finished, note_failure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The file in the run's folder with what it prints. Each attempt appends to it.
const LOG: &str = "log.txt";

/// A child process that trains one run.
pub struct Worker {
    /// Index of the run in the manifest.
    pub index: usize,
    child: Child,
    /// Length of the log at the start: earlier attempts wrote that part.
    log_start: u64,
    begun: Instant,
}

/// How a worker ended.
pub enum Ended {
    Done,
    /// On request, or by a signal after the request.
    Stopped,
    /// Another process had started the same run.
    Elsewhere,
    Failed(String),
}

impl Worker {
    /// Starts `runner run`.
    ///
    /// # Errors
    /// The run's folder can't be written, or the system starts no more processes.
    pub fn start(
        manifest: &Path,
        index: usize,
        run: &RunSpec,
        threads: Option<usize>,
    ) -> Outcome<Self> {
        let folder = run.folder();
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::file(&folder, "make this folder", error))?;
        let path = log(run);
        let fail = |error| Failure::file(&path, "write", error);
        let log = File::options().append(true).create(true).open(&path).map_err(fail)?;
        let log_start = log.metadata().map_err(fail)?.len();
        // This same program, even if its file has been replaced since it was started.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("runner").args(arguments(index, threads)).arg("--manifest").arg(manifest);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(fail)?).stderr(log);
        // In a process group of its own, it gets a terminal's Ctrl-C once, from us.
        let child = command.process_group(0).spawn();
        let child = child.map_err(|error| Failure::Failed(format!("can't start it: {error}")))?;
        Ok(Self { index, child, log_start, begun: Instant::now() })
    }

    /// Time since the start.
    pub fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Asks it to write a checkpoint and to stop.
    pub fn ask_to_stop(&self) {
        // A child that has exited needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// How it ended, or nothing while it runs. If it was asked to stop, ending by a signal is
    /// no failure.
    pub fn ended(&mut self, run: &RunSpec, asked: bool) -> Option<Ended> {
        let status = match self.child.try_wait() {
            Ok(status) => status?,
            Err(error) => return Some(Ended::Failed(error.to_string())),
        };
        Some(match status.code() {
            Some(0) => Ended::Done,
            Some(75) => Ended::Stopped,
            // Ended by a signal, or, with a shell's exit code, by a second one.
            None | Some(129 | 130 | 143) if asked => Ended::Stopped,
            // (The other process may have finished it by now.)
            Some(2) if is_running(&run.folder()) || is_finished(run).unwrap_or(false) => {
                Ended::Elsewhere
            }
            _ => Ended::Failed(self.reason(run, status)),
        })
    }

    /// Why it failed: the last line that it printed, unless a signal ended it. The reason is
    /// noted for `runner status`, as a process that was killed can't do so itself.
    fn reason(&self, run: &RunSpec, status: ExitStatus) -> String {
        let printed = || {
            let mut text = Vec::new();
            let mut log = File::open(log(run)).ok()?;
            log.seek(SeekFrom::Start(self.log_start)).ok()?;
            log.read_to_end(&mut text).ok()?;
            let text = String::from_utf8_lossy(&text);
            let last = text.lines().rfind(|line| !line.trim().is_empty())?;
            Some(last.strip_prefix("error: ").unwrap_or(last).to_string())
        };
        let reason = match status.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => printed().unwrap_or_else(|| status.to_string()),
        };
        note_failure(run, &reason);
        reason
    }
}

/// The file with what a run prints.
pub fn log(run: &RunSpec) -> PathBuf {
    run.folder().join(LOG)
}

/// The arguments of `runner run`, without the manifest.
pub fn arguments(index: usize, threads: Option<usize>) -> Vec<String> {
    let threads = threads.map(|threads| ["--threads".to_string(), threads.to_string()]);
    let index = ["run".to_string(), "--index".to_string(), index.to_string()];
    index.into_iter().chain(threads.into_iter().flatten()).collect()
}
