//! What a run needs of the machine, said and checked before it begins.

use crate::base::failure::{Failure, Outcome};
use procfs::{Current, Meminfo, process::Process};
use replay::Shape;
use rustix::fs::statvfs;
use std::path::Path;

/// Checks that a new replay fits on the disk and in memory; a line that says so.
///
/// # Errors
/// It does not.
pub fn check(folder: &Path, shape: &Shape) -> Outcome<String> {
    let disk =
        statvfs(folder).map_err(|error| Failure::file(folder, "ask for free space", error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = shape.bytes();
    // The pages of the file that training draws from are memory as well: with less
    // than that, every minibatch would wait for the disk.
    let memory = Meminfo::current().ok().and_then(|info| info.mem_available);
    for (what, found) in [("disk", Some(free)), ("memory", memory)] {
        if let Some(found) = found.filter(|found| *found < needed) {
            return Err(Failure::Failed(format!(
                "{}: the replay needs {} of {what}, {} are free; make room, lower \
                 train.replay_capacity, or choose another --out",
                folder.display(),
                text(needed),
                text(found)
            )));
        }
    }
    let memory = memory.map_or("unknown".into(), text);
    Ok(format!(
        "the replay takes {} of disk and page cache (free: {} and {memory})",
        text(needed),
        text(free)
    ))
}

/// A number of bytes for people.
pub fn text(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.2} GB", bytes / 1e9) }
}

/// Memory of this process without the pages of mapped files, in bytes: what would
/// grow if something leaked.
pub fn resident() -> Option<u64> {
    let status = Process::myself().ok()?.status().ok()?;
    status.rssanon.map(|kilobytes| kilobytes * 1024)
}
