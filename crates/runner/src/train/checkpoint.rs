//! Checkpoints: everything that a run needs to resume as if it had never stopped.
//!
//! ```text
//! checkpoint/
//!   replay.bin                 the replay, written as it fills
//!   step-000000020000/         a checkpoint; the one before it is kept too
//!     agent.safetensors        networks, optimiser moments, running statistics
//!     run.json                 counters, random streams, simulators, CSV lengths
//!     SHA256SUMS               of both, as `sha256sum --check` reads it
//! ```
//!
//! A checkpoint is written under another name, synced to the disk and then renamed, so
//! that it is either complete or not there.

use crate::base::console::message;
use crate::base::digest::{sha256, sha256_of};
use crate::base::failure::{Failure, Outcome};
use crate::train::interval::Interval;
use agent::{Agent, Random};
use replay::Cursor;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Version of `run.json` and of the replay's rows. Other versions are refused.
const FORMAT: u32 = 2;
/// The folder of a run's checkpoints and of its replay.
pub const FOLDER: &str = "checkpoint";
/// The replay's file, in that folder.
const REPLAY: &str = "replay.bin";
/// The agent's tensors, in a checkpoint's folder.
pub const AGENT: &str = "agent.safetensors";
const RUN: &str = "run.json";
const SUMS: &str = "SHA256SUMS";
/// Name of a checkpoint that is being written.
const UNFINISHED: &str = "unfinished";

/// `run.json`: the state of a run, except for the agent and the replay's rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The run that it belongs to.
    pub identity: Identity,
    /// Steps, updates, episodes.
    pub counters: Counters,
    /// The random streams.
    pub streams: Streams,
    /// One for each environment.
    pub environments: Vec<EnvironmentState>,
    /// Slots of a ring of `replay.bin`. (Absent from checkpoints of earlier versions, whose
    /// settings gave it.)
    #[serde(default)]
    pub replay_ring: Option<usize>,
    /// Sums for the next row of `train.csv`.
    pub interval: Interval,
    /// `train.csv` so far.
    pub train_csv: FileMark,
    /// `eval.csv` so far.
    pub eval_csv: FileMark,
    /// Seconds of work so far, including those before a stop.
    pub wall_s: f64,
}

/// Which run a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of `run.json`.
    pub format: u32,
    /// The algorithm.
    pub algo: String,
    /// The task.
    pub env: String,
    /// The master seed.
    pub seed: u64,
}

impl Identity {
    /// The identity of a run of this version.
    pub fn new(algo: &str, env: &str, seed: u64) -> Self {
        Self { format: FORMAT, algo: algo.into(), env: env.into(), seed }
    }
}

/// Counts of what a run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Environment steps.
    pub step: u64,
    /// Critic updates.
    pub updates: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Updates that are due: a fraction if there is less than one per step.
    pub due: f64,
    /// The largest absolute value of a reward so far.
    pub largest_reward: f64,
    /// Whether the evaluation of this step is still to be made.
    pub evaluation_due: bool,
}

/// The random streams that training draws from. Every evaluation starts streams of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// Actions while exploring.
    pub exploration: Random,
    /// Draws from the replay.
    pub replay: Random,
    /// Noise of the updates.
    pub learning: Random,
}

/// The state of one environment, and of its ring in the replay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentState {
    /// `envs::Batch::save_state`: simulator, random stream, episode.
    pub simulator: Vec<u8>,
    /// Slots of the ring written so far.
    pub written: u64,
    /// The current observation. `f32` numbers, which `f64` holds exactly.
    pub obs: Vec<f64>,
    /// Return and length of the episode so far.
    pub episode: (f64, u32),
    /// Its running discounted return. (Absent from checkpoints of earlier versions, none of
    /// whose algorithms used it.)
    #[serde(default)]
    pub discounted: f64,
}

impl EnvironmentState {
    /// The position of the ring.
    pub fn cursor(&self) -> Cursor {
        Cursor { written: self.written, obs: self.obs.iter().map(|x| *x as f32).collect() }
    }
}

/// The part of a growing file that belongs to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMark {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl FileMark {
    /// The file as it is now; a missing one counts as empty.
    ///
    /// # Errors
    /// It can't be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let bytes = read_front(path, u64::MAX)?;
        Ok(Self { bytes: bytes.len() as u64, sha256: sha256(&bytes[..])? })
    }

    /// Checks that the file still begins with this part.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, path: &Path) -> Result<(), String> {
        let bytes = read_front(path, self.bytes).map_err(|error| error.to_string())?;
        if (bytes.len() as u64) < self.bytes {
            let (found, expected) = (bytes.len(), self.bytes);
            return Err(format!("{found} bytes, expected {expected} at least"));
        }
        let found = sha256(&bytes[..]).map_err(|error| error.to_string())?;
        if found == self.sha256 { Ok(()) } else { Err("altered since the checkpoint".into()) }
    }
}

fn read_front(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut front = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(bytes).read_to_end(&mut front)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(front)
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    /// Steps of those that are kept, oldest first: two at most.
    kept: Vec<u64>,
}

impl Checkpoints {
    /// The checkpoints in a run's folder. None of them counts as intact yet.
    ///
    /// # Errors
    /// The folder for them can't be made.
    pub fn open(run: &Path) -> Outcome<Self> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::file(&folder, "make this folder", error))?;
        Ok(Self { folder, kept: Vec::new() })
    }

    /// The replay's file.
    pub fn replay(&self) -> PathBuf {
        self.folder.join(REPLAY)
    }

    /// The folder of the checkpoint at a step.
    pub fn at(&self, step: u64) -> PathBuf {
        at(&self.folder, step)
    }

    /// Counts the checkpoint at a step, from which a run was resumed, as intact, and keeps the one before
    /// it: the run may write that step once more.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn resumed(&mut self, step: u64) -> Outcome<()> {
        let older = steps(&self.folder)?.into_iter().filter(|older| *older < step).max();
        self.kept = older.into_iter().chain([step]).collect();
        Ok(())
    }

    /// Writes a checkpoint, then deletes all others except the one before.
    ///
    /// # Errors
    /// The agent has numbers that are not finite, or the folder can't be written; the
    /// earlier checkpoints are kept.
    pub fn save(&mut self, state: &RunState, agent: &dyn Agent) -> Outcome<()> {
        let step = state.counters.step;
        let tensors = finite_state(agent).map_err(|name| {
            let kept = self.kept.last().map_or("none".into(), |step| format!("step {step}"));
            Failure::Failed(format!(
                "training diverged by step {step}: {name} is not finite; the last good checkpoint \
                 ({kept}) is kept; a smaller learning rate usually helps"
            ))
        })?;
        let (draft, done) = (self.folder.join(UNFINISHED), self.at(step));
        self.write(&draft, &done, state, &tensors).map_err(|error| {
            // A half-written checkpoint only takes space, and the disk may be full.
            let _ = fs::remove_dir_all(&draft);
            Failure::file(&done, "write", error)
        })?;
        self.kept.retain(|kept| *kept != step);
        self.kept.push(step);
        if self.kept.len() > 2 {
            self.kept.remove(0);
        }
        self.delete_all_but(&self.kept)
    }

    fn write(
        &self,
        draft: &Path,
        done: &Path,
        state: &RunState,
        tensors: &[(String, Tensor)],
    ) -> io::Result<()> {
        remove(draft)?;
        fs::create_dir(draft)?;
        let (agent, run) = (draft.join(AGENT), draft.join(RUN));
        Tensor::write_safetensors(tensors, &agent).map_err(|error| {
            // (The library has the system's error in its text only.)
            let full = error.to_string().contains("StorageFull");
            match full {
                true => io::Error::from_raw_os_error(libc::ENOSPC),
                false => io::Error::other(error),
            }
        })?;
        File::open(&agent)?.sync_all()?;
        write_safely(&run, &serde_json::to_vec(state)?)?;
        let sum = |name: &str| Ok(format!("{}  {name}\n", sha256_of(&draft.join(name))?));
        let sums: io::Result<String> = [AGENT, RUN].into_iter().map(sum).collect();
        write_safely(&draft.join(SUMS), sums?.as_bytes())?;
        File::open(draft)?.sync_all()?;
        replace(draft, done)?;
        File::open(&self.folder)?.sync_all()
    }

    fn delete_all_but(&self, kept: &[u64]) -> Outcome<()> {
        for step in steps(&self.folder)?.into_iter().filter(|step| !kept.contains(step)) {
            let old = self.at(step);
            remove(&old).map_err(|error| Failure::file(&old, "delete", error))?;
        }
        Ok(())
    }

    /// Deletes what only a resumed run needs; the last checkpoint stays, and the replay if it
    /// is to be kept for a longer run.
    ///
    /// # Errors
    /// A file can't be deleted.
    pub fn finish(&self, keep_replay: bool) -> Outcome<()> {
        // A run ends with a checkpoint: the newest. (`kept` is empty if another process wrote it.)
        if let Some(last) = steps(&self.folder)?.first() {
            self.delete_all_but(&[*last])?;
        }
        let replay = self.replay();
        if keep_replay || !replay.exists() {
            return Ok(());
        }
        remove(&replay).map_err(|error| Failure::file(&replay, "delete", error))
    }
}

/// The agent's tensors on the host, or the name of the first that is not finite.
fn finite_state(agent: &dyn Agent) -> Result<Vec<(String, Tensor)>, String> {
    let on_host = |(name, tensor): (String, Tensor)| {
        let tensor = tensor.to_device(Device::Cpu).contiguous();
        let exact = matches!(tensor.kind(), Kind::Int64 | Kind::Int | Kind::Uint8 | Kind::Bool);
        let finite = exact || tensor.isfinite().all().int64_value(&[]) == 1;
        if finite { Ok((name, tensor)) } else { Err(name) }
    };
    agent.state().into_iter().map(on_host).collect()
}

fn write_safely(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames a folder to one that may exist: a run that is stopped just after it was resumed saves the
/// same step again, and that checkpoint may be the only one.
fn replace(draft: &Path, done: &Path) -> io::Result<()> {
    if done.exists() {
        let exchange = RenameFlags::EXCHANGE;
        if renameat_with(CWD, draft, CWD, done, exchange).is_ok() {
            return remove(draft);
        }
        remove(done)?; // a file system that can't exchange them, such as NFS
    }
    fs::rename(draft, done)
}

/// Deletes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// The replay's file of a run, which an unfinished one has, and a finished one if it was to keep it.
pub fn replay_of(run: &Path) -> PathBuf {
    run.join(FOLDER).join(REPLAY)
}

/// The checkpoint at a step, in the folder of all.
fn at(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:012}"))
}

/// Steps of the checkpoints in a folder, newest first. A missing folder has none.
///
/// # Errors
/// The folder can't be read.
pub fn steps(folder: &Path) -> Outcome<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::file(folder, "read", error)),
    };
    let step =
        |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = entries.flatten().filter_map(step).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// Reads a checkpoint and compares all of it with its checksums.
///
/// # Errors
/// One line: the part that is missing, damaged or of another run, and what is wrong.
pub fn read(
    folder: &Path,
    expected: &Identity,
) -> Result<(RunState, Vec<(String, Tensor)>), String> {
    let damaged = |name: &str, error: &dyn std::fmt::Display| {
        format!("{}: damaged: {error}", folder.join(name).display())
    };
    let sums = fs::read_to_string(folder.join(SUMS)).map_err(|error| damaged(SUMS, &error))?;
    for name in [AGENT, RUN] {
        let recorded = sums.lines().find_map(|line| line.strip_suffix(&format!("  {name}")));
        let recorded = recorded.ok_or_else(|| damaged(SUMS, &format!("no checksum of {name}")))?;
        let found = sha256_of(&folder.join(name));
        if found.map_err(|error| damaged(name, &error))? != recorded {
            return Err(damaged(name, &"its SHA-256 is not the one in SHA256SUMS"));
        }
    }
    let run = fs::read(folder.join(RUN)).map_err(|error| damaged(RUN, &error))?;
    // The identity alone first: another version may have other fields.
    #[derive(Deserialize)]
    struct Head {
        identity: serde_json::Value,
    }
    let head: Head = serde_json::from_slice(&run).map_err(|error| damaged(RUN, &error))?;
    let wanted = serde_json::to_value(expected).expect("plain values");
    if head.identity != wanted {
        let path = folder.join(RUN).display().to_string();
        return Err(format!("{path}: a checkpoint of {}, expected {wanted}", head.identity));
    }
    let state = serde_json::from_slice(&run).map_err(|error| damaged(RUN, &error))?;
    let tensors =
        Tensor::read_safetensors(folder.join(AGENT)).map_err(|error| damaged(AGENT, &error))?;
    Ok((state, tensors))
}

/// Loads the newest intact checkpoint of a run into an agent, and returns its step. A
/// damaged one is reported on stderr, and the one before is used.
///
/// # Errors
/// There is none that fits the agent.
pub fn load_agent(run: &Path, expected: &Identity, agent: &mut dyn Agent) -> Outcome<u64> {
    let folder = run.join(FOLDER);
    let mut problem = None;
    for step in steps(&folder)? {
        let path = at(&folder, step);
        let loaded = read(&path, expected).and_then(|(_, tensors)| {
            agent.load(&tensors).map_err(|error| format!("{}: {error}", path.join(AGENT).display()))
        });
        match loaded {
            Ok(()) => return Ok(step),
            Err(error) => {
                message(format!("warning: {error}"));
                problem.get_or_insert(error);
            }
        }
    }
    let none = || format!("{}: the run has no checkpoint yet", folder.display());
    Err(Failure::Usage(problem.unwrap_or_else(none)))
}

#[cfg(test)]
mod tests;
