//! Kernels of the normalisations: loops over the columns of panels, each a line.
//!
//! Sums over rows add panel after panel, whatever the form and the block of columns.

use super::lanes::{LANES, Lane, last_panel};
#[cfg(target_arch = "x86_64")]
use super::line::x86;
use super::line::{Line, Portable};
use super::norm::{Gradients, totals};
use crate::instructions::kernel;
use crate::norm::LAYER_EPSILON;

/// Columns whose sums are in registers while all panels are added.
const COLUMNS: usize = 4;

/// Blocks of [`COLUMNS`] columns, and columns for themselves where fewer are left.
macro_rules! by_blocks {
    ($width:expr, |$first:ident| $function:ident($($argument:expr),*)) => {
        let whole = $width / COLUMNS * COLUMNS;
        for $first in (0..whole).step_by(COLUMNS) {
            $function::<_, COLUMNS>($($argument),*);
        }
        for $first in whole..$width {
            $function::<_, 1>($($argument),*);
        }
    };
}

kernel! {
    /// Adds the rows of a panel (or other sums) to sums.
    pub(super) fn add_rows[zero: Line](sums: &mut [Lane], panel: &[Lane]) {
        for (sum, x) in sums.iter_mut().zip(panel) {
            (zero.read(sum) + zero.read(x)).write(sum);
        }
    }
}

kernel! {
    /// Adds all rows of a matrix to sums, panel after panel.
    pub(super) fn add_panels[zero: Line](sums: &mut [Lane], panels: &[Lane]) {
        let width = sums.len();
        by_blocks!(width, |first| add_block(zero, &mut sums[first..], panels, width, first));
    }
}

#[inline(always)]
fn add_block<L: Line, const C: usize>(
    zero: L,
    sums: &mut [Lane],
    panels: &[Lane],
    width: usize,
    first: usize,
) {
    let mut added = [zero; C];
    for c in 0..C {
        added[c] = zero.read(&sums[c]);
    }
    for panel in panels.chunks_exact(width) {
        let panel = &panel[first..first + C];
        for c in 0..C {
            added[c] = added[c] + zero.read(&panel[c]);
        }
    }
    for c in 0..C {
        added[c].write(&mut sums[c]);
    }
}

kernel! {
    /// Mean and (biased) variance of each column.
    pub(super) fn column_moments[zero: Line](
        x: &[Lane],
        width: usize,
        rows: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let (mut means, mut variances) = (vec![0.0; width], vec![0.0; width]);
        by_blocks!(width, |first| moments_of_block(
            zero,
            &mut means[first..],
            &mut variances[first..],
            x,
            width,
            first,
            rows
        ));
        (means, variances)
    }
}

#[inline(always)]
fn moments_of_block<L: Line, const C: usize>(
    zero: L,
    means: &mut [f32],
    variances: &mut [f32],
    x: &[Lane],
    width: usize,
    first: usize,
    rows: usize,
) {
    let share = 1.0 / rows as f32;
    let (whole, last) = x.split_at(x.len() - width);
    let used = zero.read(&last_panel(rows));
    let mut sums = [zero; C];
    for x in whole.chunks_exact(width) {
        let x = &x[first..first + C];
        for c in 0..C {
            sums[c] = sums[c] + zero.read(&x[c]);
        }
    }
    let mut mean = [zero; C];
    for c in 0..C {
        let sum = sums[c] + zero.read(&last[first + c]) * used;
        means[c] = total(sum) * share;
        mean[c] = zero.all(means[c]);
        sums[c] = zero;
    }
    for x in whole.chunks_exact(width) {
        let x = &x[first..first + C];
        for c in 0..C {
            let distance = zero.read(&x[c]) - mean[c];
            sums[c] = sums[c] + distance * distance;
        }
    }
    for c in 0..C {
        let distance = zero.read(&last[first + c]) - mean[c];
        let sum = sums[c] + distance * distance * used;
        variances[c] = total(sum) * share;
    }
}

/// The total of a line's numbers.
#[inline(always)]
fn total(line: impl Line) -> f32 {
    let mut sums = [[0.0; LANES]];
    line.write(&mut sums[0]);
    totals(&sums)[0]
}

kernel! {
    /// y = (x - mean) scale + shift, column by column of a panel; with `relu`, the ReLU of
    /// that.
    pub(super) fn affine[zero: Line](
        y: &mut [Lane],
        x: &[Lane],
        mean: &[f32],
        scale: &[f32],
        shift: &[f32],
        relu: bool,
    ) {
        let constants = mean.iter().zip(scale).zip(shift);
        for ((y, x), ((mean, scale), shift)) in y.iter_mut().zip(x).zip(constants) {
            let value = (zero.read(x) - zero.all(*mean)) * zero.all(*scale) + zero.all(*shift);
            (if relu { value.relu() } else { value }).write(y);
        }
    }
}

kernel! {
    /// Sums over rows of d and of d (x - mean), where x is in columns of wider panels from
    /// `first` on.
    pub(super) fn column_products[zero: Line](
        d: &[Lane],
        x: (&[Lane], usize, usize),
        mean: &[f32],
        sums: &mut [Lane],
        products: &mut [Lane],
    ) {
        let (x, x_width, x_first) = x;
        let width = mean.len();
        by_blocks!(width, |first| products_of_block(
            zero,
            (d, width, first),
            (x, x_width, x_first + first),
            &mean[first..],
            &mut sums[first..],
            &mut products[first..]
        ));
    }
}

#[inline(always)]
fn products_of_block<L: Line, const C: usize>(
    zero: L,
    (d, d_width, d_first): (&[Lane], usize, usize),
    (x, x_width, x_first): (&[Lane], usize, usize),
    mean: &[f32],
    sums: &mut [Lane],
    products: &mut [Lane],
) {
    let (mut sum, mut product, mut means) = ([zero; C], [zero; C], [zero; C]);
    for c in 0..C {
        means[c] = zero.all(mean[c]);
    }
    for (d, x) in d.chunks_exact(d_width).zip(x.chunks_exact(x_width)) {
        let (d, x) = (&d[d_first..d_first + C], &x[x_first..x_first + C]);
        for c in 0..C {
            let d = zero.read(&d[c]);
            sum[c] = sum[c] + d;
            product[c] = product[c] + d * (zero.read(&x[c]) - means[c]);
        }
    }
    for c in 0..C {
        sum[c].write(&mut sums[c]);
        product[c].write(&mut products[c]);
    }
}

kernel! {
    /// d <- (d - a - (x - mean) b) scale, column by column; where x is the output of a
    /// ReLU, 0 for those that are not above 0.
    pub(super) fn affine_backward[zero: Line](
        d: &mut [Lane],
        x: &[Lane],
        mean: &[f32],
        a: &[f32],
        b: &[f32],
        scale: &[f32],
        x_is_relu: bool,
    ) {
        let constants = mean.iter().zip(a).zip(b).zip(scale);
        for ((d, x), (((mean, a), b), scale)) in d.iter_mut().zip(x).zip(constants) {
            let x = zero.read(x);
            let at_x = (zero.read(d) - zero.all(*a) - (x - zero.all(*mean)) * zero.all(*b))
                * zero.all(*scale);
            (if x_is_relu { at_x.gate(x) } else { at_x }).write(d);
        }
    }
}

kernel! {
    /// y <- xhat weight + shift for a panel, xhat = (y - mean) / std over each row.
    pub(super) fn layer_norm[zero: Line](
        y: &mut [Lane],
        weight: &[f32],
        shift: &[f32],
        xhat: &mut [Lane],
        inverse_std: &mut Lane,
    ) {
        let share = 1.0 / weight.len() as f32;
        let (mut mean, mut variance) = (zero, zero);
        for y in y.iter() {
            mean = mean + zero.read(y);
        }
        mean = mean * zero.all(share);
        for y in y.iter() {
            let distance = zero.read(y) - mean;
            variance = variance + distance * distance;
        }
        variance.write(inverse_std);
        for number in inverse_std.iter_mut() {
            *number = 1.0 / (*number * share + LAYER_EPSILON as f32).sqrt();
        }
        let inverse = zero.read(inverse_std);
        for ((y, xhat), (w, b)) in y.iter_mut().zip(xhat).zip(weight.iter().zip(shift)) {
            let normed = (zero.read(y) - mean) * inverse;
            normed.write(xhat);
            (normed * zero.all(*w) + zero.all(*b)).write(y);
        }
    }
}

kernel! {
    /// d of a panel from the output of a layer normalisation to its input.
    pub(super) fn layer_norm_backward[zero: Line](
        d: &mut [Lane],
        weight: &[f32],
        xhat: &[Lane],
        inverse_std: &Lane,
        gradients: Gradients,
    ) {
        let share = zero.all(1.0 / weight.len() as f32);
        let (mut mean, mut along) = (zero, zero);
        let gradients = gradients.weight.iter_mut().zip(gradients.shift);
        for (((d, xhat), w), (d_weight, d_shift)) in d.iter_mut().zip(xhat).zip(weight).zip(gradients)
        {
            let (d_y, xhat) = (zero.read(d), zero.read(xhat));
            (zero.read(d_weight) + d_y * xhat).write(d_weight);
            (zero.read(d_shift) + d_y).write(d_shift);
            let d_normed = d_y * zero.all(*w);
            mean = mean + d_normed;
            along = along + d_normed * xhat;
            d_normed.write(d);
        }
        let (mean, along, inverse) = (mean * share, along * share, zero.read(inverse_std));
        for (d, xhat) in d.iter_mut().zip(xhat) {
            ((zero.read(d) - mean - zero.read(xhat) * along) * inverse).write(d);
        }
    }
}
