//! The numbers of LibTorch's tensors as slices.
//!
//! A `Tensor` is a handle: several may share one storage, and writing through one
//! changes what the others read. Rust's borrow of a handle says nothing about the
//! rest, so both functions are unsafe.

#![expect(unsafe_code, reason = "LibTorch gives out its storage as a raw pointer")]

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

// In `storage.cpp`. A `C_tensor` is an `at::Tensor`.
unsafe extern "C" {
    fn networks_f32_on_cpu(tensors: *const *const C_tensor, count: usize) -> bool;
    fn networks_values(tensor: *const C_tensor, count: *mut usize) -> *mut f32;
}

/// Whether [`values`] can be taken of all tensors once they are contiguous: `f32` in
/// main memory.
pub(crate) fn are_f32_on_cpu(tensors: &[&Tensor]) -> bool {
    let pointers: Vec<_> = tensors.iter().map(|tensor| tensor.as_ptr()).collect();
    // SAFETY: the pointers are of tensors that outlive the call.
    unsafe { networks_f32_on_cpu(pointers.as_ptr(), pointers.len()) }
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
    let (first, count) = numbers(tensor);
    // SAFETY: checked to be contiguous `f32` in main memory, which lives as long as
    // the handle; that nobody writes to it is the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
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
    let (first, count) = numbers(tensor);
    // SAFETY: as above; that nobody else uses it is the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(first, count) }
}

/// Where a tensor's numbers are, and their count.
fn numbers(tensor: &Tensor) -> (*mut f32, usize) {
    let mut count = 0;
    // SAFETY: the pointer is of a tensor that outlives the call.
    let first = unsafe { networks_values(tensor.as_ptr(), &raw mut count) };
    if count == 0 {
        return (std::ptr::NonNull::dangling().as_ptr(), 0); // LibTorch has no memory for none
    }
    assert!(!first.is_null(), "expected contiguous f32 on the CPU");
    (first, count)
}
