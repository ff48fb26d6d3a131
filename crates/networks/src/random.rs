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
    let tensor = Tensor::from_slice(data).view(shape);
    if device == Device::Cpu { tensor } else { tensor.to_device(device) }
}

/// Moves tensors of one kind to a device in a single copy: for a GPU, each copy
/// costs more than the numbers of a batch.
pub fn move_together(tensors: &mut [&mut Tensor], device: Device) {
    if device == Device::Cpu || tensors.is_empty() {
        return;
    }
    let flat: Vec<Tensor> = tensors.iter().map(|tensor| tensor.reshape([-1])).collect();
    let moved = Tensor::cat(&flat, 0).to_device(device);
    place(tensors, &moved);
}

/// Makes each tensor its part of a vector that holds all of them.
fn place(tensors: &mut [&mut Tensor], flat: &Tensor) {
    let mut offset = 0;
    for tensor in tensors {
        let count = tensor.numel() as i64;
        **tensor = flat.narrow(0, offset, count).view(tensor.size().as_slice());
        offset += count;
    }
}

fn fill(shape: &[i64], device: Device, mut draw: impl FnMut() -> f32) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let data: Vec<f32> = (0..count).map(|_| draw()).collect();
    tensor_from(&data, shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_moved_together_have_their_shapes_and_numbers() {
        let mut a = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let mut b = Tensor::from_slice(&[5f32]);
        let before = (a.copy(), b.copy());
        // What `move_together` does after the copy, without a GPU.
        let flat = Tensor::cat(&[a.reshape([-1]), b.reshape([-1])], 0);
        place(&mut [&mut a, &mut b], &flat);
        assert_eq!((a, b), before);
    }
}
