//! Colours, for figures and page alike.

use plotters::style::RGBColor;

/// A colour on white and on near-black, in the order of algorithms: told apart by the
/// colour-blind, with a contrast of at least 3 to their background. With more algorithms
/// they repeat, and the shape of the marks differs.
pub const PALETTE: [(RGBColor, RGBColor); 8] = [
    (RGBColor(0, 114, 178), RGBColor(86, 180, 233)),
    (RGBColor(213, 94, 0), RGBColor(255, 140, 66)),
    (RGBColor(0, 135, 100), RGBColor(38, 198, 153)),
    (RGBColor(170, 68, 153), RGBColor(224, 145, 210)),
    (RGBColor(138, 110, 0), RGBColor(230, 200, 80)),
    (RGBColor(30, 30, 30), RGBColor(235, 235, 235)),
    (RGBColor(40, 150, 190), RGBColor(160, 222, 240)),
    (RGBColor(136, 34, 85), RGBColor(244, 120, 160)),
];

/// Shapes of marks, which change with every algorithm.
pub const SHAPES: usize = 4;

/// `#rrggbb`.
pub fn hex(colour: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
}
