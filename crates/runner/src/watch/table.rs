//! The table of runs: the columns that fit, and their cells.

use super::run::WatchedRun;
use super::style::{colour_of, percentage, short, symbol};
use crate::base::text::{duration, number};
use crate::train::run_status::count;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Column {
    /// The state as a symbol.
    Symbol,
    /// The state as a symbol and a word.
    State,
    Algorithm,
    Task,
    Seed,
    /// Progress in percent.
    Percent,
    /// Progress in steps.
    Step,
    /// Progress as a bar.
    Bar,
    Return,
    Evaluation,
    Speed,
    Left,
}

use Column::*;

/// Columns for windows from wide to narrow: the first choice that fits is shown.
const CHOICES: [&[Column]; 9] = [
    &[State, Algorithm, Task, Seed, Step, Bar, Return, Evaluation, Speed, Left],
    &[State, Algorithm, Task, Seed, Step, Return, Evaluation, Speed, Left],
    &[State, Algorithm, Task, Seed, Step, Return, Evaluation, Left],
    &[Symbol, Algorithm, Task, Seed, Step, Return, Evaluation, Left],
    &[Symbol, Algorithm, Task, Seed, Percent, Return, Evaluation, Left],
    &[Symbol, Algorithm, Task, Seed, Percent, Return, Evaluation],
    &[Symbol, Algorithm, Task, Seed, Percent, Return],
    &[Symbol, Algorithm, Task, Seed, Percent],
    &[Symbol, Algorithm, Task, Seed],
];

/// The first choices are skipped if names of up to 24 characters would have to be cut.
const WHOLE_NAMES: usize = 4;

/// Width of a bar.
const BAR: usize = 10;

impl Column {
    fn head(self) -> &'static str {
        match self {
            Symbol => "",
            State => "state",
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

    fn cell(self, run: &WatchedRun) -> String {
        let status = &run.status;
        match self {
            Symbol => symbol(status.state).into(),
            State => format!("{} {}", symbol(status.state), status.state.word()),
            Algorithm => run.place.algorithm.clone(),
            Task => run.place.task.clone(),
            Seed => run.place.seed.to_string(),
            Percent => percentage(run).map_or("-".into(), |part| format!("{:.0}%", part.floor())),
            Step if status.steps == 0 => short(status.step),
            Step => format!("{}/{}", short(status.step), short(status.steps)),
            Bar => percentage(run).map_or(String::new(), |part| {
                let full = (part / 100.0 * BAR as f64) as usize;
                "█".repeat(full) + &"░".repeat(BAR - full)
            }),
            Return => number(status.last_return, 1),
            Evaluation => number(run.evaluation(), 1),
            Speed => number(status.steps_per_s, 0),
            Left => status.left_s.map_or("-".into(), duration),
        }
    }

    /// Whether the cells are aligned to the right.
    fn right(self) -> bool {
        !matches!(self, Symbol | State | Algorithm | Task)
    }

    /// The least width that a column of this width may be cut to; names may be cut to `names`.
    fn least(self, width: usize, names: usize) -> usize {
        if matches!(self, Algorithm | Task) { width.min(names) } else { width }
    }
}

/// A text cut in the middle to `width` characters: names tend to differ at their ends.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let (head, tail) = (width / 2, width.saturating_sub(width / 2 + 1));
    let chars = |from: usize, n: usize| text.chars().skip(from).take(n).collect::<String>();
    format!("{}…{}", chars(0, head), chars(length - tail, tail))
}

/// The columns that fit, with their widths, and the gap between them.
fn columns(runs: &[WatchedRun], width: usize) -> (Vec<(Column, usize)>, &'static str) {
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
        // Names get the rest of the room.
        for ((_, width), (_, full)) in chosen.iter_mut().zip(&full) {
            let more = room.min(full - *width);
            *width += more;
            room -= more;
        }
        break;
    }
    (chosen, " ")
}

/// How the rows are drawn.
#[derive(Clone, Copy)]
pub struct Look {
    /// Index of the selected run.
    pub selected: usize,
    /// Whether to use colours.
    pub colours: bool,
}

/// Draws the runs that fit around the selected one.
pub fn draw(frame: &mut Frame, area: Rect, runs: &[WatchedRun], look: Look) {
    let (columns, gap) = columns(runs, area.width.into());
    let rows = usize::from(area.height.saturating_sub(1));
    let first = look.selected.saturating_sub(rows / 2).min(runs.len().saturating_sub(rows));
    let head: Vec<String> =
        columns.iter().map(|(column, width)| aligned(*column, column.head(), *width)).collect();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled(head.join(gap), bold)];
    for (index, run) in runs.iter().enumerate().skip(first).take(rows) {
        let line = line(run, &columns, gap, look.colours);
        let style = Style::new().add_modifier(Modifier::REVERSED);
        lines.push(if index == look.selected { line.style(style) } else { line });
    }
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

fn line<'a>(
    run: &WatchedRun,
    columns: &[(Column, usize)],
    gap: &'static str,
    colours: bool,
) -> Line<'a> {
    let mut spans = Vec::new();
    for (column, width) in columns {
        if !spans.is_empty() {
            spans.push(Span::raw(gap));
        }
        let text = aligned(*column, &column.cell(run), *width);
        spans.push(match column {
            Symbol | State => Span::styled(text, colour_of(run.status.state, colours)),
            _ => Span::raw(text),
        });
    }
    Line::from(spans)
}

fn aligned(column: Column, text: &str, width: usize) -> String {
    let text = fit(text, width);
    if column.right() { format!("{text:>width$}") } else { format!("{text:width$}") }
}

/// The table as plain text: all runs, with their whole names.
pub fn text(runs: &[WatchedRun]) -> String {
    let mut text = format!(
        "{:8} {:>10} {:>10} {:>9} {:>10} {:>7} {:>10}  run\n",
        "state", "step", "of", "return", "evaluation", "steps/s", "left"
    );
    for run in runs {
        let status = &run.status;
        let reason = status.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!(
            "{:8} {:>10} {:>10} {:>9} {:>10} {:>7} {:>10}  {}{reason}\n",
            status.state.word(),
            status.step,
            if status.steps == 0 { "-".into() } else { status.steps.to_string() },
            number(status.last_return, 1),
            number(run.evaluation(), 1),
            number(status.steps_per_s, 0),
            status.left_s.map_or("-".into(), duration),
            run.label(),
        );
    }
    text + &count(runs.iter().map(|run| run.status.state)) + "\n"
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn a_name_without_room_keeps_its_ends() {
        assert_eq!(fit("HumanoidStandup-v4", 10), "Human…p-v4");
        assert_eq!(fit("Hopper-v4", 9), "Hopper-v4");
        assert_eq!(fit("σ-variante", 5), "σ-…te");
        assert_eq!((fit("abc", 1).as_str(), fit("abc", 0).as_str()), ("…", "…"));
    }
}
