//! Threads for work that is independent by construction.
//!
//! LibTorch's own threads split one matrix product and add its parts in another
//! order for another number of threads. Here work is cut into jobs that do not
//! depend on that number, and their results are put together in the order of the
//! jobs: how many threads there are changes no number.
//!
//! The jobs of an update take some hundred microseconds, and so does waking a
//! sleeping thread: for a while after a region's end the workers stay awake and
//! look for the next. That is what a general pool of threads can't promise.

#![expect(unsafe_code, reason = "jobs borrow from the caller, as in a scope of threads")]

use std::cell::Cell;
use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The threads that help the caller's.
static TEAM: RwLock<Option<Arc<Team>>> = RwLock::new(None);

/// How long a worker looks for work before it sleeps.
const AWAKE: Duration = Duration::from_micros(300);

thread_local! {
    /// Whether this thread does a job already.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Lets networks use `threads` threads, including the caller's; one by default. A
/// setting of the process, which changes the speed and no number: for that, LibTorch's
/// own operations are set to one thread.
///
/// # Panics
/// If the system refuses a thread.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(1);
    let team = (threads > 1).then(|| Arc::new(Team::new(threads - 1)));
    let before = replace(&mut *TEAM.write().expect("no thread panics with the lock"), team);
    drop(before); // ends here, or with the last region that works with it
}

/// Does all jobs, in parallel where there are threads, and returns their results in
/// order. A job that runs jobs itself does so on its own thread.
pub(crate) fn run<T: Send, Job: FnOnce() -> T + Send>(jobs: Vec<Job>) -> Vec<T> {
    let in_order = |jobs: Vec<Job>| jobs.into_iter().map(|job| job()).collect();
    if jobs.len() < 2 || BUSY.get() {
        return in_order(jobs);
    }
    // The lock is not held while jobs run: they may come here again, and a second read
    // waits for ever behind a thread that wants to write.
    let team = TEAM.read().expect("no thread panics with the lock").clone();
    let Some(team) = team else {
        return in_order(jobs);
    };
    let _guard = match team.region.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(after_panic)) => after_panic.into_inner(),
        // A second caller at the same time gets no help.
        Err(TryLockError::WouldBlock) => return in_order(jobs),
    };
    let results: Vec<Mutex<Option<T>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let queue = Mutex::new(jobs.into_iter().zip(&results));
    let next = || queue.lock().expect("no job runs with the lock").next();
    team.work(&|| {
        BUSY.set(true);
        while let Some((job, result)) = next() {
            let value = job();
            *result.lock().expect("held by its own job only") = Some(value);
        }
        BUSY.set(false);
    });
    let value = |result: Mutex<Option<T>>| result.into_inner().expect("no job panicked");
    results.into_iter().map(|result| value(result).expect("all jobs are done")).collect()
}

/// Worker threads that join a caller's regions.
struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread that works with the team.
    region: Mutex<()>,
}

#[derive(Default)]
struct Shared {
    /// Counts regions, so that a worker sees without a lock that there is one.
    opened: AtomicUsize,
    /// Workers in the region.
    inside: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What workers are to do, while a region is open.
    work: Option<&'static (dyn Fn() + Sync)>,
    /// What a worker's panic said.
    panic: Option<Box<dyn std::any::Any + Send>>,
    end: bool,
}

impl Team {
    fn new(workers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |_| {
            let shared = shared.clone();
            let builder = thread::Builder::new().name("networks".into());
            builder.spawn(move || shared.serve()).expect("the system starts a thread")
        };
        Self { workers: (0..workers).map(spawn).collect(), shared, region: Mutex::default() }
    }

    /// Calls `work` on this thread and on all workers that come in time; returns
    /// when none is in it any more.
    fn work(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: the reference is taken back below before this function
        // returns, at a time when no worker is inside.
        let forever: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(work) };
        self.shared.state().work = Some(forever);
        self.shared.opened.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
        let own = catch_unwind(AssertUnwindSafe(work));
        self.shared.state().work = None; // nobody comes in any more
        while self.shared.inside.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
        if let Some(panic) = own.err().or_else(|| self.shared.state().panic.take()) {
            BUSY.set(false);
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.state().end = true;
        self.shared.opened.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }

    /// A worker's loop.
    fn serve(&self) {
        // A thread begins with as many threads of LibTorch's as there are cores.
        tch::set_num_threads(1);
        let mut seen = 0;
        loop {
            seen = self.wait_beyond(seen);
            let state = self.state();
            if state.end {
                return;
            }
            let Some(work) = state.work else { continue };
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                BUSY.set(false);
                self.state().panic = Some(panic);
            }
            self.inside.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until more regions than `seen` have been opened: awake for a while,
    /// then asleep.
    fn wait_beyond(&self, seen: usize) -> usize {
        let begun = Instant::now();
        loop {
            for _ in 0..64 {
                let opened = self.opened.load(Ordering::Acquire);
                if opened != seen {
                    return opened;
                }
                std::hint::spin_loop();
            }
            if begun.elapsed() > AWAKE {
                // (A wake-up between the check and here is not lost.)
                thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_for_any_number_of_threads() {
        for threads in [1, 2, 3] {
            set_threads(threads);
            let nested = |i: i32| run((0..3).map(|k| move || i * 10 + k).collect());
            for _ in 0..1000 {
                let jobs: Vec<_> = (0..7).map(|i| move || nested(i)).collect();
                let expected: Vec<_> =
                    (0..7).map(|i| vec![i * 10, i * 10 + 1, i * 10 + 2]).collect();
                assert_eq!(run(jobs), expected);
            }
        }
    }

    #[test]
    fn jobs_within_jobs_go_on_while_another_thread_waits_to_set_the_number_of_threads() {
        let (done, wait) = std::sync::mpsc::channel();
        thread::spawn(move || {
            set_threads(1);
            let job = || {
                let setter = thread::spawn(|| set_threads(1));
                thread::sleep(Duration::from_millis(20)); // it waits, if it has to
                let inner = run((0..2).map(|i| move || i).collect());
                setter.join().expect("no panic");
                inner
            };
            let _ = done.send(run(vec![job, job]));
        });
        let results = wait.recv_timeout(Duration::from_secs(60)).expect("no job waits for ever");
        assert_eq!(results, [[0, 1], [0, 1]]);
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller_and_the_team_works_on() {
        set_threads(2);
        let jobs: Vec<_> = (0..8).map(|i| move || assert_ne!(i, 5, "job 5")).collect();
        assert!(catch_unwind(|| run(jobs)).is_err());
        assert_eq!(run((0..4).map(|i| move || i).collect()), [0, 1, 2, 3]);
    }
}
