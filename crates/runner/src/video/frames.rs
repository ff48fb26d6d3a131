//! Folders of PNG images, one per frame.

use super::Pictures;
use super::output::MARK;
use png::{BitDepth, ColorType, Encoder};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The name of a frame's file, counted from 0.
pub fn name(index: usize) -> String {
    format!("frame-{index:05}.png")
}

/// Whether a file's name is one of those.
pub fn is_name(text: &str) -> bool {
    let digits = text.strip_prefix("frame-").and_then(|rest| rest.strip_suffix(".png"));
    digits.is_some_and(|digits| digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Writes all pictures into a folder.
///
/// # Errors
/// A picture can't be drawn or written.
pub fn write(folder: &Path, pictures: &mut dyn Pictures) -> io::Result<()> {
    let [width, height] = pictures.size();
    for index in 0..pictures.count() {
        let rgb = pictures.picture(index)?;
        let mut file = BufWriter::new(File::create(folder.join(name(index)))?);
        let mut encoder = Encoder::new(&mut file, width, height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.add_text_chunk("Software".into(), MARK.into())?;
        let mut writer = encoder.write_header()?;
        writer.write_image_data(rgb)?;
        writer.finish()?;
        file.flush()?;
    }
    Ok(())
}
