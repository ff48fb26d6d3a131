//! Videos of episodes: which moments are filmed, from where, and the files that they become.

pub mod film;
mod frames;
mod gif;
mod mp4;
pub mod output;

use std::io;

/// Pictures that follow each other at a constant rate.
pub trait Pictures {
    /// Width and height of each, in pixels.
    fn size(&self) -> [u32; 2];
    /// Pictures per second.
    fn rate(&self) -> f64;
    /// How many there are.
    fn count(&self) -> usize;
    /// One of them: rows of pixels from the top, three bytes each: red, green, blue.
    ///
    /// # Errors
    /// It can't be drawn.
    fn picture(&mut self, index: usize) -> io::Result<&[u8]>;

    /// How long a picture is shown, in parts of a second of which there are `unit`. Rounding does not
    /// add up: the end of each picture is right to half a part.
    fn duration(&self, index: usize, unit: f64) -> u32 {
        let end = |pictures: usize| (pictures as f64 * unit / self.rate()).round();
        (end(index + 1) - end(index)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Pictures;
    use std::io;

    /// A red square that moves to the right on blue, two pixels each time.
    pub struct Square {
        pub rate: f64,
        pub count: usize,
        pub now: Vec<u8>,
    }

    pub const SIZE: [u32; 2] = [96, 64];

    impl Square {
        pub fn new(rate: f64, count: usize) -> Self {
            Self { rate, count, now: Vec::new() }
        }

        /// The colour of a pixel.
        pub fn colour(index: usize, x: usize, y: usize) -> [u8; 3] {
            let inside = (2 * index..2 * index + 24).contains(&x) && (20..44).contains(&y);
            if inside { [200, 30, 30] } else { [20, 40, 160] }
        }
    }

    impl Pictures for Square {
        fn size(&self) -> [u32; 2] {
            SIZE
        }

        fn rate(&self) -> f64 {
            self.rate
        }

        fn count(&self) -> usize {
            self.count
        }

        fn picture(&mut self, index: usize) -> io::Result<&[u8]> {
            let [width, height] = SIZE.map(|x| x as usize);
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            self.now = places.flat_map(|(x, y)| Self::colour(index, x, y)).collect();
            Ok(&self.now)
        }
    }
}
