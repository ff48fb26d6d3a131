//! A slot as a row of 32-bit words:
//! `[observation, action, reward, kind, number (2), checksum]`.

use ndarray::{ArrayView1, aview1};

/// The content of a slot besides its observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The last observation of an episode, or one whose action is not taken yet.
    ObservationOnly = 0,
    /// A transition that the next slot completes.
    Transition = 1,
    /// A transition into a terminal state.
    Terminated = 2,
}

/// The content of a slot, returned by [`Replay::slot`](crate::Replay::slot).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotView<'a> {
    /// The observation: (obs).
    pub obs: ArrayView1<'a, f32>,
    /// The action: (act). It and the next two are undefined if no transition starts here.
    pub action: ArrayView1<'a, f32>,
    /// The reward of the action.
    pub reward: f32,
    /// 1 if the action led to a terminal state, else 0.
    pub terminated: f32,
}

/// Positions of the parts of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    obs_dim: usize,
    act_dim: usize,
}

impl Layout {
    pub fn new(obs_dim: usize, act_dim: usize) -> Self {
        Self { obs_dim, act_dim }
    }

    /// Number of words of a row.
    pub fn words(self) -> usize {
        self.number() + 3
    }

    fn reward(self) -> usize {
        self.obs_dim + self.act_dim
    }

    fn number(self) -> usize {
        self.reward() + 2
    }

    /// Writes an observation whose action is not taken yet.
    pub fn begin(self, row: &mut [u32], number: u64, obs: ArrayView1<f32>) {
        for (word, x) in row.iter_mut().zip(obs) {
            *word = x.to_bits();
        }
        row[self.obs_dim..self.reward() + 1].fill(0);
        self.seal(row, number, Kind::ObservationOnly);
    }

    /// Adds the action and its outcome.
    pub fn complete(
        self,
        row: &mut [u32],
        number: u64,
        action: ArrayView1<f32>,
        reward: f32,
        kind: Kind,
    ) {
        for (word, x) in row[self.obs_dim..].iter_mut().zip(action) {
            *word = x.to_bits();
        }
        row[self.reward()] = reward.to_bits();
        self.seal(row, number, kind);
    }

    fn seal(self, row: &mut [u32], number: u64, kind: Kind) {
        row[self.reward() + 1] = kind as u32;
        row[self.number()] = number as u32;
        row[self.number() + 1] = (number >> 32) as u32;
        row[self.number() + 2] = self.checksum(row);
    }

    fn checksum(self, row: &[u32]) -> u32 {
        crc32fast::hash(bytemuck::cast_slice(&row[..self.number() + 2]))
    }

    /// The kind of a row, or `None` if its number or checksum is wrong.
    pub fn check(self, row: &[u32], number: u64) -> Option<Kind> {
        let found = u64::from(row[self.number()]) | u64::from(row[self.number() + 1]) << 32;
        let intact = row[self.number() + 2] == self.checksum(row) && found == number;
        intact.then(|| self.kind(row))
    }

    /// The kind of a row; `ObservationOnly` for one that was never written.
    pub fn kind(self, row: &[u32]) -> Kind {
        match row[self.reward() + 1] {
            1 => Kind::Transition,
            2 => Kind::Terminated,
            _ => Kind::ObservationOnly,
        }
    }

    pub fn view(self, row: &[u32]) -> SlotView<'_> {
        let numbers: &[f32] = bytemuck::cast_slice(row);
        SlotView {
            obs: aview1(&numbers[..self.obs_dim]),
            action: aview1(&numbers[self.obs_dim..self.reward()]),
            reward: numbers[self.reward()],
            terminated: f32::from(u8::from(self.kind(row) == Kind::Terminated)),
        }
    }
}
