//! Explicit passes through a network on the CPU, in `f32`.
//!
//! LibTorch stays the owner of all numbers; these functions read and write the
//! storage of its tensors. What they save against its operations and autograd:
//! 16 rows lie beside each other, so that nothing is packed for a product or copied
//! between two (`lanes.rs`, `product.rs`), memory is used again, a chunk of rows goes
//! through all layers while a layer's weights are in the cache, and independent
//! parts run on all threads ([`crate::pool`]).
//!
//! The number of threads changes no number: rows are cut into chunks of a fixed
//! size, and sums over chunks are taken in their order.

mod backward;
mod forward;
mod kernels;
mod lanes;
mod norm;
mod product;
mod view;

pub(crate) use backward::backward;
pub(crate) use forward::{Kept, forward, tangent};
pub(crate) use kernels::{AdamStep, adam};
pub use product::multiplications;

use tch::{Device, Kind, Tensor};

/// Whether a tensor is one that this module can work on.
pub(crate) fn handles(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float
}

/// A new tensor whose contents are to be written.
pub(crate) fn empty(rows: usize, columns: usize) -> Tensor {
    Tensor::empty([rows as i64, columns as i64], (Kind::Float, Device::Cpu))
}

/// The numbers of a contiguous tensor, row-major.
pub(crate) fn values(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: checked to be contiguous `f32` in main memory; the storage lives
    // as long as the tensor. Whoever writes to it (an optimiser, say) does so
    // through `&mut`, between passes.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel()) }
}

/// The numbers of a contiguous tensor, to write them.
pub(crate) fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as above, and the tensor is borrowed mutably. Views that share
    // its storage are not read while the slice lives: each caller either has
    // just made the tensor or borrows its owner mutably.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}

fn check(tensor: &Tensor) {
    assert!(handles(tensor) && tensor.is_contiguous(), "expected contiguous f32 on the CPU");
}
