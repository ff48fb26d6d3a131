//! The parameters of a network as slices.

use super::norm::{BatchNormView, LayerNormView};
use super::values;
use crate::mlp::{Activation, Layout, Linear};
use crate::norm::{BatchNorm, NormMode};
use tch::Tensor;

/// A linear layer; the weight is (outputs, inputs), row-major.
#[derive(Clone, Copy)]
pub(super) struct LinearView<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub inputs: usize,
    pub outputs: usize,
}

/// A hidden layer.
pub(super) struct BlockView<'a> {
    pub linear: LinearView<'a>,
    pub layer_norm: Option<LayerNormView<'a>>,
    pub batch_norm: Option<BatchNormView<'a>>,
}

/// A network.
pub(super) struct View<'a> {
    pub input_norm: Option<BatchNormView<'a>>,
    pub blocks: Vec<BlockView<'a>>,
    pub heads: Vec<LinearView<'a>>,
    pub activation: Activation,
    pub inputs: usize,
    pub outputs: usize,
    /// Whether rows depend on each other, by the statistics of their batch.
    pub coupled: bool,
}

impl<'a> View<'a> {
    pub fn new(layout: &Layout, p: &'a [Tensor], stats: &'a [Tensor], mode: NormMode) -> Self {
        let linear = |linear: &Linear| LinearView {
            weight: values(&p[linear.weight]),
            bias: values(&p[linear.bias]),
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

    /// The heads, each with the column where its outputs begin.
    pub fn heads(&self) -> impl Iterator<Item = (usize, &LinearView<'a>)> {
        self.heads.iter().scan(0, |column, head| {
            let first = *column;
            *column += head.outputs;
            Some((first, head))
        })
    }
}
