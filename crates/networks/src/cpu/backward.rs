//! Backward passes through an [`Mlp`](crate::Mlp).

use super::forward::{Kept, KeptChunk};
use super::kernels::{through_activation, transpose_matrix};
use super::lanes::{Buffer, Lane, Panels, gather, into_panels, into_rows};
use super::norm::{Sums, add_rows, no_sums, totals};
use super::product::{Then, linear, weight_gradient};
use super::view::View;
use super::{empty, values, values_mut};
use crate::mlp::Layout;
use crate::pool;
use std::borrow::Cow;
use std::ops::Range;
use tch::Tensor;

/// Rows of a weight's gradient that are computed by one job. They are whole sums,
/// so it changes no number.
const GRADIENT_ROWS: usize = 256;

/// From the gradient at the output (B, outputs) to that at some columns of the
/// input, where they are wanted: (B, columns). The gradient of all parameters, in
/// the order of [`Layout::parameters`], is written to `parameters` where there is
/// such a vector.
pub(crate) fn backward(
    layout: &Layout,
    p: &[Tensor],
    stats: &[Tensor],
    kept: &Kept,
    d_output: &Tensor,
    wanted: Option<Range<usize>>,
    parameters: Option<&mut Tensor>,
) -> Option<Tensor> {
    let view = &View::new(layout, p, stats, kept.mode);
    let d_output = d_output.contiguous();
    let rows = d_output.size()[0] as usize;
    let all = parameters.is_some();
    // Batch normalisation of the input has parameters of its own behind it.
    let reached = match (&wanted, &view.input_norm) {
        (_, Some(_)) if all => 0..view.inputs,
        (Some(wanted), _) => wanted.clone(),
        (None, _) => 0..0,
    };
    let weights = &transposed_weights(view, &reached);
    let wanted = wanted.unwrap_or_default();
    let mut d_input = (!wanted.is_empty()).then(|| empty(rows, wanted.len()));
    let mut d_inputs = d_input.as_mut().map(values_mut).unwrap_or_default();
    let mut d_outputs = values(&d_output);
    let way = &Way { view, weights, reached, wanted, all };
    let jobs = kept.chunks.iter().map(|kept| {
        let rows = kept.input.rows;
        let mine = d_outputs.split_off(..rows * view.outputs).expect("rows of the pass");
        let to = d_inputs.split_off_mut(..rows * way.wanted.len()).expect("rows of the pass");
        move || way.back(kept, mine, to)
    });
    let gradients = pool::run(jobs.collect());
    if let Some(flat) = parameters {
        parameter_gradients(values_mut(flat), view, &kept.chunks, &gradients);
    }
    d_input
}

/// Every layer's weight as (inputs, outputs), which the way back multiplies with;
/// the heads' beside each other. Of the first layer only the columns that are
/// reached.
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

/// What some rows contribute to the gradients of parameters.
struct Gradients {
    /// d at the outputs of every block's linear layer.
    d_linear: Vec<Panels>,
    /// d at the heads' outputs.
    d_output: Panels,
    /// Of the vectors among the parameters.
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
            let normed = block.layer_norm.is_some() || block.batch_norm.is_some();
            [width, if normed { width } else { 0 }, if normed { width } else { 0 }].map(no_sums)
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

/// Adds all rows to sums.
fn add_all(sums: &mut Sums, panels: &Panels) {
    panels.iter().for_each(|panel| add_rows(sums, panel));
}

/// What is the same for all rows.
struct Way<'a> {
    view: &'a View<'a>,
    weights: &'a [Buffer],
    /// Columns of the input that gradients are computed for, and those of them that
    /// are asked for.
    reached: Range<usize>,
    wanted: Range<usize>,
    /// Whether parameters want gradients.
    all: bool,
}

impl Way<'_> {
    /// Some rows from the output back to the input; the gradient there is written to
    /// `d_input`.
    fn back(&self, kept: &KeptChunk, d_output: &[f32], d_input: &mut [f32]) -> Gradients {
        let view = self.view;
        // A row whose gradient is zero needs no way back. Of a minimum over an
        // ensemble that is every row of every member but one.
        let loud = |d: &[f32]| d.iter().any(|d| *d != 0.0);
        let by_row = || d_output.chunks_exact(view.outputs);
        let picked = (!self.all && !view.coupled && !by_row().all(loud)).then(|| {
            let rows = by_row().enumerate().filter(|(_, d)| loud(d));
            rows.map(|(i, _)| i).collect::<Vec<usize>>()
        });
        let all_d = to_panels(d_output, view.outputs);
        let chosen = |panels: &Panels| -> Option<Panels> {
            picked.as_ref().map(|picked| gather(panels.lanes(), panels.width, picked))
        };
        let d_output = chosen(&all_d).unwrap_or(all_d);
        let rows = d_output.rows;

        let mut vectors = VectorSums::zeros(view);
        if self.all {
            add_all(&mut vectors.heads, &d_output);
        }
        let mut d_linear: Vec<Panels> = Vec::new();
        for (i, block) in view.blocks.iter().enumerate().rev() {
            let kept = &kept.blocks[i];
            let width = block.linear.outputs;
            let [d_bias, d_weight, d_shift] = &mut vectors.blocks[i];
            let activated = pick(&kept.activated, &chosen);
            let d_next = d_linear.last().unwrap_or(&d_output);
            let slope = kept.slope.as_ref().map(|slope| pick(slope, &chosen));
            // Without anything in between, the nonlinearity is part of the product.
            let then = match &slope {
                _ if block.batch_norm.is_some() => Then::Nothing,
                None => Then::ThroughRelu(&activated),
                Some(slope) => Then::Times(slope),
            };
            let mut d = self.through_linear(i + 1, d_next, width, then);
            if let (Some(norm), Some((_, moments))) = (&block.batch_norm, &kept.normed) {
                let to = (&mut d_weight[..], &mut d_shift[..]);
                let (x, relu) = ((activated.lanes(), width, 0), (rows, slope.is_none()));
                norm.backward(d.lanes_mut(), x, relu, moments, to);
                if let Some(slope) = &slope {
                    let (d, x) = (d.lanes_mut().as_flattened_mut(), activated.lanes());
                    through_activation(d, x.as_flattened(), slope.lanes().as_flattened());
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
                    norm.backward(d, xhat, inverse_std, d_weight, d_shift);
                }
            }
            if self.all {
                add_all(d_bias, &d);
            }
            d_linear.push(d);
        }
        if !self.reached.is_empty() {
            // (Where parameters want no gradients, some columns are enough.)
            vectors.input_norm = [self.reached.len(); 2].map(no_sums);
            let last = d_linear.last().expect("a network has blocks");
            let mut d = self.through_linear(0, last, self.reached.len(), Then::Nothing);
            if let (Some(norm), Some((_, moments))) = (&view.input_norm, &kept.input_norm) {
                let (norm, moments) = (norm.columns(&self.reached), moments.columns(&self.reached));
                let x = pick(&kept.input, &chosen);
                let x = (x.lanes(), view.inputs, self.reached.start);
                let [d_weight, d_shift] = &mut vectors.input_norm;
                norm.backward(d.lanes_mut(), x, (rows, false), &moments, (d_weight, d_shift));
            }
            self.hand_over(&d, picked.as_deref(), d_input);
        }
        d_linear.reverse();
        Gradients { d_linear, d_output, vectors }
    }

    /// d_x = d_y W at the input of a layer, of which `width` columns are computed.
    fn through_linear(&self, layer: usize, d_y: &Panels, width: usize, then: Then) -> Panels {
        let mut d = Panels::new(d_y.rows, width);
        linear(&mut d, 0, &self.weights[layer], None, d_y, then);
        d
    }

    /// Writes the columns that are asked for, as rows; rows without a gradient are
    /// zero.
    fn hand_over(&self, d: &Panels, picked: Option<&[usize]>, d_input: &mut [f32]) {
        let width = self.wanted.len();
        if width == 0 {
            return;
        }
        let mut rows = vec![0.0; d.rows * d.width];
        into_rows(&mut rows, d.lanes(), d.width);
        let first = self.wanted.start - self.reached.start;
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

/// Part of a weight's gradient: some of its rows, from `first` on.
struct WeightJob<'a> {
    out: &'a mut [f32],
    first: usize,
    /// The layer; the heads come after the last block.
    layer: usize,
}

/// Writes the gradients of all parameters in the order of
/// [`Layout::parameters`]. Those of weights are products over all rows, computed
/// beside each other.
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
            (part.d_linear.get(job.layer).unwrap_or(&part.d_output), kept.input_of(job.layer))
        });
        for (i, (d_y, x)) in parts.enumerate() {
            weight_gradient(job.out, job.first, d_y, x, i > 0);
        }
    };
    pool::run(jobs.into_iter().map(|job| move || run(job)).collect());
}
