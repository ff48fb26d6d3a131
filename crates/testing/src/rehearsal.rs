//! What a CUDA graph does, on the CPU.
//!
//! LibTorch's operations are recorded and repeated with the same numbers of the host, on the same tensors:
//! what an update has of the host's (a number that changes, a tensor put in place of another, an array copied
//! from main memory) is in a replay what it was in the recording, as in a graph.

#![expect(unsafe_code, reason = "calls into C++")]

use networks::{Recorder, Replay};
use std::ffi::c_void;

// In `rehearsal.cpp`.
unsafe extern "C" {
    fn testing_rehearsal_begin() -> *mut c_void;
    fn testing_rehearsal_end(recording: *mut c_void);
    fn testing_rehearsal_replay(recording: *const c_void);
    fn testing_rehearsal_calls(recording: *const c_void) -> usize;
    fn testing_rehearsal_drop(recording: *mut c_void);
}

/// Records operations of the CPU as a CUDA graph records a GPU's. Code of our own is not seen: use it
/// [in LibTorch's operations](crate::in_libtorch), on one thread at a time.
pub struct Rehearsal;

struct Recorded(*mut c_void);

impl Recorder for Rehearsal {
    fn warm_up(&self, work: &mut dyn FnMut()) -> Result<(), String> {
        work();
        Ok(())
    }

    fn record(&self, work: &mut dyn FnMut()) -> Result<Box<dyn Replay>, String> {
        // SAFETY: the recording is ended below, and dropped with what is returned.
        let recording = Recorded(unsafe { testing_rehearsal_begin() });
        work();
        // SAFETY: begun above.
        unsafe { testing_rehearsal_end(recording.0) };
        // SAFETY: as above.
        match unsafe { testing_rehearsal_calls(recording.0) } {
            0 => Err("no operation was recorded".into()),
            _ => Ok(Box::new(recording)),
        }
    }
}

impl Replay for Recorded {
    fn replay(&mut self) -> Result<(), String> {
        // SAFETY: begun and ended by `record`.
        unsafe { testing_rehearsal_replay(self.0) };
        Ok(())
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: as above, and dropped once.
        unsafe { testing_rehearsal_drop(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_replay_repeats_operations_on_tensors_and_keeps_numbers_of_the_host() {
        let mut state = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let input = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let (mut result, mut of_host) = (Tensor::new(), 1.0);
        let mut work = || {
            let loss = (&input * &input).sum(Kind::Float) * of_host;
            let gradient = Tensor::run_backward(&[&loss], &[&input], false, false).remove(0);
            tch::no_grad(|| drop(state.g_add_(&gradient)));
            result = loss.detach();
            of_host += 1.0;
        };
        let mut recording = Rehearsal.record(&mut work).unwrap();
        assert_eq!(of_host, 2.0);
        assert_eq!(state, Tensor::from_slice(&[0f32, 0.0]), "recorded, not done");
        recording.replay().unwrap();
        assert_eq!((&state, result.double_value(&[])), (&Tensor::from_slice(&[2f32, 4.0]), 5.0));
        tch::no_grad(|| drop(input.shallow_clone().fill_(3.0)));
        recording.replay().unwrap();
        assert_eq!((&state, result.double_value(&[])), (&Tensor::from_slice(&[8f32, 10.0]), 18.0));
    }
}
