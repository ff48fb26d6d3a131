//! Pusher: an arm with seven joints, penalised for a cylinder's distance to its goal.

use super::{Gymnasium, Judgement, ModelInfo, add_uniform, concatenate, difference};
use crate::error::Error;
use crate::numpy::{Stream, norm, sum_of_squares};
use crate::physics::Physics;

/// `pusher_v5.py`. (Pusher-v4's model is not valid with MuJoCo 3.)
pub(crate) struct Pusher {
    tips_arm: usize,
    object: usize,
    goal: usize,
}

impl Pusher {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self {
            tips_arm: info.body("tips_arm")?,
            object: info.body("object")?,
            goal: info.body("goal")?,
        }))
    }
}

impl Gymnasium for Pusher {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        // The arm starts at rest, the cylinder anywhere but close to the goal, which is at 0.
        let cylinder = loop {
            let cylinder = [random.uniform(-0.3, 0.0), random.uniform(-0.2, 0.2)];
            if norm(&cylinder) > 0.17 {
                break cylinder;
            }
        };
        qpos[7..9].copy_from_slice(&cylinder);
        qpos[9..].fill(0.0);
        add_uniform(random, 0.005, qvel);
        qvel[7..].fill(0.0);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        let [tips_arm, object, goal] =
            [self.tips_arm, self.object, self.goal].map(|body| &physics.xpos[body][..]);
        let arm = [&physics.qpos[..7], &physics.qvel[..7]];
        concatenate(observation, arm.into_iter().chain([tips_arm, object, goal]));
    }

    fn mark(&self, _: Physics) -> [f64; 2] {
        [0.0; 2]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["dist", "ctrl", "near"]
    }

    fn judge(&self, _: [f64; 2], physics: Physics, action: &[f32], terms: &mut [f64]) -> Judgement {
        let object = physics.xpos[self.object];
        let near = norm(&difference(object, physics.xpos[self.tips_arm])) * 0.5;
        let distance = norm(&difference(object, physics.xpos[self.goal]));
        let control_cost = f64::from(sum_of_squares(action) * 0.1);
        terms.copy_from_slice(&[-distance, -control_cost, -near]);
        Judgement { reward: -distance - control_cost - near, terminated: false }
    }
}
