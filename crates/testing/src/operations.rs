//! What LibTorch's operations are called with.
//!
//! A CUDA graph repeats the operations of one update: with the same numbers of the host, on tensors at
//! the same place. Whether another update is the same can be seen on the CPU.

#![expect(unsafe_code, reason = "a callback from C++")]

use std::ffi::{CStr, c_char};
use std::sync::{Mutex, PoisonError};

/// Called for each operation with its text.
type Report = unsafe extern "C" fn(*const c_char);

// In `operations.cpp`.
unsafe extern "C" {
    fn testing_observe_operations(report: Report) -> u64;
    fn testing_ignore_operations(handle: u64);
}

/// The operations of the record that is under way.
static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" fn note(call: *const c_char) {
    // SAFETY: the caller's text ends with a zero byte and lives until this returns.
    let call = unsafe { CStr::from_ptr(call) }.to_string_lossy().into_owned();
    CALLS.lock().unwrap_or_else(PoisonError::into_inner).push(call);
}

/// The operations of `work` in order: each with its name, the host's numbers, and kind, shape and storage of
/// each tensor; then the places of the storages that were there before (`#.. is at ..`), and of results
/// that outlive the work (`#.. stays behind at ..`). Two equal lists are one computation on the same tensors.
pub fn operations(work: impl FnOnce()) -> Vec<String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: `note` is a function of this signature.
    let handle = unsafe { testing_observe_operations(note) };
    work();
    // SAFETY: the handle is of the callback that was added above, on this thread.
    unsafe { testing_ignore_operations(handle) };
    std::mem::take(&mut *CALLS.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn another_number_another_shape_or_another_tensor_is_another_record() {
        let (x, y) = (Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[3f32, 4.0]));
        let of = |x: &Tensor, factor: f64, rows: i64| {
            operations(|| {
                let part = (x * factor).narrow(0, 0, rows);
                let _ = (part + 1.0).sum(Kind::Float);
            })
        };
        let first = of(&x, 2.0, 2);
        assert!(first.iter().any(|call| call.starts_with("aten::mul(")), "{first:?}");
        assert_eq!(first, of(&x, 2.0, 2));
        let _ = x.shallow_clone().fill_(7.0);
        assert_eq!(first, of(&x, 2.0, 2), "what a tensor holds does not count");
        assert_ne!(first, of(&x, 2.5, 2));
        assert_ne!(first, of(&x, 2.0, 1));
        assert_ne!(first, of(&y, 2.0, 2));
        let (mut kept, mut copy) = (None, x.copy());
        let stays = |calls: &[String]| calls.iter().any(|call| call.contains(" stays behind at "));
        assert!(stays(&operations(|| kept = Some(&x * 2.0))), "{kept:?}");
        assert!(!stays(&operations(|| copy += &x)), "in place");
    }
}
