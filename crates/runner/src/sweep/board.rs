//! What a person sees of a sweep: bars on a terminal, lines elsewhere.

use crate::base::text::{duration, number};
use crate::train::run_spec::TrainRequest;
use crate::train::run_status::Seen;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines about the whole sweep, where there are no bars.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Progress of a sweep, on stderr.
pub struct Board {
    bars: Option<Bars>,
    last_line: Instant,
}

struct Bars {
    all: MultiProgress,
    /// The last one: the whole sweep.
    total: ProgressBar,
}

impl Board {
    /// Begins, for a sweep of so many steps in all.
    pub fn new(steps: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let total = all.add(ProgressBar::new(steps).with_style(style()));
            Bars { all, total }
        });
        Self { bars, last_line: Instant::now() }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// The bar of a run that begins, where there are bars.
    pub fn begin(&self, run: &TrainRequest) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        let bar = ProgressBar::new(run.settings.train.steps)
            .with_style(style())
            .with_prefix(run.label())
            .with_message(run.label());
        Some(bars.all.insert_before(&bars.total, bar))
    }

    /// Moves the bar of a run.
    pub fn show(bar: &ProgressBar, seen: &Seen) {
        bar.set_position(seen.step);
        // In a narrow window the end of the line is cut off.
        bar.set_message(format!(
            "{:>7} left  {}  return {}  {} steps/s",
            seen.left_s.map_or("-".into(), duration),
            bar.prefix(),
            number(seen.last_return, 1),
            number(seen.steps_per_s, 0),
        ));
    }

    /// Takes the bar of a run away.
    pub fn end(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        if let Some(bars) = &self.bars {
            bars.all.remove(bar);
        }
    }

    /// Shows the whole sweep: a bar, or a line now and then.
    pub fn total(&mut self, step: u64, message: &str) {
        match &self.bars {
            Some(bars) => {
                bars.total.set_position(step);
                bars.total.set_message(message.to_string());
            }
            None if self.last_line.elapsed() >= BETWEEN_LINES => {
                self.last_line = Instant::now();
                eprintln!("{message}");
            }
            None => {}
        }
    }

    /// Takes what is left of the bars away.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.total.finish_and_clear();
        }
    }
}

/// A bar of a run or of all, and what there is room for of its message.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:10} {percent:>3}% {wide_msg}")
        .expect("the template is valid")
}
