//! Matrices with 16 rows interleaved, and transposes.
//!
//! A *panel* holds 16 rows: number `j` of its row `l` is at `16 j + l`, so that a
//! vector register holds the same number of several rows. Everything between a
//! network's input and its output is in panels: what a layer writes is what the
//! next one's product reads, without a copy in between; sums over the units of a
//! layer are sums of vectors; and a layer with one output is as fast per output as a
//! wide one.
//!
//! The last panel of a matrix is padded. Padding rows start as zeros, and so do their
//! gradients; sums over rows either add those zeros or leave them out.

use crate::instructions::Instructions;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of a panel.
pub(super) const LANES: usize = 16;

/// A number of each row of a panel.
pub(super) type Lane = [f32; LANES];

/// A matrix in panels.
pub(super) struct Panels {
    numbers: Buffer,
    pub rows: usize,
    pub width: usize,
}

impl Panels {
    /// A matrix with arbitrary contents, to be written.
    pub fn new(rows: usize, width: usize) -> Self {
        let numbers = Buffer::new(rows.div_ceil(LANES) * LANES * width);
        Self { numbers, rows, width }
    }

    /// Its panels, each 16 x width.
    pub fn iter(&self) -> impl Iterator<Item = &[Lane]> {
        self.lanes().chunks_exact(self.width)
    }

    /// Some of its rows, in new panels.
    pub fn slice(&self, rows: &Range<usize>) -> Self {
        if !rows.start.is_multiple_of(LANES) || !rows.end.is_multiple_of(LANES) {
            return gather(self.lanes(), self.width, &rows.clone().collect::<Vec<usize>>());
        }
        let mut part = Self::new(rows.len(), self.width);
        let lanes = rows.start / LANES * self.width..rows.end / LANES * self.width;
        part.lanes_mut().copy_from_slice(&self.lanes()[lanes]);
        part
    }

    /// Panels of `count` rows: zeros, and from row `first` on these, whose padding is zero.
    pub fn among_zeros(&self, first: usize, count: usize) -> Self {
        let (mut all, width) = (Self::new(count, self.width), self.width);
        let lanes = all.lanes_mut();
        lanes.fill([0.0; LANES]);
        for (panel, from) in self.iter().enumerate() {
            let at = first + panel * LANES;
            if first.is_multiple_of(LANES) {
                lanes[at / LANES * width..][..width].copy_from_slice(from);
                continue;
            }
            for lane in 0..LANES.min(self.rows - panel * LANES) {
                let to = &mut lanes[(at + lane) / LANES * width..][..width];
                to.iter_mut().zip(from).for_each(|(to, from)| to[(at + lane) % LANES] = from[lane]);
            }
        }
        all
    }

    /// All lanes, panel after panel.
    pub fn lanes(&self) -> &[Lane] {
        self.numbers.as_chunks().0
    }

    /// All lanes, to write them.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        self.numbers.as_chunks_mut().0
    }
}

/// Of the last panel of a matrix: 1 for its rows, 0 for padding.
pub(super) fn last_panel(rows: usize) -> Lane {
    let used = rows - (rows.div_ceil(LANES).max(1) - 1) * LANES;
    std::array::from_fn(|lane| if lane < used { 1.0 } else { 0.0 })
}

/// Consecutive rows of `width` numbers into panels.
pub(super) fn into_panels(panels: &mut [Lane], rows: &[f32], width: usize) {
    for (panel, rows) in panels.chunks_exact_mut(width).zip(rows.chunks(width * LANES)) {
        let count = rows.len() / width;
        if count < LANES {
            panel.fill([0.0; LANES]);
        }
        for column in (0..width).step_by(LANES) {
            let to = Rows { first: panel[column..].as_flattened_mut(), stride: LANES };
            let from = Rows { first: &rows[column..], stride: width };
            transpose(to, from, count, LANES.min(width - column));
        }
    }
}

/// Panels into consecutive rows of `width` numbers.
pub(super) fn into_rows(rows: &mut [f32], panels: &[Lane], width: usize) {
    for (rows, panel) in rows.chunks_mut(width * LANES).zip(panels.chunks_exact(width)) {
        let count = rows.len() / width;
        for column in (0..width).step_by(LANES) {
            let to = Rows { first: &mut rows[column..], stride: width };
            let from = Rows { first: panel[column..].as_flattened(), stride: LANES };
            transpose(to, from, LANES.min(width - column), count);
        }
    }
}

/// The picked rows of panels, in new panels.
pub(super) fn gather(panels: &[Lane], width: usize, picked: &[usize]) -> Panels {
    let mut gathered = Panels::new(picked.len(), width);
    let by_panel = gathered.lanes_mut().chunks_exact_mut(width).zip(picked.chunks(LANES));
    for (to, picked) in by_panel {
        if picked.len() < LANES {
            to.fill([0.0; LANES]);
        }
        for (lane, row) in picked.iter().enumerate() {
            let from = &panels[row / LANES * width..][..width];
            for (to, from) in to.iter_mut().zip(from) {
                to[lane] = from[row % LANES];
            }
        }
    }
    gathered
}

/// A matrix in memory: its beginning, and the distance of its rows in numbers.
#[derive(Clone, Copy)]
struct Rows<T> {
    pub first: T,
    pub stride: usize,
}

/// The transpose of up to 16 lanes of a panel: to[l][j] = from[j][l], with zeros where
/// there is no lane.
pub(super) fn transpose_panel(to: &mut [Lane], from: &[Lane]) {
    assert_eq!(to.len(), LANES);
    if from.len() < LANES {
        to.fill([0.0; LANES]);
    }
    let (count, stride) = (from.len(), LANES);
    let from = Rows { first: from.as_flattened(), stride };
    transpose(Rows { first: to.as_flattened_mut(), stride }, from, count, LANES);
}

/// out (columns, rows) = the transpose of `columns` columns from `first` on, of a
/// matrix whose rows have `width` numbers.
pub(super) fn transpose_matrix(out: &mut [f32], matrix: &[f32], width: usize, first: usize) {
    let rows = matrix.len() / width;
    let columns = out.len() / rows;
    for row in (0..rows).step_by(LANES) {
        for column in (0..columns).step_by(LANES) {
            let (high, wide) = (LANES.min(rows - row), LANES.min(columns - column));
            let from = Rows { first: &matrix[row * width + first + column..], stride: width };
            transpose(
                Rows { first: &mut out[column * rows + row..], stride: rows },
                from,
                high,
                wide,
            );
        }
    }
}

/// The transpose of up to 16 rows of up to 16 numbers.
fn transpose(to: Rows<&mut [f32]>, from: Rows<&[f32]>, rows: usize, columns: usize) {
    assert!(from.first.len() >= (rows - 1) * from.stride + columns);
    assert!(to.first.len() >= (columns - 1) * to.stride + rows);
    #[cfg(target_arch = "x86_64")]
    if rows == LANES && columns == LANES && Instructions::in_use() >= Instructions::Avx2 {
        let from = Rows { first: from.first.as_ptr(), stride: from.stride };
        let to = Rows { first: to.first.as_mut_ptr(), stride: to.stride };
        // SAFETY: the processor has AVX2, and 16 rows of 16 numbers are there.
        #[expect(unsafe_code, reason = "AVX2, found at run time")]
        return unsafe { transpose_square(to, from) };
    }
    for column in 0..columns {
        for row in 0..rows {
            to.first[column * to.stride + row] = from.first[row * from.stride + column];
        }
    }
}

/// Four blocks of 8 x 8, each by interleaving pairs of rows, then pairs of pairs,
/// then halves.
///
/// # Safety
/// Both matrices have 16 rows of 16 numbers, and nobody else writes to `to`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "intrinsics on pointers")]
unsafe fn transpose_square(to: Rows<*mut f32>, from: Rows<*const f32>) {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    const HALF: usize = LANES / 2;
    for (down, across) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
        let row = |i: usize| -> __m256 {
            // SAFETY: the caller's.
            unsafe { _mm256_loadu_ps(from.first.add((down + i) * from.stride + across)) }
        };
        let pair = |i: usize| {
            let (a, b) = (row(i), row(i + 1));
            (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
        };
        let four = |i: usize| {
            let ((a_low, a_high), (b_low, b_high)) = (pair(i), pair(i + 2));
            [
                _mm256_shuffle_ps::<0x44>(a_low, b_low),
                _mm256_shuffle_ps::<0xee>(a_low, b_low),
                _mm256_shuffle_ps::<0x44>(a_high, b_high),
                _mm256_shuffle_ps::<0xee>(a_high, b_high),
            ]
        };
        for (i, (a, b)) in four(0).into_iter().zip(four(4)).enumerate() {
            let halves =
                [_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)];
            for (half, numbers) in halves.into_iter().enumerate() {
                let line = (across + 4 * half + i) * to.stride + down;
                // SAFETY: the caller's.
                unsafe { _mm256_storeu_ps(to.first.add(line), numbers) };
            }
        }
    }
}

/// Numbers whose memory is reused: every update needs the same few sizes, and fresh
/// memory would have to be mapped each time.
pub(super) struct Buffer {
    numbers: Vec<f32>,
    home: usize,
}

/// Memory that waits to be reused, with its home: the thread that took it first, whose
/// cache still has it.
static FREE: Mutex<Vec<(usize, Vec<f32>)>> = Mutex::new(Vec::new());
static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local!(static HOME: usize = THREADS.fetch_add(1, Ordering::Relaxed));

impl Buffer {
    /// `count` numbers with arbitrary contents.
    pub fn new(count: usize) -> Self {
        let home = HOME.with(|home| *home);
        let mut free = FREE.lock().expect("nobody panics with the lock");
        let fits = |(at, numbers): &(usize, Vec<f32>)| *at == home && numbers.len() == count;
        let found = free.iter().rposition(fits).map(|at| free.swap_remove(at).1);
        drop(free);
        Self { numbers: found.unwrap_or_else(|| vec![0.0; count]), home }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        FREE.lock().expect("nobody panics with the lock").push((self.home, numbers));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_panels_and_padding_is_zero() {
        for (rows, width) in [(1, 1), (16, 3), (17, 5), (40, 23)] {
            let numbers: Vec<f32> = (1..=rows * width).map(|i| i as f32).collect();
            let mut panels = Panels::new(rows, width);
            panels.lanes_mut().fill([7.0; LANES]);
            into_panels(panels.lanes_mut(), &numbers, width);
            let mut back = vec![0.0; rows * width];
            into_rows(&mut back, panels.lanes(), width);
            assert_eq!(back, numbers);
            let sum: f32 = panels.lanes().iter().flatten().sum();
            assert_eq!(sum, numbers.iter().sum::<f32>(), "{rows} x {width}");
        }
    }

    #[test]
    fn a_transpose_has_columns_for_rows() {
        for (rows, width, first, columns) in [(16, 16, 0, 16), (40, 37, 0, 37), (5, 33, 7, 20)] {
            let matrix: Vec<f32> = (0..rows * width).map(|i| i as f32).collect();
            let mut out = vec![0.0; columns * rows];
            transpose_matrix(&mut out, &matrix, width, first);
            for (i, number) in out.iter().enumerate() {
                assert_eq!(*number, matrix[i % rows * width + first + i / rows], "{rows} {width}");
            }
        }
    }

    #[test]
    fn gathered_rows_are_those_picked() {
        let numbers: Vec<f32> = (0..40 * 3).map(|i| i as f32).collect();
        let mut panels = Panels::new(40, 3);
        into_panels(panels.lanes_mut(), &numbers, 3);
        let picked: Vec<usize> = (0..40).filter(|i| i % 2 == 1).collect();
        let gathered = gather(panels.lanes(), 3, &picked);
        let mut back = vec![0.0; 20 * 3];
        into_rows(&mut back, gathered.lanes(), 3);
        let expected: Vec<f32> =
            picked.iter().flat_map(|i| numbers[i * 3..][..3].to_vec()).collect();
        assert_eq!(back, expected);
    }

    #[test]
    fn slices_are_their_rows_and_come_back_among_zeros() {
        let numbers: Vec<f32> = (1..=90 * 3).map(|i| i as f32).collect();
        let mut panels = Panels::new(90, 3);
        into_panels(panels.lanes_mut(), &numbers, 3);
        for rows in [0..48, 16..90, 7..41, 32..33] {
            let slice = panels.slice(&rows);
            let mut back = vec![0.0; rows.len() * 3];
            into_rows(&mut back, slice.lanes(), 3);
            assert_eq!(back, numbers[rows.start * 3..rows.end * 3]);
            let mut all = vec![1.0; 90 * 3];
            into_rows(&mut all, slice.among_zeros(rows.start, 90).lanes(), 3);
            let inside = |row: usize| if rows.contains(&row) { 1.0 } else { 0.0 };
            let expected: Vec<f32> =
                numbers.iter().enumerate().map(|(i, x)| x * inside(i / 3)).collect();
            assert_eq!(all, expected, "{rows:?}");
        }
    }
}
