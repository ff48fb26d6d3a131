//! LibTorch-backed networks.
//!
//! An *architecture* ([`Mlp`], [`Critics`]) has no numbers, only the positions of its
//! tensors in a list; the numbers are a [`Params`], one flat vector per network. A
//! forward pass takes both, so the online network, its target, an average over updates
//! and a frozen view run through the same code, and the optimiser ([`Adam`]), Polyak
//! averaging and checks for NaN are a few operations on one vector each.
//!
//! In `f32` on the CPU, passes and optimiser are code of our own (`cpu`); on other
//! devices and in `f64` they are LibTorch's operations. One place decides: `op.rs`.

#![deny(unsafe_code)]

mod adam;
mod categorical;
mod counter;
mod cpu;
mod critic;
mod cuda_graph;
mod gaussian;
mod instructions;
mod layout;
mod mixture;
mod mlp;
mod node;
mod norm;
mod op;
mod params;
mod pool;
mod precision;
mod random;
mod slope;
mod standardise;
mod storage;
mod time;

pub use adam::{Adam, AdamConfig};
pub use categorical::{BinTarget, Bins, CrossEntropy};
pub use counter::{Counter, Tally};
pub use cpu::multiplications;
pub use critic::{CriticKind, CriticPass, Critics, CriticsConfig};
pub use cuda_graph::{CudaGraphs, Recorder, Replay};
pub use gaussian::{
    atanh_clamped, gaussian_log_density, squashed_action, squashed_gaussian, squashed_log_prob,
    tanh_log_slope, unit_gaussian_entropy,
};
pub use instructions::Instructions;
pub use layout::{Activation, GELU_CUBIC, GELU_SCALE, Linear};
pub use mixture::{mixture_log_density, squashed_mixture};
pub use mlp::{DenseLayer, Hidden, Mlp};
pub use norm::{BatchNorm, LayerNorm, NormMode, Renorm};
pub use op::set_explicit;
pub use params::{Params, ParamsBuilder, StateError, load_state, merge_state};
pub use pool::set_threads;
pub use precision::Precision;
pub use random::{Buffers, move_together, normal, tensor_from, uniform};
pub use slope::with_slope;
pub use standardise::{standardised, track_moments};
pub use time::TimeEmbedding;
