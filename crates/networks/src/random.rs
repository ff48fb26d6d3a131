//! Random tensors drawn on our side of the bridge.
//!
//! LibTorch's global generator can be neither saved nor split into streams,
//! so every number comes from a generator that the caller owns.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Tensor};

/// A tensor of standard-normal numbers, of the given shape, `f32` on `device`.
pub fn normal(rng: &mut impl Rng, shape: &[i64], device: Device) -> Tensor {
    fill(shape, device, || StandardNormal.sample(rng))
}

/// A tensor of numbers uniform in [0, 1), of the given shape, `f32` on `device`.
pub fn uniform(rng: &mut impl Rng, shape: &[i64], device: Device) -> Tensor {
    fill(shape, device, || rng.random::<f32>())
}

/// A tensor with the given shape and contents (row-major), moved to `device`.
pub fn tensor_from(data: &[f32], shape: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(data).reshape(shape).to_device(device)
}

fn fill(shape: &[i64], device: Device, mut draw: impl FnMut() -> f32) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let data: Vec<f32> = (0..count).map(|_| draw()).collect();
    tensor_from(&data, shape, device)
}
