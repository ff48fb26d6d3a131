//! Walker2d: a planar two-legged robot, rewarded for speed along x and for staying upright.

use super::hopper::{PLANAR_TERMS, observe_planar, planar_judgement};
use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform};
use crate::error::Error;
use crate::numpy::Stream;
use crate::physics::Physics;

/// `walker2d_v4.py` and `walker2d_v5.py`: v5 has another model, whose feet have equal friction,
/// and gives no health reward on the step that terminates.
pub(crate) struct Walker2d {
    version: Version,
    dt: f64,
}

impl Walker2d {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self { version: info.version, dt: info.dt }))
    }
}

impl Gymnasium for Walker2d {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 5e-3, qpos);
        add_uniform(random, 5e-3, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        observe_planar(physics, observation);
    }

    fn mark(&self, physics: Physics) -> [f64; 2] {
        [physics.qpos[0], 0.0]
    }

    fn terms(&self) -> &'static [&'static str] {
        &PLANAR_TERMS
    }

    fn judge(
        &self,
        [x_before, _]: [f64; 2],
        physics: Physics,
        action: &[f32],
        terms: &mut [f64],
    ) -> Judgement {
        let [z, angle] = [physics.qpos[1], physics.qpos[2]];
        let healthy = 0.8 < z && z < 2.0 && -1.0 < angle && angle < 1.0;
        planar_judgement(self.version, self.dt, x_before, physics, action, healthy, terms)
    }
}
