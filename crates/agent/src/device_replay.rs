//! A copy of the replay on the device that learns.

use crate::{Batch, Random};
use networks::tensor_from;
use replay::Replay;
use tch::{Device, Kind, Tensor};

/// Follows a [`Replay`]: what each step writes is copied to the device once, and
/// minibatches are gathered there from indices drawn on the host. Checkpoints save the
/// host's replay.
pub struct DeviceReplay {
    /// A row for each slot: [obs, action, reward, terminated].
    rows: Tensor,
    obs_dim: i64,
    act_dim: i64,
}

impl DeviceReplay {
    /// Room for a copy of `replay` on `device`.
    pub fn new(replay: &Replay, device: Device) -> Self {
        let replay::Shape { obs_dim, act_dim, .. } = *replay.shape();
        let (slots, obs_dim, act_dim) = (replay.slots() as i64, obs_dim as i64, act_dim as i64);
        let rows = Tensor::zeros([slots, obs_dim + act_dim + 2], (Kind::Float, device));
        Self { rows, obs_dim, act_dim }
    }

    /// Copies what was written since the last call.
    pub fn follow(&mut self, replay: &mut Replay) {
        let written = replay.take_written();
        if written.is_empty() {
            return;
        }
        let width = self.obs_dim + self.act_dim + 2;
        let mut data = Vec::with_capacity(written.len() * width as usize);
        for at in &written {
            let slot = replay.slot(*at);
            data.extend(slot.obs.iter().chain(slot.action));
            data.extend([slot.reward, slot.terminated]);
        }
        let rows = tensor_from(&data, &[written.len() as i64, width], self.rows.device());
        let _ = self.rows.index_copy_(0, &self.indices(&written), &rows);
    }

    /// A minibatch of transitions drawn uniformly with replacement. The transitions are those
    /// that `replay.sample` draws from an equal generator.
    pub fn sample(&self, replay: &Replay, batch: usize, rng: &mut Random) -> Batch {
        let (at, next): (Vec<usize>, Vec<usize>) = (0..batch).map(|_| replay.draw(rng)).unzip();
        let rows = self.rows.index_select(0, &self.indices(&[at, next].concat()));
        let (from, to) = (rows.narrow(0, 0, batch as i64), batch as i64);
        let column = |start: i64, width: i64| from.narrow(1, start, width).contiguous();
        let (obs_dim, act_dim) = (self.obs_dim, self.act_dim);
        Batch {
            obs: column(0, obs_dim),
            action: column(obs_dim, act_dim),
            reward: column(obs_dim + act_dim, 1).view([-1]),
            next_obs: rows.narrow(0, to, to).narrow(1, 0, obs_dim).contiguous(),
            terminated: column(obs_dim + act_dim + 1, 1).view([-1]),
        }
    }

    fn indices(&self, slots: &[usize]) -> Tensor {
        let slots: Vec<i64> = slots.iter().map(|slot| *slot as i64).collect();
        Tensor::from_slice(&slots).to_device(self.rows.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;
    use ndarray::aview1;
    use replay::{Sample, Shape};

    #[test]
    fn the_copy_gives_the_same_minibatches_while_the_rings_fill_and_wrap() {
        let shape = Shape { envs: 2, window: 30, spare: 5, obs_dim: 2, act_dim: 1 };
        let mut replay = Replay::in_memory(shape).unwrap();
        let mut copy = DeviceReplay::new(&replay, Device::Cpu);
        let (mut ours, mut theirs) = (stream(1, "replay"), stream(1, "replay"));
        for step in 0..200 {
            let number = step as f32;
            for env in 0..2 {
                let obs = [number, env as f32];
                if step % 13 == 0 {
                    replay.begin(env, aview1(&obs));
                } else {
                    replay.push(env, aview1(&[-number]), 2.0 * number, aview1(&obs), step % 3 == 0);
                }
            }
            copy.follow(&mut replay);
            if step > 0 {
                let batch = copy.sample(&replay, 16, &mut ours);
                let mut sample = Sample::new(16, 2, 1);
                replay.sample(&mut theirs, &mut sample);
                let expected = Batch::from_sample(&sample, Device::Cpu);
                assert_eq!(batch.obs, expected.obs);
                assert_eq!(batch.action, expected.action);
                assert_eq!(batch.reward, expected.reward);
                assert_eq!(batch.next_obs, expected.next_obs);
                assert_eq!(batch.terminated, expected.terminated);
            }
        }
    }
}
