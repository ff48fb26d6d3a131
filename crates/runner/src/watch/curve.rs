//! The run that is selected: its numbers in full, and its learning curve.

use super::run::Watched;
use super::table::{share, short, sign};
use super::view::colour_of;
use crate::status::duration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

/// The least size of a chart: with less, there is none.
const LEAST: (u16, u16) = (20, 5);
/// Points across a cell of the chart.
const POINTS_PER_CELL: u16 = 2;

/// Draws it.
pub fn draw(frame: &mut Frame, area: Rect, run: &Watched, colours: bool) {
    let colour = |colour| if colours { Style::new().fg(colour) } else { Style::new() };
    let (training, evaluation) = (colour(Color::Cyan), colour(Color::Yellow));
    let state = run.seen.state;
    let name = Line::from(vec![
        Span::styled(format!("{} ", run.label()), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!("{} {} ", sign(state), state.word()), colour_of(state, colours)),
    ]);
    let legend = Line::from(vec![
        Span::styled(" ⠤ training", training),
        Span::styled(" • evaluation", evaluation),
    ]);
    let room = name.width() + legend.width() < area.width.into();
    let mut block = Block::new().borders(Borders::TOP).title(name);
    if room {
        block = block.title(legend.right_aligned());
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);

    let width = inner.width.into();
    let mut lines: Vec<Line> = wrapped(numbers(run), width).into_iter().map(Line::raw).collect();
    if let Some(reason) = &run.seen.reason {
        let words = reason.split_whitespace().map(str::to_string);
        let red = |line| Line::styled(line, colour(Color::Red));
        lines.extend(wrapped(words, width).into_iter().map(red));
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [numbers, chart] =
        Layout::vertical([Constraint::Max(height), Constraint::Min(0)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), numbers);
    if chart.width < LEAST.0 || chart.height < LEAST.1 {
        return;
    }
    let [train, evaluations] = [&run.train, &run.evaluations].map(|points| points.as_slice());
    let Some((last, [low, high])) = bounds(train, evaluations) else {
        frame.render_widget("no episode has ended yet", chart);
        return;
    };
    let train = thin(train, usize::from(chart.width * POINTS_PER_CELL), last);
    let line = Dataset::default().data(&train).marker(Marker::Braille);
    let dots = Dataset::default().data(evaluations).marker(Marker::Dot);
    let places = if high - low < 10.0 { 2 } else { 0 };
    let label = |value: f64| format!("{value:.places$}");
    let x = Axis::default().bounds([0.0, last]).labels([
        "0".to_string(),
        short((last / 2.0) as u64),
        format!("{} steps", short(last as u64)),
    ]);
    let y = Axis::default().bounds([low, high]).labels([low, (low + high) / 2.0, high].map(label));
    let line = line.graph_type(GraphType::Line).style(training);
    let dots = dots.graph_type(GraphType::Scatter).style(evaluation);
    frame.render_widget(Chart::new(vec![line, dots]).x_axis(x).y_axis(y), chart);
}

/// What the table says, and what it had no room for.
fn numbers(run: &Watched) -> impl Iterator<Item = String> {
    let seen = &run.seen;
    let step = match share(run) {
        Some(share) => format!("step {} of {} ({:.0}%)", seen.step, seen.steps, share.floor()),
        None => format!("step {}", seen.step),
    };
    let parts = [
        Some(step),
        seen.last_return.map(|score| format!("return {score:.1}")),
        run.evaluation().map(|score| format!("evaluation {score:.1}")),
        seen.steps_per_s.map(|speed| format!("{speed:.0} steps/s")),
        seen.left_s.map(|left| format!("{} left", duration(left))),
    ];
    parts.into_iter().flatten().map(|part| format!("{part} "))
}

/// Parts in lines of at most so many characters; only a part that is longer takes more.
fn wrapped(parts: impl Iterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let length = |text: &str| text.chars().count();
    for part in parts {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(&part) <= width => {
                line.push(' ');
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    lines
}

/// The last step, and between which values curves lie, with some air; none without a point.
fn bounds(train: &[(f64, f64)], evaluations: &[(f64, f64)]) -> Option<(f64, [f64; 2])> {
    let points = || train.iter().chain(evaluations);
    let last = points().map(|(step, _)| *step).fold(0.0, f64::max);
    let low = points().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
    let air = if high > low { 0.03 * (high - low) } else { 1.0 };
    (low <= high).then_some((last.max(1.0), [low - air, high + air]))
}

/// At most so many points up to a step: the means of what lies between.
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
