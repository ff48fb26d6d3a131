//! The backward pass through a network.

use super::activation::activate_backward;
use super::columns::{add_panels, add_rows};
use super::forward::{Kept, KeptChunk};
use super::lanes::{Buffer, Lane, Panels, gather, into_panels, into_rows, transpose_matrix};
use super::norm::{Gradients as NormGradients, NormInput, Sums, no_sums, totals};
use super::product::{Then, count, linear, weight_gradient};
use super::view::View;
use crate::pool;
use std::borrow::Cow;
use std::ops::Range;

/// Rows of a weight's gradient that are computed by one job. Each is a whole sum, so
/// this changes no number.
const GRADIENT_ROWS: usize = 256;

/// From the gradient `d_output` at the outputs of the forward pass to `d_input` (B, columns),
/// that at some columns of the input; the gradient of all parameters, in the order of
/// [`Layout::parameters`](crate::layout::Layout::parameters), to `parameters` where
/// there is such a vector.
///
/// Where a batch's statistics couple the rows, `d_output` may be that of the first rows with
/// outputs only; the others' is zero.
pub(crate) fn backward(
    view: &View,
    kept: &Kept,
    mut d_output: &[f32],
    columns: Range<usize>,
    mut d_input: &mut [f32],
    parameters: Option<&mut [f32]>,
) {
    let all = parameters.is_some();
    // The parameters of the input's normalisation need all columns.
    let reached = if all && view.input_norm.is_some() { 0..view.inputs } else { columns.clone() };
    let weights = &transposed_weights(view, &reached);
    let shared = &Shared { view, weights, reached, columns, all };
    let jobs = kept.0.iter().map(|kept| {
        let rows = kept.input.rows;
        let numbers = if view.coupled { d_output.len() } else { rows * view.outputs };
        let d_y = d_output.split_off(..numbers).expect("rows of the pass");
        let d_x = d_input.split_off_mut(..rows * shared.columns.len()).expect("rows of the pass");
        move || shared.backward(kept, d_y, d_x)
    });
    let gradients = pool::run(jobs.collect());
    let sum = |rows: fn(&Gradients) -> usize| -> usize { gradients.iter().map(rows).sum() };
    let first = view.blocks[0].linear;
    let (hidden, both) = (view.hidden_weights(), if all { 2 } else { 1 });
    let left_out = (first.inputs - shared.reached.len()) * first.outputs;
    count(sum(|chunk| chunk.d_linear[0].rows), both * hidden - left_out);
    count(sum(|chunk| chunk.d_output.rows), both * view.head_weights());
    if let Some(flat) = parameters {
        parameter_gradients(flat, view, &kept.0, &gradients);
    }
}

/// Every layer's weight as (inputs, outputs), the factor of the backward pass; the
/// heads' in adjacent columns. Of the first layer only the columns that are reached.
fn transposed_weights(view: &View, reached: &Range<usize>) -> Vec<Buffer> {
    let jobs = (0..=view.blocks.len()).map(|layer| {
        move || match view.blocks.get(layer) {
            Some(block) => {
                let columns = if layer == 0 { reached.clone() } else { 0..block.linear.inputs };
                let mut out = Buffer::new(columns.len() * block.linear.outputs);
                if !columns.is_empty() {
                    let width = block.linear.inputs;
                    transpose_matrix(&mut out, block.linear.weight, width, columns.start);
                }
                out
            }
            None => {
                let width = view.heads[0].inputs;
                let mut out = Buffer::new(width * view.outputs);
                for (column, head) in view.heads() {
                    for (row, weight) in head.weight.chunks_exact(width).enumerate() {
                        let to = out[column + row..].iter_mut().step_by(view.outputs);
                        to.zip(weight).for_each(|(to, from)| *to = *from);
                    }
                }
                out
            }
        }
    });
    pool::run(jobs.collect())
}

/// What a chunk of rows contributes to the gradients of parameters.
struct Gradients {
    /// Gradients at the outputs of every block's linear layer.
    d_linear: Vec<Panels>,
    /// The gradient at the heads' outputs.
    d_output: Panels,
    /// The heads' input there, where it is that of some rows only.
    head_input: Option<Panels>,
    /// Gradients of the vectors among the parameters.
    vectors: VectorSums,
}

/// Gradients of the vectors among a network's parameters.
struct VectorSums {
    /// Weight and shift of the input's normalisation.
    input_norm: [Sums; 2],
    /// Bias, then weight and shift of the block's normalisation.
    blocks: Vec<[Sums; 3]>,
    /// Biases of all heads.
    heads: Sums,
}

impl VectorSums {
    fn zeros(view: &View) -> Self {
        let input = view.input_norm.map_or(0, |_| view.inputs);
        let blocks = view.blocks.iter().map(|block| {
            let width = block.linear.outputs;
            let normed = if block.is_normed() { width } else { 0 };
            [block.linear.bias.map_or(0, <[f32]>::len), normed, normed].map(no_sums)
        });
        Self {
            input_norm: [input; 2].map(no_sums),
            blocks: blocks.collect(),
            heads: no_sums(view.outputs),
        }
    }

    fn add(&mut self, other: &Self) {
        let own = self.blocks.iter_mut().flatten().chain(&mut self.input_norm);
        let others = other.blocks.iter().flatten().chain(&other.input_norm);
        own.zip(others).for_each(|(own, other)| add_rows(own, other));
        add_rows(&mut self.heads, &other.heads);
    }
}

/// Shared state of a backward pass.
struct Shared<'a> {
    view: &'a View<'a>,
    weights: &'a [Buffer],
    /// Columns of the input that gradients are computed for, and those of them that
    /// are asked for.
    reached: Range<usize>,
    columns: Range<usize>,
    /// Whether parameters want gradients.
    all: bool,
}

impl Shared<'_> {
    /// A chunk of rows from the output back to the input; the gradient there is
    /// written to `d_input`.
    fn backward(&self, kept_chunk: &KeptChunk, d_output: &[f32], d_input: &mut [f32]) -> Gradients {
        let view = self.view;
        // A row whose gradient is zero is left out. Of a minimum over an ensemble that
        // is every row of every member but one.
        let nonzero = |d: &[f32]| d.iter().any(|d| *d != 0.0);
        let by_row = || d_output.chunks_exact(view.outputs);
        let picked = (!self.all && !view.coupled && !by_row().all(nonzero)).then(|| {
            let rows = by_row().enumerate().filter(|(_, d)| nonzero(d));
            rows.map(|(i, _)| i).collect::<Vec<usize>>()
        });
        let all_d = to_panels(d_output, view.outputs);
        let chosen = |panels: &Panels| -> Option<Panels> {
            picked.as_ref().map(|picked| gather(panels.lanes(), panels.width, picked))
        };
        let d_output = chosen(&all_d).unwrap_or(all_d);

        let mut vectors = VectorSums::zeros(view);
        if self.all {
            add_panels(&mut vectors.heads, d_output.lanes());
        }
        let part = kept_chunk.first..kept_chunk.first + d_output.rows;
        let head_input = (view.coupled && part != (0..kept_chunk.input.rows))
            .then(|| kept_chunk.input_of(view.blocks.len()).slice(&part));
        let mut d_linear: Vec<Panels> = Vec::new();
        for (i, block) in view.blocks.iter().enumerate().rev() {
            let kept = &kept_chunk.blocks[i];
            let width = block.linear.outputs;
            let [d_bias, d_weight, d_shift] = &mut vectors.blocks[i];
            let activated = pick(&kept.activated, &chosen);
            let d_next = d_linear.last().unwrap_or(&d_output);
            let slope = kept.slope.as_ref().map(|slope| pick(slope, &chosen));
            // Without anything in between, the nonlinearity is part of the product.
            let part = head_input.is_some() && i + 1 == view.blocks.len();
            let then = match &slope {
                _ if block.batch_norm.is_some() || part => Then::Nothing,
                None => Then::ReluBackward(&activated),
                Some(slope) => Then::Times(slope),
            };
            let mut d = self.linear_backward(i + 1, d_next, width, then);
            if part {
                // The other rows have gradients through statistics only.
                d = d.among_zeros(kept_chunk.first, activated.rows);
                if block.batch_norm.is_none() {
                    let slope = slope.as_ref().map(|slope| slope.lanes()).unwrap_or_default();
                    let (d, x) = (d.lanes_mut().as_flattened_mut(), activated.lanes());
                    activate_backward(d, x.as_flattened(), slope.as_flattened());
                }
            }
            if let (Some(norm), Some((_, moments))) = (&block.batch_norm, &kept.normed) {
                let x = NormInput { panels: &activated, first: 0, is_relu: slope.is_none() };
                let gradients = NormGradients { weight: d_weight, shift: d_shift };
                norm.backward(d.lanes_mut(), x, moments, gradients);
                if let Some(slope) = &slope {
                    let (d, x) = (d.lanes_mut().as_flattened_mut(), activated.lanes());
                    activate_backward(d, x.as_flattened(), slope.lanes().as_flattened());
                }
            }
            if let (Some(norm), Some((xhat, inverse_std))) = (&block.layer_norm, &kept.layer_norm) {
                let xhat = pick(xhat, &chosen);
                let inverse_std: Cow<[Lane]> = match &picked {
                    Some(picked) => gather(inverse_std, 1, picked).lanes().to_vec().into(),
                    None => inverse_std.into(),
                };
                let panels = d.lanes_mut().chunks_exact_mut(width).zip(xhat.iter());
                for ((d, xhat), inverse_std) in panels.zip(inverse_std.iter()) {
                    let gradients = NormGradients { weight: d_weight, shift: d_shift };
                    norm.backward(d, xhat, inverse_std, gradients);
                }
            }
            if let (Some(norm), Some((x, moments))) = (&block.pre_norm, &kept.linear) {
                let x = NormInput { panels: &pick(x, &chosen), first: 0, is_relu: false };
                let gradients = NormGradients { weight: d_weight, shift: d_shift };
                norm.backward(d.lanes_mut(), x, moments, gradients);
            }
            if self.all && block.linear.bias.is_some() {
                add_panels(d_bias, d.lanes());
            }
            d_linear.push(d);
        }
        if !self.reached.is_empty() {
            // Where parameters want no gradients, some columns are enough.
            vectors.input_norm = [self.reached.len(); 2].map(no_sums);
            let last = d_linear.last().expect("a network has blocks");
            let mut d = self.linear_backward(0, last, self.reached.len(), Then::Nothing);
            if let (Some(norm), Some((_, moments))) = (&view.input_norm, &kept_chunk.input_norm) {
                let (norm, moments) = (norm.columns(&self.reached), moments.columns(&self.reached));
                let x = pick(&kept_chunk.input, &chosen);
                let x = NormInput { panels: &x, first: self.reached.start, is_relu: false };
                let [weight, shift] = &mut vectors.input_norm;
                norm.backward(d.lanes_mut(), x, &moments, NormGradients { weight, shift });
            }
            self.write_columns(&d, picked.as_deref(), d_input);
        }
        d_linear.reverse();
        Gradients { d_linear, d_output, head_input, vectors }
    }

    /// d_x = d_y W at the input of a layer, of which `width` columns are computed.
    fn linear_backward(&self, layer: usize, d_y: &Panels, width: usize, then: Then) -> Panels {
        let mut d = Panels::new(d_y.rows, width);
        linear(&mut d, 0, &self.weights[layer], None, d_y, then);
        d
    }

    /// Writes the columns that are asked for, as rows; rows that were left out are
    /// zero.
    fn write_columns(&self, d: &Panels, picked: Option<&[usize]>, d_input: &mut [f32]) {
        let width = self.columns.len();
        if width == 0 {
            return;
        }
        let mut rows = vec![0.0; d.rows * d.width];
        into_rows(&mut rows, d.lanes(), d.width);
        let first = self.columns.start - self.reached.start;
        let rows = rows.chunks_exact(d.width).map(|row| &row[first..first + width]);
        d_input.fill(0.0);
        for (i, row) in rows.enumerate() {
            let to = picked.map_or(i, |picked| picked[i]);
            d_input[to * width..][..width].copy_from_slice(row);
        }
    }
}

/// Panels, or rows picked out of them.
enum Chosen<'a> {
    All(&'a Panels),
    Picked(Panels),
}

impl std::ops::Deref for Chosen<'_> {
    type Target = Panels;

    fn deref(&self) -> &Panels {
        match self {
            Self::All(panels) => panels,
            Self::Picked(panels) => panels,
        }
    }
}

fn pick<'a>(panels: &'a Panels, chosen: &impl Fn(&Panels) -> Option<Panels>) -> Chosen<'a> {
    chosen(panels).map_or(Chosen::All(panels), Chosen::Picked)
}

fn to_panels(rows: &[f32], width: usize) -> Panels {
    let mut panels = Panels::new(rows.len() / width, width);
    into_panels(panels.lanes_mut(), rows, width);
    panels
}

/// Part of a weight's gradient: rows of it from `first` on.
struct WeightJob<'a> {
    out: &'a mut [f32],
    first: usize,
    /// The layer; the heads come after the last block.
    layer: usize,
}

/// Writes the gradients of all parameters in the order of the layers. Those of weights
/// are products over all rows, computed in parallel.
fn parameter_gradients(flat: &mut [f32], view: &View, kept: &[KeptChunk], gradients: &[Gradients]) {
    let mut vectors = VectorSums::zeros(view);
    gradients.iter().for_each(|part| vectors.add(&part.vectors));
    let mut rest = flat;
    let mut next = |count: usize| rest.split_off_mut(..count).expect("a number a parameter");
    for vector in &vectors.input_norm {
        next(vector.len()).copy_from_slice(&totals(vector));
    }
    let mut jobs = Vec::new();
    for (layer, (block, sums)) in view.blocks.iter().zip(&vectors.blocks).enumerate() {
        let inputs = block.linear.inputs;
        let parts = next(block.linear.weight.len()).chunks_mut(GRADIENT_ROWS * inputs);
        jobs.extend(parts.enumerate().map(|(part, out)| WeightJob {
            out,
            first: part * GRADIENT_ROWS,
            layer,
        }));
        for vector in sums {
            next(vector.len()).copy_from_slice(&totals(vector));
        }
    }
    for (column, head) in view.heads() {
        let layer = view.blocks.len();
        jobs.push(WeightJob { out: next(head.weight.len()), first: column, layer });
        let bias = totals(&vectors.heads[column..column + head.outputs]);
        next(head.outputs).copy_from_slice(&bias);
    }
    // The largest first, so that no thread is left with one at the end.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.out.len()));
    let run = |job: WeightJob| {
        let parts = gradients.iter().zip(kept).map(|(part, kept)| {
            let x = || kept.input_of(job.layer);
            match part.d_linear.get(job.layer) {
                Some(d_y) => (d_y, x()),
                None => (&part.d_output, part.head_input.as_ref().unwrap_or_else(x)),
            }
        });
        for (i, (d_y, x)) in parts.enumerate() {
            weight_gradient(job.out, job.first, d_y, x, i > 0);
        }
    };
    pool::run(jobs.into_iter().map(|job| move || run(job)).collect());
}
