//! The two plain calls into MuJoCo for which `mujoco-rs` has no safe form that fits.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::mujoco_c::{mj_deleteModel, mj_loadXML};
use mujoco_rs::wrappers::mj_logging::MjLogMessage;

/// Makes MuJoCo hand its messages to `handler`, for the rest of the process. Only the first call
/// counts. Every way of this crate into MuJoCo has to pass here first.
pub(crate) fn install_log_handler(handler: fn(&MjLogMessage)) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: no other thread may use MuJoCo meanwhile. MuJoCo is used through this crate's
        // environments alone, the first of them is being made, and `Once` keeps every other
        // thread waiting.
        unsafe { set_log_handler(handler) };
    });
}

/// MuJoCo's whole complaint about an MJCF file, or nothing if it has none. `mujoco-rs` cuts it off
/// after 99 characters, before the line number of a long one.
pub(crate) fn xml_error(file: &Path) -> Option<String> {
    let name = CString::new(file.to_str()?).ok()?;
    let mut message: [c_char; 1000] = [0; 1000];
    // SAFETY: `name` is a C string, the virtual file system may be null, `message` has the length
    // that is given, and MuJoCo ends it with a zero.
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
