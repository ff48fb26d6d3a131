//! Figures for papers, as SVG and PNG.

mod draw;
pub mod palette;

use crate::statistics::Estimate;
use crate::study::{Cell, CurvePoint, Study, Task, thousands};
use draw::{Area, Dots, Drawn, Entry, Line, Lines, Matrix, legend};
use plotters::prelude::*;

/// Size of a chart, and PNG pixels per SVG unit.
const CHART: (u32, u32) = (340, 260);
const DENSITY: f64 = 2.0;
/// Charts per row.
const COLUMNS: usize = 3;

/// A figure: its name and content.
pub struct Figure {
    /// Name of its files, without the extension.
    pub name: String,
    content: Content,
}

enum Content {
    Charts(Vec<Lines>, Vec<Entry>),
    Dots(Dots),
    Matrix(Matrix),
}

/// All figures of a study.
pub fn figures(study: &Study) -> Vec<Figure> {
    let place = |name: &str| study.algorithms.iter().position(|known| known == name).unwrap_or(0);
    let published = |name: &String| {
        let mut cells = study.tasks.iter().flat_map(|task| &task.cells);
        cells.any(|cell| cell.algorithm == *name && cell.published)
    };
    let names = |names: Vec<&String>| -> Vec<Entry> {
        let entry = |name: &String| Entry {
            name: name.clone(),
            place: place(name),
            published: published(name),
        };
        names.into_iter().map(entry).collect()
    };
    let of_task = |task: &Task| names(task.cells.iter().map(|cell| &cell.algorithm).collect());
    let chart = |task: &Task| curves(task, &place);
    let mut all = vec![Figure {
        name: "curves".into(),
        content: Content::Charts(
            study.tasks.iter().filter(|task| task.has_curves()).map(chart).collect(),
            names(study.algorithms.iter().collect()),
        ),
    }];
    for task in study.tasks.iter().filter(|task| study.tasks.len() > 1 && task.has_curves()) {
        let content = Content::Charts(vec![chart(task)], of_task(task));
        let name = format!("curves-{}", file_name(&task.name));
        // `a b` and `a-b` are two tasks of one file name.
        let taken = |name: &str| all.iter().any(|figure| figure.name == name);
        let others = (2..).map(|k| format!("{name}-{k}"));
        let mut names = std::iter::once(name.clone()).chain(others);
        let name = names.find(|name| !taken(name)).expect("some number is free");
        all.push(Figure { name, content });
    }
    let Some(aggregate) = &study.aggregate else { return all };
    let members = names(aggregate.members.iter().map(|member| &member.algorithm).collect());
    let over = match aggregate.tasks.as_slice() {
        [task] => task.clone(),
        tasks => format!("{} tasks", tasks.len()),
    };
    let members_iqm = aggregate
        .members
        .iter()
        .map(|member| (member.algorithm.clone(), place(&member.algorithm), member.iqm));
    let mut rows: Vec<_> = members_iqm.collect();
    rows.sort_by(|a, b| b.2.value.total_cmp(&a.2.value));
    let known = aggregate.members.iter().all(|member| member.iqm.interval.is_some());
    let no = if known { "" } else { "; no interval where a task has one seed" };
    let axis = format!("interquartile mean of normalised scores ({over}{no})");
    let lines = |steps: bool, title: &str, axes: [&str; 2], lines: Vec<Line>| {
        let axes = axes.map(str::to_string);
        Content::Charts(vec![Lines { title: title.into(), axes, steps, lines }], members.clone())
    };
    let iqms = aggregate.members.iter().map(|member| line(place(&member.algorithm), &member.curve));
    let profiles = aggregate.members.iter().map(|member| {
        let interval = |i: usize| member.above_intervals.as_ref().map(|all| all[i]);
        let points = aggregate.thresholds.iter().zip(&member.above).enumerate();
        let estimate = |(i, (x, y)): (usize, (&f64, &f64))| {
            (*x, Estimate { value: *y, interval: interval(i) })
        };
        let points: Vec<_> = points.map(estimate).collect();
        let whole = points.len();
        Line { place: place(&member.algorithm), whole, points, published: false }
    });
    let ([step, iqm], [tau, share]) =
        (["environment steps", "normalised IQM"], ["normalised score τ", "share of runs above τ"]);
    let entries = [
        ("aggregate", Content::Dots(Dots { axis, rows })),
        ("aggregate-curve", lines(true, &over, [step, iqm], iqms.collect())),
        ("profile", lines(false, &over, [tau, share], profiles.collect())),
    ];
    all.extend(entries.map(|(name, content)| Figure { name: name.into(), content }));
    if aggregate.members.len() > 1 {
        let names: Vec<String> =
            aggregate.members.iter().map(|member| member.algorithm.clone()).collect();
        let cell = |x: &String, y: &String| {
            let pair = aggregate.improvements.iter().find(|pair| pair.x == *x && pair.y == *y)?;
            Some(pair.probability)
        };
        let cells = names.iter().map(|x| names.iter().map(|y| cell(x, y)).collect()).collect();
        let content = Content::Matrix(Matrix { names, cells });
        all.push(Figure { name: "improvement".into(), content });
    }
    all
}

/// A task's learning curves.
fn curves(task: &Task, place: &dyn Fn(&str) -> usize) -> Lines {
    let of = |cell: &Cell| Line { place: place(&cell.algorithm), ..line_of(cell) };
    Lines {
        title: format!("{}, compared at {}", task.name, thousands(task.horizon)),
        axes: ["environment steps".into(), "return".into()],
        steps: true,
        lines: task.cells.iter().filter(|cell| !cell.curve.is_empty()).map(of).collect(),
    }
}

fn line_of(cell: &Cell) -> Line {
    let all = line(0, &cell.curve);
    let whole = cell.curve.iter().take_while(|point| point.runs == cell.curve[0].runs).count();
    Line { whole, published: cell.published, ..all }
}

fn line(place: usize, curve: &[CurvePoint]) -> Line {
    let point = |point: &CurvePoint| {
        (point.step as f64, Estimate { value: point.value, interval: point.interval })
    };
    let points = curve.iter().map(point).collect();
    Line { place, points, whole: curve.len(), published: false }
}

/// A name that is valid on any file system.
pub fn file_name(name: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    name.chars().map(fine).collect()
}

impl Figure {
    /// The figure as SVG.
    pub fn svg(&self) -> String {
        let mut text = String::new();
        let root = SVGBackend::with_string(&mut text, self.size()).into_drawing_area();
        self.draw(&root, 1.0).expect("drawing in memory succeeds");
        drop(root);
        text
    }

    /// The figure as PNG, at twice the size.
    pub fn png(&self) -> Vec<u8> {
        let (width, height) = self.size();
        let (width, height) = (width * DENSITY as u32, height * DENSITY as u32);
        let mut pixels = vec![0; (3 * width * height) as usize];
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        self.draw(&root, DENSITY).expect("drawing in memory succeeds");
        drop(root);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().expect("the header is valid");
        writer.write_image_data(&pixels).expect("the pixels fit the header");
        writer.finish().expect("writing to memory succeeds");
        bytes
    }

    fn size(&self) -> (u32, u32) {
        match &self.content {
            Content::Charts(charts, names) => {
                let columns = charts.len().clamp(1, COLUMNS) as u32;
                let width = if columns == 1 { 480 } else { CHART.0 * columns };
                let rows = charts.len().div_ceil(COLUMNS).max(1) as u32;
                // Estimated number of lines of the legend.
                let lines = (names.len() as u32 * 110).div_ceil(width);
                let height = if columns == 1 { 320 } else { CHART.1 };
                (width, rows * height + 12 + 20 * lines)
            }
            Content::Dots(dots) => (520, dots.height()),
            Content::Matrix(matrix) => matrix.size(),
        }
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>, scale: f64) -> Drawn<B> {
        root.fill(&WHITE)?;
        match &self.content {
            Content::Charts(charts, names) => {
                let head = legend(root, names, scale)?;
                let (_, below) = root.split_vertically(head);
                let columns = charts.len().clamp(1, COLUMNS);
                let rows = charts.len().div_ceil(COLUMNS).max(1);
                for (chart, area) in charts.iter().zip(below.split_evenly((rows, columns))) {
                    chart.draw(&area, scale)?;
                }
            }
            Content::Dots(dots) => dots.draw(root, scale)?,
            Content::Matrix(matrix) => matrix.draw(root, scale)?,
        }
        root.present()
    }
}
