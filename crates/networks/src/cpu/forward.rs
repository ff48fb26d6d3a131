//! Forward passes through an [`Mlp`](crate::Mlp), with and without tangents.

use super::kernels::{activate, through_activation};
use super::lanes::{Buffer, LANES, Lane, Panels, into_panels, into_rows};
use super::norm::Moments;
use super::product::{Then, linear, linear_row};
use super::view::View;
use super::{empty, values, values_mut};
use crate::mlp::{Activation, Layout};
use crate::norm::NormMode;
use crate::pool;
use tch::Tensor;

/// Rows that go through all layers together. A constant, because it decides in
/// which order gradients are summed; of this size because a layer's weights then
/// stay in the second cache.
const ROWS: usize = 128;

/// What a forward pass leaves for its backward pass.
pub(crate) struct Kept {
    pub(super) chunks: Vec<KeptChunk>,
    pub(super) mode: NormMode,
}

/// That of the rows that went together.
pub(super) struct KeptChunk {
    pub input: Panels,
    pub input_norm: Option<(Panels, Moments)>,
    pub blocks: Vec<KeptBlock>,
}

/// That of a hidden layer.
pub(super) struct KeptBlock {
    /// After the nonlinearity.
    pub activated: Panels,
    /// Its slope (none for ReLU).
    pub slope: Option<Panels>,
    /// Of layer normalisation: xhat, and 1/std for each panel.
    pub layer_norm: Option<(Panels, Vec<Lane>)>,
    /// After batch normalisation.
    pub normed: Option<(Panels, Moments)>,
}

impl KeptBlock {
    pub fn output(&self) -> &Panels {
        self.normed.as_ref().map_or(&self.activated, |(normed, _)| normed)
    }
}

impl KeptChunk {
    /// The input of a linear layer; the heads are the layer after the last block.
    pub fn input_of(&self, layer: usize) -> &Panels {
        match layer {
            0 => self.input_norm.as_ref().map_or(&self.input, |(normed, _)| normed),
            layer => self.blocks[layer - 1].output(),
        }
    }
}

/// x (B, inputs) -> (B, outputs), the heads' outputs beside each other.
///
/// With `keep` it answers what [`backward`](super::backward()) needs. In
/// `NormMode::Batch` the running statistics in `stats` move.
pub(crate) fn forward(
    layout: &Layout,
    p: &[Tensor],
    stats: &[Tensor],
    x: &Tensor,
    mode: NormMode,
    keep: bool,
) -> (Tensor, Option<Kept>) {
    let view = &View::new(layout, p, stats, mode);
    let input = x.contiguous();
    let rows = input.size()[0] as usize;
    assert_eq!(input.size(), [rows as i64, view.inputs as i64], "the network's input");
    let mut output = empty(rows, view.outputs);
    if rows == 1 && !keep && layout.is_plain() {
        single(view, values(&input), values_mut(&mut output));
        return (output, None);
    }
    // All of them where a batch's own statistics are wanted.
    let chunk = if view.coupled { rows.max(1) } else { ROWS };
    let inputs = values(&input).chunks(chunk * view.inputs);
    let outputs = values_mut(&mut output).chunks_mut((chunk * view.outputs).max(1));
    let jobs = inputs.zip(outputs).map(|(x, y)| move || through(view, x, y, keep));
    let (moments, kept): (Vec<_>, Vec<_>) = pool::run(jobs.collect()).into_iter().unzip();
    // All chunks used the same statistics.
    move_running_statistics(layout, stats, &moments.into_iter().next().unwrap_or_default());
    let chunks = kept.into_iter().flatten().collect();
    (output, keep.then_some(Kept { chunks, mode }))
}

/// Some rows through all layers; answers the statistics of each batch
/// normalisation in order.
fn through(view: &View, x: &[f32], y: &mut [f32], keep: bool) -> (Vec<Moments>, Option<KeptChunk>) {
    let rows = x.len() / view.inputs;
    let mut moments = Vec::new();
    let mut input = Panels::new(rows, view.inputs);
    into_panels(input.lanes_mut(), x, view.inputs);
    let input_norm = view.input_norm.as_ref().map(|norm| {
        let mut normed = Panels::new(rows, view.inputs);
        let used = norm.forward(normed.lanes_mut(), input.lanes(), rows);
        moments.push(used.clone());
        (normed, used)
    });
    let mut kept = KeptChunk { input, input_norm, blocks: Vec::new() };
    for (i, block) in view.blocks.iter().enumerate() {
        let width = block.linear.outputs;
        let mut activated = Panels::new(rows, width);
        let (weight, bias) = (block.linear.weight, block.linear.bias);
        // (Without anything in between, ReLU is part of the product.)
        let relu = view.activation == Activation::Relu;
        let then = if relu && block.layer_norm.is_none() { Then::Relu } else { Then::Nothing };
        linear(&mut activated, 0, weight, Some(bias), kept.input_of(i), then);
        let h = activated.lanes_mut();
        let layer_norm = block.layer_norm.as_ref().map(|norm| {
            let mut xhat = Panels::new(rows, width);
            let mut inverse_std = vec![[0.0; LANES]; rows.div_ceil(LANES)];
            let panels = h.chunks_exact_mut(width).zip(xhat.lanes_mut().chunks_exact_mut(width));
            for ((y, xhat), inverse_std) in panels.zip(&mut inverse_std) {
                norm.forward(y, xhat, inverse_std);
            }
            (xhat, inverse_std)
        });
        let mut slope = (keep && !relu).then(|| Panels::new(rows, width));
        if matches!(then, Then::Nothing) {
            let slopes = slope.as_mut().map(Panels::lanes_mut).unwrap_or_default();
            activate(h.as_flattened_mut(), view.activation, slopes.as_flattened_mut());
        }
        let normed = block.batch_norm.as_ref().map(|norm| {
            let mut normed = Panels::new(rows, width);
            let used = norm.forward(normed.lanes_mut(), activated.lanes(), rows);
            moments.push(used.clone());
            (normed, used)
        });
        kept.blocks.push(KeptBlock { activated, slope, layer_norm, normed });
    }
    head_outputs(view, y, kept.input_of(view.blocks.len()), true);
    (moments, keep.then_some(kept))
}

/// The heads' outputs beside each other as rows, with or without their biases.
fn head_outputs(view: &View, y: &mut [f32], h: &Panels, biased: bool) {
    let mut outputs = Panels::new(h.rows, view.outputs);
    for (column, head) in view.heads() {
        let bias = biased.then_some(head.bias);
        linear(&mut outputs, column, head.weight, bias, h, Then::Nothing);
    }
    into_rows(y, outputs.lanes(), view.outputs);
}

/// A single row through a network without normalisation.
fn single(view: &View, x: &[f32], y: &mut [f32]) {
    let mut last: Option<Buffer> = None;
    for block in &view.blocks {
        let mut h = Buffer::new(block.linear.outputs);
        let x = last.as_deref().unwrap_or(x);
        linear_row(&mut h, block.linear.weight, block.linear.bias, x);
        activate(&mut h, view.activation, &mut []);
        last = Some(h);
    }
    let h = last.as_deref().unwrap_or(x);
    for (column, head) in view.heads() {
        linear_row(&mut y[column..column + head.outputs], head.weight, head.bias, h);
    }
}

/// running <- momentum running + (1 - momentum) batch, where the batch's
/// statistics were used.
fn move_running_statistics(layout: &Layout, stats: &[Tensor], moments: &[Moments]) {
    for (norm, moments) in layout.batch_norms().zip(moments) {
        let Some((mean, var)) = &moments.batch else { return };
        let rate = 1.0 - norm.momentum as f32;
        for (at, batch) in [(norm.mean, mean), (norm.var, var)] {
            let mut running = stats[at].shallow_clone();
            for (running, batch) in values_mut(&mut running).iter_mut().zip(batch) {
                *running += (batch - *running) * rate;
            }
        }
    }
}

/// Value at `x` and directional derivative along `dx`, of a network without
/// normalisation.
pub(crate) fn tangent(layout: &Layout, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
    assert!(layout.is_plain(), "tangents are for networks without normalisation");
    let view = &View::new(layout, p, &[], NormMode::Running);
    let (x, dx) = (x.contiguous(), dx.contiguous());
    let rows = x.size()[0] as usize;
    let (mut value, mut slope) = (empty(rows, view.outputs), empty(rows, view.outputs));
    let inputs = values(&x).chunks(ROWS * view.inputs).zip(values(&dx).chunks(ROWS * view.inputs));
    let outputs = values_mut(&mut value)
        .chunks_mut(ROWS * view.outputs)
        .zip(values_mut(&mut slope).chunks_mut(ROWS * view.outputs));
    let jobs = inputs.zip(outputs).map(|(x, y)| move || tangent_through(view, x, y));
    pool::run(jobs.collect());
    (value, slope)
}

/// Some rows and their tangents: (x, dx) to (y, dy).
fn tangent_through(view: &View, (x, dx): (&[f32], &[f32]), (y, dy): (&mut [f32], &mut [f32])) {
    let rows = x.len() / view.inputs;
    let [mut h, mut dh] = [x, dx].map(|rows_of| {
        let mut panels = Panels::new(rows, view.inputs);
        into_panels(panels.lanes_mut(), rows_of, view.inputs);
        panels
    });
    let relu = view.activation == Activation::Relu;
    for block in &view.blocks {
        let width = block.linear.outputs;
        let [mut value, mut tangent] = [(); 2].map(|()| Panels::new(rows, width));
        let (weight, bias) = (block.linear.weight, block.linear.bias);
        linear(&mut value, 0, weight, Some(bias), &h, Then::Nothing);
        linear(&mut tangent, 0, weight, None, &dh, Then::Nothing);
        let mut slope = (!relu).then(|| Panels::new(rows, width));
        let slopes = slope.as_mut().map(Panels::lanes_mut).unwrap_or_default().as_flattened_mut();
        activate(value.lanes_mut().as_flattened_mut(), view.activation, slopes);
        let activated = value.lanes().as_flattened();
        through_activation(tangent.lanes_mut().as_flattened_mut(), activated, slopes);
        (h, dh) = (value, tangent);
    }
    head_outputs(view, y, &h, true);
    head_outputs(view, dy, &dh, false);
}
