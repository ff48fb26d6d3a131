//! The parameters of a network as slices.

#![expect(unsafe_code, reason = "slices of LibTorch's storage")]

use super::norm::{BatchNormView, LayerNormView};
use crate::layout::{Activation, Layout, Linear};
use crate::norm::{BatchNorm, NormMode};
use crate::storage;
use tch::Tensor;

/// A linear layer; the weight is (outputs, inputs), row-major.
#[derive(Clone, Copy)]
pub(super) struct LinearView<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub inputs: usize,
    pub outputs: usize,
}

/// A hidden layer.
pub(super) struct BlockView<'a> {
    pub linear: LinearView<'a>,
    pub layer_norm: Option<LayerNormView<'a>>,
    pub pre_norm: Option<BatchNormView<'a>>,
    pub batch_norm: Option<BatchNormView<'a>>,
}

impl BlockView<'_> {
    /// Whether there is a normalisation.
    pub fn is_normed(&self) -> bool {
        self.layer_norm.is_some() || self.pre_norm.is_some() || self.batch_norm.is_some()
    }
}

/// A network and its running statistics.
pub(crate) struct View<'a> {
    pub(super) input_norm: Option<BatchNormView<'a>>,
    pub(super) blocks: Vec<BlockView<'a>>,
    pub(super) heads: Vec<LinearView<'a>>,
    pub(super) activation: Activation,
    pub inputs: usize,
    pub outputs: usize,
    /// Whether rows depend on each other, through the statistics of their batch.
    pub(super) coupled: bool,
}

impl<'a> View<'a> {
    /// The network whose tensors are in `p` and `stats`.
    ///
    /// # Safety
    /// While the view lives, nobody writes to these tensors, through any handle.
    pub unsafe fn new(
        layout: &Layout,
        p: &'a [Tensor],
        stats: &'a [Tensor],
        mode: NormMode,
    ) -> Self {
        // SAFETY: the caller's promise.
        let values = |tensor: &'a Tensor| unsafe { storage::values(tensor) };
        let linear = |linear: &Linear| LinearView {
            weight: values(&p[linear.weight]),
            bias: linear.bias.map(|bias| values(&p[bias])),
            inputs: linear.inputs as usize,
            outputs: linear.outputs as usize,
        };
        let batch_norm = |norm: &BatchNorm| BatchNormView {
            weight: values(&p[norm.weight]),
            bias: values(&p[norm.bias]),
            mean: values(&stats[norm.mean]),
            var: values(&stats[norm.var]),
            mode,
        };
        let blocks = layout.blocks.iter().map(|block| BlockView {
            linear: linear(&block.linear),
            layer_norm: block.layer_norm.as_ref().map(|norm| LayerNormView {
                weight: values(&p[norm.weight]),
                shift: values(&p[norm.bias]),
            }),
            pre_norm: block.pre_norm.as_ref().map(batch_norm),
            batch_norm: block.batch_norm.as_ref().map(batch_norm),
        });
        let heads: Vec<LinearView> = layout.heads.iter().map(linear).collect();
        Self {
            input_norm: layout.input_norm.as_ref().map(batch_norm),
            blocks: blocks.collect(),
            inputs: layout.blocks[0].linear.inputs as usize,
            outputs: heads.iter().map(|head| head.outputs).sum(),
            heads,
            activation: layout.activation,
            coupled: layout.has_batch_norm() && mode != NormMode::Running,
        }
    }

    /// Whether there is no normalisation at all.
    pub(super) fn is_plain(&self) -> bool {
        self.input_norm.is_none() && !self.blocks.iter().any(BlockView::is_normed)
    }

    /// Numbers in the weights of the hidden layers.
    pub(super) fn hidden_weights(&self) -> usize {
        self.blocks.iter().map(|block| block.linear.weight.len()).sum()
    }

    /// Numbers in the weights of the heads.
    pub(super) fn head_weights(&self) -> usize {
        self.heads.iter().map(|head| head.weight.len()).sum()
    }

    /// The heads, each with the first column of its outputs.
    pub(super) fn heads(&self) -> impl Iterator<Item = (usize, &LinearView<'a>)> {
        self.heads.iter().scan(0, |column, head| {
            let first = *column;
            *column += head.outputs;
            Some((first, head))
        })
    }
}
