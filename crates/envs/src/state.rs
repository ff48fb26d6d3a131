//! Saves an environment in the middle of an episode and restores it exactly.
//!
//! The format is for checkpoints of one version of this program, little-endian: length and id of
//! the task, the random stream, the episode, MuJoCo's counts of warnings, then MuJoCo's state
//! vector (`mjSTATE_INTEGRATION`: time, positions, velocities, activations, warm start, controls,
//! applied forces ...). It is the same for a single environment and for a member of a batch.

use mujoco_rs::mujoco_c::mjWarningStat;
use mujoco_rs::wrappers::mj_data::MjtState;

use crate::env::Env;
use crate::episode::{Episode, Memory, Rules};
use crate::error::Error;
use crate::physics::Simulation;

/// The part of MuJoCo's state that future steps depend on.
pub(crate) const INTEGRATION: u32 = MjtState::mjSTATE_INTEGRATION as u32;

impl Env {
    /// The state that future steps and resets depend on. The last observation is not part of
    /// it: the caller must store it if needed.
    pub fn save_state(&self) -> Vec<u8> {
        let physics = self.simulation.state(INTEGRATION);
        write(&self.rules, &self.memory, self.simulation.warning(), &physics)
    }

    /// Restores a state that [`save_state`](Self::save_state) returned for the same task and
    /// model.
    ///
    /// # Errors
    /// [`Error::State`] if the bytes are of another task, too short or too long; the environment
    /// is then unchanged.
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.memory = read(&self.rules, bytes, &mut self.simulation)?;
        Ok(())
    }
}

/// Serialises a state for [`read`].
pub(crate) fn write(
    rules: &Rules,
    memory: &Memory,
    warnings: &[mjWarningStat],
    physics: &[f64],
) -> Vec<u8> {
    let task = &rules.spec.id;
    let mut bytes = vec![task.len() as u8];
    bytes.extend(task.as_bytes());

    bytes.push(u8::from(memory.random.is_some()));
    let random = memory.random.clone().unwrap_or_else(|| rules.task.stream(0));
    bytes.extend(random.to_bytes());

    bytes.push(u8::from(memory.episode.is_some()));
    let none = Episode { steps: 0, over: false };
    let episode = memory.episode.unwrap_or(none);
    bytes.extend(episode.steps.to_le_bytes());
    bytes.push(u8::from(episode.over));
    let kept = rules.task.kept().iter().flat_map(|kept| &memory.notes[kept.clone()]);
    bytes.extend(kept.flat_map(|x| x.to_le_bytes()));

    for warning in warnings {
        bytes.extend(warning.number.to_le_bytes());
    }
    bytes.extend(physics.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// Restores `simulation` from the bytes of [`write`], and returns the rest of the state.
///
/// # Errors
/// [`Error::State`]; `simulation` is then unchanged.
pub(crate) fn read(
    rules: &Rules,
    bytes: &[u8],
    simulation: &mut Simulation,
) -> Result<Memory, Error> {
    let size = simulation.model().state_size(INTEGRATION);
    let task = &rules.spec.id;
    let fail = |reason: String| Error::State { task: task.clone(), reason };

    let mut reader = Reader(bytes);
    let short = || fail(format!("{} bytes are too few", bytes.len()));
    let [length] = reader.array().ok_or_else(short)?;
    let id = reader.take(usize::from(length)).ok_or_else(short)?;
    if id != task.as_bytes() {
        return Err(fail(format!("it is a state of '{}'", String::from_utf8_lossy(id))));
    }
    let mut read = || {
        let [seeded] = reader.array()?;
        let mut memory = Memory::new(rules.task.as_ref());
        let mut random = rules.task.stream(0);
        random.restore(reader.take(random.to_bytes().len())?)?;
        memory.random = (seeded == 1).then_some(random);
        let [begun] = reader.array()?;
        let episode =
            Episode { steps: u32::from_le_bytes(reader.array()?), over: reader.array()? == [1] };
        memory.episode = (begun == 1).then_some(episode);
        for kept in rules.task.kept() {
            for note in &mut memory.notes[kept.clone()] {
                *note = f64::from_le_bytes(reader.array()?);
            }
        }
        let mut warnings = simulation.warning().clone();
        for warning in &mut warnings {
            warning.number = i32::from_le_bytes(reader.array()?);
        }
        let mut physics = vec![0.0; size];
        for x in &mut physics {
            *x = f64::from_le_bytes(reader.array()?);
        }
        Some((memory, warnings, physics))
    };
    let (memory, warnings, physics) = read().ok_or_else(short)?;
    if !reader.0.is_empty() {
        return Err(fail(format!("{} bytes are left over", reader.0.len())));
    }

    simulation.reset();
    simulation.set_state(&physics, INTEGRATION).map_err(|cause| fail(cause.to_string()))?;
    *simulation.warning_mut() = warnings;
    Ok(memory)
}

/// Reads bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N).map(|bytes| bytes.try_into().expect("N bytes were taken"))
    }
}
