//! `runner sweep`: the runs of a manifest on this machine, a process each.
//!
//! A process each, because a run that crashes then stops no other, and because threads and
//! the allocator's settings are a process's. Each is `runner run`; how far a run is, the
//! sweep reads from its folder, as `runner status` does.

use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::SAME_REQUEST;
use crate::base::text::duration;
use crate::commands::cli::SweepArgs;
use crate::sweep::board::Board;
use crate::sweep::manifest;
use crate::sweep::worker::{self, Ended, Worker};
use crate::train::run_spec::TrainRequest;
use crate::train::run_status::{self, State};
use indicatif::ProgressBar;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at children and signals.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks at what runs have written.
const LOOK: Duration = Duration::from_secs(1);

/// The command.
///
/// # Errors
/// A damaged manifest, a run that failed, a request to stop.
pub fn sweep(args: &SweepArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    let chosen = chosen(args, runs.len())?;
    let states: Vec<State> =
        chosen.iter().map(|index| run_status::look(&runs[*index]).state).collect();
    let is_over = |state: &State| matches!(state, State::Done | State::Running);
    let waiting = chosen.iter().zip(&states).filter(|(_, state)| !is_over(state));
    let waiting: VecDeque<usize> = waiting.map(|(index, _)| *index).collect();
    let share = Share::of(args, waiting.iter().map(|index| &runs[*index]));
    let about = format!("{}; {} at once", run_status::count(states.iter().copied()), share.jobs);
    if args.dry_run {
        for (index, state) in chosen.iter().zip(&states) {
            let arguments = worker::arguments(*index, share.threads_of(&runs[*index])).join(" ");
            let command = format!("runner {arguments} --manifest {}", args.manifest.display());
            let command = if is_over(state) { "-".into() } else { command };
            println!("{:8} {command}", state.word());
        }
        eprintln!("{about}");
        return Ok(());
    }
    let signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Failed(format!("can't listen to signals: {error}")))?;
    let steps = |index: &usize| runs[*index].settings.train.steps;
    let board = Board::new(chosen.iter().map(steps).sum());
    board.say(&about);
    let of = |state: State| states.iter().filter(|other| **other == state).count();
    let sweep = Sweep {
        manifest: &args.manifest,
        share,
        working: Vec::new(),
        signals,
        asked: None,
        board,
        total: chosen.len(),
        done: of(State::Done),
        elsewhere: of(State::Running),
        failed: Vec::new(),
        steps_over: chosen.iter().filter(|index| !waiting.contains(index)).map(steps).sum(),
        waiting,
        runs: &runs,
    };
    sweep.all()
}

/// The indices that are asked for.
fn chosen(args: &SweepArgs, lines: usize) -> Outcome<Vec<usize>> {
    let Some(indices) = &args.indices else { return Ok((0..lines).collect()) };
    match indices.0.iter().find(|index| **index >= lines as u64) {
        None => Ok(indices.0.iter().map(|index| *index as usize).collect()),
        Some(index) => Err(Failure::Usage(format!(
            "--indices {index}: {} has the indices 0 to {}",
            args.manifest.display(),
            lines - 1
        ))),
    }
}

/// How the machine is shared. Runs beside each other gain more than threads within one, so
/// that threads get what runs leave.
struct Share {
    jobs: usize,
    /// Threads of a run whose line names none.
    threads: usize,
}

impl Share {
    fn of<'a>(args: &SweepArgs, waiting: impl ExactSizeIterator<Item = &'a TrainRequest>) -> Self {
        let (processors, runs) = (device::processors(), waiting.len().max(1));
        let named = waiting.filter_map(|run| run.threads).max().map_or(1, usize::from);
        let jobs = args.jobs.map_or((processors / named).max(1), usize::from).min(runs);
        Self { jobs, threads: (processors / jobs).max(1) }
    }

    fn threads_of(&self, run: &TrainRequest) -> Option<usize> {
        run.threads.is_none().then_some(self.threads)
    }
}

/// A sweep under way.
struct Sweep<'a> {
    manifest: &'a Path,
    runs: &'a [TrainRequest],
    share: Share,
    /// Indices of the runs to begin.
    waiting: VecDeque<usize>,
    working: Vec<(Worker, Option<ProgressBar>)>,
    signals: Signals,
    /// When a signal first asked to stop.
    asked: Option<Instant>,
    board: Board,
    /// Runs in all; those that are done; those that another process is at work on.
    total: usize,
    done: usize,
    elsewhere: usize,
    /// Index and reason.
    failed: Vec<(usize, String)>,
    /// Steps of the runs that are over.
    steps_over: u64,
}

impl Sweep<'_> {
    fn all(mut self) -> Outcome<()> {
        let mut looked = Instant::now();
        while !self.working.is_empty() || self.asked.is_none() && !self.waiting.is_empty() {
            self.heed_signals();
            self.begin();
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.show();
            }
            std::thread::sleep(TICK);
            self.reap();
        }
        self.board.finish();
        self.outcome()
    }

    /// The first signal asks runs to stop with a checkpoint, a later one kills them.
    fn heed_signals(&mut self) {
        if self.signals.pending().count() == 0 {
            return;
        }
        match self.asked {
            None => {
                self.asked = Some(Instant::now());
                self.board
                    .say("stopping: runs write their checkpoints; a second signal kills them");
                self.working.iter().for_each(|(worker, _)| worker.ask_to_stop());
            }
            Some(first) if first.elapsed() < SAME_REQUEST => {}
            Some(_) => self.working.iter_mut().for_each(|(worker, _)| worker.kill()),
        }
    }

    /// Begins runs while there is room.
    fn begin(&mut self) {
        while self.asked.is_none() && self.working.len() < self.share.jobs {
            let Some(index) = self.waiting.pop_front() else { return };
            let run = &self.runs[index];
            // A folder with another run in it stays as it is, without a log of ours.
            let worker = run_status::finished(run)
                .and_then(|_| Worker::start(self.manifest, index, run, self.share.threads_of(run)));
            match worker {
                Ok(worker) => {
                    let bar = self.board.begin(run);
                    if bar.is_none() {
                        self.board.say(&format!("{}: begins", run.label()));
                    }
                    self.working.push((worker, bar));
                }
                Err(failure) => self.over(index, "", Ended::Failed(failure.message().into())),
            }
        }
    }

    /// Takes leave of children that have ended.
    fn reap(&mut self) {
        let asked = self.asked.is_some();
        let mut at = 0;
        while let Some((worker, _)) = self.working.get_mut(at) {
            let Some(ended) = worker.ended(&self.runs[worker.index], asked) else {
                at += 1;
                continue;
            };
            let (worker, bar) = self.working.remove(at);
            if let Some(bar) = bar {
                self.board.end(&bar);
            }
            let time = format!(" after {}", duration(worker.time().as_secs_f64()));
            self.over(worker.index, &time, ended);
        }
    }

    fn over(&mut self, index: usize, time: &str, ended: Ended) {
        let run = &self.runs[index];
        let what = match &ended {
            Ended::Done => "done".into(),
            Ended::Stopped => "stopped".into(),
            Ended::Elsewhere => "another process is at work on it".into(),
            Ended::Failed(reason) => format!("failed: {reason}"),
        };
        self.board.say(&format!("{}: {what}{time}", run.label()));
        match ended {
            Ended::Done => self.done += 1,
            Ended::Stopped => return,
            Ended::Elsewhere => self.elsewhere += 1,
            Ended::Failed(reason) => self.failed.push((index, reason)),
        }
        self.steps_over += run.settings.train.steps;
    }

    /// Shows how far all is.
    fn show(&mut self) {
        let (mut step, mut speed) = (self.steps_over, 0.0);
        for (worker, bar) in &self.working {
            let seen = run_status::progress(&self.runs[worker.index], State::Running);
            step += seen.step;
            speed += seen.steps_per_s.unwrap_or(0.0);
            if let Some(bar) = bar {
                Board::show(bar, &seen);
            }
        }
        let steps = |index: &usize| self.runs[*index].settings.train.steps;
        let begun = self.working.iter().map(|(worker, _)| worker.index);
        let ahead: u64 = begun.chain(self.waiting.iter().copied()).map(|index| steps(&index)).sum();
        let left = (self.steps_over + ahead).saturating_sub(step) as f64 / speed;
        let left = if left.is_finite() { duration(left) } else { "-".into() };
        self.board.total(
            step,
            &format!(
                "{} of {} done, {} failed, {} at work, left {left}",
                self.done,
                self.total,
                self.failed.len(),
                self.working.len()
            ),
        );
    }

    /// Lists what failed, and says how the whole ended.
    fn outcome(self) -> Outcome<()> {
        for (index, reason) in &self.failed {
            let run = &self.runs[*index];
            let log = worker::log(run);
            let log = if log.exists() { format!(" ({})", log.display()) } else { String::new() };
            eprintln!("failed: index {index}, {}: {reason}{log}", run.label());
        }
        let (total, done, failed) = (self.total, self.done, self.failed.len());
        let left = total - done - failed - self.elsewhere;
        let so_far = format!("{done} of {total} runs done, {failed} failed");
        if self.asked.is_some() || left > 0 && failed == 0 {
            return Err(Failure::Stopped(format!("{so_far}; the same command goes on")));
        }
        if failed > 0 {
            return Err(Failure::Failed(so_far));
        }
        if self.elsewhere > 0 {
            return Err(Failure::Stopped(format!(
                "{so_far}; another process is at work on {}: when it has ended, the same command \
                 does what is left",
                self.elsewhere
            )));
        }
        eprintln!("{so_far}");
        Ok(())
    }
}
