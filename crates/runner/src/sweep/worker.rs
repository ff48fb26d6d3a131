//! One run of a manifest as a process: the child, `runner run`, that a sweep starts.

use crate::base::failure::{Failure, Outcome};
use crate::train::run_folder::at_work;
use crate::train::run_spec::TrainRequest;
use crate::train::run_status::note_failure;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a run prints, in its folder. Each attempt adds to it.
const LOG: &str = "log.txt";

/// The child.
pub struct Worker {
    pub index: usize,
    child: Child,
    /// Where its log began: what stands before is of earlier attempts.
    log_start: u64,
    begun: Instant,
}

/// How a child ended.
pub enum Ended {
    Done,
    /// On request, or by the signal that stood for one.
    Stopped,
    /// Another process had begun to work on the run.
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
        run: &TrainRequest,
        threads: Option<usize>,
    ) -> Outcome<Self> {
        let folder = run.folder();
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::file(&folder, "make this folder", error))?;
        let path = log(run);
        let fail = |error| Failure::file(&path, "write", error);
        let log = File::options().append(true).create(true).open(&path).map_err(fail)?;
        let log_start = log.metadata().map_err(fail)?.len();
        // This very program, even if it has been built anew since it was started.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("runner").args(arguments(index, threads)).arg("--manifest").arg(manifest);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(fail)?).stderr(log);
        // A terminal's Ctrl-C then reaches it once, through us.
        let child = command.process_group(0).spawn();
        let child = child.map_err(|error| Failure::Failed(format!("can't start it: {error}")))?;
        Ok(Self { index, child, log_start, begun: Instant::now() })
    }

    /// How long it has been at work.
    pub fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Asks it to write a checkpoint and to stop.
    pub fn ask_to_stop(&self) {
        // One that has ended in the meantime can't be asked, and needs not be.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// How it ended, once it has. After a request to stop a signal's death is no failure.
    pub fn ended(&mut self, run: &TrainRequest, asked: bool) -> Option<Ended> {
        let status = match self.child.try_wait() {
            Ok(status) => status?,
            Err(error) => return Some(Ended::Failed(error.to_string())),
        };
        Some(match status.code() {
            Some(0) => Ended::Done,
            Some(75) => Ended::Stopped,
            // By the signal itself, or, as a shell would say it, by a second one.
            None | Some(130 | 143) if asked => Ended::Stopped,
            Some(2) if at_work(&run.folder()) => Ended::Elsewhere,
            _ => Ended::Failed(self.reason(run, status)),
        })
    }

    /// Why it failed: the last line that it printed, unless a signal ended it. Noted for
    /// `runner status`, as one that was killed could not do so itself.
    fn reason(&self, run: &TrainRequest, status: ExitStatus) -> String {
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

/// The file that a run's child prints to.
pub fn log(run: &TrainRequest) -> PathBuf {
    run.folder().join(LOG)
}

/// Arguments of `runner`, but for the manifest.
pub fn arguments(index: usize, threads: Option<usize>) -> Vec<String> {
    let threads = threads.map(|threads| ["--threads".to_string(), threads.to_string()]);
    let index = ["run".to_string(), "--index".to_string(), index.to_string()];
    index.into_iter().chain(threads.into_iter().flatten()).collect()
}
