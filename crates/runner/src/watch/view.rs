//! What the window shows: the table of runs, a curve, and a line below.

use super::run::Watched;
use super::{curve, table};
use crate::train::run_status::{State, count};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

/// Everything that is drawn.
pub struct View<'a> {
    /// The folder, as it was given.
    pub folder: &'a str,
    /// Runs in their order.
    pub runs: &'a [Watched],
    /// Which of them is selected.
    pub selected: usize,
    /// Whether its curve has the window to itself.
    pub curve: bool,
    /// Whether there are colours; nothing is said by them alone.
    pub colours: bool,
    /// Why the runs may be out of date.
    pub problem: Option<&'a str>,
}

/// From so many rows on, a curve stands below the table.
const ROWS_FOR_CURVE: u16 = 18;

/// Where the parts of the window are.
pub struct Regions {
    pub table: Rect,
    pub curve: Rect,
    line: Rect,
}

impl Regions {
    /// Divides the window among so many runs and the curve.
    pub fn of(area: Rect, runs: usize, curve: bool) -> Self {
        let [rest, line] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
        let height = match (curve, rest.height) {
            (true, _) => 0,
            (false, height) if height < ROWS_FOR_CURVE => height,
            // With few runs the curve gets what they leave.
            (false, height) => (height / 2 + 1).min(u16::try_from(runs + 1).unwrap_or(height)),
        };
        let [table, curve] =
            Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(rest);
        Self { table, curve, line }
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame, view: &View) {
    let regions = Regions::of(frame.area(), view.runs.len(), view.curve);
    table::draw(frame, regions.table, view);
    if let Some(run) = view.runs.get(view.selected) {
        curve::draw(frame, regions.curve, run, view.colours);
    }
    frame.render_widget(bottom(view, regions.line.width.into()), regions.line);
}

/// A state's colour.
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

/// How many runs there are, and the keys; of both what there is room for.
fn bottom<'a>(view: &View, width: usize) -> Line<'a> {
    let enter = if view.curve { "⏎ table" } else { "⏎ curve" };
    let keys = [format!("↑↓ select  {enter}  q quit"), "q quit".to_string(), String::new()];
    if let Some(problem) = view.problem {
        return Line::styled(problem.to_string(), colour_of(State::Failed, view.colours));
    }
    let counts = count(view.runs.iter().map(|run| run.seen.state));
    let at = format!("{}/{}  {counts}", view.runs.len().min(view.selected + 1), view.runs.len());
    let long = format!("{}  {at}", view.folder);
    let choices = [(&long, &keys[0]), (&at, &keys[0]), (&at, &keys[1]), (&at, &keys[2])];
    let length = |text: &str| text.chars().count();
    let fits = |(left, right): &(&String, &String)| length(left) + length(right) + 2 <= width;
    let (left, right) = choices.into_iter().find(fits).unwrap_or((&at, &keys[2]));
    let space = width.saturating_sub(length(left) + length(right));
    Line::from(vec![
        Span::raw(left.clone()),
        Span::raw(" ".repeat(space)),
        Span::raw(right.clone()),
    ])
}
