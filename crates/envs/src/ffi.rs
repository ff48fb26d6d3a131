//! Two calls into MuJoCo for which `mujoco-rs` has no suitable safe wrapper, and one into the C
//! library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::mujoco_c::{mj_deleteModel, mj_loadXML};
use mujoco_rs::wrappers::mj_logging::MjLogMessage;

/// Makes MuJoCo pass its messages to `handler` for the rest of the process. Only the first call has
/// an effect; it must precede any other use of MuJoCo in this crate.
pub(crate) fn install_log_handler(handler: fn(&MjLogMessage)) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: no other thread may use MuJoCo during the call. MuJoCo is used only through this
        // crate's environments, the first of them is being made, and `Once` makes every other
        // thread wait.
        unsafe { set_log_handler(handler) };
    });
}

/// MuJoCo's full error message about an MJCF file, or `None`. `mujoco-rs` truncates it to 99
/// characters, which loses the line number of long messages.
pub(crate) fn xml_error(file: &Path) -> Option<String> {
    let name = CString::new(file.to_str()?).ok()?;
    let mut message: [c_char; 1000] = [0; 1000];
    // SAFETY: `name` is a C string, the virtual file system may be null, `message` has the given
    // length, and MuJoCo terminates it with a zero.
    unsafe {
        let size = message.len() as i32;
        let model = mj_loadXML(name.as_ptr(), ptr::null(), message.as_mut_ptr(), size);
        if !model.is_null() {
            mj_deleteModel(model);
            return None;
        }
        Some(CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned())
    }
}

/// The C library's `asinh`, which NumPy uses; Rust's is another formula.
pub(crate) fn asinh(x: f64) -> f64 {
    unsafe extern "C" {
        safe fn asinh(x: f64) -> f64;
    }
    asinh(x)
}
