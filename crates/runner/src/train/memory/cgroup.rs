//! Memory left to this process by its control groups, as set by containers, Slurm and systemd.
//!
//! A process is in a group of each hierarchy: one of version 2, and of version 1 one per controller. The
//! limit of a group holds for all groups in it, so every group from the process's to the root counts.

use procfs::process::Process;
use std::fs;
use std::path::Path;

/// The files of a version: limit, use, and the line of `memory.stat` with pages of files that can be
/// dropped at once, which are part of the use.
struct Names {
    limit: &'static str,
    used: &'static str,
    droppable: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    droppable: "total_inactive_file",
};
const V2: Names = Names { limit: "memory.max", used: "memory.current", droppable: "inactive_file" };

/// Bytes that the tightest group leaves; `None` without a limit, or without control groups.
pub fn free() -> Option<u64> {
    let process = Process::myself().ok()?;
    let groups = process.cgroups().ok()?;
    let mounts: Vec<_> = process.mountinfo().ok()?.into_iter().collect();
    let free = |group: procfs::ProcessCGroup| {
        let (names, kind) = match group.hierarchy {
            0 => (&V2, "cgroup2"),
            _ if group.controllers.iter().any(|name| name == "memory") => (&V1, "cgroup"),
            _ => return None,
        };
        let mount = mounts.iter().find(|mount| {
            let memory = || mount.super_options.contains_key("memory");
            mount.fs_type == kind && (kind == "cgroup2" || memory())
        })?;
        // In a container the mount shows a part of the hierarchy, and the group's path is of the whole.
        let within = Path::new(&group.pathname).strip_prefix(&mount.root).unwrap_or(Path::new(""));
        free_in(&mount.mount_point, within, names)
    };
    groups.into_iter().filter_map(free).min()
}

/// What the groups from `root` to `root/within` leave.
fn free_in(root: &Path, within: &Path, names: &Names) -> Option<u64> {
    let group = root.join(within.strip_prefix("/").unwrap_or(within));
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| free_of(group, names)).min()
}

/// What one group leaves; `None` if it has no limit ("max", or a number beyond any memory).
fn free_of(group: &Path, names: &Names) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(names.limit).filter(|limit| *limit < 1 << 60)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let droppable =
        stat.lines().find_map(|line| line.strip_prefix(names.droppable)?.trim().parse().ok());
    let used = number(names.used)?.saturating_sub(droppable.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, names: &Names, limit: &str, used: &str, droppable: u64) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(names.limit), limit).unwrap();
        fs::write(folder.join(names.used), used).unwrap();
        let stat = format!("anon 1\n{} {droppable}\n", names.droppable);
        fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_tightest_group_counts_and_pages_that_can_be_dropped_are_free() {
        for (names, none) in [(&V1, "9223372036854771712\n"), (&V2, "max\n")] {
            let root = tempfile::tempdir().unwrap();
            let job = root.path().join("slurm/job_7");
            group(root.path(), names, none, "900\n", 0);
            assert_eq!(free_in(root.path(), Path::new(""), names), None);
            group(&root.path().join("slurm"), names, "1000\n", "700\n", 200);
            group(&job, names, "800\n", "100\n", 0);
            assert_eq!(free_in(root.path(), Path::new("/slurm/job_7"), names), Some(500));
            assert_eq!(free_of(&job, names), Some(700));
        }
    }
}
