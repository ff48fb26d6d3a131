//! Counting the reads of tensors' numbers by the host.
//!
//! On a GPU such a read waits until all its work is done, and ends what could be captured as one
//! graph. What is seen are LibTorch's operations that read (`double_value`, `equal`, a mask as an index,
//! ..) on any device, and copies from a GPU to main memory (`Vec::try_from`, `to_device`). On the CPU
//! nothing shows that `Vec::try_from` or code of our own reads a tensor's memory.

#![expect(unsafe_code, reason = "a callback from C++")]

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};
use tch::Tensor;

/// Called for each read: the operation, whether the tensor is in main memory, and its first number.
type Report = unsafe extern "C" fn(*const c_char, bool, *const c_void);

// In `reads.cpp`.
unsafe extern "C" {
    fn testing_observe_reads(report: Report) -> u64;
    fn testing_ignore_reads(handle: u64);
}

struct Read {
    operation: String,
    on_host: bool,
    first: usize,
}

/// The reads of the count that is under way.
static READS: Mutex<Vec<Read>> = Mutex::new(Vec::new());

unsafe extern "C" fn note(operation: *const c_char, on_host: bool, first: *const c_void) {
    // SAFETY: LibTorch's names end with a zero byte and live as long as the program.
    let operation = unsafe { CStr::from_ptr(operation) }.to_string_lossy().into_owned();
    let read = Read { operation, on_host, first: first as usize };
    READS.lock().unwrap_or_else(PoisonError::into_inner).push(read);
}

/// The operations of `work` that read numbers of a tensor to the host. Tensors that are in main memory
/// on every device (`of_host`, such as counters) may be read; so may any other, if it is there while
/// the [`device`](crate::device) is another.
pub fn reads(of_host: &[Tensor], work: impl FnOnce()) -> Vec<String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: `note` is a function of this signature.
    let handle = unsafe { testing_observe_reads(note) };
    work();
    // SAFETY: the handle is of the callback that was added above, on this thread.
    unsafe { testing_ignore_reads(handle) };
    let found = std::mem::take(&mut *READS.lock().unwrap_or_else(PoisonError::into_inner));
    let of_tensor = |tensor: &Tensor| {
        let first = tensor.data_ptr() as usize;
        first..first + tensor.numel() * tensor.kind().elt_size_in_bytes()
    };
    let allowed: Vec<_> = of_host.iter().map(of_tensor).collect();
    let on_cpu = crate::device() == tch::Device::Cpu;
    let is_allowed = |read: &Read| allowed.iter().any(|range| range.contains(&read.first));
    let counts = |read: &Read| !read.on_host || (on_cpu && !is_allowed(read));
    found.into_iter().filter(counts).map(|read| read.operation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_ask_a_tensor_for_its_numbers_is_seen() {
        let tensor = Tensor::from_slice(&[1f32, 2.0]).to_device(crate::device());
        let (mask, host) = (tensor.gt(1.5), Tensor::from(3i64));
        let seen = |work: &dyn Fn()| reads(&[host.shallow_clone()], work);
        let computed = || assert_eq!((&tensor * 2.0 + tensor.sum(tch::Kind::Float)).size(), [2]);
        assert_eq!(seen(&computed), [""; 0]);
        assert_eq!(seen(&|| assert_eq!(host.int64_value(&[]), 3)), [""; 0]);
        let item = ["aten::_local_scalar_dense"];
        assert_eq!(seen(&|| assert_eq!(tensor.double_value(&[1]), 2.0)), item);
        assert_eq!(seen(&|| assert_eq!(mask.any().int64_value(&[]), 1)), item);
        assert_eq!(seen(&|| assert!(tensor.equal(&tensor.copy()))), ["aten::equal"]);
        let selected = || assert_eq!(tensor.masked_select(&mask).size(), [1]);
        assert!(seen(&selected).contains(&"aten::masked_select".to_string()));
    }
}
