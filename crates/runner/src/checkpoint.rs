//! Weights on disk: `checkpoint/agent.safetensors`.

use crate::failure::{Failure, Outcome};
use agent::Agent;
use std::fs::{self, File};
use std::path::Path;
use tch::{Device, Tensor};

const AGENT: &str = "agent.safetensors";
/// The environment step at which the state was saved, beside the agent's own tensors.
const STEP: &str = "step";

/// Writes an agent's state; a reader sees the old file or the new one whole.
///
/// # Errors
/// The folder can't be written.
pub fn save(run: &Path, step: u64, agent: &dyn Agent) -> Outcome<()> {
    let folder = run.join("checkpoint");
    let fail = |error: &dyn std::fmt::Display| Failure::file(&folder, "write", error);
    fs::create_dir_all(&folder).map_err(|error| fail(&error))?;
    let (draft, done) = (folder.join("agent.safetensors.new"), folder.join(AGENT));
    let state: Vec<(String, Tensor)> = agent
        .state()
        .into_iter()
        .chain([(STEP.to_string(), Tensor::from(step as i64))])
        .map(|(name, tensor)| (name, tensor.to_device(Device::Cpu).contiguous()))
        .collect();
    Tensor::write_safetensors(&state, &draft).map_err(|error| fail(&error))?;
    File::open(&draft).and_then(|file| file.sync_all()).map_err(|error| fail(&error))?;
    fs::rename(&draft, &done).map_err(|error| fail(&error))?;
    File::open(&folder).and_then(|file| file.sync_all()).map_err(|error| fail(&error))
}

/// Reads an agent's state; answers the step at which it was saved.
///
/// # Errors
/// There is none, it is damaged, or it does not fit the agent.
pub fn load(run: &Path, agent: &mut dyn Agent) -> Outcome<u64> {
    let path = run.join("checkpoint").join(AGENT);
    if !path.is_file() {
        return Err(Failure::Usage(format!(
            "{}: no such file; the run has no checkpoint yet",
            path.display()
        )));
    }
    let saved = Tensor::read_safetensors(&path)
        .map_err(|error| Failure::Usage(format!("{}: damaged: {error}", path.display())))?;
    agent.load(&saved).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let step = saved.iter().find(|(name, _)| name == STEP);
    Ok(step.map_or(0, |(_, step)| step.int64_value(&[]) as u64))
}
