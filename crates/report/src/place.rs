//! Finds run folders: `<algorithm>/<task>/seed-<n>/`, at any depth.

use crate::Problem;
use std::path::{Path, PathBuf};

/// A folder this far below the one that was named is not looked at: links may form a ring.
const DEEPEST: usize = 12;

/// A run's folder, with the algorithm, task and seed in its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The algorithm, with the variant's name.
    pub algorithm: String,
    /// The task.
    pub task: String,
    /// The seed.
    pub seed: u64,
    /// The folder.
    pub folder: PathBuf,
}

impl Place {
    /// Parses a path that ends in `<algorithm>/<task>/seed-<n>`.
    fn of(folder: PathBuf) -> Option<Self> {
        let mut names = folder.components().rev().map(|part| part.as_os_str().to_str());
        let seed = names.next()??.strip_prefix("seed-")?.parse().ok()?;
        let (task, algorithm) = (names.next()??.to_string(), names.next()??.to_string());
        Some(Self { algorithm, task, seed, folder })
    }

    /// Whether the folder's name has the seed as the runner writes it. Parsing takes `seed-00` and `seed-+0`
    /// too, which would be further runs of seed 0.
    pub(crate) fn is_named_so(&self) -> bool {
        self.folder.file_name() == Some(format!("seed-{}", self.seed).as_ref())
    }
}

/// All folders at or below `root` whose path ends in `<algorithm>/<task>/seed-<n>`, sorted by name and
/// numerically by seed. Their own subfolders are not searched.
///
/// # Errors
/// A folder can't be read.
pub fn places(root: &Path) -> Result<Vec<Place>, Problem> {
    let mut places = places_and_misnamed(root)?;
    places.retain(Place::is_named_so);
    Ok(places)
}

/// These folders, and those whose seed is written in another way.
pub(crate) fn places_and_misnamed(root: &Path) -> Result<Vec<Place>, Problem> {
    // The path of a run names it, so "." must become a whole path.
    let whole =
        root.canonicalize().map_err(|error| Problem::system(root, "read this folder", error))?;
    let place = |folder: &Path| {
        // As the user wrote it, where that is enough.
        Place::of(root.join(folder.strip_prefix(&whole).ok()?)).or_else(|| Place::of(folder.into()))
    };
    let mut places = Vec::new();
    let mut level = vec![whole.clone()];
    for _ in 0..DEEPEST {
        let mut below = Vec::new();
        for folder in level {
            match place(&folder) {
                Some(place) => places.push(place),
                None => match folders(&folder, &mut below) {
                    Err(_) if folder != whole && is_nobodys(&folder) => {}
                    found => found?,
                },
            }
        }
        level = below;
    }
    places.sort();
    Ok(places)
}

/// Below `root`, the first folder with a file of that name, whatever the folder is called.
pub fn folder_with(root: &Path, name: &str) -> Option<PathBuf> {
    let mut level = vec![root.to_path_buf()];
    for _ in 0..DEEPEST {
        level.sort();
        if let Some(found) = level.iter().find(|folder| folder.join(name).is_file()) {
            return Some(found.clone());
        }
        let mut below = Vec::new();
        level.iter().for_each(|folder| _ = folders(folder, &mut below));
        level = below;
    }
    None
}

/// Whether a folder that can't be read has no runs: it was deleted, or is a disk's own.
fn is_nobodys(folder: &Path) -> bool {
    !folder.exists() || folder.ends_with("lost+found")
}

/// Appends the subfolders of a folder.
fn folders(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let fail = |error| Problem::system(path, "read this folder", error);
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?.path();
        // `is_dir` follows links: results may be on another disk.
        if entry.is_dir() {
            found.push(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;

    #[test]
    fn runs_are_found_at_any_depth_and_in_their_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("2026/may/sac/Hopper-v4/seed-10");
        create_dir_all(run.join("checkpoint/sac/Hopper-v4/seed-3")).unwrap();
        create_dir_all(root.path().join("sac/Hopper-v4/seed-9")).unwrap();
        create_dir_all(root.path().join("sac/Hopper-v4/seed-09")).unwrap();
        create_dir_all(root.path().join("sac/Hopper-v4/seed-+3")).unwrap();
        let found = places(root.path()).unwrap();
        let seeds: Vec<u64> = found.iter().map(|place| place.seed).collect();
        assert_eq!(seeds, [9, 10], "not what lies within a run, and each seed once");
        assert_eq!(places(&run).unwrap()[0].algorithm, "sac");
    }

    #[cfg(unix)]
    #[test]
    fn a_ring_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        create_dir_all(root.path().join("sac/Hopper-v4/seed-0")).unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("again")).unwrap();
        assert!(places(root.path()).unwrap().len() > 1);
    }
}
