//! Normalisation of panels, forward and backward.
//!
//! Sums over rows are taken lane by lane, and the lanes added up at the end.

use super::columns::{add_rows, affine, affine_backward, column_moments, column_products};
use super::columns::{layer_norm, layer_norm_backward};
use super::lanes::{LANES, Lane, Panels, last_panel};
use crate::norm::{BATCH_EPSILON, NormMode};
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
        let columns = (x.panels.lanes(), x.panels.width, x.first);
        column_products(d, columns, &moments.mean, &mut sums, &mut products);
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
