//! Scatter plots of samples in the plane: a grid of panels, one row per variant.

use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Once;

/// Side of a panel, and the gap between two, in pixels.
const PANEL: i32 = 128;
const GAP: i32 = 6;
/// Height of the text, and width of a letter, in pixels.
const TEXT: i32 = 15;
const LETTER: f64 = 8.0;
/// Colours of the samples and of the target's samples behind them.
const SAMPLES: RGBColor = RGBColor(20, 70, 170);
const BEHIND: RGBColor = RGBColor(235, 150, 60);
const FRAME: RGBColor = RGBColor(190, 190, 190);
/// Levels per colour channel in the file; few levels compress well.
const LEVELS: u32 = 16;

/// A picture: rows of panels that all show the same square.
pub struct Scatter {
    /// Samples of the target, shown faintly in every panel.
    pub behind: Vec<[f64; 2]>,
    /// Half the side of the square, which is centred on zero.
    pub half_side: f64,
    /// The rows, from top to bottom.
    pub rows: Vec<Row>,
}

/// The panels of one variant.
pub struct Row {
    /// Lines of text on the left.
    pub label: Vec<String>,
    /// The panels, from left to right.
    pub panels: Vec<Panel>,
}

/// Samples after some updates.
pub struct Panel {
    /// Text in its corner.
    pub caption: String,
    /// The samples. Those outside the square are not drawn.
    pub samples: Vec<[f64; 2]>,
}

impl Scatter {
    /// Writes the picture as PNG, atomically (see [`whole`](crate::whole)).
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let (width, height, pixels) = self.draw();
        crate::whole(path, |file| {
            let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_compression(png::Compression::High);
            encoder.set_filter(png::Filter::NoFilter);
            let fail = std::io::Error::other::<png::EncodingError>;
            let mut writer = encoder.write_header().map_err(fail)?;
            writer.write_image_data(&pixels).map_err(fail)?;
            writer.finish().map_err(fail)
        })
    }

    /// Width, height, and the RGB values of all pixels, row by row.
    fn draw(&self) -> (u32, u32, Vec<u8>) {
        let columns = self.rows.iter().map(|row| row.panels.len()).max().unwrap_or(0) as i32;
        let letters = self.rows.iter().flat_map(|row| &row.label).map(|line| line.chars().count());
        let left = (letters.max().unwrap_or(0) as f64 * LETTER) as i32 + 2 * GAP;
        let width = (left + columns * (PANEL + GAP)) as u32;
        let height = (self.rows.len() as i32 * (PANEL + GAP) + GAP) as u32;
        let mut pixels = vec![0; (3 * width * height) as usize];
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let fine = "drawing in memory succeeds";
        root.fill(&WHITE).expect(fine);
        for (row, top) in self.rows.iter().zip((0..).map(|i| GAP + i * (PANEL + GAP))) {
            for (line, y) in row.label.iter().zip((0..).map(|i| top + GAP + i * (TEXT + 4))) {
                root.draw(&Text::new(line.clone(), (GAP, y), text(TEXT))).expect(fine);
            }
            for (panel, x) in row.panels.iter().zip((0..).map(|i| left + i * (PANEL + GAP))) {
                self.panel(&root, panel, (x, top)).expect(fine);
            }
        }
        drop(root);
        for value in &mut pixels {
            let level = (u32::from(*value) * (LEVELS - 1) + 127) / 255;
            *value = (level * 255 / (LEVELS - 1)) as u8;
        }
        (width, height, pixels)
    }

    fn panel<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, plotters::coord::Shift>,
        panel: &Panel,
        (left, top): (i32, i32),
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let place = |[x, y]: [f64; 2]| {
            let along =
                |value: f64| ((value / self.half_side + 1.0) / 2.0 * f64::from(PANEL)) as i32;
            let inside = x.abs() < self.half_side && y.abs() < self.half_side;
            inside.then(|| (left + along(x), top + along(-y)))
        };
        for at in self.behind.iter().copied().filter_map(place) {
            root.draw(&Circle::new(at, 1, BEHIND.mix(0.25).filled()))?;
        }
        for at in panel.samples.iter().copied().filter_map(place) {
            root.draw(&Circle::new(at, 1, SAMPLES.mix(0.35).filled()))?;
        }
        let corners = [(left, top), (left + PANEL, top + PANEL)];
        root.draw(&Rectangle::new(corners, FRAME))?;
        let caption = (panel.caption.chars().count() as f64 * LETTER) as i32;
        let behind = [(left + 1, top + 1), (left + 5 + caption, top + TEXT + 3)];
        root.draw(&Rectangle::new(behind, WHITE.filled()))?;
        root.draw(&Text::new(panel.caption.clone(), (left + 4, top + 3), text(TEXT - 2)))
    }
}

/// Style of dark text of a height, positioned by its upper left corner.
fn text(height: i32) -> TextStyle<'static> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // The picture must not depend on the machine's fonts.
        let bytes = epaint_default_fonts::HACK_REGULAR;
        let done = register_font("sans-serif", FontStyle::Normal, bytes);
        assert!(done.is_ok(), "the font is valid");
    });
    let style = TextStyle::from(("sans-serif", height)).color(&RGBColor(40, 40, 40));
    style.pos(Pos::new(HPos::Left, VPos::Top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scatter(samples: Vec<[f64; 2]>) -> Scatter {
        let panel = Panel { caption: String::new(), samples };
        let row = Row { label: vec![], panels: vec![panel] };
        Scatter { behind: vec![], half_side: 1.0, rows: vec![row] }
    }

    /// Positions of the blue pixels, from the panel's left and upper edge.
    fn blue(scatter: &Scatter) -> Vec<(i32, i32)> {
        let (width, _, pixels) = scatter.draw();
        let at = |i: usize| ((i as u32 % width) as i32 - 2 * GAP, (i as u32 / width) as i32 - GAP);
        let is_blue = |rgb: &[u8]| u32::from(rgb[2]) > u32::from(rgb[0]) + 40;
        let all = pixels.chunks(3).enumerate();
        all.filter(|(_, rgb)| is_blue(rgb)).map(|(i, _)| at(i)).collect()
    }

    #[test]
    fn samples_are_drawn_at_their_position_with_y_upwards_and_none_outside_the_square() {
        let found = blue(&scatter(vec![[0.5, 0.5]]));
        assert!(!found.is_empty());
        for (x, y) in found {
            assert!((x - 3 * PANEL / 4).abs() <= 1 && (y - PANEL / 4).abs() <= 1, "{x} {y}");
        }
        assert!(blue(&scatter(vec![[1.5, 0.0], [0.0, f64::NAN]])).is_empty());
    }

    #[test]
    fn labels_are_drawn_without_the_machines_fonts_and_the_file_is_a_png_of_the_size() {
        let mut picture = scatter(vec![[0.0, 0.0]]);
        picture.rows[0].label = vec!["lambda".into()];
        let (width, height, pixels) = picture.draw();
        let label = (6.0 * LETTER) as usize;
        let dark = pixels.chunks(3).enumerate().filter(|(i, rgb)| {
            i % width as usize <= label + GAP as usize && rgb.iter().all(|value| *value < 120)
        });
        assert!(dark.count() > 40, "no letters");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        picture.write(&path).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (width, height));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
