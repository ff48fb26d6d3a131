//! The runs of a manifest on this machine, a process each, several at a time.
//!
//! Each is a process of its own because a run that crashes then stops no other, and because
//! threads and the allocator's settings belong to a process. Each is `runner run`; the sweep
//! reads its progress from its folder, as `runner status` does.

use crate::base::console::message;
use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::{self, SAME_REQUEST};
use crate::base::text::{duration, shell_word};
use crate::sweep::progress::SweepProgress;
use crate::sweep::worker::{self, Ended, Worker};
use crate::train::run_spec::RunSpec;
use crate::train::run_status::{self, RunStatus, State};
use indicatif::ProgressBar;
use signal_hook::iterator::Signals;
use std::collections::VecDeque;
use std::path::{Path, absolute};
use std::time::{Duration, Instant};

/// Time between two checks of children and signals.
const TICK: Duration = Duration::from_millis(50);
/// Time between two readings of the runs' progress.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// What a sweep is to do: its runs, their states, and how they share the machine.
pub struct SweepPlan<'a> {
    manifest: &'a Path,
    /// All runs of the manifest.
    runs: &'a [RunSpec],
    /// Indices and states of the runs that the sweep is about.
    chosen: Vec<(usize, State)>,
    /// Runs at a time.
    jobs: usize,
    /// Threads of a run that names no number itself.
    threads: usize,
}

impl<'a> SweepPlan<'a> {
    /// A sweep over some runs of a manifest. Without `jobs` there are as many at a time as the
    /// processors allow: another run gains more than another thread within one, so threads
    /// get the processors that runs leave over.
    ///
    /// # Panics
    /// If an index is beyond the runs.
    pub fn new(
        manifest: &'a Path,
        runs: &'a [RunSpec],
        chosen: Vec<usize>,
        jobs: Option<usize>,
    ) -> Self {
        let state = |index: usize| (index, RunStatus::of(&runs[index]).state);
        let chosen: Vec<(usize, State)> = chosen.into_iter().map(state).collect();
        let waiting = || chosen.iter().filter(|(_, state)| !is_over(*state));
        let named = waiting().filter_map(|(index, _)| runs[*index].threads).max();
        let named = named.map_or(1, usize::from);
        let processors = device::processors();
        let jobs = jobs.unwrap_or((processors / named).max(1)).min(waiting().count().max(1));
        Self { manifest, runs, chosen, jobs, threads: (processors / jobs).max(1) }
    }

    /// A line about the states of the runs.
    pub fn summary(&self) -> String {
        let states = self.chosen.iter().map(|(_, state)| *state);
        // A manifest's folders are seen from the current one.
        let out =
            self.runs.first().map(|run| absolute(&run.out).unwrap_or_else(|_| run.out.clone()));
        let out = out.map(|out| format!("; results in {}", out.display())).unwrap_or_default();
        format!("{}; {} at once{out}", run_status::count(states), self.jobs)
    }

    /// A line for each run: its state, and the command that would train it.
    pub fn commands(&self) -> Vec<String> {
        let line = |(index, state): &(usize, State)| {
            let arguments = worker::arguments(*index, self.threads_of(*index)).join(" ");
            let manifest = shell_word(&self.manifest.to_string_lossy());
            let command = format!("runner {arguments} --manifest {manifest}");
            let command = if is_over(*state) { "-" } else { &command };
            format!("{:8} {command}", state.word())
        };
        self.chosen.iter().map(line).collect()
    }

    /// Trains the runs.
    ///
    /// # Errors
    /// A run that failed, or a stop.
    pub fn run(&self) -> Outcome<()> {
        let signals = stop::signals()
            .map_err(|error| Failure::Failed(format!("can't listen to signals: {error}")))?;
        let count = |state: State| self.chosen.iter().filter(|(_, other)| *other == state).count();
        let over = self.chosen.iter().filter(|(_, state)| is_over(*state));
        let waiting = self.chosen.iter().filter(|(_, state)| !is_over(*state));
        let progress = SweepProgress::new(self.steps(self.chosen.iter()));
        progress.say(&self.summary());
        let sweep = Sweep {
            plan: self,
            working: Vec::new(),
            signals,
            asked: None,
            progress,
            done: count(State::Done),
            elsewhere: count(State::Running),
            failed: Vec::new(),
            steps_over: self.steps(over),
            waiting: waiting.map(|(index, _)| *index).collect(),
        };
        sweep.run_to_end()
    }

    /// Environment steps of some of the runs.
    fn steps<'b>(&self, runs: impl Iterator<Item = &'b (usize, State)>) -> u64 {
        runs.map(|(index, _)| self.runs[*index].settings.train.steps).sum()
    }

    fn threads_of(&self, index: usize) -> Option<usize> {
        self.runs[index].threads.is_none().then_some(self.threads)
    }
}

/// Whether there is nothing to do for a run in this state.
fn is_over(state: State) -> bool {
    matches!(state, State::Done | State::Running)
}

/// A sweep in progress.
struct Sweep<'a> {
    plan: &'a SweepPlan<'a>,
    /// Indices of the runs to begin.
    waiting: VecDeque<usize>,
    working: Vec<(Worker, Option<ProgressBar>)>,
    signals: Signals,
    /// When a signal first asked to stop.
    asked: Option<Instant>,
    progress: SweepProgress,
    /// Number of runs that are done.
    done: usize,
    /// Number of runs that another process works on.
    elsewhere: usize,
    /// Index and reason of each run that failed.
    failed: Vec<(usize, String)>,
    /// Steps of the runs that are over.
    steps_over: u64,
}

impl Sweep<'_> {
    fn run_to_end(mut self) -> Outcome<()> {
        let mut read = Instant::now();
        while !self.working.is_empty() || self.asked.is_none() && !self.waiting.is_empty() {
            self.pass_signals_on();
            self.begin();
            if read.elapsed() >= READ_INTERVAL {
                read = Instant::now();
                self.show();
            }
            std::thread::sleep(TICK);
            self.reap();
        }
        self.progress.finish();
        self.outcome()
    }

    /// The first signal asks the runs to stop with a checkpoint, a later one kills them.
    fn pass_signals_on(&mut self) {
        if self.signals.pending().count() == 0 {
            return;
        }
        match self.asked {
            None => {
                self.asked = Some(Instant::now());
                self.progress
                    .say("stopping: runs write their checkpoints; a second signal kills them");
                self.working.iter().for_each(|(worker, _)| worker.ask_to_stop());
            }
            Some(first) if first.elapsed() < SAME_REQUEST => {}
            Some(_) => self.working.iter_mut().for_each(|(worker, _)| worker.kill()),
        }
    }

    /// Begins runs while fewer than `jobs` are working.
    fn begin(&mut self) {
        while self.asked.is_none() && self.working.len() < self.plan.jobs {
            let Some(index) = self.waiting.pop_front() else { return };
            let run = &self.plan.runs[index];
            // A folder that holds another run is left as it is, without a log of ours.
            let worker = run_status::is_finished(run).and_then(|_| {
                Worker::start(self.plan.manifest, index, run, self.plan.threads_of(index))
            });
            match worker {
                Ok(worker) => {
                    let bar = self.progress.begin(run);
                    if bar.is_none() {
                        self.progress.say(&format!("{}: begins", run.label()));
                    }
                    self.working.push((worker, bar));
                }
                Err(failure) => self.over(index, "", Ended::Failed(failure.message().into())),
            }
        }
    }

    /// Collects workers that have exited.
    fn reap(&mut self) {
        // A worker may have had the same signal, which is no failure of it then.
        self.pass_signals_on();
        let asked = self.asked.is_some();
        let mut at = 0;
        while let Some((worker, _)) = self.working.get_mut(at) {
            let Some(ended) = worker.ended(&self.plan.runs[worker.index], asked) else {
                at += 1;
                continue;
            };
            let (worker, bar) = self.working.remove(at);
            if let Some(bar) = bar {
                self.progress.end(&bar);
            }
            let time = format!(" after {}", duration(worker.time().as_secs_f64()));
            self.over(worker.index, &time, ended);
        }
    }

    fn over(&mut self, index: usize, time: &str, ended: Ended) {
        let run = &self.plan.runs[index];
        let what = match &ended {
            Ended::Done => "done".into(),
            Ended::Stopped => "stopped".into(),
            Ended::Elsewhere => "another process is at work on it".into(),
            Ended::Failed(reason) => format!("failed: {reason}"),
        };
        self.progress.say(&format!("{}: {what}{time}", run.label()));
        match ended {
            Ended::Done => self.done += 1,
            Ended::Stopped => return,
            Ended::Elsewhere => self.elsewhere += 1,
            Ended::Failed(reason) => self.failed.push((index, reason)),
        }
        self.steps_over += run.settings.train.steps;
    }

    /// Shows the progress of the working runs and of the whole sweep.
    fn show(&mut self) {
        let (mut step, mut speed) = (self.steps_over, 0.0);
        for (worker, bar) in &self.working {
            let status = RunStatus::in_state(&self.plan.runs[worker.index], State::Running);
            step += status.step;
            speed += status.steps_per_s.unwrap_or(0.0);
            if let Some(bar) = bar {
                SweepProgress::show(bar, &status);
            }
        }
        let steps = |index: &usize| self.plan.runs[*index].settings.train.steps;
        let begun = self.working.iter().map(|(worker, _)| worker.index);
        let ahead: u64 = begun.chain(self.waiting.iter().copied()).map(|index| steps(&index)).sum();
        let left = (self.steps_over + ahead).saturating_sub(step) as f64 / speed;
        let left = if left.is_finite() { duration(left) } else { "-".into() };
        self.progress.total(
            step,
            &format!(
                "{} of {} done, {} failed, {} at work, left {left}",
                self.done,
                self.plan.chosen.len(),
                self.failed.len(),
                self.working.len()
            ),
        );
    }

    /// Lists the runs that failed, and summarises the sweep.
    fn outcome(self) -> Outcome<()> {
        for (index, reason) in &self.failed {
            let run = &self.plan.runs[*index];
            let log = worker::log(run);
            let log = if log.exists() { format!(" ({})", log.display()) } else { String::new() };
            message(format!("failed: index {index}, {}: {reason}{log}", run.label()));
        }
        let (total, done, failed) = (self.plan.chosen.len(), self.done, self.failed.len());
        let left = total - done - failed - self.elsewhere;
        let so_far = format!("{done} of {total} runs done, {failed} failed");
        if self.asked.is_some() || left > 0 && failed == 0 {
            return Err(Failure::Stopped(format!("{so_far}; the same command resumes")));
        }
        if failed > 0 {
            return Err(Failure::Failed(so_far));
        }
        if self.elsewhere > 0 {
            return Err(Failure::Stopped(format!(
                "{so_far}; another process is at work on {}: when it has ended, the same command \
                 does the rest",
                self.elsewhere
            )));
        }
        message(so_far);
        Ok(())
    }
}
