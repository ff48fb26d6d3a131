//! HumanoidStandup: the humanoid starts on its back and is rewarded for the height of its torso.

use super::humanoid::{contact_cost, observe_whole_body};
use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform};
use crate::error::Error;
use crate::numpy::{Stream, sum_of_squares};
use crate::physics::Physics;

/// `humanoidstandup_v4.py` and `humanoidstandup_v5.py`, which differ in the observation.
pub(crate) struct HumanoidStandup {
    version: Version,
    /// Seconds per MuJoCo step: the height is divided by this, not by the longer `dt`.
    timestep: f64,
}

impl HumanoidStandup {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        let timestep = info.model.opt().timestep;
        Ok(Box::new(Self { version: info.version, timestep }))
    }
}

impl Gymnasium for HumanoidStandup {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 1e-2, qpos);
        add_uniform(random, 1e-2, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        observe_whole_body(self.version, physics, observation);
    }

    fn mark(&self, _: Physics) -> [f64; 2] {
        [0.0; 2]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["linup", "quadctrl", "impact", "constant"]
    }

    fn judge(&self, _: [f64; 2], physics: Physics, _: &[f32], terms: &mut [f64]) -> Judgement {
        let height_reward = physics.qpos[2] / self.timestep;
        let control_cost = 0.1 * sum_of_squares(physics.ctrl);
        let impact_cost = contact_cost(0.5e-6, physics);
        terms.copy_from_slice(&[height_reward, -control_cost, -impact_cost, 1.0]);
        let reward = height_reward - control_cost - impact_cost + 1.0;
        Judgement { reward, terminated: false }
    }
}
