//! The numbers of LibTorch's tensors as slices.
//!
//! A `Tensor` is a handle: several may share one storage, and writing through one
//! changes what the others read. Rust's borrow of a handle says nothing about the
//! rest, so both functions are unsafe.

#![expect(unsafe_code, reason = "LibTorch gives out its storage as a raw pointer")]

use tch::{Device, Kind, Tensor};

/// Whether [`values`] can be taken of a tensor once it is contiguous: `f32` in main
/// memory.
pub(crate) fn is_f32_on_cpu(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float
}

/// A new `f32` matrix in main memory, whose contents are arbitrary.
pub(crate) fn empty(rows: usize, columns: usize) -> Tensor {
    Tensor::empty([rows as i64, columns as i64], (Kind::Float, Device::Cpu))
}

/// The numbers of a contiguous `f32` tensor in main memory, row-major.
///
/// # Panics
/// If the tensor is of another kind, on another device, or not contiguous.
///
/// # Safety
/// While the slice lives, nobody writes to the storage, through any handle.
pub(crate) unsafe fn values(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: checked to be contiguous `f32` in main memory, which lives as long as
    // the handle; that nobody writes to it is the caller's promise.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel()) }
}

/// The same numbers, to write them.
///
/// # Panics
/// As [`values`].
///
/// # Safety
/// While the slice lives, nobody else reads or writes the storage, through any
/// handle.
pub(crate) unsafe fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as above; that nobody else uses it is the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}

fn check(tensor: &Tensor) {
    assert!(is_f32_on_cpu(tensor) && tensor.is_contiguous(), "expected contiguous f32 on the CPU");
}
