//! How states and numbers look, in the table and above the curve.

use super::run::WatchedRun;
use crate::train::run_status::State;
use ratatui::style::{Color, Style};

/// The colour of a state.
pub fn colour_of(state: State, colours: bool) -> Style {
    let colour = match state {
        State::Running => Color::Green,
        State::Failed => Color::Red,
        State::Stopped => Color::Yellow,
        State::Done => Color::Blue,
        State::Missing => Color::Reset,
    };
    if colours { Style::new().fg(colour) } else { Style::new() }
}

/// The symbol of a state, for columns without room for its name.
pub fn symbol(state: State) -> &'static str {
    match state {
        State::Running => "▶",
        State::Failed => "✗",
        State::Stopped => "■",
        State::Done => "✓",
        State::Missing => " ",
    }
}

/// The percentage of its steps that a run has done, if their number is known.
pub fn percentage(run: &WatchedRun) -> Option<f64> {
    let (step, steps) = (run.status.step, run.status.steps);
    (steps > 0).then(|| (100.0 * step as f64 / steps as f64).min(100.0))
}

/// A number in three digits, rounded down: "999k", "12.5k", "1M".
pub fn short(number: u64) -> String {
    let (unit, name) = match number {
        0..10_000 => return number.to_string(),
        10_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let (whole, rest) = (number / unit, number % unit * 100 / unit);
    let text = match whole {
        0..10 => format!("{whole}.{rest:02}"),
        10..100 => format!("{whole}.{}", rest / 10),
        _ => format!("{whole}."),
    };
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_have_three_digits_and_are_rounded_down() {
        let numbers = [0, 9_999, 10_000, 12_599, 30_000, 999_999, 1_000_000, 1_239_999];
        let texts = ["0", "9999", "10k", "12.5k", "30k", "999k", "1M", "1.23M"];
        assert_eq!(numbers.map(short), texts);
        assert_eq!([100_000, 20_500_000, 3_000_000_000].map(short), ["100k", "20.5M", "3G"]);
    }
}
