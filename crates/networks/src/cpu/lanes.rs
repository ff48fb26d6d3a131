//! Matrices whose rows lie beside each other, 16 at a time.
//!
//! A *panel* holds 16 rows: number `j` of its row `l` is at `16 j + l`, so that a
//! vector register holds the same number of several rows. Everything between a
//! network's input and its output is in panels: what a layer writes is what the
//! next one's product reads, without a copy in between, sums over the units of a
//! layer are sums of vectors, and a single output is as fast as many.
//!
//! Rows beyond the last of a matrix pad its last panel. They begin as zeros, and
//! so do their gradients; sums over rows either see those zeros or leave them out.

use super::kernels::{Rows, turn};
use std::ops::{Deref, DerefMut};
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
    /// A matrix whose contents are to be written.
    pub fn new(rows: usize, width: usize) -> Self {
        let numbers = Buffer::new(rows.div_ceil(LANES) * LANES * width);
        Self { numbers, rows, width }
    }

    /// Its panels, each 16 x width.
    pub fn iter(&self) -> impl Iterator<Item = &[Lane]> {
        self.lanes().chunks_exact(self.width)
    }

    /// All numbers, a lane each.
    pub fn lanes(&self) -> &[Lane] {
        self.numbers.as_chunks().0
    }

    /// The same, to write them.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        self.numbers.as_chunks_mut().0
    }
}

/// 1 for the rows of the last panel that a matrix has, 0 for those that pad it.
pub(super) fn last_panel(rows: usize) -> Lane {
    let used = rows - (rows.div_ceil(LANES).max(1) - 1) * LANES;
    std::array::from_fn(|lane| if lane < used { 1.0 } else { 0.0 })
}

/// Rows of `width` numbers, which follow each other, into panels.
pub(super) fn into_panels(panels: &mut [Lane], rows: &[f32], width: usize) {
    for (panel, rows) in panels.chunks_exact_mut(width).zip(rows.chunks(width * LANES)) {
        let count = rows.len() / width;
        if count < LANES {
            panel.fill([0.0; LANES]);
        }
        for column in (0..width).step_by(LANES) {
            let to = Rows { first: panel[column..].as_flattened_mut(), stride: LANES };
            let from = Rows { first: &rows[column..], stride: width };
            turn(to, from, count, LANES.min(width - column));
        }
    }
}

/// Panels into rows of `width` numbers that follow each other.
pub(super) fn into_rows(rows: &mut [f32], panels: &[Lane], width: usize) {
    for (rows, panel) in rows.chunks_mut(width * LANES).zip(panels.chunks_exact(width)) {
        let count = rows.len() / width;
        for column in (0..width).step_by(LANES) {
            let to = Rows { first: &mut rows[column..], stride: width };
            let from = Rows { first: panel[column..].as_flattened(), stride: LANES };
            turn(to, from, LANES.min(width - column), count);
        }
    }
}

/// Rows that are picked out of panels, in new panels.
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

/// Numbers whose memory is used again: an update takes and gives back the same
/// few sizes over and over, and fresh memory would have to be mapped each time.
pub(super) struct Buffer {
    numbers: Vec<f32>,
    home: usize,
}

/// Memory that waits to be used again, with its home: the thread that took it first.
/// Another would have to fetch it out of that one's cache.
static FREE: Mutex<Vec<(usize, Vec<f32>)>> = Mutex::new(Vec::new());
static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local!(static HOME: usize = THREADS.fetch_add(1, Ordering::Relaxed));

impl Buffer {
    /// So many numbers, whatever they are.
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
}
