//! Colours of figures and page.

use plotters::style::RGBColor;

/// Pairs of colours on white and on near-black, in the order of algorithms. With more
/// algorithms colours repeat, but with other shapes of marks.
pub const PALETTE: [(RGBColor, RGBColor); 8] = [
    (RGBColor(0, 50, 139), RGBColor(131, 126, 249)),
    (RGBColor(199, 136, 0), RGBColor(219, 102, 34)),
    (RGBColor(36, 170, 97), RGBColor(58, 170, 115)),
    (RGBColor(163, 112, 207), RGBColor(252, 164, 255)),
    (RGBColor(96, 54, 0), RGBColor(246, 235, 16)),
    (RGBColor(0, 16, 0), RGBColor(225, 255, 255)),
    (RGBColor(44, 104, 247), RGBColor(141, 255, 176)),
    (RGBColor(195, 46, 124), RGBColor(188, 90, 158)),
];

/// Number of shapes of marks, which change with every algorithm.
pub const SHAPES: usize = 5;

/// A colour as `#rrggbb`.
pub fn hex(colour: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matrices on linear RGB that simulate normal vision, protanopia, deuteranopia and
    /// tritanopia (Machado, Oliveira and Fernandes 2009, at full severity).
    const EYES: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ];

    fn dot(row: [f64; 3], colour: [f64; 3]) -> f64 {
        row.iter().zip(colour).map(|(a, b)| a * b).sum()
    }

    /// Linear RGB of an sRGB colour.
    fn linear(RGBColor(r, g, b): RGBColor) -> [f64; 3] {
        [r, g, b].map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn luminance(colour: RGBColor) -> f64 {
        dot([0.2126, 0.7152, 0.0722], linear(colour))
    }

    /// CIELAB coordinates for D65.
    fn lab(colour: [f64; 3]) -> [f64; 3] {
        let curve = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        let x = curve(dot([0.4124, 0.3576, 0.1805], colour) / 0.9505);
        let y = curve(dot([0.2126, 0.7152, 0.0722], colour));
        let z = curve(dot([0.0193, 0.1192, 0.9505], colour) / 1.089);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn every_colour_stands_out_from_its_ground() {
        let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
        let (white, black) = (1.0, luminance(RGBColor(28, 31, 37)));
        for (on_white, on_black) in PALETTE {
            // Required by WCAG 2.2 for graphics (1.4.11).
            assert!(contrast(luminance(on_white), white) >= 3.0, "{on_white:?}");
            assert!(contrast(luminance(on_black), black) >= 3.0, "{on_black:?}");
        }
    }

    #[test]
    fn the_colour_blind_can_tell_any_two_apart() {
        let seen = |eyes: &[[f64; 3]; 3], colour| {
            lab(eyes.map(|row| dot(row, linear(colour)).clamp(0.0, 1.0)))
        };
        for grounds in [PALETTE.map(|pair| pair.0), PALETTE.map(|pair| pair.1)] {
            for eyes in &EYES {
                for (i, a) in grounds.iter().enumerate() {
                    for b in &grounds[..i] {
                        let (a, b) = (seen(eyes, *a), seen(eyes, *b));
                        let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
                        let distance = squares.sum::<f64>().sqrt();
                        // A just noticeable difference is 2.3.
                        assert!(distance > 20.0, "{a:?} {b:?}: {distance}");
                    }
                }
            }
        }
    }
}
