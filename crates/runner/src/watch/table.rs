//! The table of runs: which columns there is room for, and what stands in them.

use super::run::Watched;
use super::view::{View, colour_of};
use crate::base::text::{duration, number};
use crate::train::run_status::{State, count};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Column {
    /// The state as a sign, or as a sign and a word.
    Sign,
    Word,
    Algorithm,
    Task,
    Seed,
    /// How far it is: in parts of a hundred, in steps, as a bar.
    Percent,
    Step,
    Bar,
    Return,
    Evaluation,
    Speed,
    Left,
}

use Column::*;

/// Columns for windows from the widest to the narrowest: the first that fit are shown.
const CHOICES: [&[Column]; 9] = [
    &[Word, Algorithm, Task, Seed, Step, Bar, Return, Evaluation, Speed, Left],
    &[Word, Algorithm, Task, Seed, Step, Return, Evaluation, Speed, Left],
    &[Word, Algorithm, Task, Seed, Step, Return, Evaluation, Left],
    &[Sign, Algorithm, Task, Seed, Step, Return, Evaluation, Left],
    &[Sign, Algorithm, Task, Seed, Percent, Return, Evaluation, Left],
    &[Sign, Algorithm, Task, Seed, Percent, Return, Evaluation],
    &[Sign, Algorithm, Task, Seed, Percent, Return],
    &[Sign, Algorithm, Task, Seed, Percent],
    &[Sign, Algorithm, Task, Seed],
];

/// So many choices leave out a column rather than cut a name of usual length.
const WHOLE_NAMES: usize = 4;

/// Cells of a bar.
const BAR: usize = 10;

impl Column {
    fn head(self) -> &'static str {
        match self {
            Sign => "",
            Word => "state",
            Algorithm => "algorithm",
            Task => "task",
            Seed => "seed",
            Percent => "",
            Step => "step",
            Bar => "",
            Return => "return",
            Evaluation => "evaluation",
            Speed => "steps/s",
            Left => "left",
        }
    }

    fn cell(self, run: &Watched) -> String {
        let seen = &run.seen;
        match self {
            Sign => sign(seen.state).into(),
            Word => format!("{} {}", sign(seen.state), seen.state.word()),
            Algorithm => run.place.algorithm.clone(),
            Task => run.place.task.clone(),
            Seed => run.place.seed.to_string(),
            Percent => share(run).map_or("-".into(), |share| format!("{:.0}%", share.floor())),
            Step if seen.steps == 0 => short(seen.step),
            Step => format!("{}/{}", short(seen.step), short(seen.steps)),
            Bar => share(run).map_or(String::new(), |share| {
                let full = (share / 100.0 * BAR as f64) as usize;
                "█".repeat(full) + &"░".repeat(BAR - full)
            }),
            Return => number(seen.last_return, 1),
            Evaluation => number(run.evaluation(), 1),
            Speed => number(seen.steps_per_s, 0),
            Left => seen.left_s.map_or("-".into(), duration),
        }
    }

    /// Whether it is the end of a cell that stands under the end of the one above.
    fn right(self) -> bool {
        !matches!(self, Sign | Word | Algorithm | Task)
    }

    /// The least width that a column may be cut to.
    fn least(self, width: usize, names: usize) -> usize {
        if matches!(self, Algorithm | Task) { width.min(names) } else { width }
    }
}

/// The part of its steps that a run has done, in hundredths.
pub fn share(run: &Watched) -> Option<f64> {
    let (step, steps) = (run.seen.step, run.seen.steps);
    (steps > 0).then(|| (100.0 * step as f64 / steps as f64).min(100.0))
}

/// A state's sign, where there is no room for its word.
pub fn sign(state: State) -> &'static str {
    match state {
        State::Running => "▶",
        State::Failed => "✗",
        State::Stopped => "■",
        State::Done => "✓",
        State::Missing => " ",
    }
}

/// "999k", "12.5k", "1M": three digits, never more than there is.
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

/// A text in so many characters. What tells names apart stands at their ends.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let (head, tail) = (width / 2, width.saturating_sub(width / 2 + 1));
    let chars = |from: usize, n: usize| text.chars().skip(from).take(n).collect::<String>();
    format!("{}…{}", chars(0, head), chars(length - tail, tail))
}

/// The columns that fit, with their widths, and the space between them.
fn columns(runs: &[Watched], width: usize) -> (Vec<(Column, usize)>, &'static str) {
    let wide = |column: &Column| {
        let cells = runs.iter().map(|run| column.cell(run).chars().count());
        (*column, cells.max().unwrap_or(0).max(column.head().len()))
    };
    let total = |widths: &[(Column, usize)], gap: usize| {
        widths.iter().map(|(_, width)| width + gap).sum::<usize>().saturating_sub(gap)
    };
    let mut chosen = Vec::new();
    for (index, choice) in CHOICES.iter().enumerate() {
        let full: Vec<_> = choice.iter().map(wide).collect();
        if total(&full, 2) <= width {
            return (full, "  ");
        }
        let names = if index < WHOLE_NAMES { 24 } else { 11 };
        let least = |(column, width): &(Column, usize)| (*column, column.least(*width, names));
        chosen = full.iter().map(least).collect();
        let Some(mut room) = width.checked_sub(total(&chosen, 1)) else { continue };
        // Names get what is left.
        for ((_, width), (_, full)) in chosen.iter_mut().zip(&full) {
            let more = room.min(full - *width);
            *width += more;
            room -= more;
        }
        break;
    }
    (chosen, " ")
}

/// Draws the runs that fit around the one that is selected.
pub fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (columns, gap) = columns(view.runs, area.width.into());
    let rows = usize::from(area.height.saturating_sub(1));
    let first = view.selected.saturating_sub(rows / 2).min(view.runs.len().saturating_sub(rows));
    let head: Vec<String> =
        columns.iter().map(|(column, width)| aligned(*column, column.head(), *width)).collect();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled(head.join(gap), bold)];
    for (index, run) in view.runs.iter().enumerate().skip(first).take(rows) {
        let line = line(run, &columns, gap, view);
        let style = Style::new().add_modifier(Modifier::REVERSED);
        lines.push(if index == view.selected { line.style(style) } else { line });
    }
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

fn line<'a>(
    run: &Watched,
    columns: &[(Column, usize)],
    gap: &'static str,
    view: &View,
) -> Line<'a> {
    let mut spans = Vec::new();
    for (column, width) in columns {
        if !spans.is_empty() {
            spans.push(Span::raw(gap));
        }
        let text = aligned(*column, &column.cell(run), *width);
        spans.push(match column {
            Sign | Word => Span::styled(text, colour_of(run.seen.state, view.colours)),
            _ => Span::raw(text),
        });
    }
    Line::from(spans)
}

fn aligned(column: Column, text: &str, width: usize) -> String {
    let text = fit(text, width);
    if column.right() { format!("{text:>width$}") } else { format!("{text:width$}") }
}

/// The table for a file: all runs, whole names, no codes.
pub fn text(runs: &[Watched]) -> String {
    let mut text = format!(
        "{:8} {:>10} {:>10} {:>9} {:>10} {:>7} {:>10}  run\n",
        "state", "step", "of", "return", "evaluation", "steps/s", "left"
    );
    for run in runs {
        let seen = &run.seen;
        let reason = seen.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!(
            "{:8} {:>10} {:>10} {:>9} {:>10} {:>7} {:>10}  {}{reason}\n",
            seen.state.word(),
            seen.step,
            if seen.steps == 0 { "-".into() } else { seen.steps.to_string() },
            number(seen.last_return, 1),
            number(run.evaluation(), 1),
            number(seen.steps_per_s, 0),
            seen.left_s.map_or("-".into(), duration),
            run.label(),
        );
    }
    text + &count(runs.iter().map(|run| run.seen.state)) + "\n"
}

#[cfg(test)]
mod tests {
    use super::{fit, short};

    #[test]
    fn numbers_are_short_and_never_say_more_than_there_is() {
        let numbers = [0, 9_999, 10_000, 12_599, 30_000, 999_999, 1_000_000, 1_239_999];
        let texts = ["0", "9999", "10k", "12.5k", "30k", "999k", "1M", "1.23M"];
        assert_eq!(numbers.map(short), texts);
        assert_eq!([100_000, 20_500_000, 3_000_000_000].map(short), ["100k", "20.5M", "3G"]);
    }

    #[test]
    fn a_name_without_room_keeps_its_ends() {
        assert_eq!(fit("HumanoidStandup-v4", 10), "Human…p-v4");
        assert_eq!(fit("Hopper-v4", 9), "Hopper-v4");
        assert_eq!(fit("σ-variante", 5), "σ-…te");
        assert_eq!((fit("abc", 1).as_str(), fit("abc", 0).as_str()), ("…", "…"));
    }
}
