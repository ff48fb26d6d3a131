//! Explicit passes through a network on the CPU, in `f32`.
//!
//! They work on slices; [`crate::op`] decides when, and `mlp.rs` takes the slices out
//! of LibTorch's tensors. What they save against LibTorch's operations and autograd:
//! rows are interleaved by 16, so that nothing is packed for a product or copied
//! between two (`lanes.rs`, `product.rs`); memory is reused; a chunk of rows goes
//! through all layers while a layer's weights are in the cache; and independent parts
//! run on all threads ([`crate::pool`]).
//!
//! The number of threads changes no number: rows are cut into chunks of a fixed
//! size, and sums over chunks are taken in their order.

mod activation;
mod backward;
mod categorical;
mod columns;
mod forward;
mod gaussian;
mod lanes;
mod line;
mod norm;
mod pairs;
mod product;
mod tile;
mod view;

pub(crate) use backward::backward;
pub(crate) use categorical::{Bins as BinsView, Rows, cross_entropy, means, means_backward};
pub(crate) use forward::{Kept, forward, move_running_statistics, tangent};
pub(crate) use gaussian::{
    component, component_backward, spread, squash, squash_action, squash_backward,
    tanh_with_log_slope,
};
pub use product::multiplications;
pub(crate) use view::View;
