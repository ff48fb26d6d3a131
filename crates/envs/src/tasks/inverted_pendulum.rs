//! InvertedPendulum: a cart, rewarded for every step on which its pole is upright.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::Stream;
use crate::physics::Physics;

/// `inverted_pendulum_v4.py` and `inverted_pendulum_v5.py`: v5 gives no reward on the step on
/// which the pole falls.
pub(crate) struct InvertedPendulum {
    version: Version,
}

impl InvertedPendulum {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self { version: info.version }))
    }
}

impl Gymnasium for InvertedPendulum {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.01, qpos);
        add_uniform(random, 0.01, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        concatenate(observation, [physics.qpos, physics.qvel]);
    }

    fn mark(&self, _: Physics) -> [f64; 2] {
        [0.0; 2]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["survive"]
    }

    fn judge(&self, _: [f64; 2], physics: Physics, _: &[f32], terms: &mut [f64]) -> Judgement {
        let finite = physics.qpos.iter().chain(physics.qvel).all(|x| x.is_finite());
        let upright = finite && physics.qpos[1].abs() <= 0.2;
        let reward = self.version.healthy_reward(upright);
        terms[0] = reward;
        Judgement { reward, terminated: !upright }
    }
}
