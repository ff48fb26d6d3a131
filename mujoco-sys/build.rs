//! Checks the version of the MuJoCo library, and links to it.
//!
//! With the feature `regenerate` it also regenerates `src/mjbatch.rs` from the library's header;
//! ordinary builds use the committed file and do not need libclang.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where set-up puts the library; `.cargo/config.toml` sets it.
const FOLDER: &str = "MUJOCO_DYNAMIC_LINK_DIR";

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the clone");
    let lock = root.join("scripts/native.lock");
    println!("cargo::rerun-if-env-changed={FOLDER}");
    println!("cargo::rerun-if-changed={}", lock.display());
    println!("cargo::rerun-if-changed=build.rs");

    let folder = pinned_version(&lock).and_then(|version| find_library(&version));
    match folder {
        Err(message) => println!("cargo::error={message}"),
        Ok(folder) => {
            println!("cargo::rustc-link-search={}", folder.display());
            println!("cargo::rustc-link-lib=dylib=mujoco");
            #[cfg(feature = "regenerate")]
            bindings::regenerate(&folder);
        }
    }
}

/// MuJoCo's version in `native.lock` (columns: set, name, version ...).
fn pinned_version(lock: &Path) -> Result<String, String> {
    let text = fs::read_to_string(lock)
        .map_err(|cause| format!("cannot read {}: {cause}; restore it from git", lock.display()))?;
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|columns| columns.get(1) == Some(&"mujoco") && !columns[0].starts_with('#'))
        .and_then(|columns| columns.get(2).map(ToString::to_string))
        .ok_or_else(|| format!("{} does not name mujoco; restore it from git", lock.display()))
}

/// The folder that contains `libmujoco.so` of this version.
fn find_library(version: &str) -> Result<PathBuf, String> {
    const FIX: &str = "run `scripts/just setup`";
    let folder = env::var_os(FOLDER).map(PathBuf::from).ok_or_else(|| {
        format!("{FOLDER} is not set; build within the clone, whose .cargo/config.toml sets it")
    })?;
    let library = folder.join("libmujoco.so");
    println!("cargo::rerun-if-changed={}", library.display());
    let content = fs::read(&library)
        .map_err(|cause| format!("cannot read {}: {cause}; {FIX}", library.display()))?;

    // The library's soname contains the version; the file name need not.
    let prefix = b"libmujoco.so.";
    let found = content
        .windows(prefix.len())
        .position(|window| window == prefix)
        .and_then(|at| content[at + prefix.len()..].split(|&byte| byte == 0).next())
        .map_or("unknown".into(), String::from_utf8_lossy);
    if found == version {
        Ok(folder)
    } else {
        let library = library.display();
        Err(format!("{library} is MuJoCo {found}, scripts/native.lock names {version}; {FIX}"))
    }
}

#[cfg(feature = "regenerate")]
mod bindings {
    use std::fs;
    use std::path::Path;

    use sha2::{Digest, Sha256};

    /// Generates `src/mjbatch.rs` from `mjbatch.h`, with mujoco-rs's types.
    pub fn regenerate(library: &Path) {
        let include = library.join("../include");
        let header = include.join("mujoco/mjbatch.h");
        let content = fs::read(&header).expect("mjbatch.h is next to the library");
        let sum: String =
            Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();

        bindgen::Builder::default()
            .header(header.display().to_string())
            // MuJoCo's documentation is in plain comments.
            .clang_args(["-I", &include.display().to_string(), "-fparse-all-comments"])
            // Only this header's items; the types they use come from mujoco-rs.
            .allowlist_file(".*/mjbatch\\.h")
            .allowlist_recursively(false)
            .merge_extern_blocks(true)
            .raw_line("// Written by `scripts/regenerate-bindings.sh`; do not edit.")
            .raw_line("")
            .raw_line("use mujoco_rs::mujoco_c::{mjData, mjModel, mjWarningStat, mjtBool, mjtNum};")
            .raw_line("")
            .raw_line("/// SHA-256 of the `mjbatch.h` that this file was written from.")
            .raw_line(format!("pub const HEADER_SHA256: &str = \"{sum}\";"))
            .generate()
            .expect("bindgen reads mjbatch.h")
            .write_to_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mjbatch.rs"))
            .expect("src/mjbatch.rs can be written");
    }
}
