//! Where runs lie: `<algorithm>/<task>/seed-<n>/`.

use crate::Problem;
use std::path::{Path, PathBuf};

/// A run's folder, and what its path says.
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
    /// What a path says that ends like a run's.
    fn of(folder: PathBuf) -> Option<Self> {
        let mut names = folder.components().rev().map(|part| part.as_os_str().to_str());
        let seed = names.next()??.strip_prefix("seed-")?.parse().ok()?;
        let (task, algorithm) = (names.next()??.to_string(), names.next()??.to_string());
        Some(Self { algorithm, task, seed, folder })
    }
}

/// Folders `levels` below another that are named as a run's is, in the order of their names,
/// seeds by number: 3 below a folder of results, 2 below an algorithm's.
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

/// Adds the folders in a folder.
fn folders(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let fail = |error| Problem::system(path, "read this folder", error);
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?.path();
        // `is_dir` follows links: results may lie on another disk.
        if entry.is_dir() {
            found.push(entry);
        }
    }
    Ok(())
}
