//! Counts that are saved like everything else.

use tch::{Device, Kind, Tensor};

/// A count as a tensor of one `i64` in main memory: saved and loaded by name, and
/// read and raised without LibTorch, which takes microseconds for either.
pub struct Counter(Tensor);

impl Default for Counter {
    fn default() -> Self {
        Self(Tensor::zeros([], (Kind::Int64, Device::Cpu)))
    }
}

impl Counter {
    /// The count.
    pub fn get(&self) -> i64 {
        // SAFETY: one i64 in main memory, made above, which the tensor owns.
        unsafe { *self.0.data_ptr().cast::<i64>() }
    }

    /// One more; answers the new count.
    pub fn raise(&mut self) -> i64 {
        // SAFETY: as above; tensors that share it are not read meanwhile.
        unsafe {
            let count = self.0.data_ptr().cast::<i64>();
            *count += 1;
            *count
        }
    }

    /// A tensor that shares the count.
    pub fn tensor(&self) -> Tensor {
        self.0.shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_and_its_tensor_are_one() {
        let mut counter = Counter::default();
        let tensor = counter.tensor();
        assert_eq!((counter.raise(), counter.raise()), (1, 2));
        assert_eq!(tensor.int64_value(&[]), 2);
        tensor.shallow_clone().copy_(&Tensor::from(41i64));
        assert_eq!((counter.raise(), counter.get()), (42, 42));
    }
}
