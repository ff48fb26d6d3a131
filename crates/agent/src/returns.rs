//! The scale of returns, which rewards are divided by.

use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// Returns are scaled into [-5, 5], the support of categorical critics.
pub(crate) const HIGHEST: f64 = 5.0;
/// Added to the variance.
const EPSILON: f64 = 1e-8;

/// max(std G, max |G| / 5), with G = gamma G + r the running discounted return of an episode and
/// both statistics over all steps so far: rewards divided by it have returns within [-5, 5], most
/// of them within a few units (Lee et al. 2025, SimbaV2, section 4.3). 1 before the first step.
pub(crate) struct ReturnScale {
    /// Number, mean, summed squares of the deviations from it, and largest size: (4), `f64` in
    /// main memory, so that they are saved and loaded like every other tensor.
    statistics: Tensor,
    /// The scale on the device that calculates with it: a scalar, `f32`.
    scale: Tensor,
    /// What it holds.
    held: Cell<f64>,
}

impl ReturnScale {
    /// The scale of nothing yet, for a device.
    pub fn new(device: Device) -> Self {
        Self {
            statistics: Tensor::zeros([4], (Kind::Double, Device::Cpu)),
            scale: Tensor::ones([], (Kind::Float, device)),
            held: Cell::new(1.0),
        }
    }

    /// Adds running returns.
    pub fn observe(&mut self, returns: &[f64]) {
        let [mut count, mut mean, mut squares, mut largest] = self.statistics();
        for g in returns {
            // Welford's update.
            count += 1.0;
            let distance = g - mean;
            mean += distance / count;
            squares += distance * (g - mean);
            largest = g.abs().max(largest);
        }
        self.statistics.copy_(&Tensor::from_slice(&[count, mean, squares, largest]));
        // Here, not only when it is asked for: a captured update asks no more (`docs/gpu.md`).
        let _ = self.get();
    }

    /// The scale, above zero: a scalar that changes with the statistics.
    pub fn get(&self) -> Tensor {
        let mut scale = self.scale.shallow_clone();
        // (Others may have been loaded.)
        let now = self.of_statistics();
        if self.held.replace(now) != now {
            let _ = scale.fill_(now);
        }
        scale
    }

    fn of_statistics(&self) -> f64 {
        let [count, _, squares, largest] = self.statistics();
        if count == 0.0 {
            return 1.0;
        }
        (squares / count + EPSILON).sqrt().max(largest / HIGHEST)
    }

    fn statistics(&self) -> [f64; 4] {
        std::array::from_fn(|i| self.statistics.double_value(&[i as i64]))
    }

    /// A tensor that shares the statistics.
    pub fn tensor(&self) -> Tensor {
        self.statistics.shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scale as it is calculated, which is also what the tensor holds.
    fn of(scale: &ReturnScale) -> f64 {
        let now = scale.of_statistics();
        assert_eq!(scale.get().double_value(&[]), f64::from(now as f32));
        now
    }

    #[test]
    fn it_is_the_deviation_of_the_returns_or_a_fifth_of_the_largest() {
        let mut scale = ReturnScale::new(Device::Cpu);
        assert_eq!(of(&scale), 1.0);
        scale.observe(&[3.0]);
        assert_eq!(of(&scale), 3.0 / 5.0, "one return has no deviation");
        // In parts, as steps of several environments give them.
        let returns: Vec<f64> = (0..999).map(|i| 40.0 + f64::from(i * 37 % 101)).collect();
        returns.chunks(4).for_each(|some| scale.observe(some));
        let all: Vec<f64> = returns.iter().copied().chain([3.0]).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / all.len() as f64;
        assert!((of(&scale) / variance.sqrt() - 1.0).abs() < 1e-9);
        scale.observe(&[-1000.0]);
        assert_eq!(of(&scale), 200.0, "signs do not count");
    }

    #[test]
    fn returns_of_zero_are_divided_by_a_small_number_and_states_are_taken_over() {
        let mut scale = ReturnScale::new(Device::Cpu);
        scale.observe(&[0.0; 10]);
        assert!(of(&scale) > 0.0 && of(&scale) < 1e-3);
        let mut other = ReturnScale::new(Device::Cpu);
        scale.observe(&[2.5, -7.0]);
        other.tensor().copy_(&scale.tensor());
        other.observe(&[1.0, 4.0]);
        scale.observe(&[1.0, 4.0]);
        assert_eq!(of(&other), of(&scale));
    }
}
