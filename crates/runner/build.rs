//! Keeps the CUDA half of LibTorch linked, and stamps commit and pinned version.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    // Nothing of ours names a symbol of libtorch_cuda, so the linker drops it
    // although torch-sys asks for it, and every GPU seems to be missing. Only
    // the program's own build script can pass the flag that keeps it.
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let lib = PathBuf::from(std::env::var_os("LIBTORCH").unwrap_or_default()).join("lib");
    println!("cargo:rerun-if-changed={}", lib.display());
    if lib.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-search=native={}", lib.display());
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }

    // The version that start-up compares LibTorch with is named in the lock only.
    let lock = "../../scripts/native.lock";
    println!("cargo:rerun-if-changed={lock}");
    let text =
        std::fs::read_to_string(lock).expect("scripts/native.lock is part of the repository");
    let columns = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let torch =
        columns.into_iter().find(|columns| columns.get(1) == Some(&"torch") && columns[0] == "cpu");
    let version = torch.expect("scripts/native.lock pins torch")[2].to_string();
    println!("cargo:rustc-env=SMFP_TORCH_VERSION={version}");

    println!("cargo:rustc-env=SMFP_COMMIT={}", commit().unwrap_or_else(|| "unknown".into()));
}

/// The commit of the clone, with `+changes` if the sources differ from it; none of an unpacked archive,
/// also where it lies in another repository.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir("../..").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let root = std::fs::canonicalize("../..").ok()?;
    if std::fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()? != root {
        return None;
    }
    // A commit appends to this log; it is elsewhere in a worktree.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    let sources: Vec<PathBuf> =
        std::fs::read_dir("..").ok()?.flatten().map(|it| it.path()).collect();
    let sources = sources.iter().map(|folder| folder.join("src"));
    let watched = sources.chain([root.join(log), root.join("Cargo.lock")]);
    for path in watched.filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let changed =
        git(&["status", "--porcelain", "--", "crates/*/src/*", "mujoco-sys/src", "Cargo.lock"])?;
    let mark = if changed.is_empty() { "" } else { "+changes" };
    Some(git(&["rev-parse", "HEAD"])? + mark)
}
