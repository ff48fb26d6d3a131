//! Humanoid: a two-legged robot, rewarded for speed along x and for staying upright.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform, concatenate};
use crate::error::Error;
use crate::numpy::{Stream, sum_of, sum_of_squares};
use crate::physics::Physics;

/// `humanoid_v4.py` and `humanoid_v5.py`: v5 adds a contact cost, omits constant zeros from the
/// observation, and gives no health reward on the step that terminates.
pub(crate) struct Humanoid {
    version: Version,
    dt: f64,
    masses: Vec<f64>,
    total_mass: f64,
}

impl Humanoid {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        let masses = info.model.body_mass().to_vec();
        let total_mass = sum_of(&masses, |mass| mass);
        Ok(Box::new(Self { version: info.version, dt: info.dt, masses, total_mass }))
    }
}

impl Gymnasium for Humanoid {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 1e-2, qpos);
        add_uniform(random, 1e-2, qvel);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        observe_whole_body(self.version, physics, observation);
    }

    /// The centre of mass, summed over the bodies in order, as `numpy.einsum` does.
    fn mark(&self, physics: Physics) -> [f64; 2] {
        let mut moment = [0.0; 2];
        for (mass, [x, y, _]) in self.masses.iter().zip(physics.xipos) {
            moment[0] += mass * x;
            moment[1] += mass * y;
        }
        moment.map(|moment| moment / self.total_mass)
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
        _: &[f32],
        terms: &mut [f64],
    ) -> Judgement {
        let [x_after, _] = self.mark(physics);
        let forward_reward = 1.25 * ((x_after - x_before) / self.dt);
        let z = physics.qpos[2];
        let healthy = 1.0 < z && z < 2.0;
        let healthy_reward = self.version.healthy_reward(healthy) * 5.0;
        let rewards = forward_reward + healthy_reward;
        // The action as `f64`, from MuJoCo's controls.
        let control_cost = 0.1 * sum_of_squares(physics.ctrl);
        terms[..3].copy_from_slice(&[forward_reward, healthy_reward, -control_cost]);
        let costs = match self.version {
            Version::V4 => control_cost,
            Version::V5 => {
                let contact_cost = contact_cost(5e-7, physics);
                terms[3] = -contact_cost;
                control_cost + contact_cost
            }
        };
        Judgement { reward: rewards - costs, terminated: !healthy }
    }
}

/// The contact cost of Humanoid-v5 and HumanoidStandup, at most 10.
pub(super) fn contact_cost(weight: f64, physics: Physics) -> f64 {
    let cost = weight * sum_of_squares(physics.cfrc_ext.as_flattened());
    if cost > 10.0 { 10.0 } else { cost } // keeps NaN, as NumPy does
}

/// The observation of both humanoids: joints without x and y, inertias, velocities and forces of
/// all bodies.
///
/// v5 omits the rows of the world and the forces on the free joint, which are always zero.
pub(super) fn observe_whole_body(version: Version, physics: Physics, observation: &mut [f64]) {
    let (bodies, joints) = match version {
        Version::V4 => (0.., 0..),
        Version::V5 => (1.., 6..),
    };
    concatenate(
        observation,
        [
            &physics.qpos[2..],
            physics.qvel,
            physics.cinert[bodies.clone()].as_flattened(),
            physics.cvel[bodies.clone()].as_flattened(),
            &physics.qfrc_actuator[joints],
            physics.cfrc_ext[bodies].as_flattened(),
        ],
    );
}
