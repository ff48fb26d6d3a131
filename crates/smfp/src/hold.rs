//! Latents held over several steps of exploration.

use agent::Random;
use networks::normal;
use rand::{RngExt, SeedableRng};
use tch::{Device, Tensor};

/// A latent that stays for n steps, P(n) proportional to n^-2 for n up to a limit. A step is one
/// of all environments; a reset does not end it.
pub(crate) struct Hold {
    limit: i64,
    /// Steps that remain, and the seed that the held latents are drawn from: (2) of `i64`. With
    /// a seed in place of the latents, the state's shape is the same for any number of
    /// environments.
    state: Tensor,
}

impl Hold {
    /// Nothing held yet.
    pub fn new(limit: i64) -> Self {
        Self { limit, state: Tensor::from_slice(&[0i64, 0]) }
    }

    /// Standard-normal latents of a step, of the given shape.
    pub fn latents(&mut self, shape: &[i64], device: Device, rng: &mut Random) -> Tensor {
        let (mut remaining, mut seed) =
            (self.state.int64_value(&[0]), self.state.int64_value(&[1]));
        if remaining == 0 {
            remaining = draw_length(self.limit, rng);
            seed = rng.random::<i64>();
        }
        self.state.copy_(&Tensor::from_slice(&[remaining - 1, seed]));
        normal(&mut Random::seed_from_u64(seed as u64), shape, device)
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        vec![("held_latent".to_string(), self.state.shallow_clone())]
    }
}

/// n from 1 to `limit` with probability proportional to n^-2.
fn draw_length(limit: i64, rng: &mut Random) -> i64 {
    let weight = |n: i64| 1.0 / (n * n) as f64;
    let mut rest = rng.random::<f64>() * (1..=limit).map(weight).sum::<f64>();
    for n in 1..limit {
        rest -= weight(n);
        if rest < 0.0 {
            return n;
        }
    }
    limit
}
