//! The C interface of the crate `policy`: `include/smfp_policy.h` describes it.
//!
//! Built for `wasm32-unknown-unknown`, it is also the interface for JavaScript, which gets memory
//! by [`smfp_allocate`] to put a file, an observation and the actions in.

use policy::{Error, Policy};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::slice;

const OK: c_int = 0;
const NULL: c_int = 1;
const FILE: c_int = 2;
const NOT_A_POLICY: c_int = 3;
const VERSION: c_int = 4;
const DAMAGED: c_int = 5;
const INVALID: c_int = 6;
const PANIC: c_int = 7;

/// The code of an error.
fn code(error: Error) -> c_int {
    match error {
        Error::NotAPolicy => NOT_A_POLICY,
        Error::Version(_) => VERSION,
        Error::Damaged => DAMAGED,
        Error::Operation(_) | Error::Empty | Error::Inputs | Error::Length { .. } => INVALID,
    }
}

/// Calls a function whose panics must not reach C.
fn guarded(call: impl FnOnce() -> Result<(), c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => OK,
        Ok(Err(code)) => code,
        Err(_) => PANIC,
    }
}

/// Puts a policy from bytes where `out` points to.
///
/// # Safety
/// `out` is valid for a write.
unsafe fn load(bytes: &[u8], out: *mut *mut Policy) -> Result<(), c_int> {
    let policy = Policy::from_bytes(bytes).map_err(code)?;
    // SAFETY: the caller's promise.
    unsafe { *out = Box::into_raw(Box::new(policy)) };
    Ok(())
}

/// Loads a policy from the bytes of a `policy.smfp`.
///
/// # Safety
/// `bytes` points to `length` bytes, `policy` to a pointer; each may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_load(
    bytes: *const u8,
    length: usize,
    policy: *mut *mut Policy,
) -> c_int {
    guarded(|| {
        if policy.is_null() {
            return Err(NULL);
        }
        // SAFETY: the caller's promise.
        unsafe { *policy = null_mut() };
        if bytes.is_null() {
            return Err(NULL);
        }
        // SAFETY: the caller's promise.
        unsafe { load(slice::from_raw_parts(bytes, length), policy) }
    })
}

/// Loads a policy from a file.
///
/// # Safety
/// `path` is a C string, `policy` points to a pointer; each may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_load_file(path: *const c_char, policy: *mut *mut Policy) -> c_int {
    guarded(|| {
        if policy.is_null() {
            return Err(NULL);
        }
        // SAFETY: the caller's promise.
        unsafe { *policy = null_mut() };
        if path.is_null() {
            return Err(NULL);
        }
        // SAFETY: the caller's promise.
        let path = unsafe { CStr::from_ptr(path) };
        let path = path.to_str().map_err(|_| FILE)?;
        let bytes = std::fs::read(path).map_err(|_| FILE)?;
        // SAFETY: the caller's promise.
        unsafe { load(&bytes, policy) }
    })
}

/// Writes the lengths of the observation, z, xi and the actions.
///
/// # Safety
/// `policy` is a loaded policy, `sizes` points to four numbers; each may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_sizes(policy: *const Policy, sizes: *mut [usize; 4]) -> c_int {
    guarded(|| {
        // SAFETY: the caller's promise.
        let (policy, sizes) = unsafe { (policy.as_ref(), sizes.as_mut()) };
        *sizes.ok_or(NULL)? = policy.ok_or(NULL)?.sizes();
        Ok(())
    })
}

/// Writes the actions for an observation.
///
/// # Safety
/// `policy` is a loaded policy that no other thread uses; the others point to as many numbers as
/// [`smfp_sizes`] says. `z` and `xi` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_act(
    policy: *mut Policy,
    obs: *const f32,
    z: *const f32,
    xi: *const f32,
    actions: *mut f32,
) -> c_int {
    guarded(|| {
        // SAFETY: the caller's promise.
        let policy = unsafe { policy.as_mut() }.ok_or(NULL)?;
        if obs.is_null() || actions.is_null() {
            return Err(NULL);
        }
        let [obs_dim, z_dim, xi_dim, act_dim] = policy.sizes();
        // SAFETY: the caller's promise.
        let read = |first: *const f32, n| unsafe {
            (!first.is_null()).then(|| slice::from_raw_parts(first, n))
        };
        let (obs, z, xi) = (read(obs, obs_dim), read(z, z_dim), read(xi, xi_dim));
        // SAFETY: the caller's promise.
        let actions = unsafe { slice::from_raw_parts_mut(actions, act_dim) };
        policy.act(obs.ok_or(NULL)?, z, xi, actions).map_err(code)
    })
}

/// Frees a policy.
///
/// # Safety
/// `policy` is one that [`smfp_load`] returned and that was not freed, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_free(policy: *mut Policy) {
    if !policy.is_null() {
        // SAFETY: made by `Box::into_raw` in `load`.
        drop(unsafe { Box::from_raw(policy) });
    }
}

/// What a code means.
#[unsafe(no_mangle)]
pub extern "C" fn smfp_error(code: c_int) -> *const c_char {
    let text = match code {
        OK => c"no error",
        NULL => c"an argument is NULL",
        FILE => c"the file can't be read",
        NOT_A_POLICY => c"not a policy.smfp: it begins with other bytes",
        VERSION => c"a format version that this runtime does not know: update the runtime",
        DAMAGED => c"the file is cut or damaged: export the policy again",
        INVALID => c"an operation of the file is invalid",
        PANIC => c"internal failure: do not use this policy again",
        _ => c"unknown code",
    };
    text.as_ptr()
}

/// Memory for so many bytes, aligned for floats: for JavaScript, which has no allocator.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub extern "C" fn smfp_allocate(bytes: usize) -> *mut u8 {
    Box::leak(vec![0u64; bytes.div_ceil(8)].into_boxed_slice()).as_mut_ptr().cast()
}

/// Gives memory of [`smfp_allocate`] back; `bytes` is what was asked for.
///
/// # Safety
/// `memory` is from [`smfp_allocate`] with the same number, and was not given back.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn smfp_deallocate(memory: *mut u8, bytes: usize) {
    let words = std::ptr::slice_from_raw_parts_mut(memory.cast::<u64>(), bytes.div_ceil(8));
    // SAFETY: made by `Box::leak` of as many words.
    drop(unsafe { Box::from_raw(words) });
}
