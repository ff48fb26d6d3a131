//! A minibatch of transitions as tensors.

use ndarray::{ArrayRef, Dimension};
use networks::{move_together, tensor_from};
use replay::Sample;
use tch::{Device, Tensor};

/// Transitions (s, a, r, s', terminated), a row each, `f32`.
pub struct Batch {
    /// (B, obs)
    pub obs: Tensor,
    /// (B, act), in [-1, 1]
    pub action: Tensor,
    /// (B)
    pub reward: Tensor,
    /// (B, obs)
    pub next_obs: Tensor,
    /// (B): 1 where s' is terminal, 0 at a time limit and elsewhere.
    pub terminated: Tensor,
}

impl Batch {
    /// Moves a sample to `device`.
    pub fn from_sample(sample: &Sample, device: Device) -> Self {
        let mut batch = Self {
            obs: to_tensor(&sample.obs),
            action: to_tensor(&sample.action),
            reward: to_tensor(&sample.reward),
            next_obs: to_tensor(&sample.next_obs),
            terminated: to_tensor(&sample.terminated),
        };
        move_together(&mut batch.tensors_mut(), device);
        batch
    }

    /// All tensors, in this order.
    pub fn tensors(&self) -> [&Tensor; 5] {
        let Self { obs, action, reward, next_obs, terminated } = self;
        [obs, action, reward, next_obs, terminated]
    }

    /// The same, to replace them.
    pub fn tensors_mut(&mut self) -> [&mut Tensor; 5] {
        let Self { obs, action, reward, next_obs, terminated } = self;
        [obs, action, reward, next_obs, terminated]
    }

    /// Handles of the same tensors.
    pub fn shallow_clone(&self) -> Self {
        let [obs, action, reward, next_obs, terminated] = self.tensors().map(Tensor::shallow_clone);
        Self { obs, action, reward, next_obs, terminated }
    }

    /// Number of transitions.
    pub fn len(&self) -> i64 {
        self.reward.size()[0]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn to_tensor<D: Dimension>(array: &ArrayRef<f32, D>) -> Tensor {
    let shape: Vec<i64> = array.shape().iter().map(|n| *n as i64).collect();
    let data = array.as_slice().expect("samples are row-major");
    tensor_from(data, &shape, Device::Cpu)
}
