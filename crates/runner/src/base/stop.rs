//! Stopping on request: SIGTERM and SIGINT.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A signal so soon after the first is the same request: a scheduler that signals every
/// process of a job signals those too that pass it on.
pub const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Whether somebody asked the process to stop.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on. The first signal asks; a later one ends the process at
    /// once, with the exit code that a shell gives it.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let asked = Arc::clone(&stop.0);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
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

    /// Whether to stop.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
