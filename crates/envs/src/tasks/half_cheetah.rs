//! HalfCheetah: a planar two-legged robot, rewarded for speed along x. It never terminates.

use super::{Gymnasium, Judgement, ModelInfo, add_normal, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::{Stream, sum_of_squares};
use crate::physics::Physics;

/// `half_cheetah_v4.py` and `half_cheetah_v5.py`, which are equivalent.
pub(crate) struct HalfCheetah {
    dt: f64,
}

impl HalfCheetah {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self { dt: info.dt }))
    }
}

impl Gymnasium for HalfCheetah {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.1, qpos);
        add_normal(random, 0.1, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        concatenate(observation, [&physics.qpos[1..], physics.qvel]);
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
        let control_cost = f64::from(0.1 * sum_of_squares(action));
        terms.copy_from_slice(&[forward_reward, -control_cost]);
        Judgement { reward: forward_reward - control_cost, terminated: false }
    }
}
