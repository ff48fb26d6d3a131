//! The selected run: its numbers in full, and its learning curve.

use super::run::WatchedRun;
use super::style::{colour_of, percentage, short, symbol};
use crate::base::text::duration;
use crate::train::run_status::State;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

/// The least size of a chart; in a smaller area there is none.
const LEAST: (u16, u16) = (20, 5);
/// Points per column of the chart.
const POINTS_PER_CELL: u16 = 2;

/// Draws the run.
pub fn draw(frame: &mut Frame, area: Rect, run: &WatchedRun, colours: bool) {
    let (title, lines) = words(run, area.width.into(), colours);
    let [training, evaluation] = styles(colours);
    let legend = Line::from(vec![
        Span::styled(" ⠤ training", training),
        Span::styled(" • evaluation", evaluation),
    ]);
    let room = title.width() + legend.width() < area.width.into();
    let mut block = Block::new().borders(Borders::TOP).title(title);
    if room {
        block = block.title(legend.right_aligned());
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [text, chart] =
        Layout::vertical([Constraint::Max(height), Constraint::Min(0)]).areas(block.inner(area));
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(lines), text);
    if chart.width >= LEAST.0 && chart.height >= LEAST.1 {
        draw_chart(frame, chart, run, colours);
    }
}

/// The styles of the curves of training and of evaluations.
fn styles(colours: bool) -> [Style; 2] {
    [Color::Cyan, Color::Yellow]
        .map(|colour| if colours { Style::new().fg(colour) } else { Style::new() })
}

/// The title, and the lines below it.
fn words<'a>(run: &WatchedRun, width: usize, colours: bool) -> (Line<'a>, Vec<Line<'a>>) {
    let (label, state) = (run.label(), run.status.state);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let shown = format!("{} {} ", symbol(state), state.word());
    let fits = length(&label) + 1 + length(&shown) <= width;
    let mut title = Line::styled(shown, colour_of(state, colours));
    let mut lines = Vec::new();
    let mut add = |parts: Vec<String>, style| {
        let wrapped = wrapped(parts, width).into_iter();
        lines.extend(wrapped.map(|line| Line::styled(line, style)));
    };
    if fits {
        title.spans.insert(0, Span::styled(format!("{label} "), bold));
    } else {
        add(vec![label], bold);
    }
    add(numbers(run), Style::new());
    if let Some(reason) = &run.status.reason {
        let words = reason.split_whitespace().map(str::to_string).collect();
        add(words, colour_of(State::Failed, colours));
    }
    (title, lines)
}

fn draw_chart(frame: &mut Frame, area: Rect, run: &WatchedRun, colours: bool) {
    let Some((last, [low, high])) = bounds(&run.train, &run.evaluations) else {
        frame.render_widget("no episode has ended yet", area);
        return;
    };
    let [training, evaluation] = styles(colours);
    let train = thin(&run.train, usize::from(area.width * POINTS_PER_CELL), last);
    let line = Dataset::default().data(&train).marker(Marker::Braille);
    let dots = Dataset::default().data(&run.evaluations).marker(Marker::Dot);
    let line = line.graph_type(GraphType::Line).style(training);
    let dots = dots.graph_type(GraphType::Scatter).style(evaluation);
    let steps = |step: f64| short(step as u64);
    let x = ["0".to_string(), steps(last / 2.0), format!("{} steps", steps(last))];
    let places = if high - low < 10.0 { 2 } else { 0 };
    let y = [low, (low + high) / 2.0, high].map(|value| format!("{value:.places$}"));
    let chart = Chart::new(vec![line, dots])
        .x_axis(Axis::default().bounds([0.0, last]).labels(x))
        .y_axis(Axis::default().bounds([low, high]).labels(y));
    frame.render_widget(chart, area);
}

/// The numbers of the run, including those that the table had no room for.
fn numbers(run: &WatchedRun) -> Vec<String> {
    let status = &run.status;
    let step = match percentage(run) {
        Some(part) => format!("step {} of {} ({:.0}%)", status.step, status.steps, part.floor()),
        None => format!("step {}", status.step),
    };
    let parts = [
        Some(step),
        status.last_return.map(|score| format!("return {score:.1}")),
        run.evaluation().map(|score| format!("evaluation {score:.1}")),
        status.steps_per_s.map(|speed| format!("{speed:.0} steps/s")),
        status.left_s.map(|left| format!("{} left", duration(left))),
    ];
    parts.into_iter().flatten().map(|part| format!("{part} ")).collect()
}

/// Parts in lines of at most `width` characters; longer parts are broken.
fn wrapped(parts: Vec<String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(&part) <= width => {
                line.push(' ');
                line.push_str(&part);
            }
            _ => {
                let characters: Vec<char> = part.chars().collect();
                lines.extend(characters.chunks(width.max(1)).map(String::from_iter));
            }
        }
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// The last step, and the range of the values with a margin; nothing without points.
fn bounds(train: &[(f64, f64)], evaluations: &[(f64, f64)]) -> Option<(f64, [f64; 2])> {
    let points = || train.iter().chain(evaluations);
    let last = points().map(|(step, _)| *step).fold(0.0, f64::max);
    let low = points().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
    let margin = if high > low { 0.03 * (high - low) } else { 1.0 };
    (low <= high).then_some((last.max(1.0), [low - margin, high + margin]))
}

/// About `most` points up to the step `last`: means over intervals.
fn thin(points: &[(f64, f64)], most: usize, last: f64) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let bin = |point: &(f64, f64)| (point.0 / last * most as f64) as usize;
    let mean = |points: &[(f64, f64)]| {
        let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
    };
    points.chunk_by(|a, b| bin(a) == bin(b)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_becomes_means_and_a_short_one_stays() {
        let points: Vec<(f64, f64)> =
            (1..=1000).map(|k| (f64::from(k), f64::from(k % 2))).collect();
        let thinned = thin(&points, 10, 1000.0);
        assert!((10..=11).contains(&thinned.len()), "{}", thinned.len());
        assert!(thinned[..10].iter().all(|(_, score)| (score - 0.5).abs() < 0.01), "{thinned:?}");
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(thin(&points[..10], 10, 1000.0), points[..10]);
    }

    #[test]
    fn bounds_hold_every_point_and_there_are_none_without_points() {
        let (last, [low, high]) = bounds(&[(10.0, -5.0)], &[(20.0, 5.0)]).unwrap();
        assert!(last == 20.0 && low < -5.0 && high > 5.0);
        let (_, [low, high]) = bounds(&[(10.0, 3.0)], &[]).unwrap();
        assert!(low < 3.0 && high > 3.0, "a flat curve has no height");
        assert!(bounds(&[], &[]).is_none());
    }
}
