//! Memory and disk space that a run needs.

mod cgroup;

use crate::base::failure::{Failure, Outcome};
use crate::base::text::bytes;
use procfs::{Current, Meminfo, process::Process};
use replay::Shape;
use rustix::fs::statvfs;
use std::path::Path;
use toml_edit::DocumentMut;

/// Checks that a new replay fits on the disk and in memory. Returns a line that says what it
/// takes.
///
/// # Errors
/// It does not fit.
pub fn check(folder: &Path, shape: &Shape) -> Outcome<String> {
    let disk =
        statvfs(folder).map_err(|error| Failure::file(folder, "ask for free space", error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = shape.bytes();
    // The replay's file should fit in the page cache: otherwise every minibatch would wait
    // for the disk.
    let memory = available();
    for (what, found) in [("disk", Some(free)), ("memory", memory)] {
        if let Some(found) = found.filter(|found| *found < needed) {
            return Err(Failure::Failed(format!(
                "{}: the replay needs {} of {what}, {} are free; make room, lower \
                 train.replay_capacity, or choose another --out",
                folder.display(),
                bytes(needed),
                bytes(found)
            )));
        }
    }
    let memory = memory.map_or("unknown".into(), bytes);
    Ok(format!(
        "the replay takes {} of disk and page cache (free: {} and {memory})",
        bytes(needed),
        bytes(free)
    ))
}

/// Memory that this process can still have, in bytes.
fn available() -> Option<u64> {
    let machine = Meminfo::current().ok().and_then(|info| info.mem_available);
    // A container or a job of a cluster may have less than the machine.
    machine.into_iter().chain(cgroup::free()).min()
}

/// Checks that the networks of a configuration fit in memory, by the sizes of their layers: LibTorch ends
/// the process where they don't. `inputs` is the size of an observation and an action.
///
/// # Errors
/// They don't fit.
pub fn check_networks(settings: &DocumentMut, inputs: usize) -> Outcome<()> {
    for section in ["critic", "actor"] {
        let number = |key: &str| settings.get(section)?.get(key)?.as_integer();
        let (Some(width), Some(depth)) = (number("width"), number("depth")) else { continue };
        let (w, members) = (width as f64, number("members").unwrap_or(1) as f64);
        let numbers = members * w * (inputs as f64 + (depth - 1) as f64 * w);
        // Parameters, gradients, Adam's two moments, and a copy of the parameters.
        let needed = (numbers * 4.0 * 5.0) as u64;
        if let Some(found) = available().filter(|found| *found < needed) {
            return Err(Failure::Usage(format!(
                "{section}.width = {width} with {section}.depth = {depth} makes networks of {}, and {} of \
                 memory are free; choose smaller ones",
                bytes(needed),
                bytes(found)
            )));
        }
    }
    Ok(())
}

/// Memory of this process in bytes, without the pages of mapped files: this grows if there
/// is a leak.
pub fn resident() -> Option<u64> {
    let status = Process::myself().ok()?.status().ok()?;
    status.rssanon.map(|kilobytes| kilobytes * 1024)
}
