//! Progress of a run on stderr: a bar on a terminal, lines elsewhere.

use crate::base::console;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Progress of one run, on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    steps: u64,
    /// Mean return of the last episodes.
    last_return: Option<f64>,
}

impl Progress {
    /// A run of `steps` steps. Without a terminal there is no bar, only [`note`](Self::note).
    pub fn new(label: &str, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            // A narrow window cuts off the end of the line.
            let style = ProgressStyle::with_template("{bar:10} {pos}/{len} eta {eta}  {wide_msg}")
                .expect("the template is valid");
            ProgressBar::new(steps).with_style(style).with_message(label.to_string())
        });
        Self { bar, label: label.to_string(), steps, last_return: None }
    }

    /// Moves the bar.
    pub fn at(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Shows the last return and the speed next to the bar.
    pub fn measured(&mut self, return_mean: Option<f64>, steps_per_s: f64) {
        self.last_return = return_mean.or(self.last_return);
        if let Some(bar) = &self.bar {
            let shown = self.last_return.map_or("-".to_string(), |value| format!("{value:.1}"));
            let label = &self.label;
            bar.set_message(format!("{label}  return {shown}  {steps_per_s:.0} steps/s"));
        }
    }

    /// Prints a line that stays.
    pub fn note(&self, step: u64, message: &str) {
        let line = format!("{} step {step}/{}: {message}", self.label, self.steps);
        match &self.bar {
            Some(bar) => bar.suspend(|| console::message(line)),
            None => console::message(line),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
