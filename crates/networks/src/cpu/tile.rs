//! The tile: the small product that all products of panels are made of.
//!
//! R rows of 16 numbers for each right factor, summed in registers. Right factors are read from
//! panels as they are; of the left factor single numbers are read and broadcast to a register.

#![expect(unsafe_code, reason = "intrinsics on pointers: the products' inner loops")]

use super::lanes::{LANES, Lane};
#[cfg(target_arch = "x86_64")]
use super::line::x86;
use super::line::{Line, Portable};
use crate::instructions::Instructions;
use crate::precision::Precision;

/// Rows of the largest tile.
pub(super) const MOST_ROWS: usize = 14;

/// Right factors of the largest tile.
pub(super) const MOST_PANELS: usize = 2;

/// One tile: out(r, :) = start(r) + sum over k of left(r, k) right(k, :), for one or
/// several right factors.
///
/// k goes through `blocks` of `inner` numbers each; row r of the left factor begins
/// at `r * left_row`, its block b at `b * left_block`. Lines of the right factor
/// follow each other, lines of the result are `out_row` numbers apart. The next right
/// factor is `right_next` lines on, and its result `out_next` numbers.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub left: *const f32,
    pub left_row: usize,
    pub left_block: usize,
    pub blocks: usize,
    pub inner: usize,
    pub right: *const Lane,
    pub right_next: usize,
    pub out: *mut f32,
    pub out_row: usize,
    pub out_next: usize,
    pub start: Start,
    pub finish: Finish,
}

/// Where the sums of a tile start.
#[derive(Clone, Copy)]
pub(super) enum Start {
    At(f32),
    /// At a number for each row.
    Each(*const f32),
    /// At what the result holds.
    There,
}

/// What is done to the sums of a tile.
#[derive(Clone, Copy)]
pub(super) enum Finish {
    Plain,
    /// 0 where they are below 0.
    Relu,
    /// 0 where other numbers, laid out like the result, are not above 0.
    Gate(*const f32),
    /// Times other numbers, laid out like the result.
    Times(*const f32),
}

/// Computes a tile of some number of rows and right factors.
///
/// Safety: everything that sizes and strides reach is allocated, and nobody else uses
/// what is written.
type Run = unsafe fn(Tile);

/// The tiles of a form: for each number of right factors, and each number of rows. The
/// largest has as many sums as leave some registers for factors.
pub(super) struct Tiles(&'static [&'static [Run]]);

impl Tiles {
    /// Those of the form and precision in use.
    pub fn in_use() -> Self {
        Self::of(Instructions::in_use(), Precision::in_use())
    }

    fn of(form: Instructions, precision: Precision) -> Self {
        macro_rules! tiles {
            ($form:ident, $panels:literal: $($rows:literal)*) => { &[$($form::<$rows, $panels>),*] };
        }
        Self(match form {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 if precision == Precision::Bf16 => &[
                tiles!(bf16, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                tiles!(bf16, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            ],
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => &[
                tiles!(avx512, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                tiles!(avx512, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            ],
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => &[tiles!(avx2, 1: 1 2 3 4 5 6)],
            _ => &[tiles!(portable, 1: 1 2 3 4 5 6)],
        })
    }

    /// The largest number of right factors.
    pub fn panels(&self) -> usize {
        self.0.len()
    }

    /// Some rows cut into tiles: the first row and the number of rows of each, as equal
    /// as can be.
    pub fn cut(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = rows.div_ceil(self.0[0].len());
        let first = move |tile: usize| tile * rows / count;
        (0..count).map(move |tile| (first(tile), first(tile + 1) - first(tile)))
    }

    /// # Safety
    /// As [`Run`] says, for this number of rows and right factors.
    pub unsafe fn run(&self, rows: usize, panels: usize, tile: Tile) {
        // SAFETY: the caller's.
        unsafe { self.0[panels - 1][rows - 1](tile) }
    }
}

/// # Safety
/// As [`Run`] says, and the processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<const R: usize, const P: usize>(tile: Tile) {
    // SAFETY: the caller's.
    unsafe { compute::<x86::Avx512, R, P>(tile) }
}

/// # Safety
/// As [`Run`] says, and the processor has AVX-512 with bfloat16. Both factors are pairs of
/// bfloat16, which count as one number each.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn bf16<const R: usize, const P: usize>(tile: Tile) {
    // SAFETY: the caller's.
    unsafe { compute::<x86::Bf16, R, P>(tile) }
}

/// # Safety
/// As [`Run`] says, and the processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize, const P: usize>(tile: Tile) {
    // SAFETY: the caller's.
    unsafe { compute::<x86::Avx2, R, P>(tile) }
}

/// # Safety
/// As [`Run`] says.
unsafe fn portable<const R: usize, const P: usize>(tile: Tile) {
    // SAFETY: the caller's.
    unsafe { compute::<Portable, R, P>(tile) }
}

/// A tile of R rows and P right factors. (No closures: they would not be compiled for
/// the form's instructions.)
///
/// # Safety
/// As [`Run`] says, and the processor has the instructions of `L`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "no closures")]
unsafe fn compute<L: Line, const R: usize, const P: usize>(tile: Tile) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = match tile.start {
                    Start::At(number) => L::splat(number),
                    Start::Each(numbers) => L::splat(*numbers.add(r)),
                    Start::There => L::load(tile.out.add(r * tile.out_row + p * tile.out_next)),
                };
            }
        }
        let next = tile.right_next * LANES;
        let mut right = tile.right.cast::<f32>();
        for block in 0..tile.blocks {
            let mut left = tile.left.add(block * tile.left_block);
            // Unrolled by four: with a busy hyper-thread on the same core, the loop's
            // own instructions cost time.
            for _ in 0..tile.inner / 4 {
                step(&mut sums, left, tile.left_row, right, next);
                step(&mut sums, left.add(1), tile.left_row, right.add(LANES), next);
                step(&mut sums, left.add(2), tile.left_row, right.add(2 * LANES), next);
                step(&mut sums, left.add(3), tile.left_row, right.add(3 * LANES), next);
                left = left.add(4);
                right = right.add(4 * LANES);
            }
            for _ in 0..tile.inner % 4 {
                step(&mut sums, left, tile.left_row, right, next);
                left = left.add(1);
                right = right.add(LANES);
            }
        }
        for r in 0..R {
            for p in 0..P {
                let (sum, at) = (sums[r][p], r * tile.out_row + p * tile.out_next);
                let result = match tile.finish {
                    Finish::Plain => sum,
                    Finish::Relu => sum.relu(),
                    Finish::Gate(by) => sum.gate(L::load(by.add(at))),
                    Finish::Times(by) => sum * L::load(by.add(at)),
                };
                result.store(tile.out.add(at));
            }
        }
    }
}

/// Adds the products of one column of the left factor with one line of each right one.
///
/// # Safety
/// As [`compute`] says.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "no closures")]
unsafe fn step<L: Line, const R: usize, const P: usize>(
    sums: &mut [[L; P]; R],
    left: *const f32,
    left_row: usize,
    right: *const f32,
    next: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut lines = [L::splat(0.0); P];
        for p in 0..P {
            lines[p] = L::load(right.add(p * next));
        }
        for r in 0..R {
            let factor = L::splat(*left.add(r * left_row));
            for p in 0..P {
                sums[r][p] = sums[r][p].add_product(factor, lines[p]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step % 19) as f32 - 9.0) / 8.0).collect()
    }

    #[test]
    fn tiles_of_every_form_and_size_follow_the_definition() {
        const LINE: usize = LANES + 2; // numbers between lines must stay as they are
        let each = numbers(MOST_ROWS, 5);
        let by = numbers(MOST_PANELS * MOST_ROWS * LINE, 3);
        let finishes = [0, 1, 2, 3].map(|finish| match finish {
            0 => Finish::Plain,
            1 => Finish::Relu,
            2 => Finish::Gate(by.as_ptr()),
            _ => Finish::Times(by.as_ptr()),
        });
        let starts = [Start::There, Start::At(1.0), Start::Each(each.as_ptr())];
        let bf16 = Precision::Bf16.check().map(|()| (Instructions::Avx512, Precision::Bf16));
        let forms = Instructions::available().map(|form| (form, Precision::F32)).chain(bf16);
        let sizes = |form, precision| {
            let Tiles(sizes) = Tiles::of(form, precision);
            let panels = 1..=sizes.len();
            panels.flat_map(move |panels| (1..=sizes[0].len()).map(move |rows| (panels, rows)))
        };
        for (form, precision, (panels, rows)) in forms.flat_map(|(form, precision)| {
            sizes(form, precision).map(move |size| (form, precision, size))
        }) {
            let (left, right) = (numbers(rows * 40, 7), numbers(panels * 40 * LANES, 11));
            // bfloat16 has these numbers. A pair of one of them and of zero is that one.
            let factors = |numbers: &[f32]| -> Vec<f32> {
                let factor = |number: &f32| match precision {
                    Precision::F32 => *number,
                    Precision::Bf16 => f32::from_bits(number.to_bits() >> 16),
                };
                numbers.iter().map(factor).collect()
            };
            let (left_factors, right_factors) = (factors(&left), factors(&right));
            for (start, finish) in starts.iter().flat_map(|s| finishes.iter().map(move |f| (s, f)))
            {
                let mut out = vec![2.0; panels * rows * LINE];
                let tile = Tile {
                    left: left_factors.as_ptr(),
                    left_row: 10,
                    left_block: rows * 10,
                    blocks: 4,
                    inner: 10,
                    right: right_factors.as_chunks().0.as_ptr(),
                    right_next: 40,
                    out: out.as_mut_ptr(),
                    out_row: LINE,
                    out_next: rows * LINE,
                    start: *start,
                    finish: *finish,
                };
                // SAFETY: rows of 4 blocks of 10 numbers, 40 lines for each right factor,
                // and lines of 16 numbers 18 apart.
                unsafe { Tiles::of(form, precision).run(rows, panels, tile) };
                let exact = (0..out.len()).map(|at| {
                    let (p, r, l) = (at / LINE / rows, at / LINE % rows, at % LINE);
                    if l >= LANES {
                        return 2.0;
                    }
                    let product = |k: usize| {
                        left[k / 10 * rows * 10 + r * 10 + k % 10] * right[(p * 40 + k) * LANES + l]
                    };
                    let sum = (0..40).map(product).sum::<f32>()
                        + match start {
                            Start::There => 2.0,
                            Start::At(number) => *number,
                            Start::Each(_) => each[r],
                        };
                    match finish {
                        Finish::Plain => sum,
                        Finish::Relu => sum.max(0.0),
                        Finish::Gate(_) => {
                            if by[at] > 0.0 {
                                sum
                            } else {
                                0.0
                            }
                        }
                        Finish::Times(_) => sum * by[at],
                    }
                });
                let case = format!("{form}, {precision}: {rows} rows, {panels} right factors");
                let worst = out.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{case}: {worst}");
            }
        }
    }
}
