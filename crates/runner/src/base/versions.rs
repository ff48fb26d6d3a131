//! Versions and paths of what the program runs on, and whether the libraries are intact.

use super::device::loaded_libraries;
use super::digest::sha256_of;
use std::fs;
use std::path::{Path, PathBuf};

/// Names and versions that every run's record has.
pub fn versions() -> Vec<(&'static str, String)> {
    vec![
        ("smfp", env!("CARGO_PKG_VERSION").to_string()),
        ("mujoco", envs::mujoco_version()),
        ("libtorch", libtorch_version()),
        ("models", models_hash().unwrap_or_else(|_| "unknown".into())),
    ]
}

/// The processor's name.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).into()
}

/// LibTorch's version, as set-up recorded it next to the library in use.
pub fn libtorch_version() -> String {
    let lib = path_of("libtorch_cpu.so");
    let recorded = lib.parent().and_then(Path::parent).map(|root| root.join("build-version"));
    let text = recorded.and_then(|file| fs::read_to_string(file).ok());
    text.map_or_else(|| "unknown".into(), |text| text.trim().to_string())
}

/// The path of a library that this process has loaded, by the beginning of its name; "nowhere" if it has
/// none.
pub fn path_of(library: &str) -> PathBuf {
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(library))
    };
    loaded_libraries().into_iter().find(is_it).unwrap_or_else(|| "nowhere".into())
}

/// Compares the native libraries in use with the checksums that set-up wrote,
/// and LibTorch's version with the pinned one.
///
/// # Errors
/// One line: the file, what is wrong with it, how to fix it.
pub fn check_libraries() -> Result<String, String> {
    let (found, pinned) = (libtorch_version(), env!("SMFP_TORCH_VERSION"));
    if found != pinned {
        let file = path_of("libtorch_cpu.so");
        return Err(format!(
            "{} is version {found}, expected {pinned}; run `scripts/just setup`",
            file.display()
        ));
    }
    let root = path_of("libmujoco.so");
    // third_party/mujoco/lib/libmujoco.so.X
    let root = root.ancestors().nth(3).unwrap_or(Path::new("")).to_path_buf();
    let list = root.join("SHA256SUMS");
    let text = fs::read_to_string(&list)
        .map_err(|error| format!("{}: {error}; run `scripts/just setup`", list.display()))?;
    let mut checked = 0;
    for entry in text.lines() {
        let (expected, name) = entry
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{}: bad line '{entry}'", list.display()))?;
        let path = root.join(name.trim_start().trim_start_matches('*'));
        let fix = "delete it and run `scripts/just setup`";
        let found =
            sha256_of(&path).map_err(|error| format!("{}: {error}; {fix}", path.display()))?;
        if found != expected {
            return Err(format!("{} was altered (its SHA-256 is {found}); {fix}", path.display()));
        }
        checked += 1;
    }
    if checked == 0 {
        return Err(format!("{}: lists no file; run `scripts/just setup`", list.display()));
    }
    Ok(format!("{checked} files match {}", list.display()))
}

/// The SHA-256 of the models' list of checksums, which identifies all models.
///
/// # Errors
/// The list can't be read.
pub fn models_hash() -> Result<String, String> {
    let list = envs::models_dir().join("SHA256SUMS");
    sha256_of(&list)
        .map_err(|error| format!("{}: {error}; `git checkout models` restores it", list.display()))
}
