//! Finds run folders: `<algorithm>/<task>/seed-<n>/`.

use crate::Problem;
use std::path::{Path, PathBuf};

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
}

/// Run folders `levels` below a folder (3 for a results folder, 2 for an algorithm's),
/// sorted by name and numerically by seed.
///
/// # Errors
/// A folder can't be read.
pub fn places(root: &Path, levels: usize) -> Result<Vec<Place>, Problem> {
    let mut level = vec![root.to_path_buf()];
    for _ in 0..levels {
        let mut below = Vec::new();
        for path in &level {
            folders(path, &mut below)?;
        }
        level = below;
    }
    let mut places: Vec<Place> = level.into_iter().filter_map(Place::of).collect();
    places.sort();
    Ok(places)
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
