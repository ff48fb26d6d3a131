//! Hopper: a planar one-legged robot, rewarded for speed along x and for staying upright.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::{Stream, sum_of_squares};
use crate::physics::Physics;

/// `hopper_v4.py` and `hopper_v5.py`: v5 gives no health reward on the step that terminates.
pub(crate) struct Hopper {
    version: Version,
    dt: f64,
}

impl Hopper {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self { version: info.version, dt: info.dt }))
    }
}

impl Gymnasium for Hopper {
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
        let healthy = is_healthy(physics);
        planar_judgement(self.version, self.dt, x_before, physics, action, healthy, terms)
    }
}

fn is_healthy(physics: Physics) -> bool {
    let [z, angle] = [physics.qpos[1], physics.qpos[2]];
    let mut state = physics.qpos[2..].iter().chain(physics.qvel);
    // All comparisons are false for NaN, as NumPy's are.
    state.all(|&x| -100.0 < x && x < 100.0)
        && 0.7 < z
        && z < f64::INFINITY
        && -0.2 < angle
        && angle < 0.2
}

/// The observation of Hopper and Walker2d: everything but x, velocities clipped to +-10.
pub(super) fn observe_planar(physics: Physics, observation: &mut [f64]) {
    concatenate(observation, [&physics.qpos[1..], physics.qvel]);
    let velocities = &mut observation[physics.qpos.len() - 1..];
    velocities.iter_mut().for_each(|velocity| *velocity = velocity.clamp(-10.0, 10.0));
}

/// The terms of the reward of Hopper and Walker2d.
pub(super) const PLANAR_TERMS: [&str; 3] = ["forward", "survive", "ctrl"];

/// The reward of Hopper and Walker2d: speed along x plus health minus the cost of the action. They
/// end when not healthy.
pub(super) fn planar_judgement(
    version: Version,
    dt: f64,
    x_before: f64,
    physics: Physics,
    action: &[f32],
    healthy: bool,
    terms: &mut [f64],
) -> Judgement {
    let forward_reward = (physics.qpos[0] - x_before) / dt;
    let healthy_reward = version.healthy_reward(healthy);
    let control_cost = f64::from(1e-3 * sum_of_squares(action));
    terms.copy_from_slice(&[forward_reward, healthy_reward, -control_cost]);
    let reward = forward_reward + healthy_reward - control_cost;
    Judgement { reward, terminated: !healthy }
}
