//! Replay buffer: ring buffers of transitions in memory or in a mapped file, with
//! uniform sampling.
//!
//! Each observation is stored once. A slot contains an observation and, unless it
//! is the last of its episode, the action taken there, its reward and whether the
//! next state is terminal; the next observation is in the next slot. The last
//! observation of an episode takes a slot from which no transition starts. Each
//! environment has its own ring, so that its steps are in consecutive slots.
//!
//! # Resuming
//! The file is written as the replay fills, so that a checkpoint writes only what is
//! new since the previous one. It records one [`Cursor`] per ring: slots are numbered
//! consecutively from the start of the run, and the last `window` slots of a ring can
//! be sampled. A ring has `spare` slots more; what a run writes after a checkpoint goes
//! there and overwrites nothing that the checkpoint refers to. Every slot contains its
//! number and a checksum, so that [`Replay::open`] detects a file that does not match
//! the checkpoint.

mod slot;
mod storage;

pub use slot::SlotView;
pub use storage::Damage;

use ndarray::{Array1, Array2, ArrayView1};
use rand::{Rng, RngExt};
use slot::{Kind, Layout};
use std::ops::Range;
use std::path::Path;
use storage::Storage;

/// Sizes of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of environments, and so of rings.
    pub envs: usize,
    /// Slots of a ring that can be sampled: the last ones.
    pub window: usize,
    /// Additional slots of a ring: the number that may be written after a checkpoint
    /// before the checkpoint becomes unusable.
    pub spare: usize,
    /// Size of an observation.
    pub obs_dim: usize,
    /// Size of an action.
    pub act_dim: usize,
}

impl Shape {
    /// Bytes of the file, or of memory.
    pub fn bytes(&self) -> u64 {
        let words = Layout::new(self.obs_dim, self.act_dim).words() as u64;
        let slots = (self.envs as u64).saturating_mul(self.window as u64 + self.spare as u64);
        slots.saturating_mul(words * 4)
    }

    /// Slots of a ring.
    pub fn ring(&self) -> usize {
        self.window + self.spare
    }
}

/// The state of a ring in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    /// Slots written since the start of the run, including overwritten ones.
    pub written: u64,
    /// The observation in the last slot (obs), whose action is not taken yet.
    pub obs: Vec<f32>,
}

/// Rings of transitions, one per environment. Memory pages are used as it fills.
pub struct Replay {
    storage: Storage,
    layout: Layout,
    shape: Shape,
    rings: Vec<Ring>,
    transitions: usize,
    /// Slots written since the last [`take_written`](Self::take_written); `None` before the
    /// first call.
    followed: Option<Vec<usize>>,
}

/// Counts of a ring's slots.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    /// Slots written so far.
    written: u64,
    /// Slots written at the last flush.
    flushed: u64,
}

/// A minibatch in row-major arrays, reused between samples.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Observations: (B, obs).
    pub obs: Array2<f32>,
    /// Actions in [-1, 1]: (B, act).
    pub action: Array2<f32>,
    /// Rewards: (B).
    pub reward: Array1<f32>,
    /// Next observations: (B, obs).
    pub next_obs: Array2<f32>,
    /// 1 where the next state is terminal, else 0: (B). A state at the time limit is not
    /// terminal: the target bootstraps through it.
    pub terminated: Array1<f32>,
}

impl Sample {
    /// Arrays for `batch` transitions.
    pub fn new(batch: usize, obs_dim: usize, act_dim: usize) -> Self {
        Self {
            obs: Array2::zeros((batch, obs_dim)),
            action: Array2::zeros((batch, act_dim)),
            reward: Array1::zeros(batch),
            next_obs: Array2::zeros((batch, obs_dim)),
            terminated: Array1::zeros(batch),
        }
    }
}

impl Replay {
    /// An empty replay in memory.
    ///
    /// # Errors
    /// There is not enough memory.
    ///
    /// # Panics
    /// If the window is less than 2 slots: a transition takes two.
    pub fn in_memory(shape: Shape) -> std::io::Result<Self> {
        Ok(Self::new(Storage::in_memory(shape.bytes())?, shape))
    }

    /// An empty replay in a new file. Its disk space is reserved immediately, so that
    /// writing can't fail later if the disk fills up.
    ///
    /// # Errors
    /// The file exists or can't be created, for example because the disk is full.
    ///
    /// # Panics
    /// As [`in_memory`](Self::in_memory).
    pub fn create(path: &Path, shape: Shape) -> std::io::Result<Self> {
        Ok(Self::new(Storage::create(path, shape.bytes())?, shape))
    }

    /// Opens a file in the state recorded by the cursors (one per ring); every slot that
    /// can be sampled is read and checked.
    ///
    /// # Errors
    /// The file can't be opened, has the wrong size, or a slot is damaged.
    ///
    /// # Panics
    /// As [`in_memory`](Self::in_memory).
    pub fn open(path: &Path, shape: Shape, cursors: &[Cursor]) -> Result<Self, Damage> {
        let mut replay = Self::new(Storage::open(path, shape.bytes())?, shape);
        if cursors.len() != shape.envs {
            return Err(Damage::Cursors { found: cursors.len(), expected: shape.envs });
        }
        for (env, cursor) in cursors.iter().enumerate() {
            if cursor.written == 0 {
                continue;
            }
            if cursor.obs.len() != shape.obs_dim {
                let (found, expected) = (cursor.obs.len(), shape.obs_dim);
                return Err(Damage::Observation { found, expected });
            }
            replay.rings[env] = Ring { written: cursor.written, flushed: cursor.written };
            let last = cursor.written - 1;
            for number in replay.window(env).start..last {
                let at = replay.slot_of(env, number);
                let kind = replay.layout.check(replay.row(at), number);
                let kind = kind.ok_or(Damage::Slot { slot: at })?;
                replay.transitions += usize::from(kind != Kind::ObservationOnly);
            }
            // The interrupted run may have added its action, or part of it.
            replay.begin_slot(env, last, aview(&cursor.obs));
        }
        Ok(replay)
    }

    /// Replaces a file by one with larger rings and the same content, which
    /// [`open`](Self::open) then reads with the shape `to`. `written` has the slots written
    /// to each ring so far. The file is replaced as a whole or not at all.
    ///
    /// # Errors
    /// The file can't be opened, has another size than that of `from`, or there is no space
    /// for both files.
    ///
    /// # Panics
    /// If the shapes differ in more than the length of their rings, or the new ones are shorter.
    pub fn grow(path: &Path, from: Shape, to: Shape, written: &[u64]) -> Result<(), Damage> {
        let alike = Shape { window: to.window, spare: to.spare, ..from } == to;
        assert!(alike && from.ring() <= to.ring(), "replay: {from:?} does not grow to {to:?}");
        let old = Self::new(Storage::open(path, from.bytes())?, from);
        let draft = path.with_extension("grown");
        if draft.exists() {
            std::fs::remove_file(&draft)?;
        }
        let mut new = Self::new(Storage::create(&draft, to.bytes())?, to);
        for (env, &written) in written.iter().enumerate() {
            for number in written.saturating_sub(from.ring() as u64)..written {
                let row = old.row(old.slot_of(env, number));
                new.row_mut(new.slot_of(env, number)).copy_from_slice(row);
            }
        }
        new.storage.flush(0, new.storage.words().len() * 4)?;
        Ok(std::fs::rename(&draft, path)?)
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    fn new(storage: Storage, shape: Shape) -> Self {
        assert!(shape.window >= 2, "replay: {} slots a ring, expected at least 2", shape.window);
        Self {
            storage,
            layout: Layout::new(shape.obs_dim, shape.act_dim),
            shape,
            rings: vec![Ring::default(); shape.envs],
            transitions: 0,
            followed: None,
        }
    }

    /// Transitions that can be sampled.
    pub fn len(&self) -> usize {
        self.transitions
    }

    /// Whether there is nothing to sample.
    pub fn is_empty(&self) -> bool {
        self.transitions == 0
    }

    /// The states of the rings, for a checkpoint.
    pub fn cursors(&self) -> Vec<Cursor> {
        let cursor = |(env, ring): (usize, &Ring)| {
            let last = ring.written.checked_sub(1).map(|last| self.slot_of(env, last));
            let obs = last.map(|at| self.layout.view(self.row(at)).obs.to_vec());
            Cursor { written: ring.written, obs: obs.unwrap_or_default() }
        };
        self.rings.iter().enumerate().map(cursor).collect()
    }

    /// Syncs to disk what was written since the last flush.
    ///
    /// # Errors
    /// Syncing fails.
    pub fn flush(&mut self) -> std::io::Result<()> {
        for env in 0..self.rings.len() {
            let Ring { written, flushed } = self.rings[env];
            // The slot that was last at the previous flush has got its action: flush it again.
            let first = flushed.saturating_sub(1).max(self.window(env).start);
            let mut number = first;
            while number < written {
                let at = self.slot_of(env, number);
                let ring_end = (env + 1) * self.shape.ring();
                let count = (written - number).min((ring_end - at) as u64);
                let row = self.layout.words() * 4;
                self.storage.flush(at * row, count as usize * row)?;
                number += count;
            }
            self.rings[env].flushed = written;
        }
        Ok(())
    }

    /// Starts an episode of an environment with the observation of a reset.
    pub fn begin(&mut self, env: usize, obs: ArrayView1<f32>) {
        self.place(env, obs);
    }

    /// Appends a step of an environment: the action taken at the current observation,
    /// its reward, the next observation, and whether the next state is terminal.
    ///
    /// After the last step of an episode (terminated or truncated) the next
    /// call for this environment must be `begin`.
    ///
    /// # Panics
    /// If no episode was started.
    pub fn push(
        &mut self,
        env: usize,
        action: ArrayView1<f32>,
        reward: f32,
        next_obs: ArrayView1<f32>,
        terminated: bool,
    ) {
        let last = self.rings[env].written.checked_sub(1).expect("`begin` comes before `push`");
        let at = self.slot_of(env, last);
        let kind = if terminated { Kind::Terminated } else { Kind::Transition };
        let (layout, row) = (self.layout, self.row_mut(at));
        layout.complete(row, last, action, reward, kind);
        self.note(at);
        self.transitions += 1;
        self.place(env, next_obs);
    }

    /// Writes an observation into the next slot of a ring. The transition of the slot that
    /// leaves the window is no longer counted.
    fn place(&mut self, env: usize, obs: ArrayView1<f32>) {
        let number = self.rings[env].written;
        if let Some(gone) = number.checked_sub(self.shape.window as u64) {
            let kind = self.layout.kind(self.row(self.slot_of(env, gone)));
            self.transitions -= usize::from(kind != Kind::ObservationOnly);
        }
        self.rings[env].written += 1;
        self.begin_slot(env, number, obs);
    }

    fn begin_slot(&mut self, env: usize, number: u64, obs: ArrayView1<f32>) {
        let at = self.slot_of(env, number);
        let (layout, row) = (self.layout, self.row_mut(at));
        layout.begin(row, number, obs);
        self.note(at);
    }

    fn note(&mut self, at: usize) {
        if let Some(followed) = &mut self.followed {
            followed.push(at);
        }
    }

    /// Numbers of the slots of a ring that can be sampled.
    fn window(&self, env: usize) -> Range<u64> {
        let written = self.rings[env].written;
        written.saturating_sub(self.shape.window as u64)..written
    }

    /// Index of the slot with this number in a ring.
    fn slot_of(&self, env: usize, number: u64) -> usize {
        let ring = self.shape.ring();
        env * ring + (number % ring as u64) as usize
    }

    fn row(&self, at: usize) -> &[u32] {
        let words = self.layout.words();
        &self.storage.words()[at * words..][..words]
    }

    fn row_mut(&mut self, at: usize) -> &mut [u32] {
        let words = self.layout.words();
        &mut self.storage.words_mut()[at * words..][..words]
    }

    /// Draws a transition uniformly; returns the indices of its slot and of the slot with
    /// its next observation.
    ///
    /// # Panics
    /// If the replay is empty.
    pub fn draw(&self, rng: &mut impl Rng) -> (usize, usize) {
        assert!(!self.is_empty(), "nothing to sample from an empty replay");
        let size = |env: usize| self.window(env).end - self.window(env).start;
        let most = (0..self.rings.len()).map(size).max().unwrap_or(0);
        // Slots without a transition are few (one per episode): redraw.
        loop {
            let draw = rng.random_range(0..most as usize * self.rings.len()) as u64;
            let (env, offset) = ((draw / most) as usize, draw % most);
            let number = self.window(env).start + offset;
            let at = self.slot_of(env, number);
            if offset < size(env) && self.layout.kind(self.row(at)) != Kind::ObservationOnly {
                return (at, self.slot_of(env, number + 1));
            }
        }
    }

    /// Number of slots of all rings.
    pub fn slots(&self) -> usize {
        self.shape.envs * self.shape.ring()
    }

    /// The content of a slot.
    pub fn slot(&self, at: usize) -> SlotView<'_> {
        self.layout.view(self.row(at))
    }

    /// The indices of the slots written since the last call, in ascending order, for
    /// updating a copy of the replay; on the first call, all that can be sampled.
    pub fn take_written(&mut self) -> Vec<usize> {
        let mut written = self.followed.replace(Vec::new()).unwrap_or_else(|| {
            let of_ring = |env| self.window(env).map(move |number| (env, number));
            let numbers = (0..self.rings.len()).flat_map(of_ring);
            numbers.map(|(env, number)| self.slot_of(env, number)).collect()
        });
        written.sort_unstable();
        written.dedup();
        written
    }

    /// Fills `sample` with transitions drawn uniformly with replacement.
    ///
    /// # Panics
    /// If the replay is empty.
    pub fn sample(&self, rng: &mut impl Rng, sample: &mut Sample) {
        for row in 0..sample.reward.len() {
            let (at, next) = self.draw(rng);
            let (slot, next) = (self.slot(at), self.slot(next));
            sample.obs.row_mut(row).assign(&slot.obs);
            sample.action.row_mut(row).assign(&slot.action);
            sample.reward[row] = slot.reward;
            sample.next_obs.row_mut(row).assign(&next.obs);
            sample.terminated[row] = slot.terminated;
        }
    }
}

fn aview(values: &[f32]) -> ArrayView1<'_, f32> {
    ndarray::aview1(values)
}
