//! InvertedDoublePendulum: a cart, rewarded for balancing a pole on a pole.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_normal, add_uniform};
use crate::error::Error;
use crate::numpy::{Stream, squared};
use crate::physics::Physics;

/// `inverted_double_pendulum_v4.py` and `inverted_double_pendulum_v5.py`: v5 observes the
/// constraint force on the cart only, and gives no reward on the step on which the tip falls.
pub(crate) struct InvertedDoublePendulum {
    version: Version,
}

impl InvertedDoublePendulum {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        if info.model.nsite() < 1 {
            return Err(info.misfit("nsite (sites, the first is the tip)", "0", "1"));
        }
        Ok(Box::new(Self { version: info.version }))
    }
}

impl Gymnasium for InvertedDoublePendulum {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.1, qpos);
        add_normal(random, 0.1, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        let clip = |x: &f64| x.clamp(-10.0, 10.0);
        let (cart, angles) = (physics.qpos[0], &physics.qpos[1..]);
        let forces = match self.version {
            Version::V4 => physics.qfrc_constraint,
            Version::V5 => &physics.qfrc_constraint[..1],
        };
        let numbers = std::iter::once(cart)
            .chain(angles.iter().map(|angle| angle.sin()))
            .chain(angles.iter().map(|angle| angle.cos()))
            .chain(physics.qvel.iter().map(clip))
            .chain(forces.iter().map(clip));
        observation.iter_mut().zip(numbers).for_each(|(shown, x)| *shown = x);
    }

    fn mark(&self, _: Physics) -> [f64; 2] {
        [0.0; 2]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["survive", "distance_penalty", "velocity_penalty"]
    }

    fn judge(&self, _: [f64; 2], physics: Physics, _: &[f32], terms: &mut [f64]) -> Judgement {
        let [x, _, y] = physics.site_xpos[0];
        let [v1, v2] = [physics.qvel[1], physics.qvel[2]];
        let fallen = y <= 1.0;
        let distance_penalty = 0.01 * squared(x) + squared(y - 2.0);
        let velocity_penalty = 1e-3 * squared(v1) + 5e-3 * squared(v2);
        let alive_bonus = 10.0 * self.version.healthy_reward(!fallen);
        terms.copy_from_slice(&[alive_bonus, -distance_penalty, -velocity_penalty]);
        let reward = alive_bonus - distance_penalty - velocity_penalty;
        Judgement { reward, terminated: fallen }
    }
}
