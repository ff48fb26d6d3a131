//! Matrix products of panels.
//!
//! All are made of one small product, the tile (`tile.rs`), which reads both factors where they
//! are. So nothing is packed: a general library packs, which takes a sixth of its time at
//! these sizes. Only in bfloat16 are factors packed, because they have to be rounded anyway.

#![expect(unsafe_code, reason = "intrinsics on pointers: the products' inner loops")]

use super::lanes::{Buffer, LANES, Lane, Panels, transpose_panel};
use super::pairs::{pack_lines, pack_rows, pairs};
use super::tile::{Finish, MOST_PANELS, MOST_ROWS, Start, Tile, Tiles};
use crate::instructions::Instructions;
use crate::precision::Precision;
use std::sync::atomic::{AtomicU64, Ordering};

/// Multiplications in the matrix products of all passes, for [`multiplications`].
static MULTIPLICATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts the multiplications of a pass from its shapes: once for a whole pass, so that
/// a benchmark's figure costs the products nothing.
pub(super) fn count(rows: usize, weights: usize) {
    MULTIPLICATIONS.fetch_add((rows * weights) as u64, Ordering::Relaxed);
}

/// How many multiplications (each with an addition) the explicit passes on the
/// CPU have spent in matrix products since the program started: a benchmark compares
/// their time with what the processor could do.
pub fn multiplications() -> u64 {
    MULTIPLICATIONS.load(Ordering::Relaxed)
}

/// What is done to a product y = W x + b.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    Nothing,
    /// y <- max(y, 0).
    Relu,
    /// The backward pass of that: y <- 0 where its result was not above 0.
    ReluBackward(&'a Panels),
    /// The backward pass of another nonlinearity: y <- y times its slope.
    Times(&'a Panels),
}

/// y = W x + b for every row of x, in the columns of y from `at` on.
///
/// `weight` is (outputs, inputs), row-major. Without a bias the sums start at zero.
pub(super) fn linear(
    y: &mut Panels,
    at: usize,
    weight: &[f32],
    bias: Option<&[f32]>,
    x: &Panels,
    then: Then,
) {
    let (inputs, y_width) = (x.width, y.width);
    let outputs = weight.len() / inputs;
    assert!(weight.len() == outputs * inputs && at + outputs <= y_width && x.rows == y.rows);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    if let Then::ReluBackward(by) | Then::Times(by) = then {
        assert!(by.rows == y.rows && by.width == y_width);
    }
    let packed = Precision::in_use() == Precision::Bf16;
    // What the sums of a tile count: numbers, or pairs of them.
    let inner = if packed { pairs(inputs) } else { inputs };
    let (tiles, count) = (Tiles::in_use(), x.rows.div_ceil(LANES));
    let mut pairs_of_weight = packed.then(|| Buffer::new(outputs * inner));
    let mut pairs_of_x = packed.then(|| Buffer::new(tiles.panels() * inner * LANES));
    let weight = match &mut pairs_of_weight {
        Some(pairs) => {
            pack_rows(pairs, weight, inputs);
            pairs
        }
        None => weight,
    };
    for panel in (0..count).step_by(tiles.panels()) {
        let panels = tiles.panels().min(count - panel);
        let x = &x.lanes()[panel * inputs..][..panels * inputs];
        let x: &[Lane] = match &mut pairs_of_x {
            Some(pairs) => {
                let pairs = &mut pairs.as_chunks_mut().0[..panels * inner];
                pack_lines(pairs, x, inputs);
                pairs
            }
            None => x,
        };
        for (first, rows) in tiles.cut(outputs) {
            let (begin, reach) = (panel * y_width + at + first, (panels - 1) * y_width + rows);
            let same_place =
                |by: &Panels| -> *const f32 { by.lanes()[begin..][..reach].as_ptr().cast() };
            let tile = Tile {
                left: weight[first * inner..][..rows * inner].as_ptr(),
                left_row: inner,
                left_block: 0,
                blocks: 1,
                inner,
                right: x.as_ptr(),
                right_next: inner,
                out: y.lanes_mut()[begin..][..reach].as_mut_ptr().cast(),
                out_row: LANES,
                out_next: y_width * LANES,
                start: bias.map_or(Start::At(0.0), |b| Start::Each(b[first..][..rows].as_ptr())),
                finish: match then {
                    Then::Nothing => Finish::Plain,
                    Then::Relu => Finish::Relu,
                    Then::ReluBackward(by) => Finish::Gate(same_place(by)),
                    Then::Times(by) => Finish::Times(same_place(by)),
                },
            };
            // SAFETY: `rows` rows of the weight, some panels of x, and `rows` lanes of as
            // many panels of y (and of what gates it) are what the tile reads and writes.
            unsafe { tiles.run(rows, panels, tile) };
        }
    }
}

/// Panels of x that are transposed together for a weight's gradient: 16 of their
/// columns fill half of the first-level cache.
const TRANSPOSED: usize = 16;

/// The gradient of a weight, the sum over rows of d_y x^T, or some of its rows from
/// `first` on: (rows, inputs), row-major. With `add` it is added to what is there.
pub(super) fn weight_gradient(out: &mut [f32], first: usize, d_y: &Panels, x: &Panels, add: bool) {
    let (inputs, outputs) = (x.width, d_y.width);
    let rows = out.len() / inputs;
    assert!(out.len() == rows * inputs && first + rows <= outputs && x.rows == d_y.rows);
    let mut transposed = [[0.0; LANES]; MOST_PANELS * TRANSPOSED * LANES];
    let mut edge = [[0.0; LANES]; MOST_ROWS];
    let packed = Precision::in_use() == Precision::Bf16;
    let inner = if packed { pairs(LANES) } else { LANES };
    let mut pairs_of_d_y = packed.then(|| Buffer::new(TRANSPOSED * outputs * inner));
    let mut pairs_of_x = packed.then(|| Buffer::new(MOST_PANELS * TRANSPOSED * inner * LANES));
    let parts = x.lanes().chunks(TRANSPOSED * inputs).zip(d_y.lanes().chunks(TRANSPOSED * outputs));
    let tiles = Tiles::in_use();
    for (part, (x, d_y)) in parts.enumerate() {
        let start = if add || part > 0 { Start::There } else { Start::At(0.0) };
        let panels = x.len() / inputs;
        let d_y: &[f32] = match &mut pairs_of_d_y {
            Some(pairs) => {
                let pairs = &mut pairs[..panels * outputs * inner];
                pack_rows(pairs, d_y.as_flattened(), LANES);
                pairs
            }
            None => d_y.as_flattened(),
        };
        let mut column = 0;
        while column < inputs {
            // One or several squares of 16 columns, or less than one.
            let squares = ((inputs - column) / LANES).clamp(1, tiles.panels());
            let count = (squares * LANES).min(inputs - column);
            let columns = (column..column + count).step_by(LANES);
            for (first, to) in columns.zip(transposed.chunks_exact_mut(panels * LANES)) {
                let last = inputs.min(first + LANES);
                for (to, x) in to.chunks_exact_mut(LANES).zip(x.chunks_exact(inputs)) {
                    transpose_panel(to, &x[first..last]);
                }
            }
            let right: &[Lane] = match &mut pairs_of_x {
                Some(pairs) => {
                    let pairs = &mut pairs.as_chunks_mut().0[..squares * panels * inner];
                    pack_lines(pairs, &transposed[..squares * panels * LANES], LANES);
                    pairs
                }
                None => &transposed,
            };
            for (row, rows) in tiles.cut(rows) {
                let inside = &mut out[row * inputs + column..][..(rows - 1) * inputs + count];
                // Where fewer than 16 columns are left, the tile is written elsewhere.
                let (to, out_row) = if count < LANES {
                    for (to, from) in edge.iter_mut().zip(inside.chunks(inputs)) {
                        to[..count].copy_from_slice(&from[..count]);
                    }
                    (edge.as_mut_ptr().cast(), LANES)
                } else {
                    (inside.as_mut_ptr(), inputs)
                };
                let tile = Tile {
                    left: d_y[(first + row) * inner..].as_ptr(),
                    left_row: inner,
                    left_block: outputs * inner,
                    blocks: panels,
                    inner,
                    right: right.as_ptr(),
                    right_next: panels * inner,
                    out: to,
                    out_row,
                    out_next: LANES,
                    start,
                    finish: Finish::Plain,
                };
                // SAFETY: of each panel of d_y the tile reads `rows` of its `outputs`
                // lanes; it writes whole squares that are in `out`, or `edge`.
                unsafe { tiles.run(rows, squares, tile) };
                if count < LANES {
                    for (to, from) in inside.chunks_mut(inputs).zip(&edge) {
                        to[..count].copy_from_slice(&from[..count]);
                    }
                }
            }
            column += count;
        }
    }
}

/// y = W x + b for a single row, which is acting. (A panel would carry 15 rows of
/// padding.)
pub(super) fn linear_row(y: &mut [f32], weight: &[f32], bias: Option<&[f32]>, x: &[f32]) {
    let inputs = x.len();
    assert!(weight.len() == y.len() * inputs);
    match bias {
        Some(bias) => y.copy_from_slice(bias),
        None => y.fill(0.0),
    }
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if Instructions::in_use() >= Instructions::Avx2 {
        for (y, weight) in y.chunks_exact_mut(8).zip(weight.chunks_exact(8 * inputs)) {
            // SAFETY: the processor has AVX2 and FMA.
            unsafe { add_eight_dots(y, weight, x) };
            done += 8;
        }
    }
    for (y, w) in y[done..].iter_mut().zip(weight[done * inputs..].chunks_exact(inputs)) {
        *y += w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    }
}

/// Adds the products of 8 rows with x to 8 numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_eight_dots(y: &mut [f32], weight: &[f32], x: &[f32]) {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps,
        _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    let inputs = x.len();
    assert!(y.len() == 8 && weight.len() == 8 * inputs);
    let whole = inputs / 8 * 8;
    let mut sums: [__m256; 8] = [_mm256_setzero_ps(); 8];
    for k in (0..whole).step_by(8) {
        // SAFETY: 8 numbers from k on are there, in x and in each of the rows.
        unsafe {
            let x = _mm256_loadu_ps(x.as_ptr().add(k));
            for (r, sum) in sums.iter_mut().enumerate() {
                let w = _mm256_loadu_ps(weight.as_ptr().add(r * inputs + k));
                *sum = _mm256_fmadd_ps(w, x, *sum);
            }
        }
    }
    // Neighbours added up twice: four rows' sums in each half, and then the halves.
    let pair = |i: usize| _mm256_hadd_ps(sums[i], sums[i + 1]);
    let four = |i: usize| _mm256_hadd_ps(pair(i), pair(i + 2));
    let (low, high) = (four(0), four(4));
    let halves =
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high));
    let dots = _mm256_add_ps(halves.0, halves.1);
    // SAFETY: 8 numbers, as asserted.
    unsafe {
        let y = y.as_mut_ptr();
        _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), dots));
    }
    for (y, w) in y.iter_mut().zip(weight.chunks_exact(inputs)) {
        *y += w[whole..].iter().zip(&x[whole..]).map(|(w, x)| w * x).sum::<f32>();
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{into_panels, into_rows};
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step % 19) as f32 - 9.0) / 8.0).collect()
    }

    fn panels(rows: &[f32], width: usize) -> Panels {
        let mut panels = Panels::new(rows.len() / width, width);
        into_panels(panels.lanes_mut(), rows, width);
        panels
    }

    fn close(ours: &[f32], exact: &[f32], what: &str) {
        assert_eq!(ours.len(), exact.len());
        let worst = ours.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{what}: {worst}");
    }

    #[test]
    fn products_of_every_shape_follow_the_definition() {
        for rows in [1, 16, 35, 300] {
            for outputs in [1, 2, 6, 11, 40] {
                for inputs in [1, 5, 16, 50] {
                    let (x, d_y) = (numbers(rows * inputs, 37), numbers(rows * outputs, 29));
                    let (weight, bias) = (numbers(outputs * inputs, 31), numbers(outputs, 23));
                    let case = format!("{rows} rows, {inputs} -> {outputs}");

                    // One lane more on either side, which must stay as they are.
                    let mut y = Panels::new(rows, outputs + 2);
                    y.lanes_mut().fill([7.0; LANES]);
                    let (x_panels, width) = (panels(&x, inputs), outputs + 2);
                    linear(&mut y, 1, &weight, Some(&bias), &x_panels, Then::Nothing);
                    let mut ours = vec![0.0; rows * width];
                    into_rows(&mut ours, y.lanes(), width);
                    let exact = x.chunks_exact(inputs).flat_map(|x| {
                        let of = |(w, b): (&[f32], &f32)| {
                            b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()
                        };
                        let y = weight.chunks_exact(inputs).zip(&bias).map(of);
                        std::iter::once(7.0).chain(y).chain([7.0]).collect::<Vec<_>>()
                    });
                    close(&ours, &exact.collect::<Vec<_>>(), &case);

                    let mut ours = vec![7.0; outputs];
                    linear_row(&mut ours, &weight, Some(&bias), &x[..inputs]);
                    let exact = weight
                        .chunks_exact(inputs)
                        .zip(&bias)
                        .map(|(w, b)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>());
                    close(&ours, &exact.collect::<Vec<_>>(), &case);

                    let d_panels = panels(&d_y, outputs);
                    let first = outputs / 3;
                    let mut ours = vec![7.0; (outputs - first) * inputs];
                    weight_gradient(&mut ours, first, &d_panels, &x_panels, true);
                    let entry = |o: usize, i: usize| {
                        let part = |b: usize| d_y[b * outputs + o] * x[b * inputs + i];
                        7.0 + (0..rows).map(part).sum::<f32>()
                    };
                    let exact =
                        (first..outputs).flat_map(|o| (0..inputs).map(move |i| entry(o, i)));
                    close(&ours, &exact.collect::<Vec<_>>(), &case);
                }
            }
        }
    }

    #[test]
    fn a_product_ends_in_what_is_asked_for() {
        let x = panels(&numbers(20 * 9, 37), 9);
        let (weight, gate) = (numbers(7 * 9, 31), panels(&numbers(20 * 7, 23), 7));
        let run = |then: Then| {
            let mut y = Panels::new(20, 7);
            linear(&mut y, 0, &weight, None, &x, then);
            let mut rows = vec![0.0; 20 * 7];
            into_rows(&mut rows, y.lanes(), 7);
            rows
        };
        let plain = run(Then::Nothing);
        let positive: Vec<f32> = plain.iter().map(|y| y.max(0.0)).collect();
        assert_eq!(run(Then::Relu), positive);
        let scaled: Vec<f32> =
            plain.iter().zip(numbers(20 * 7, 23)).map(|(y, by)| y * by).collect();
        assert_eq!(run(Then::Times(&gate)), scaled);
        let gated = plain.iter().zip(numbers(20 * 7, 23));
        let gated: Vec<f32> = gated.map(|(y, by)| if by > 0.0 { *y } else { 0.0 }).collect();
        assert_eq!(run(Then::ReluBackward(&gate)), gated);
    }
}
