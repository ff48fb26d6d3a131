//! Replay buffer: a ring of transitions with uniform sampling.
//!
//! An observation is stored once. A slot holds an observation and, unless it
//! is the last of its episode, the action taken there with its outcome; the
//! next observation is the next slot's. The last observation of an episode
//! costs a slot of its own, from which no transition starts.

use ndarray::{Array1, Array2, ArrayView1, s};
use rand::{Rng, RngExt};

/// What a slot holds beside its observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The last observation of an episode, or one whose action is not taken yet.
    ObservationOnly,
    /// A transition that the next slot completes.
    Transition,
    /// A transition into a terminal state: nothing is to be expected after it.
    Terminated,
}

/// A ring of transitions. Memory is touched as it fills.
pub struct Replay {
    obs: Array2<f32>,
    action: Array2<f32>,
    reward: Array1<f32>,
    slots: Vec<Slot>,
    /// The slot that holds the current observation, once there is one.
    head: Option<usize>,
    /// Slots ever written: the ring fills from slot 0 up.
    filled: usize,
    transitions: usize,
}

/// A minibatch in row-major arrays, reused from one sample to the next.
#[derive(Debug, Clone)]
pub struct Sample {
    /// (B, obs)
    pub obs: Array2<f32>,
    /// (B, act), in [-1, 1]
    pub action: Array2<f32>,
    /// (B)
    pub reward: Array1<f32>,
    /// (B, obs)
    pub next_obs: Array2<f32>,
    /// (B): 1 where the next state is terminal. A time limit is not: the
    /// target bootstraps through it.
    pub terminated: Array1<f32>,
}

impl Sample {
    /// Room for `batch` transitions.
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
    /// A ring of `capacity` slots (at least 2).
    ///
    /// # Panics
    /// If `capacity` is below 2: a transition spans two slots.
    pub fn new(capacity: usize, obs_dim: usize, act_dim: usize) -> Self {
        assert!(capacity >= 2, "replay capacity is {capacity}, expected at least 2");
        Self {
            obs: Array2::zeros((capacity, obs_dim)),
            action: Array2::zeros((capacity, act_dim)),
            reward: Array1::zeros(capacity),
            slots: vec![Slot::ObservationOnly; capacity],
            head: None,
            filled: 0,
            transitions: 0,
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

    /// Begins an episode with the observation of a reset.
    pub fn begin(&mut self, obs: ArrayView1<f32>) {
        self.place(obs);
    }

    /// Appends what followed the current observation: the action taken, its
    /// reward, the observation it led to, and whether that state is terminal.
    ///
    /// After the last step of an episode (terminated or truncated) the next
    /// call is `begin`.
    ///
    /// # Panics
    /// If no episode was begun.
    pub fn push(
        &mut self,
        action: ArrayView1<f32>,
        reward: f32,
        next_obs: ArrayView1<f32>,
        terminated: bool,
    ) {
        let at = self.head.expect("`begin` comes before `push`");
        self.action.row_mut(at).assign(&action);
        self.reward[at] = reward;
        self.slots[at] = if terminated { Slot::Terminated } else { Slot::Transition };
        self.transitions += 1;
        self.place(next_obs);
    }

    /// Writes an observation into the next slot of the ring. The transition
    /// that began there is lost; the one before it was overwritten earlier.
    fn place(&mut self, obs: ArrayView1<f32>) {
        let at = self.head.map_or(0, |head| self.after(head));
        if self.slots[at] != Slot::ObservationOnly {
            self.transitions -= 1;
        }
        self.slots[at] = Slot::ObservationOnly;
        self.obs.row_mut(at).assign(&obs);
        self.head = Some(at);
        self.filled = self.filled.max(at + 1);
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) % self.slots.len()
    }

    /// Fills `sample` with transitions drawn uniformly, with replacement.
    ///
    /// # Panics
    /// If the replay is empty.
    pub fn sample(&self, rng: &mut impl Rng, sample: &mut Sample) {
        assert!(!self.is_empty(), "nothing to sample from an empty replay");
        for row in 0..sample.reward.len() {
            // Slots without a transition are few (one an episode): redraw.
            let at = loop {
                let at = rng.random_range(0..self.filled);
                if self.slots[at] != Slot::ObservationOnly {
                    break at;
                }
            };
            let next = self.after(at);
            sample.obs.row_mut(row).assign(&self.obs.slice(s![at, ..]));
            sample.action.row_mut(row).assign(&self.action.slice(s![at, ..]));
            sample.reward[row] = self.reward[at];
            sample.next_obs.row_mut(row).assign(&self.obs.slice(s![next, ..]));
            sample.terminated[row] = f32::from(u8::from(self.slots[at] == Slot::Terminated));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::aview1;
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    /// Observations count up along an episode; its first is `start`.
    fn episode(replay: &mut Replay, start: f32, steps: usize, terminated: bool) {
        replay.begin(aview1(&[start]));
        for i in 0..steps {
            let next = start + i as f32 + 1.0;
            let last = i + 1 == steps;
            replay.push(aview1(&[next / 1000.0]), next, aview1(&[next]), last && terminated);
        }
    }

    fn draw(replay: &Replay, n: usize) -> Sample {
        let mut sample = Sample::new(n, 1, 1);
        replay.sample(&mut Pcg64::seed_from_u64(1), &mut sample);
        sample
    }

    #[test]
    fn a_transition_never_crosses_an_episodes_end_even_when_the_ring_wraps() {
        let mut replay = Replay::new(64, 1, 1);
        for i in 0..200 {
            episode(&mut replay, 100.0 * i as f32, 1 + i % 7, i % 2 == 0);
            let sample = draw(&replay, 256);
            for row in 0..256 {
                assert_eq!(sample.next_obs[[row, 0]], sample.obs[[row, 0]] + 1.0);
                assert_eq!(sample.reward[row], sample.next_obs[[row, 0]]);
                assert_eq!(sample.action[[row, 0]], sample.next_obs[[row, 0]] / 1000.0);
            }
        }
    }

    #[test]
    fn a_time_limit_is_not_a_terminal_state() {
        let mut replay = Replay::new(64, 1, 1);
        episode(&mut replay, 0.0, 3, true);
        episode(&mut replay, 100.0, 3, false);
        let sample = draw(&replay, 512);
        for row in 0..512 {
            let expected = if sample.next_obs[[row, 0]] == 3.0 { 1.0 } else { 0.0 };
            assert_eq!(sample.terminated[row], expected);
        }
        assert!(sample.next_obs.iter().any(|next| *next == 103.0), "its last step is kept");
    }

    #[test]
    fn the_oldest_transitions_make_room_and_the_count_stays_true() {
        let mut replay = Replay::new(8, 1, 1);
        episode(&mut replay, 0.0, 5, false);
        assert_eq!(replay.len(), 5);
        episode(&mut replay, 100.0, 5, false);
        // 12 slots were wanted: of the first episode only 4 -> 5 has both ends left.
        assert_eq!(replay.len(), 6);
        let sample = draw(&replay, 512);
        assert!(sample.obs.iter().all(|obs| *obs == 4.0 || *obs >= 100.0));
    }

    #[test]
    fn every_transition_is_drawn_equally_often() {
        let mut replay = Replay::new(1000, 1, 1);
        episode(&mut replay, 0.0, 10, true);
        episode(&mut replay, 100.0, 10, false);
        let n = 200_000;
        let sample = draw(&replay, n);
        let mut counts = std::collections::BTreeMap::new();
        for obs in &sample.obs {
            *counts.entry(*obs as i64).or_insert(0usize) += 1;
        }
        assert_eq!(counts.len(), 20);
        // Chi-squared with 19 degrees of freedom exceeds 43.8 once in a thousand.
        let expected = n as f64 / 20.0;
        let chi: f64 = counts.values().map(|c| (*c as f64 - expected).powi(2) / expected).sum();
        assert!(chi < 43.8, "{chi}");
    }
}
