//! LibTorch-backed networks.
//!
//! The plan of the house: an *architecture* ([`Mlp`], [`Critics`]) holds no
//! numbers, only where its tensors lie in a list; the numbers are a
//! [`Params`], one flat vector per network. A forward pass takes both, so the
//! online network, its target, a lagged copy and a frozen view run through the
//! same code, and the optimiser ([`Adam`]), Polyak averaging and checks for
//! NaN are a few operations on one vector each.

mod adam;
mod counter;
mod cpu;
mod critic;
mod gaussian;
mod mlp;
mod node;
mod norm;
mod params;
mod pool;
mod random;
mod time;

pub use adam::{Adam, AdamConfig};
pub use counter::Counter;
pub use cpu::multiplications;
pub use critic::{
    Aggregate, CriticKind, CriticPass, Critics, CriticsConfig, TdErrors, TdTarget, td_errors,
};
pub use gaussian::{gaussian_log_density, squashed_gaussian, squashed_log_prob, tanh_log_slope};
pub use mlp::{Activation, Linear, Mlp};
pub use norm::{BatchNorm, LayerNorm, NormMode, Renorm};
pub use params::{Params, ParamsBuilder, StateError, load_state, merge_state};
pub use pool::set_threads;
pub use random::{move_together, normal, tensor_from, uniform};
pub use time::TimeEmbedding;
