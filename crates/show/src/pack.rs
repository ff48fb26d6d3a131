//! Series of numbers in few bytes: quantised, as differences, in planes of bytes, deflated.
//!
//! A track has `width` channels. A channel is stored as integers q, and its numbers are
//! `low + step * q`. Consecutive integers differ little, so their differences are stored: as
//! unsigned numbers with the sign in the lowest bit, and first the highest byte of all, then the
//! next, because the high bytes are mostly 0 and then take almost no space. `page/data.js`
//! reads them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;
use std::io::Write;

/// Named tracks with their data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pack {
    /// How the bytes are to be read, in this order.
    pub tracks: Vec<Track>,
    /// Bytes of all tracks: zlib's format, in base64.
    pub data: String,
}

/// The form of a track.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Track {
    /// Its name.
    pub name: &'static str,
    /// Numbers per row.
    pub width: usize,
    /// Rows.
    pub length: usize,
    /// Bytes per number; 0 for `f32` as they are.
    pub bytes: usize,
    /// The number of each channel that the integer 0 stands for.
    pub low: Vec<f32>,
    /// What an integer is multiplied by, for each channel.
    pub step: Vec<f32>,
}

/// Collects tracks.
#[derive(Default)]
pub(crate) struct Packer {
    tracks: Vec<Track>,
    bytes: Vec<u8>,
}

impl Packer {
    /// Numbers (length, width), each within `coarsest / 2` of its value if three bytes suffice
    /// for that, and two or three bytes each.
    pub fn numbers(&mut self, name: &'static str, width: usize, values: &[f64], coarsest: f64) {
        let channels: Vec<Vec<f64>> = columns(width, values);
        let ranges: Vec<(f64, f64)> = channels.iter().map(|all| range(all)).collect();
        let widest = ranges.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
        let bytes = if widest / f64::from(u16::MAX) <= coarsest { 2 } else { 3 };
        let most = f64::from((1u32 << (8 * bytes)) - 1);
        let low: Vec<f32> = ranges.iter().map(|(low, _)| (*low as f32).next_down()).collect();
        let step: Vec<f32> = ranges
            .iter()
            .zip(&low)
            .map(|((_, high), low)| (((high - f64::from(*low)) / most) as f32).next_up())
            .collect();
        for ((all, low), step) in channels.iter().zip(&low).zip(&step) {
            let integer = |value: &f64| {
                let exact = (value - f64::from(*low)) / f64::from(*step);
                exact.round().clamp(0.0, most) as u32 // NaN becomes 0
            };
            self.integers_of(bytes, all.iter().map(integer));
        }
        let length = values.len().checked_div(width).unwrap_or(0);
        self.tracks.push(Track { name, width, length, bytes, low, step });
    }

    /// Integers below 2^24, as they are: (length, width).
    pub fn integers(&mut self, name: &'static str, width: usize, values: &[u32]) {
        for all in columns(width, values) {
            self.integers_of(3, all.into_iter());
        }
        let length = values.len().checked_div(width).unwrap_or(0);
        let (low, step) = (vec![0.0; width], vec![1.0; width]);
        self.tracks.push(Track { name, width, length, bytes: 3, low, step });
    }

    /// Numbers (length, width) exactly as they are.
    pub fn exact(&mut self, name: &'static str, width: usize, values: &[f32]) {
        for all in columns(width, values) {
            for plane in (0..4).rev() {
                self.bytes.extend(all.iter().map(|value| value.to_le_bytes()[plane]));
            }
        }
        let length = values.len().checked_div(width).unwrap_or(0);
        self.tracks.push(Track { name, width, length, bytes: 0, low: vec![], step: vec![] });
    }

    fn integers_of(&mut self, bytes: usize, values: impl Iterator<Item = u32>) {
        let mut previous = 0;
        let coded: Vec<u32> = values
            .map(|value| {
                let difference = value as i32 - std::mem::replace(&mut previous, value) as i32;
                wrap(difference, bytes)
            })
            .collect();
        for plane in (0..bytes).rev() {
            self.bytes.extend(coded.iter().map(|code| code.to_le_bytes()[plane]));
        }
    }

    /// Compresses everything.
    pub fn finish(self) -> Pack {
        Pack { tracks: self.tracks, data: deflate(&self.bytes) }
    }
}

/// Bytes in zlib's format, in base64.
pub(crate) fn deflate(bytes: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("a vector can be written to");
    BASE64_STANDARD.encode(encoder.finish().expect("a vector can be written to"))
}

/// [`deflate`] of numbers as they are, little-endian.
pub(crate) fn deflate_numbers(numbers: &[f64]) -> String {
    deflate(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
}

/// A difference modulo 2^(8 bytes), as an unsigned number of that many bytes with the sign in its
/// lowest bit.
fn wrap(difference: i32, bytes: usize) -> u32 {
    let unused = 32 - 8 * bytes as u32;
    let signed = (difference << unused) >> unused;
    (((signed << 1) ^ (signed >> 31)) as u32) & (u32::MAX >> unused)
}

/// The channels of rows.
fn columns<T: Copy>(width: usize, rows: &[T]) -> Vec<Vec<T>> {
    (0..width).map(|i| rows.iter().skip(i).step_by(width).copied().collect()).collect()
}

/// The smallest and the largest finite number; (0, 0) if there is none.
fn range(values: &[f64]) -> (f64, f64) {
    let finite = values.iter().copied().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::read::ZlibDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    /// The inverse of [`deflate`].
    pub fn inflate(text: &str) -> Vec<u8> {
        let packed = BASE64_STANDARD.decode(text).unwrap();
        let mut bytes = Vec::new();
        ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The tracks' numbers, read as `page/data.js` reads them.
    pub fn unpack(pack: &Pack) -> Vec<Vec<f64>> {
        let bytes = inflate(&pack.data);
        let mut at = 0;
        let mut found = Vec::new();
        for track in &pack.tracks {
            let mut numbers = vec![0.0; track.width * track.length];
            let size = if track.bytes == 0 { 4 } else { track.bytes };
            for channel in 0..track.width {
                let mut previous = 0u32;
                for row in 0..track.length {
                    let byte = |plane: usize| u32::from(bytes[at + plane * track.length + row]);
                    let code = (0..size).fold(0, |code, plane| code << 8 | byte(plane));
                    numbers[row * track.width + channel] = if track.bytes == 0 {
                        f64::from(f32::from_bits(code))
                    } else {
                        let difference = (code >> 1) as i32 ^ -((code & 1) as i32);
                        let mask = u32::MAX >> (32 - 8 * size);
                        previous = previous.wrapping_add(difference as u32) & mask;
                        f64::from(track.low[channel])
                            + f64::from(track.step[channel]) * f64::from(previous)
                    };
                }
                at += size * track.length;
            }
            found.push(numbers);
        }
        assert_eq!(at, bytes.len());
        found
    }

    proptest! {
        #[test]
        fn numbers_come_back_within_half_a_step(
            values in prop::collection::vec(-80.0f64..80.0, 0..60),
            wide in 1.0f64..1000.0,
        ) {
            let values: Vec<f64> = values[..values.len() / 3 * 3].iter().map(|x| x * wide).collect();
            let mut packer = Packer::default();
            packer.numbers("x", 3, &values, 1e-4);
            let pack = packer.finish();
            let size = range(&values).1 - range(&values).0;
            // A step, or what f32 can hold of the offset.
            let bound = (0.5e-4f64).max(size / 2f64.powi(24)) + 1e-6 * 80.0 * wide;
            for (found, value) in unpack(&pack)[0].iter().zip(&values) {
                prop_assert!((found - value).abs() <= bound, "{found} {value}");
            }
        }

        #[test]
        fn integers_and_exact_numbers_come_back_as_they_were(
            integers in prop::collection::vec(0u32..1 << 24, 0..60),
            exact in prop::collection::vec(any::<f32>(), 0..60),
        ) {
            let mut packer = Packer::default();
            packer.integers("i", 1, &integers);
            packer.exact("e", 1, &exact);
            let found = unpack(&packer.finish());
            let bits = |x: f64| (x as f32).to_bits();
            prop_assert!(found[0].iter().zip(&integers).all(|(a, b)| *a == f64::from(*b)));
            let same = |(a, b): (&f64, &f32)| bits(*a) == b.to_bits() || b.is_nan();
            prop_assert!(found[1].iter().zip(&exact).all(same));
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_shown_at_the_lower_end() {
        let mut packer = Packer::default();
        packer.numbers("x", 1, &[1.0, f64::NAN, 3.0, f64::INFINITY], 1e-4);
        packer.numbers("none", 2, &[], 1e-4);
        packer.numbers("no width", 0, &[], 1e-4);
        let found = unpack(&packer.finish());
        assert!((found[0][1] - 1.0).abs() < 1e-4 && (found[0][3] - 3.0).abs() < 1e-4);
    }
}
