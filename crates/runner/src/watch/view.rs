//! The view: the table of runs, the curve of one, and a status line.

use super::run::WatchedRun;
use super::style::colour_of;
use super::table::Look;
use super::{curve, table};
use crate::train::run_status::{State, count};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

/// Everything that is drawn.
pub struct View<'a> {
    /// The folder, as it was given.
    pub folder: &'a str,
    /// Runs in their order.
    pub runs: &'a [WatchedRun],
    /// Index of the selected run.
    pub selected: usize,
    /// Whether its curve fills the window.
    pub curve: bool,
    /// Whether to use colours; they only repeat what symbols and words say.
    pub colours: bool,
    /// Why the runs may be out of date, if they may.
    pub problem: Option<&'a str>,
}

/// With at least this many rows, the curve is shown below the table.
const ROWS_FOR_CURVE: u16 = 18;

/// The parts of the window.
pub struct Regions {
    pub table: Rect,
    pub curve: Rect,
    line: Rect,
}

impl Regions {
    /// Divides the window between a table of `runs` runs, the curve and the status line.
    pub fn of(area: Rect, runs: usize, curve: bool) -> Self {
        let [rest, line] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
        let height = match (curve, rest.height) {
            (true, _) => 0,
            (false, height) if height < ROWS_FOR_CURVE => height,
            // A short table leaves more rows for the curve.
            (false, height) => (height / 2 + 1).min(u16::try_from(runs + 1).unwrap_or(height)),
        };
        let [table, curve] =
            Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(rest);
        Self { table, curve, line }
    }
}

/// Draws the view.
pub fn draw(frame: &mut Frame, view: &View) {
    let regions = Regions::of(frame.area(), view.runs.len(), view.curve);
    let look = Look { selected: view.selected, colours: view.colours };
    table::draw(frame, regions.table, view.runs, look);
    if let Some(run) = view.runs.get(view.selected) {
        curve::draw(frame, regions.curve, run, view.colours);
    }
    frame.render_widget(bottom(view, regions.line.width.into()), regions.line);
}

/// The status line: the number of runs in each state, and the keys, as far as they fit.
fn bottom<'a>(view: &View, width: usize) -> Line<'a> {
    let enter = if view.curve { "⏎ table" } else { "⏎ curve" };
    let keys = [format!("↑↓ select  {enter}  q quit"), "q quit".to_string(), String::new()];
    if let Some(problem) = view.problem {
        return Line::styled(problem.to_string(), colour_of(State::Failed, view.colours));
    }
    let counts = count(view.runs.iter().map(|run| run.status.state));
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
