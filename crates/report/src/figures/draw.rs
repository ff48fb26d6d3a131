//! Charts on any of plotters' backends: lines with bands, dots with intervals, a matrix
//! of probabilities.

use super::palette::{PALETTE, SHAPES};
use crate::statistics::{Estimate, Interval};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::Once;

/// An SVG uses the reader's font from this list; a PNG the registered one.
const FONT: &str = "Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(226, 226, 226);
/// Marks are drawn at every evaluation if there are at most this many.
const MOST_MARKS: usize = 40;
/// Marks of a longer line, where lines share colours.
const MARKS_OF_LONG_LINES: usize = 12;

/// Result of drawing.
pub type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// An area to draw on.
pub type Area<B> = DrawingArea<B, Shift>;

/// Lines over steps or thresholds.
pub struct Lines {
    /// Title above the chart.
    pub title: String,
    /// Labels of the x and y axes.
    pub axes: [String; 2],
    /// Whether x counts steps.
    pub steps: bool,
    /// One line per algorithm.
    pub lines: Vec<Line>,
}

/// A line with the band of its intervals.
pub struct Line {
    /// The algorithm's index, which determines its colour and shape.
    pub place: usize,
    /// x, and y with its interval.
    pub points: Vec<(f64, Estimate)>,
    /// Number of leading points that include all runs; the rest is drawn thinly.
    pub whole: usize,
    /// Whether it is others' published mean: drawn dashed, with hollow marks.
    pub published: bool,
}

/// An algorithm in a legend.
#[derive(Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its index, which determines its colour and shape.
    pub place: usize,
    /// As of [`Line`].
    pub published: bool,
}

/// Values with intervals, one row each.
pub struct Dots {
    /// Label of the axis.
    pub axis: String,
    /// An algorithm's name, its index, its value.
    pub rows: Vec<(String, usize, Estimate)>,
}

/// Probabilities that the row's algorithm beats the column's.
pub struct Matrix {
    /// Algorithms, for rows and columns.
    pub names: Vec<String>,
    /// Probabilities by row; the diagonal is empty.
    pub cells: Vec<Vec<Option<Estimate>>>,
}

/// Upper bound of a letter's width in a matrix's names.
const LETTER: u32 = 7;

/// Text style of a size in points at a scale.
pub fn text(size: f64, scale: f64) -> TextStyle<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // Sizes and pictures must not depend on the machine's fonts.
        let bytes = epaint_default_fonts::UBUNTU_LIGHT;
        let done = register_font(FONT, FontStyle::Normal, bytes);
        assert!(done.is_ok(), "the font is valid");
    });
    TextStyle::from((FONT, size * scale)).color(&INK)
}

fn pixels(size: f64, scale: f64) -> i32 {
    (size * scale).round() as i32
}

/// The range of some values and their intervals with a margin, never empty.
fn room<'a>(values: impl Iterator<Item = &'a Estimate>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
        let ends = number.interval.unwrap_or(Interval { low: number.value, high: number.value });
        (low.min(number.value).min(ends.low), high.max(number.value).max(ends.high))
    });
    if low > high {
        return 0.0..1.0;
    }
    let margin = if low == high { low.abs().max(1.0) * 0.1 } else { (high - low) * 0.05 };
    low - margin..high + margin
}

/// Formats 30,000 steps as `30k`.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", round(value / 1e6)),
        size if size >= 1e3 => format!("{}k", round(value / 1e3)),
        _ => round(value),
    }
}

/// At most two decimals, without trailing zeros.
fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

impl Lines {
    /// Draws the chart.
    pub fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: f64) -> Drawn<B> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let last = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let first = points().map(|point| point.0).fold(0.0, f64::min);
        let across =
            if last > first { first..last + (last - first) * 0.02 } else { first..first + 1.0 };
        let mut chart = ChartBuilder::on(area)
            .margin(pixels(8.0, scale))
            .caption(&self.title, text(15.0, scale))
            .x_label_area_size(pixels(38.0, scale))
            .y_label_area_size(pixels(54.0, scale))
            .build_cartesian_2d(across, room(points().map(|(_, y)| y)))?;
        let label = |x: &f64| if self.steps { short(*x) } else { round(*x) };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(1))
            .axis_style(GRID.stroke_width(1))
            .set_all_tick_mark_size(pixels(3.0, scale))
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&label)
            .y_label_formatter(&|y| short(*y))
            .label_style(text(11.0, scale))
            .axis_desc_style(text(12.0, scale))
            .x_desc(&self.axes[0])
            .y_desc(&self.axes[1])
            .draw()?;
        for line in &self.lines {
            chart.draw_series(line.bands())?;
        }
        let alike = self.lines.iter().any(|line| line.place >= PALETTE.len());
        for line in &self.lines {
            if line.published {
                let points = line.points.iter().map(|(x, y)| (*x, y.value));
                chart.draw_series([dashes(points, line.place, scale)])?;
            } else {
                chart.draw_series(line.strokes(scale))?;
            }
            for (x, y) in line.marked(alike) {
                let at = pixel(area, &chart, (*x, y.value));
                draw_mark(area, at, line.place, line.published, scale)?;
            }
        }
        Ok(())
    }
}

impl Line {
    /// The points that have a mark: all of a short line, none of a long one unless lines share colours,
    /// which only the marks' shapes then tell apart.
    fn marked(&self, alike: bool) -> impl Iterator<Item = &(f64, Estimate)> {
        let (every, most) = match self.points.len() {
            few if few <= MOST_MARKS => (1, few),
            many if alike => (many.div_ceil(MARKS_OF_LONG_LINES), MARKS_OF_LONG_LINES),
            _ => (1, 0),
        };
        self.points.iter().step_by(every).take(most)
    }

    /// The band of intervals, between consecutive points that have one.
    fn bands(&self) -> Vec<Polygon<(f64, f64)>> {
        let style = PALETTE[self.place % PALETTE.len()].0.mix(0.16).filled();
        let known = |point: &(f64, Estimate)| point.1.interval.is_some();
        let parts = self.points.chunk_by(|a, b| known(a) == known(b));
        let band = |part: &[(f64, Estimate)]| {
            let ends = || part.iter().filter_map(|(x, y)| y.interval.map(|ends| (*x, ends)));
            let below = ends().map(|(x, ends)| (x, ends.low));
            let above = ends().rev().map(|(x, ends)| (x, ends.high));
            let outline: Vec<(f64, f64)> = below.chain(above).collect();
            (outline.len() > 2).then(|| Polygon::new(outline, style))
        };
        parts.filter_map(band).collect()
    }

    /// The line: thick where it includes all runs, thin where some have ended.
    fn strokes(&self, scale: f64) -> Vec<PathElement<(f64, f64)>> {
        let colour = PALETTE[self.place % PALETTE.len()].0;
        let at = |points: &[(f64, Estimate)]| -> Vec<(f64, f64)> {
            points.iter().map(|(x, y)| (*x, y.value)).collect()
        };
        let stroke = |width: f64| colour.stroke_width(pixels(width, scale).max(1) as u32);
        let whole = PathElement::new(at(&self.points[..self.whole]), stroke(1.8));
        let rest = PathElement::new(at(&self.points[self.whole.saturating_sub(1)..]), stroke(0.8));
        vec![rest, whole]
    }
}

/// A published mean's line.
fn dashes<C, I>(points: I, place: usize, scale: f64) -> DashedPathElement<I::IntoIter, i32>
where
    I: IntoIterator<Item = C>,
    I::IntoIter: Clone,
{
    let colour = PALETTE[place % PALETTE.len()].0;
    let stroke = colour.stroke_width(pixels(1.4, scale).max(1) as u32);
    DashedPathElement::new(points, pixels(4.0, scale), pixels(3.0, scale), stroke)
}

/// Draws an algorithm's mark at a pixel: its colour and its shape, hollow for a published mean.
fn draw_mark<B: DrawingBackend>(
    area: &Area<B>,
    (x, y): (i32, i32),
    place: usize,
    hollow: bool,
    scale: f64,
) -> Drawn<B> {
    // (corners, angle of the first corner in turns from the right, size)
    let (corners, first, size) = match place % SHAPES {
        0 => (24, 0.0, 3.2),
        1 => (4, 0.125, 4.2),
        2 => (3, 0.75, 4.4),
        3 => (4, 0.0, 4.4),
        _ => (3, 0.25, 4.4),
    };
    let corner = |i: u32| {
        let angle = (f64::from(i) / f64::from(corners) + first) * std::f64::consts::TAU;
        let along = |part: f64| (part * size * scale).round() as i32;
        (x + along(angle.cos()), y + along(angle.sin()))
    };
    let colour = PALETTE[place % PALETTE.len()].0;
    let outline: Vec<(i32, i32)> = (0..corners).map(corner).collect();
    if !hollow {
        return area.draw(&Polygon::new(outline, colour.filled()));
    }
    area.draw(&Polygon::new(outline.clone(), WHITE.filled()))?;
    let stroke = colour.stroke_width(pixels(1.2, scale).max(1) as u32);
    let closed: Vec<(i32, i32)> = outline.iter().chain(outline.first()).copied().collect();
    area.draw(&PathElement::new(closed, stroke))
}

/// Maps a point of a chart to pixels of its area.
fn pixel<B: DrawingBackend>(
    area: &Area<B>,
    chart: &ChartContext<B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    at: (f64, f64),
) -> (i32, i32) {
    let ((x, y), (left, top)) = (chart.backend_coord(&at), area.get_base_pixel());
    (x - left, y - top)
}

/// Draws names with their marks, in rows; returns their height in pixels.
pub fn legend<B: DrawingBackend>(
    area: &Area<B>,
    entries: &[Entry],
    scale: f64,
) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
    let style = text(12.0, scale).pos(Pos::new(HPos::Left, VPos::Center));
    let (line, row, gap) = (pixels(22.0, scale), pixels(20.0, scale), pixels(18.0, scale));
    let width = area.dim_in_pixel().0 as i32;
    let (mut x, mut y) = (gap, row / 2 + pixels(6.0, scale));
    for Entry { name, place, published } in entries {
        let needed = line + pixels(6.0, scale) + area.estimate_text_size(name, &style)?.0 as i32;
        if x + needed > width && x > gap {
            (x, y) = (gap, y + row);
        }
        let stroke = PALETTE[place % PALETTE.len()].0.stroke_width(pixels(1.8, scale) as u32);
        let ends = vec![(x, y), (x + line, y)];
        if *published {
            area.draw(&dashes(ends, *place, scale))?;
        } else {
            area.draw(&PathElement::new(ends, stroke))?;
        }
        draw_mark(area, (x + line / 2, y), *place, *published, scale)?;
        area.draw(&Text::new(name.clone(), (x + line + pixels(6.0, scale), y), style.clone()))?;
        x += needed + gap;
    }
    Ok(y + row / 2)
}

impl Dots {
    /// Height of the chart, at scale 1.
    pub fn height(&self) -> u32 {
        60 + 26 * self.rows.len() as u32
    }

    /// Draws the chart.
    pub fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: f64) -> Drawn<B> {
        let style = text(12.0, scale);
        let mut left = 0;
        for (name, ..) in &self.rows {
            left = left.max(area.estimate_text_size(name, &style)?.0);
        }
        let zero = Estimate { value: 0.0, interval: None };
        let values = self.rows.iter().map(|(_, _, value)| value).chain([&zero]);
        let rows = self.rows.len() as f64;
        let mut chart: ChartContext<B, Cartesian2d<RangedCoordf64, RangedCoordf64>> =
            ChartBuilder::on(area)
                .margin(pixels(10.0, scale))
                .margin_left(left + pixels(16.0, scale) as u32)
                .x_label_area_size(pixels(38.0, scale))
                .build_cartesian_2d(room(values), rows - 0.5..-0.5)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(1))
            .axis_style(GRID.stroke_width(1))
            .x_labels(6)
            .x_label_formatter(&|x| round(*x))
            .label_style(text(11.0, scale))
            .axis_desc_style(text(12.0, scale))
            .x_desc(&self.axis)
            .draw()?;
        for ((name, place, value), row) in self.rows.iter().zip(0..) {
            let y = f64::from(row);
            if let Some(Interval { low, high }) = value.interval {
                let stroke =
                    PALETTE[place % PALETTE.len()].0.stroke_width(pixels(3.0, scale) as u32);
                chart.draw_series([PathElement::new(vec![(low, y), (high, y)], stroke)])?;
            }
            let at = pixel(area, &chart, (value.value, y));
            draw_mark(area, at, *place, false, scale)?;
            let style = style.clone().pos(Pos::new(HPos::Left, VPos::Center));
            let beside = (pixels(10.0, scale), at.1 + pixels(2.0, scale));
            area.draw(&Text::new(name.clone(), beside, style))?;
        }
        Ok(())
    }
}

impl Matrix {
    /// Width and height, at scale 1.
    pub fn size(&self) -> (u32, u32) {
        let (side, name) = (self.names.len() as u32, self.name());
        ((name + 20 + name.max(74) * side).max(380), 56 + 44 * side)
    }

    /// Width reserved for a name, at scale 1.
    fn name(&self) -> u32 {
        self.names.iter().map(|name| LETTER * name.chars().count() as u32).max().unwrap_or(0) + 16
    }

    /// Draws the matrix: blue where the row's algorithm is better, orange where it is worse.
    pub fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: f64) -> Drawn<B> {
        let name = f64::from(self.name());
        let (left, top) = (pixels(name, scale), pixels(46.0, scale));
        let (wide, high) = (pixels(name.max(74.0), scale), pixels(44.0, scale));
        let centre = Pos::new(HPos::Center, VPos::Center);
        let head = "probability that a run of the row beats one of the column";
        let place = (pixels(10.0, scale), pixels(14.0, scale));
        let left_style = text(12.0, scale).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(head, place, left_style))?;
        for (name, i) in self.names.iter().zip(0..) {
            let small = text(11.0, scale);
            let column = (left + i * wide + wide / 2, top - pixels(10.0, scale));
            area.draw(&Text::new(name.clone(), column, small.clone().pos(centre)))?;
            let row = (left - pixels(8.0, scale), top + i * high + high / 2);
            let right = Pos::new(HPos::Right, VPos::Center);
            area.draw(&Text::new(name.clone(), row, small.pos(right)))?;
        }
        for (cells, row) in self.cells.iter().zip(0..) {
            for (cell, column) in cells.iter().zip(0..) {
                let (x, y) = (left + column * wide, top + row * high);
                let gap = pixels(1.0, scale);
                let Some(Estimate { value, interval }) = cell else { continue };
                let side = if *value >= 0.5 { PALETTE[0].0 } else { PALETTE[1].0 };
                let fill = side.mix((value - 0.5).abs() * 1.1).filled();
                let corners = [(x + gap, y + gap), (x + wide - gap, y + high - gap)];
                area.draw(&Rectangle::new(corners, fill))?;
                let shift = if interval.is_some() { pixels(7.0, scale) } else { 0 };
                let at = (x + wide / 2, y + high / 2 - shift);
                area.draw(&Text::new(format!("{value:.2}"), at, text(13.0, scale).pos(centre)))?;
                if let Some(Interval { low, high: top }) = interval {
                    let at = (x + wide / 2, y + high / 2 + pixels(9.0, scale));
                    let range = format!("{low:.2} – {top:.2}");
                    area.draw(&Text::new(range, at, text(9.5, scale).pos(centre)))?;
                }
            }
        }
        Ok(())
    }
}
