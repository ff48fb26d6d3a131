//! Factors in bfloat16, two in the place of an `f32`.
//!
//! The processor's product takes pairs: to each of 16 sums it adds the products of both numbers
//! of a pair. So k, over which a product sums, goes by twos: a pair has the numbers of an even k
//! (its lower half) and of the next one; after the last of an odd count stands zero.

use super::lanes::Lane;
use crate::instructions::kernel;

/// A number rounded to bfloat16 (to nearest, ties to even; NaN stays NaN), in the lower half.
#[inline(always)]
fn bfloat16(number: f32) -> u32 {
    let bits = number.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if number.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(bfloat16(low) | bfloat16(high) << 16)
}

/// Pairs for `count` numbers.
pub(super) fn pairs(count: usize) -> usize {
    count.div_ceil(2)
}

kernel! {
    /// Rows of `width` numbers into rows of pairs of neighbours.
    pub(super) fn pack_rows(out: &mut [f32], rows: &[f32], width: usize) {
        let packed = pairs(width);
        for (out, row) in out.chunks_exact_mut(packed).zip(rows.chunks_exact(width)) {
            let (twos, rest) = row.as_chunks::<2>();
            for (out, two) in out.iter_mut().zip(twos) {
                *out = pair(two[0], two[1]);
            }
            if let [last] = rest {
                out[packed - 1] = pair(*last, 0.0);
            }
        }
    }
}

kernel! {
    /// `count` lines after each other into lines of pairs, the numbers of two lines each.
    pub(super) fn pack_lines(out: &mut [Lane], lines: &[Lane], count: usize) {
        let packed = pairs(count);
        for (out, lines) in out.chunks_exact_mut(packed).zip(lines.chunks_exact(count)) {
            let (twos, rest) = lines.as_chunks::<2>();
            for (out, [low, high]) in out.iter_mut().zip(twos) {
                for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                    *out = pair(*low, *high);
                }
            }
            if let [last] = rest {
                for (out, low) in out[packed - 1].iter_mut().zip(last) {
                    *out = pair(*low, 0.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(pair: f32) -> [f32; 2] {
        [pair.to_bits() << 16, pair.to_bits() & 0xffff_0000].map(f32::from_bits)
    }

    #[test]
    fn a_number_goes_to_the_nearest_bfloat16_and_ties_go_to_the_even_one() {
        let cases = [
            (1.0, 1.0),
            (-2.5, -2.5),
            (1.0 + 0.003, 1.0),                 // below half of 2^-7
            (1.0 + 0.005, 1.0078125),           // above
            (1.0 + 0.00390625, 1.0),            // half: even
            (1.0078125 + 0.00390625, 1.015625), // half: even
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ];
        for (number, rounded) in cases {
            assert_eq!(halves(pair(number, -number)), [rounded, -rounded], "{number}");
        }
        let nan = f32::from_bits(0x7fff_ffff);
        assert!(halves(pair(nan, -nan)).iter().all(|half| half.is_nan()));
    }

    #[test]
    fn rows_and_lines_are_packed_by_twos_and_an_odd_last_one_with_zero() {
        let mut out = [7.0; 6];
        pack_rows(&mut out, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3);
        let all: Vec<f32> = out[..4].iter().flat_map(|pair| halves(*pair)).collect();
        assert_eq!(all, [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0]);
        assert_eq!(out[4..], [7.0, 7.0]);

        let lines = [1.0, 2.0, 3.0].map(|number| [number; 16]);
        let mut out = [[7.0; 16]; 2];
        pack_lines(&mut out, &lines, 3);
        assert_eq!(out.map(|line| halves(line[5])), [[1.0, 2.0], [3.0, 0.0]]);
    }
}
