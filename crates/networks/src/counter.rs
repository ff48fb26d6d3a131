//! Counts that are saved like everything else: a [`Counter`] where the host decides by it, a
//! [`Tally`] where operations calculate with it.

use tch::{Device, Kind, Tensor};

/// A count as a tensor of one `i64` in main memory, so that it is saved and loaded by
/// name like every other tensor.
pub struct Counter(Tensor);

impl Default for Counter {
    fn default() -> Self {
        Self(Tensor::zeros([], (Kind::Int64, Device::Cpu)))
    }
}

impl Counter {
    /// The count.
    pub fn get(&self) -> i64 {
        self.0.int64_value(&[])
    }

    /// Adds one; returns the new count.
    pub fn increment(&mut self) -> i64 {
        let _ = self.0.g_add_scalar_(1);
        self.get()
    }

    /// A tensor that shares the count.
    pub fn tensor(&self) -> Tensor {
        self.0.shallow_clone()
    }
}

/// A count as a tensor of one `i64` on the device of what is calculated with it. A captured update
/// (`docs/gpu.md`) increments it at every replay, which it could not do to a number of the host.
pub struct Tally(Tensor);

impl Tally {
    /// None so far.
    pub fn new(device: Device) -> Self {
        Self(Tensor::zeros([], (Kind::Int64, device)))
    }

    /// Adds one.
    pub fn increment(&mut self) {
        let _ = self.0.g_add_scalar_(1);
    }

    /// A tensor that shares the count.
    pub fn tensor(&self) -> Tensor {
        self.0.shallow_clone()
    }

    /// The count, where it is in main memory.
    pub(crate) fn on_host(&self) -> i64 {
        self.0.int64_value(&[])
    }

    /// The count as a scalar of another kind on its device.
    pub(crate) fn scalar(&self, kind: Kind) -> Tensor {
        self.0.to_kind(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_and_its_tensor_are_one() {
        let mut counter = Counter::default();
        let tensor = counter.tensor();
        assert_eq!((counter.increment(), counter.increment()), (1, 2));
        assert_eq!(tensor.int64_value(&[]), 2);
        tensor.shallow_clone().copy_(&Tensor::from(41i64));
        assert_eq!((counter.increment(), counter.get()), (42, 42));
    }
}
