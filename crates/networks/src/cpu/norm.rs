//! Normalisation of panels, forward and backward.
//!
//! Sums over rows are taken lane by lane, and the lanes added up at the end.

use super::lanes::{LANES, Lane, Panels, last_panel};
use crate::instructions::kernel;
use crate::norm::{BATCH_EPSILON, LAYER_EPSILON, NormMode};
use std::ops::Range;

/// Sums over rows: 16 partial ones for each column.
pub(super) type Sums = Vec<Lane>;

/// Sums of no rows yet.
pub(super) fn no_sums(columns: usize) -> Sums {
    vec![[0.0; LANES]; columns]
}

/// The totals of the partial sums.
pub(super) fn totals(sums: &[Lane]) -> Vec<f32> {
    let total = |sums: &Lane| {
        let mut sums = *sums;
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                sums[i] += sums[i + width];
            }
        }
        sums[0]
    };
    sums.iter().map(total).collect()
}

kernel! {
    /// Adds the rows of a panel (or other sums) to sums.
    pub(super) fn add_rows(sums: &mut [Lane], panel: &[Lane]) {
        for (sum, x) in sums.iter_mut().zip(panel) {
            for l in 0..LANES {
                sum[l] += x[l];
            }
        }
    }
}

/// Columns whose sums are in registers while all panels are added.
const ADDED: usize = 4;

kernel! {
    /// Adds all rows of a matrix to sums, panel after panel.
    pub(super) fn add_panels(sums: &mut [Lane], panels: &[Lane]) {
        let width = sums.len();
        for (part, sums) in sums.chunks_mut(ADDED).enumerate() {
            let first = part * ADDED;
            let mut added = [[0.0; LANES]; ADDED];
            added[..sums.len()].copy_from_slice(sums);
            for panel in panels.chunks_exact(width) {
                for (sum, x) in added.iter_mut().zip(&panel[first..][..sums.len()]) {
                    for l in 0..LANES {
                        sum[l] += x[l];
                    }
                }
            }
            sums.copy_from_slice(&added[..sums.len()]);
        }
    }
}

/// Gradients of the parameters of a normalisation, as sums over rows that a backward
/// pass adds to.
pub(super) struct Gradients<'a> {
    pub weight: &'a mut [Lane],
    pub shift: &'a mut [Lane],
}

/// Parameters of a layer normalisation.
#[derive(Clone, Copy)]
pub(super) struct LayerNormView<'a> {
    pub weight: &'a [f32],
    pub shift: &'a [f32],
}

impl LayerNormView<'_> {
    /// y <- xhat weight + shift for a panel, xhat = (y - mean) / std over each row;
    /// xhat and 1/std are kept for the backward pass.
    pub fn forward(&self, y: &mut [Lane], xhat: &mut [Lane], inverse_std: &mut Lane) {
        layer_norm(y, self.weight, self.shift, xhat, inverse_std);
    }

    /// d from the output to the input.
    pub fn backward(
        &self,
        d: &mut [Lane],
        xhat: &[Lane],
        inverse_std: &Lane,
        gradients: Gradients,
    ) {
        layer_norm_backward(d, self.weight, xhat, inverse_std, gradients);
    }
}

kernel! {
    fn layer_norm(
        y: &mut [Lane],
        weight: &[f32],
        shift: &[f32],
        xhat: &mut [Lane],
        inverse_std: &mut Lane,
    ) {
        let share = 1.0 / weight.len() as f32;
        let (mut mean, mut variance) = ([0.0; LANES], [0.0; LANES]);
        for y in y.iter() {
            for l in 0..LANES {
                mean[l] += y[l];
            }
        }
        mean.iter_mut().for_each(|mean| *mean *= share);
        for y in y.iter() {
            for l in 0..LANES {
                variance[l] += (y[l] - mean[l]) * (y[l] - mean[l]);
            }
        }
        for l in 0..LANES {
            inverse_std[l] = 1.0 / (variance[l] * share + LAYER_EPSILON as f32).sqrt();
        }
        for ((y, xhat), (w, b)) in y.iter_mut().zip(xhat).zip(weight.iter().zip(shift)) {
            for l in 0..LANES {
                xhat[l] = (y[l] - mean[l]) * inverse_std[l];
                y[l] = xhat[l] * w + b;
            }
        }
    }
}

kernel! {
    fn layer_norm_backward(
        d: &mut [Lane],
        weight: &[f32],
        xhat: &[Lane],
        inverse_std: &Lane,
        gradients: Gradients,
    ) {
        let share = 1.0 / weight.len() as f32;
        let (mut mean, mut along) = ([0.0; LANES], [0.0; LANES]);
        let gradients = gradients.weight.iter_mut().zip(gradients.shift);
        for (((d, xhat), w), (d_weight, d_shift)) in d.iter_mut().zip(xhat).zip(weight).zip(gradients) {
            for l in 0..LANES {
                d_weight[l] += d[l] * xhat[l];
                d_shift[l] += d[l];
                d[l] *= w;
                mean[l] += d[l];
                along[l] += d[l] * xhat[l];
            }
        }
        for (d, xhat) in d.iter_mut().zip(xhat) {
            for l in 0..LANES {
                d[l] = (d[l] - mean[l] * share - xhat[l] * (along[l] * share)) * inverse_std[l];
            }
        }
    }
}

/// Parameters and running statistics of a batch normalisation.
#[derive(Clone, Copy)]
pub(super) struct BatchNormView<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub mean: &'a [f32],
    pub var: &'a [f32],
    pub mode: NormMode,
}

/// The statistics that a batch normalisation used.
#[derive(Clone)]
pub(crate) struct Moments {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
    /// Renormalisation's r and d (1 and 0 without it).
    r: Vec<f32>,
    d: Vec<f32>,
    /// Mean and unbiased variance of the batch, which the running statistics move to in
    /// `NormMode::Batch`.
    pub batch: Option<(Vec<f32>, Vec<f32>)>,
}

/// The input of a batch normalisation.
pub(super) struct NormInput<'a> {
    /// Panels of which the normalisation covers columns from `first` on.
    pub panels: &'a Panels,
    pub first: usize,
    /// Whether it is the output of a ReLU, whose backward pass is done too.
    pub is_relu: bool,
}

impl Moments {
    /// The statistics of some columns.
    pub fn columns(&self, range: &Range<usize>) -> Self {
        let part = |all: &[f32]| all[range.clone()].to_vec();
        Self {
            mean: part(&self.mean),
            inverse_std: part(&self.inverse_std),
            r: part(&self.r),
            d: part(&self.d),
            batch: None,
        }
    }
}

impl BatchNormView<'_> {
    /// The normalisation of some columns.
    pub fn columns(&self, range: &Range<usize>) -> Self {
        let [weight, bias, mean, var] =
            [self.weight, self.bias, self.mean, self.var].map(|all| &all[range.clone()]);
        Self { weight, bias, mean, var, mode: self.mode }
    }

    /// y = (x - mean) scale + shift over panels, with the statistics of the mode; with
    /// `relu`, the ReLU of that.
    pub fn forward(&self, y: &mut [Lane], x: &[Lane], rows: usize, relu: bool) -> Moments {
        let width = self.mean.len();
        let moments = self.moments(x, rows);
        let shift: Vec<f32> = self
            .weight
            .iter()
            .zip(&moments.d)
            .zip(self.bias)
            .map(|((w, d), b)| w * d + b)
            .collect();
        let scale = self.scale(&moments);
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            affine(y, x, &moments.mean, &scale, &shift, relu);
        }
        moments
    }

    fn scale(&self, moments: &Moments) -> Vec<f32> {
        let factors = self.weight.iter().zip(&moments.r).zip(&moments.inverse_std);
        factors.map(|((w, r), inverse_std)| w * r * inverse_std).collect()
    }

    fn moments(&self, x: &[Lane], rows: usize) -> Moments {
        let width = self.mean.len();
        let inverse = |var: &[f32]| -> Vec<f32> {
            var.iter().map(|var| 1.0 / (var + BATCH_EPSILON as f32).sqrt()).collect()
        };
        let (ones, zeros) = (vec![1.0; width], vec![0.0; width]);
        let (renorm, moves) = match self.mode {
            NormMode::Running => {
                let (mean, inverse_std) = (self.mean.to_vec(), inverse(self.var));
                return Moments { mean, inverse_std, r: ones, d: zeros, batch: None };
            }
            NormMode::Batch(renorm) => (renorm, true),
            NormMode::BatchOnly => (None, false),
        };
        let (mean, var) = column_moments(x, width, rows);
        let inverse_std = inverse(&var);
        let (r, d) = match renorm {
            None => (ones, zeros),
            // Ioffe 2017, algorithm 1: r = std / running std, d = the distance
            // of their means in running deviations.
            Some(limits) => {
                let running = inverse(self.var);
                let (r_max, d_max) = (limits.r_max as f32, limits.d_max as f32);
                let r = running
                    .iter()
                    .zip(&inverse_std)
                    .map(|(running, own)| (running / own).clamp(1.0 / r_max, r_max));
                let d =
                    mean.iter().zip(self.mean).zip(&running).map(|((own, mean), inverse)| {
                        ((own - mean) * inverse).clamp(-d_max, d_max)
                    });
                (r.collect(), d.collect())
            }
        };
        let rows = rows as f32;
        let unbiased = || var.iter().map(|var| var * rows / (rows - 1.0).max(1.0)).collect();
        let batch = moves.then(|| (mean.clone(), unbiased()));
        Moments { batch, mean, inverse_std, r, d }
    }

    /// d from the output to the input x (of the ReLU, where x is the output of one),
    /// over panels.
    pub fn backward(&self, d: &mut [Lane], x: NormInput, moments: &Moments, gradients: Gradients) {
        let (width, rows) = (self.mean.len(), x.panels.rows);
        let x_panels = || x.panels.iter().map(|panel| &panel[x.first..x.first + width]);
        let (mut sums, mut products) = (no_sums(width), no_sums(width));
        for (d, x) in d.chunks_exact(width).zip(x_panels()) {
            column_products(d, x, &moments.mean, &mut sums, &mut products);
        }
        add_rows(gradients.shift, &sums);
        let (mut sums, mut products) = (totals(&sums), totals(&products));
        for i in 0..width {
            let along = products[i] * moments.inverse_std[i];
            // The total of all lanes, added to one of them.
            gradients.weight[i][0] += moments.r[i] * along + moments.d[i] * sums[i];
        }
        if self.mode == NormMode::Running {
            sums.fill(0.0);
            products.fill(0.0);
        }
        for i in 0..width {
            sums[i] /= rows as f32;
            products[i] *= moments.inverse_std[i] * moments.inverse_std[i] / rows as f32;
        }
        let (scale, x_is_relu) = (self.scale(moments), x.is_relu);
        for (d, x) in d.chunks_exact_mut(width).zip(x_panels()) {
            affine_backward(d, x, &moments.mean, &sums, &products, &scale, x_is_relu);
        }
        if let Some(last) = d.chunks_exact_mut(width).last() {
            let used = last_panel(rows);
            last.iter_mut().for_each(|d| d.iter_mut().zip(&used).for_each(|(d, used)| *d *= used));
        }
    }
}

/// Columns whose sums over all panels are taken together: few enough that the sums
/// stay in the first-level cache.
const COLUMNS: usize = 64;

kernel! {
    /// Mean and (biased) variance of each column.
    fn column_moments(x: &[Lane], width: usize, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let used = last_panel(rows);
        let panels = x.len() / width;
        let share = 1.0 / rows as f32;
        let (mut means, mut variances) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for first in (0..width).step_by(COLUMNS) {
            let count = COLUMNS.min(width - first);
            let (mut mean, mut variance) = ([0.0; COLUMNS], [0.0; COLUMNS]);
            for squared in [false, true] {
                let mut sums = [[0.0; LANES]; COLUMNS];
                for (panel, x) in x.chunks_exact(width).enumerate() {
                    let weights = if panel + 1 == panels { used } else { [1.0; LANES] };
                    for ((sum, x), mean) in sums.iter_mut().zip(&x[first..first + count]).zip(&mean) {
                        for l in 0..LANES {
                            let distance = x[l] - mean;
                            let part = if squared { distance * distance } else { distance };
                            sum[l] += part * weights[l];
                        }
                    }
                }
                let to = if squared { &mut variance } else { &mut mean };
                for (to, total) in to.iter_mut().zip(totals(&sums[..count])) {
                    *to = total * share;
                }
            }
            means.extend_from_slice(&mean[..count]);
            variances.extend_from_slice(&variance[..count]);
        }
        (means, variances)
    }
}

kernel! {
    /// y = (x - mean) scale + shift, column by column; with `relu`, the ReLU of that.
    fn affine(y: &mut [Lane], x: &[Lane], mean: &[f32], scale: &[f32], shift: &[f32], relu: bool) {
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        let constants = mean.iter().zip(scale).zip(shift);
        for ((y, x), ((mean, scale), shift)) in y.iter_mut().zip(x).zip(constants) {
            for l in 0..LANES {
                let value = (x[l] - mean) * scale + shift;
                // (`max` would turn NaN into the floor.)
                y[l] = if value <= floor { floor } else { value };
            }
        }
    }
}

kernel! {
    /// Column sums of d and of d (x - mean), added to the given ones.
    fn column_products(d: &[Lane], x: &[Lane], mean: &[f32], sums: &mut [Lane], products: &mut [Lane]) {
        let sums = sums.iter_mut().zip(products);
        for (((d, x), mean), (sum, product)) in d.iter().zip(x).zip(mean).zip(sums) {
            for l in 0..LANES {
                sum[l] += d[l];
                product[l] += d[l] * (x[l] - mean);
            }
        }
    }
}

kernel! {
    /// d <- (d - a - (x - mean) b) scale, column by column; where x is the output of a
    /// ReLU, 0 for those that are not above 0.
    fn affine_backward(
        d: &mut [Lane],
        x: &[Lane],
        mean: &[f32],
        a: &[f32],
        b: &[f32],
        scale: &[f32],
        x_is_relu: bool,
    ) {
        let closed = if x_is_relu { 0.0 } else { f32::NEG_INFINITY };
        let constants = mean.iter().zip(a).zip(b).zip(scale);
        for ((d, x), (((mean, a), b), scale)) in d.iter_mut().zip(x).zip(constants) {
            for l in 0..LANES {
                let at_x = (d[l] - a - (x[l] - mean) * b) * scale;
                d[l] = if x[l] > closed { at_x } else { 0.0 };
            }
        }
    }
}
