//! Forward passes through a network, with and without tangents.

use super::activation::{activate, activate_backward};
use super::lanes::{Buffer, LANES, Lane, Panels, into_panels, into_rows};
use super::norm::Moments;
use super::product::{Then, count, linear, linear_row};
use super::view::View;
use crate::layout::{Activation, Layout};
use crate::pool;
use crate::storage::values_mut;
use std::ops::Range;
use tch::Tensor;

/// Rows that go through all layers together. A constant, because it decides in
/// which order gradients are summed; of this size because a layer's weights then
/// stay in the second-level cache.
const ROWS: usize = 128;

/// What a forward pass leaves for its backward pass, chunk by chunk.
pub(crate) struct Kept(pub(super) Vec<KeptChunk>);

/// What a chunk of rows leaves.
pub(super) struct KeptChunk {
    pub input: Panels,
    pub input_norm: Option<(Panels, Moments)>,
    pub blocks: Vec<KeptBlock>,
    /// The first row with outputs.
    pub first: usize,
}

/// What a hidden layer leaves.
pub(super) struct KeptBlock {
    /// After the nonlinearity.
    pub activated: Panels,
    /// Its slope (none for ReLU).
    pub slope: Option<Panels>,
    /// Before batch normalisation, where that comes before the nonlinearity.
    pub linear: Option<(Panels, Moments)>,
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

/// x (B, inputs) -> y (n, outputs), the heads' outputs in adjacent columns, for n `picked`
/// rows: all, or some of those that a batch's statistics couple.
///
/// Returns the statistics of each batch normalisation, in the order of the layers,
/// and with `keep` what [`backward`](super::backward()) needs.
pub(crate) fn forward(
    view: &View,
    x: &[f32],
    picked: &Range<usize>,
    y: &mut [f32],
    keep: bool,
) -> (Vec<Moments>, Option<Kept>) {
    let rows = x.len() / view.inputs;
    assert!(x.len() == rows * view.inputs, "the network has {} inputs", view.inputs);
    assert!(y.len() == picked.len() * view.outputs, "the network has {} outputs", view.outputs);
    assert!(view.coupled || *picked == (0..rows), "rows without outputs that nothing depends on");
    count(rows, view.hidden_weights());
    count(picked.len(), view.head_weights());
    if rows == 1 && !keep && view.is_plain() {
        single(view, x, y);
        return (Vec::new(), None);
    }
    if view.coupled {
        // A batch's own statistics need all of its rows.
        let (moments, kept) = forward_chunk(view, x, picked, y, keep);
        return (moments, kept.map(|kept| Kept(vec![kept])));
    }
    let chunks = x.chunks(ROWS * view.inputs).zip(y.chunks_mut((ROWS * view.outputs).max(1)));
    let jobs =
        chunks.map(|(x, y)| move || forward_chunk(view, x, &(0..x.len() / view.inputs), y, keep));
    let (moments, kept): (Vec<_>, Vec<_>) = pool::run(jobs.collect()).into_iter().unzip();
    // All chunks used the same statistics.
    let moments = moments.into_iter().next().unwrap_or_default();
    (moments, keep.then(|| Kept(kept.into_iter().flatten().collect())))
}

/// A chunk of rows through all hidden layers, and the picked ones through the heads.
fn forward_chunk(
    view: &View,
    x: &[f32],
    picked: &Range<usize>,
    y: &mut [f32],
    keep: bool,
) -> (Vec<Moments>, Option<KeptChunk>) {
    let rows = x.len() / view.inputs;
    let mut moments = Vec::new();
    let mut input = Panels::new(rows, view.inputs);
    into_panels(input.lanes_mut(), x, view.inputs);
    let input_norm = view.input_norm.as_ref().map(|norm| {
        let mut normed = Panels::new(rows, view.inputs);
        let used = norm.forward(normed.lanes_mut(), input.lanes(), rows, false);
        moments.push(used.clone());
        (normed, used)
    });
    let mut kept = KeptChunk { input, input_norm, blocks: Vec::new(), first: picked.start };
    for (i, block) in view.blocks.iter().enumerate() {
        let width = block.linear.outputs;
        let mut activated = Panels::new(rows, width);
        let (weight, bias) = (block.linear.weight, block.linear.bias);
        // Without a normalisation in between, ReLU is part of the product.
        let relu = view.activation == Activation::Relu;
        let norm_first = block.layer_norm.is_some() || block.pre_norm.is_some();
        let then = if relu && !norm_first { Then::Relu } else { Then::Nothing };
        linear(&mut activated, 0, weight, bias, kept.input_of(i), then);
        let before = block.pre_norm.as_ref().map(|norm| {
            let mut normed = Panels::new(rows, width);
            let used = norm.forward(normed.lanes_mut(), activated.lanes(), rows, relu);
            moments.push(used.clone());
            (std::mem::replace(&mut activated, normed), used)
        });
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
        if matches!(then, Then::Nothing) && !(relu && before.is_some()) {
            let slopes = slope.as_mut().map(Panels::lanes_mut).unwrap_or_default();
            activate(h.as_flattened_mut(), view.activation, slopes.as_flattened_mut());
        }
        let normed = block.batch_norm.as_ref().map(|norm| {
            let mut normed = Panels::new(rows, width);
            let used = norm.forward(normed.lanes_mut(), activated.lanes(), rows, false);
            moments.push(used.clone());
            (normed, used)
        });
        kept.blocks.push(KeptBlock { activated, slope, linear: before, layer_norm, normed });
    }
    let last = kept.input_of(view.blocks.len());
    let part = (*picked != (0..rows)).then(|| last.slice(picked));
    head_outputs(view, y, part.as_ref().unwrap_or(last), true);
    (moments, keep.then_some(kept))
}

/// The heads' outputs in adjacent columns of rows, with or without their biases.
fn head_outputs(view: &View, y: &mut [f32], h: &Panels, biased: bool) {
    let mut outputs = Panels::new(h.rows, view.outputs);
    for (column, head) in view.heads() {
        let bias = head.bias.filter(|_| biased);
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

/// running <- momentum running + (1 - momentum) batch, where a pass used the batch's
/// statistics.
///
/// # Safety
/// Nobody else reads or writes `stats`, and no view of them is alive.
#[expect(unsafe_code, reason = "writes through shared handles")]
pub(crate) unsafe fn move_running_statistics(
    layout: &Layout,
    stats: &[Tensor],
    moments: &[Moments],
) {
    for (norm, moments) in layout.batch_norms().zip(moments) {
        let Some((mean, var)) = &moments.batch else {
            return;
        };
        let rate = 1.0 - norm.momentum as f32;
        for (at, batch) in [(norm.mean, mean), (norm.var, var)] {
            let mut running = stats[at].shallow_clone();
            // SAFETY: the caller's promise.
            let running = unsafe { values_mut(&mut running) };
            for (running, batch) in running.iter_mut().zip(batch) {
                *running += (batch - *running) * rate;
            }
        }
    }
}

/// Value at x and directional derivative along dx, of a network without
/// normalisation: (x, dx), each (B, inputs), to (y, dy), each (B, outputs).
pub(crate) fn tangent(view: &View, [x, dx]: [&[f32]; 2], [y, dy]: [&mut [f32]; 2]) {
    let rows = x.len() / view.inputs;
    assert!(x.len() == rows * view.inputs && dx.len() == x.len(), "the network's inputs");
    count(2 * rows, view.hidden_weights() + view.head_weights());
    let inputs = x.chunks(ROWS * view.inputs).zip(dx.chunks(ROWS * view.inputs));
    let outputs = y.chunks_mut(ROWS * view.outputs).zip(dy.chunks_mut(ROWS * view.outputs));
    let jobs = inputs.zip(outputs);
    let jobs = jobs.map(|((x, dx), (y, dy))| move || tangent_chunk(view, [x, dx], [y, dy]));
    pool::run(jobs.collect());
}

/// A chunk of rows and their tangents.
fn tangent_chunk(view: &View, [x, dx]: [&[f32]; 2], [y, dy]: [&mut [f32]; 2]) {
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
        linear(&mut value, 0, weight, bias, &h, Then::Nothing);
        linear(&mut tangent, 0, weight, None, &dh, Then::Nothing);
        let mut slope = (!relu).then(|| Panels::new(rows, width));
        let slopes = slope.as_mut().map(Panels::lanes_mut).unwrap_or_default().as_flattened_mut();
        activate(value.lanes_mut().as_flattened_mut(), view.activation, slopes);
        let activated = value.lanes().as_flattened();
        activate_backward(tangent.lanes_mut().as_flattened_mut(), activated, slopes);
        (h, dh) = (value, tangent);
    }
    head_outputs(view, y, &h, true);
    head_outputs(view, dy, &dh, false);
}
