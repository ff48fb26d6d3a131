//! Ant: a four-legged robot, rewarded for speed along x.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_normal, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::{Stream, sum_of, sum_of_squares};
use crate::physics::Physics;

/// `ant_v4.py` and `ant_v5.py`: v5 adds contact forces to the observation and the cost, and
/// gives no health reward on the step that terminates.
pub(crate) struct Ant {
    version: Version,
    dt: f64,
    torso: usize,
}

impl Ant {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        let ModelInfo { version, dt, .. } = *info;
        let torso = match version {
            Version::V4 => info.body("torso")?,
            Version::V5 => 1, // `main_body`
        };
        Ok(Box::new(Self { version, dt, torso }))
    }
}

impl Gymnasium for Ant {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.1, qpos);
        add_normal(random, 0.1, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        let joints = physics.qpos.len() - 2 + physics.qvel.len();
        let (joints, contacts) = observation.split_at_mut(joints);
        concatenate(joints, [&physics.qpos[2..], physics.qvel]);
        if self.version == Version::V5 {
            // Without the world, body 0.
            concatenate(contacts, [physics.cfrc_ext[1..].as_flattened()]);
            contacts.iter_mut().for_each(|force| *force = clip(*force));
        }
    }

    fn mark(&self, physics: Physics) -> [f64; 2] {
        let [x, y, _] = physics.xpos[self.torso];
        [x, y]
    }

    fn terms(&self) -> &'static [&'static str] {
        match self.version {
            Version::V4 => &["forward", "survive", "ctrl"],
            Version::V5 => &["forward", "survive", "ctrl", "contact"],
        }
    }

    fn judge(
        &self,
        [x_before, _]: [f64; 2],
        physics: Physics,
        action: &[f32],
        terms: &mut [f64],
    ) -> Judgement {
        let forward_reward = (physics.xpos[self.torso][0] - x_before) / self.dt;
        let control_cost = f64::from(0.5 * sum_of_squares(action));
        let healthy = is_healthy(physics);
        let healthy_reward = self.version.healthy_reward(healthy);
        let rewards = forward_reward + healthy_reward;
        terms[..3].copy_from_slice(&[forward_reward, healthy_reward, -control_cost]);
        let costs = match self.version {
            Version::V4 => control_cost,
            Version::V5 => {
                let forces = physics.cfrc_ext.as_flattened();
                let contact_cost = 5e-4 * sum_of(forces, |force| clip(force) * clip(force));
                terms[3] = -contact_cost;
                control_cost + contact_cost
            }
        };
        Judgement { reward: rewards - costs, terminated: !healthy }
    }
}

fn is_healthy(physics: Physics) -> bool {
    let finite = physics.qpos.iter().chain(physics.qvel).all(|x| x.is_finite());
    finite && (0.2..=1.0).contains(&physics.qpos[2])
}

fn clip(force: f64) -> f64 {
    force.clamp(-1.0, 1.0)
}
