//! Animated GIFs.

use super::Pictures;
use super::output::MARK;
use gif::{AnyExtension, Encoder, Extension, Frame, Repeat};
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// The format counts time in hundredths of a second.
const UNIT: f64 = 100.0;
/// How carefully the 256 colours of a picture are chosen: 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// Writes an animation that repeats.
///
/// # Errors
/// A picture can't be drawn or written.
pub fn write(file: &mut File, pictures: &mut dyn Pictures) -> io::Result<()> {
    let [width, height] = pictures.size().map(|size| size as u16);
    let mut file = BufWriter::new(file);
    let mut encoder = Encoder::new(&mut file, width, height, &[]).map_err(io::Error::other)?;
    encoder.set_repeat(Repeat::Infinite).map_err(io::Error::other)?;
    let comment = AnyExtension(Extension::Comment as u8);
    encoder.write_raw_extension(comment, &[MARK.as_bytes()]).map_err(io::Error::other)?;
    for index in 0..pictures.count() {
        let delay = pictures.duration(index, UNIT) as u16;
        let rgb = pictures.picture(index)?;
        let frame = Frame::from_rgb_speed(width, height, rgb, SPEED);
        encoder.write_frame(&Frame { delay, ..frame }).map_err(io::Error::other)?;
    }
    drop(encoder); // writes the end
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIZE, Square};
    use super::*;
    use gif::{ColorOutput, DecodeOptions};

    #[test]
    fn a_gif_repeats_and_its_frames_last_as_long_as_they_should_together() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write(file.as_file_mut(), &mut Square::new(30.0, 31)).unwrap();
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(file.path()).unwrap()).unwrap();
        assert_eq!([u32::from(decoder.width()), u32::from(decoder.height())], SIZE);
        let (mut count, mut delays) = (0, 0);
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert!((3..=4).contains(&frame.delay)); // a thirtieth of a second
            delays += frame.delay;
            for (x, y) in [(2 * count + 12, 32), (2, 2), (90, 60)] {
                let pixel = &frame.buffer[4 * (y * SIZE[0] as usize + x)..][..3];
                let near = |(a, b): (&u8, u8)| a.abs_diff(b) < 6;
                assert!(pixel.iter().zip(Square::colour(count, x, y)).all(near), "{pixel:?}");
            }
            count += 1;
        }
        assert_eq!((count, delays), (31, 103));
        assert_eq!(decoder.repeat(), Repeat::Infinite);
    }
}
