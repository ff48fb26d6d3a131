//! Calls into MuJoCo for which `mujoco-rs` has no suitable safe wrapper, and one into the C library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::mujoco_c::{
    mj_deleteModel, mj_loadXML, mjs_delete, mjs_firstElement, mjs_getError, mjs_getName,
    mjs_getString, mjs_nextElement, mjsElement,
};
use mujoco_rs::wrappers::mj_editing::MjSpec;
use mujoco_rs::wrappers::mj_logging::MjLogMessage;
use mujoco_rs::wrappers::mj_model::MjtObjBase;

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

/// The objects of a kind in a specification, with their names.
fn elements(spec: &MjSpec, kind: MjtObjBase) -> impl Iterator<Item = (*mut mjsElement, String)> {
    let spec: *const _ = spec.ffi();
    let next = move |last: &*mut mjsElement| {
        // SAFETY: callers keep the specification, and take no further element once one is deleted.
        Some(unsafe { mjs_nextElement(spec, *last) }).filter(|next| !next.is_null())
    };
    // SAFETY: as above.
    let first =
        Some(unsafe { mjs_firstElement(spec, kind.into()) }).filter(|first| !first.is_null());
    std::iter::successors(first, next).map(|element| {
        // SAFETY: the element lives, and its name is a C string that lives as long.
        let name = unsafe { CStr::from_ptr(mjs_getString(mjs_getName(element))) };
        (element, name.to_string_lossy().into_owned())
    })
}

/// The names of the objects of a kind in a specification; those without a name are left out.
pub(crate) fn names(spec: &MjSpec, kind: MjtObjBase) -> Vec<String> {
    elements(spec, kind).map(|(_, name)| name).filter(|name| !name.is_empty()).collect()
}

/// Deletes an object from a specification, if it is there. (`mujoco-rs` has a method for each kind,
/// and it is unsafe.)
///
/// # Errors
/// MuJoCo's reason against it.
pub(crate) fn delete(spec: &mut MjSpec, kind: MjtObjBase, name: &str) -> Result<(), String> {
    let Some((element, _)) = elements(spec, kind).find(|(_, found)| found == name) else {
        return Ok(());
    };
    // SAFETY: the element lives and is not used after this; nothing else of the specification is
    // borrowed. The message of an error is a C string that the specification owns.
    unsafe {
        let spec: *mut _ = spec.ffi_mut();
        if mjs_delete(spec, element) == 0 {
            return Ok(());
        }
        let message = mjs_getError(spec);
        let unknown = || "no reason given".to_owned();
        Err(if message.is_null() {
            unknown()
        } else {
            CStr::from_ptr(message).to_string_lossy().into_owned()
        })
    }
}

/// The C library's `asinh`, which NumPy uses; Rust's is another formula.
pub(crate) fn asinh(x: f64) -> f64 {
    unsafe extern "C" {
        safe fn asinh(x: f64) -> f64;
    }
    asinh(x)
}
