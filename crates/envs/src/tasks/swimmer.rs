//! Swimmer: a chain of three rods in a viscous plane, rewarded for speed along x.

use super::{Gymnasium, Judgement, ModelInfo, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::{Stream, sum_of_squares};
use crate::physics::Physics;

/// `swimmer_v4.py` and `swimmer_v5.py`, which are equivalent.
pub(crate) struct Swimmer {
    dt: f64,
}

impl Swimmer {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self { dt: info.dt }))
    }
}

impl Gymnasium for Swimmer {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.1, qpos);
        add_uniform(random, 0.1, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        concatenate(observation, [&physics.qpos[2..], physics.qvel]);
    }

    fn mark(&self, physics: Physics) -> [f64; 2] {
        [physics.qpos[0], 0.0]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["forward", "ctrl"]
    }

    fn judge(
        &self,
        [x_before, _]: [f64; 2],
        physics: Physics,
        action: &[f32],
        terms: &mut [f64],
    ) -> Judgement {
        let forward_reward = (physics.qpos[0] - x_before) / self.dt;
        let control_cost = f64::from(1e-4 * sum_of_squares(action));
        terms.copy_from_slice(&[forward_reward, -control_cost]);
        Judgement { reward: forward_reward - control_cost, terminated: false }
    }
}
