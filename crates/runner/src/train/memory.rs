//! Memory and disk space that a run needs.

mod cgroup;

use crate::base::failure::{Failure, Outcome};
use crate::base::text::bytes;
use procfs::{Current, Meminfo, process::Process};
use replay::Shape;
use rustix::fs::statvfs;
use std::path::Path;

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
    let machine = Meminfo::current().ok().and_then(|info| info.mem_available);
    // A container or a job of a cluster may have less than the machine.
    let memory = machine.into_iter().chain(cgroup::free()).min();
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

/// Memory of this process in bytes, without the pages of mapped files: this grows if there
/// is a leak.
pub fn resident() -> Option<u64> {
    let status = Process::myself().ok()?.status().ok()?;
    status.rssanon.map(|kilobytes| kilobytes * 1024)
}
