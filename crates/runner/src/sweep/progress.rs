//! Progress of a sweep on stderr: bars on a terminal, lines elsewhere.

use crate::base::console::{self, message};
use crate::base::text::{duration, number};
use crate::train::run_spec::RunSpec;
use crate::train::run_status::RunStatus;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two lines about the whole sweep, if there are no bars.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Progress of a sweep.
pub struct SweepProgress {
    bars: Option<Bars>,
    last_line: Instant,
}

struct Bars {
    all: MultiProgress,
    /// The last bar, of the whole sweep.
    total: ProgressBar,
}

impl SweepProgress {
    /// A sweep of `steps` steps in all.
    pub fn new(steps: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let total = all.add(ProgressBar::new(steps).with_style(style()));
            Bars { all, total }
        });
        Self { bars, last_line: Instant::now() }
    }

    /// Prints a line above the bars.
    pub fn say(&self, line: &str) {
        match &self.bars {
            // (`MultiProgress::suspend` would panic if stderr can't be written.)
            Some(bars) => drop(bars.all.println(line)),
            None => message(line),
        }
    }

    /// Adds the bar of a run, if there are bars.
    pub fn begin(&self, run: &RunSpec) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        let bar = ProgressBar::new(run.settings.train.steps)
            .with_style(style())
            .with_prefix(run.label())
            .with_message(run.label());
        Some(bars.all.insert_before(&bars.total, bar))
    }

    /// Updates the bar of a run.
    pub fn show(bar: &ProgressBar, status: &RunStatus) {
        bar.set_position(status.step);
        // A narrow window cuts off the end of the line.
        bar.set_message(format!(
            "{:>7} left  {}  return {}  {} steps/s",
            status.left_s.map_or("-".into(), duration),
            bar.prefix(),
            number(status.last_return, 1),
            number(status.steps_per_s, 0),
        ));
    }

    /// Removes the bar of a run.
    pub fn end(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        if let Some(bars) = &self.bars {
            bars.all.remove(bar);
        }
    }

    /// Shows the progress of the whole sweep: a bar, or a line from time to time.
    pub fn total(&mut self, step: u64, message: &str) {
        match &self.bars {
            Some(bars) => {
                bars.total.set_position(step);
                bars.total.set_message(message.to_string());
            }
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                console::message(message);
            }
            None => {}
        }
    }

    /// Removes the bars that are left.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.total.finish_and_clear();
        }
    }
}

/// A bar, and as much of its message as fits.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:10} {percent:>3}% {wide_msg}")
        .expect("the template is valid")
}
