//! Random tensors drawn on our side of the bridge.
//!
//! LibTorch's global generator can be neither saved nor split into streams,
//! so every number comes from a generator that the caller owns.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

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

/// Moves tensors to a device in a single copy for each kind: for a GPU, each copy
/// costs more than the numbers of a batch.
pub fn move_together(tensors: &mut [&mut Tensor], device: Device) {
    if device != Device::Cpu {
        Buffers::replacing(tensors, device);
    }
}

/// Tensors next to each other, in one vector for each kind: what a captured update reads, refilled
/// before it is replayed.
pub struct Buffers(Vec<Tensor>);

impl Buffers {
    /// Buffers on a device with the numbers of some tensors, which become views of them.
    pub fn replacing(tensors: &mut [&mut Tensor], device: Device) -> Self {
        let shared: Vec<&Tensor> = tensors.iter().map(|tensor| &**tensor).collect();
        let mut buffers = Vec::new();
        for kind in kinds(&shared) {
            // (Without a copy, one tensor would be its own buffer.)
            let flat = joined(&shared, kind).to_device_(device, kind, false, true);
            buffers.push(flat);
        }
        for flat in &buffers {
            let mut offset = 0;
            for tensor in tensors.iter_mut().filter(|tensor| tensor.kind() == flat.kind()) {
                let count = tensor.numel() as i64;
                **tensor = flat.narrow(0, offset, count).view(tensor.size().as_slice());
                offset += count;
            }
        }
        Self(buffers)
    }

    /// Overwrites the numbers by those of other tensors, of the same shapes and kinds in the same
    /// order.
    pub fn refill(&mut self, tensors: &[&Tensor]) {
        for flat in &mut self.0 {
            flat.copy_(&joined(tensors, flat.kind()));
        }
    }
}

/// The kinds of tensors, each once.
fn kinds(tensors: &[&Tensor]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for tensor in tensors {
        if !kinds.contains(&tensor.kind()) {
            kinds.push(tensor.kind());
        }
    }
    kinds
}

/// The tensors of a kind as one vector.
fn joined(tensors: &[&Tensor], kind: Kind) -> Tensor {
    let of_kind = tensors.iter().filter(|tensor| tensor.kind() == kind);
    let flat: Vec<Tensor> = of_kind.map(|tensor| tensor.reshape([-1])).collect();
    Tensor::cat(&flat, 0)
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
        let mut c = Tensor::from_slice(&[6i64, 7]);
        let before = (a.copy(), b.copy(), c.copy());
        // What `move_together` does for a GPU.
        let mut buffers = Buffers::replacing(&mut [&mut a, &mut c, &mut b], Device::Cpu);
        assert_eq!((a.shallow_clone(), b.shallow_clone(), c.shallow_clone()), before);
        let others = [&a * 2.0, &c + 1, &b * 3.0];
        buffers.refill(&others.each_ref());
        assert_eq!([a, c, b], others, "views of the buffers");
    }
}
