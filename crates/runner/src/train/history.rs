//! Policies that a run keeps over training, for `runner show --over-training` and `runner video --step`.
//!
//! `train.show_every` keeps the agent of the checkpoint at each multiple of so many steps, as
//! `history/step-N.safetensors` in the run's folder. A resumed run keeps what is missing.

use super::checkpoint::AGENT;
use crate::base::failure::{Failure, Outcome};
use agent::Agent;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tch::Tensor;

const FOLDER: &str = "history";

fn file(run: &Path, step: u64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step:012}.safetensors"))
}

/// Whether the agent at a step is to be kept and is not yet: at the first step at or after each multiple of
/// `every` (0: never), where `stride` steps are made at once.
pub fn due(run: &Path, step: u64, every: u64, stride: u64) -> bool {
    every > 0 && step % every < stride && !file(run, step).exists()
}

/// Keeps the agent of a checkpoint, the folder of which is given.
///
/// # Errors
/// A file can't be written.
pub fn keep(run: &Path, step: u64, checkpoint: &Path) -> Outcome<()> {
    let kept = file(run, step);
    let copy = |to: &mut File| io::copy(&mut File::open(checkpoint.join(AGENT))?, to).map(drop);
    fs::create_dir_all(run.join(FOLDER))
        .and_then(|()| report::whole(&kept, copy))
        .map_err(|error| Failure::file(&kept, "write", error))
}

/// The steps of the kept agents of a run, the first one first.
///
/// # Errors
/// None was kept, or the folder can't be read.
pub fn steps(run: &Path) -> Outcome<Vec<u64>> {
    let folder = run.join(FOLDER);
    let none = || {
        Failure::Usage(format!(
            "{}: no policies of earlier steps were kept; a run keeps them that is trained with \
             --show-every N",
            folder.display()
        ))
    };
    if !folder.exists() {
        return Err(none());
    }
    let entries = fs::read_dir(&folder).map_err(|error| Failure::file(&folder, "read", error))?;
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    if steps.is_empty() { Err(none()) } else { Ok(steps) }
}

/// Loads the agent that was kept at a step.
///
/// # Errors
/// It was not kept, or its file is damaged or of another run.
pub fn load(run: &Path, step: u64, agent: &mut dyn Agent) -> Outcome<()> {
    let path = file(run, step);
    if !path.exists() {
        let kept: Vec<String> = steps(run)?.iter().map(u64::to_string).collect();
        return Err(Failure::Usage(format!(
            "{}: the policy of step {step} was not kept, only those of {}",
            path.display(),
            kept.join(", ")
        )));
    }
    let damaged = |error: String| {
        Failure::Usage(format!(
            "{}: {}; delete this file to leave its step out",
            path.display(),
            error.lines().next().unwrap_or_default()
        ))
    };
    let tensors = Tensor::read_safetensors(&path).map_err(|error| damaged(error.to_string()))?;
    agent.load(&tensors).map_err(|error| damaged(error.to_string()))
}

/// So many of the steps, evenly spaced, with the first and the last.
pub fn spread(steps: &[u64], most: usize) -> Vec<u64> {
    if steps.len() <= most {
        return steps.to_vec();
    }
    let last = steps.len() - 1;
    match most {
        0 | 1 => vec![steps[last]],
        _ => (0..most).map(|i| steps[(i * last + (most - 1) / 2) / (most - 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_kept_once_at_multiples_and_where_several_environments_pass_them() {
        let run = tempfile::tempdir().unwrap();
        assert!(due(run.path(), 0, 100, 1) && due(run.path(), 200, 100, 1));
        assert!(!due(run.path(), 150, 100, 1) && !due(run.path(), 100, 0, 1));
        // Three environments: 99, 102.
        assert!(!due(run.path(), 99, 100, 3) && due(run.path(), 102, 100, 3));
        fs::write(run.path().join(AGENT), "weights").unwrap();
        keep(run.path(), 200, run.path()).unwrap();
        keep(run.path(), 0, run.path()).unwrap();
        assert!(!due(run.path(), 200, 100, 1));
        assert_eq!(steps(run.path()).unwrap(), [0, 200]);
    }

    #[test]
    fn what_is_shown_of_many_steps_begins_with_the_first_and_ends_with_the_last() {
        let steps: Vec<u64> = (0..=20).map(|i| i * 1000).collect();
        assert_eq!(spread(&steps, 6), [0, 4000, 8000, 12000, 16000, 20000]);
        assert_eq!(spread(&steps[..3], 6), [0, 1000, 2000]);
        assert_eq!(spread(&steps, 2), [0, 20000]);
        assert_eq!(spread(&steps, 1), [20000]);
    }
}
