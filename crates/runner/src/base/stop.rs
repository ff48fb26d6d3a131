//! Stopping on request: SIGTERM, SIGINT, and SIGHUP, which a terminal sends as it closes.

use procfs::process::Process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A signal within this time of the first is the same request: a scheduler signals every
/// process of a job, and a sweep passes the signal on to its runs.
pub const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Listens for the signals that ask to stop. SIGHUP is one of them, unless it was ignored at the
/// start: `nohup` asks for that.
///
/// # Errors
/// The signal handlers can't be installed.
pub fn signals() -> io::Result<Signals> {
    let ignored = Process::myself().and_then(|process| process.status());
    let ignored = ignored.is_ok_and(|status| status.sigign >> (SIGHUP - 1) & 1 == 1);
    let mut asking = vec![SIGINT, SIGTERM];
    asking.extend((!ignored).then_some(SIGHUP));
    Signals::new(asking)
}

/// Whether the process was asked to stop. Clones share the request.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for signals from now on. The first one is the request; a later one ends the
    /// process at once, with the exit code that a shell would report.
    ///
    /// # Errors
    /// The signal handlers can't be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let asked = Arc::clone(&stop.0);
        let mut signals = signals()?;
        std::thread::Builder::new().spawn(move || {
            let mut signals = signals.forever();
            signals.next();
            let first = Instant::now();
            asked.store(true, Ordering::Relaxed);
            if let Some(signal) = signals.find(|_| first.elapsed() >= SAME_REQUEST) {
                low_level::exit(128 + signal);
            }
        })?;
        Ok(stop)
    }

    /// Whether a stop was requested.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
