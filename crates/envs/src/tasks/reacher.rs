//! Reacher: a planar arm of two links, penalised for its fingertip's distance to a target.

use super::{Gymnasium, Judgement, ModelInfo, Version, add_uniform, difference};
use crate::error::Error;
use crate::numpy::{Stream, norm, sum_of_squares};
use crate::physics::Physics;

/// `reacher_v4.py` and `reacher_v5.py`: v4 penalises the distance before the step, v5 the
/// distance after it; v5 omits the height difference, always zero, from the observation.
pub(crate) struct Reacher {
    version: Version,
    fingertip: usize,
    target: usize,
}

impl Reacher {
    pub fn build(info: &ModelInfo) -> Result<Box<dyn Gymnasium>, Error> {
        Ok(Box::new(Self {
            version: info.version,
            fingertip: info.body("fingertip")?,
            target: info.body("target")?,
        }))
    }

    fn gap(&self, physics: Physics) -> [f64; 3] {
        difference(physics.xpos[self.fingertip], physics.xpos[self.target])
    }
}

impl Gymnasium for Reacher {
    fn disturb(&self, random: &mut Stream, qpos: &mut [f64], qvel: &mut [f64]) {
        add_uniform(random, 0.1, qpos);
        let goal = loop {
            let goal = [random.uniform(-0.2, 0.2), random.uniform(-0.2, 0.2)];
            if norm(&goal) < 0.2 {
                break goal;
            }
        };
        qpos[2..].copy_from_slice(&goal);
        add_uniform(random, 0.005, qvel);
        qvel[2..].fill(0.0);
    }

    fn observe(&self, physics: Physics, observation: &mut [f64]) {
        let angles = &physics.qpos[..2];
        let gap = self.gap(physics);
        let gap = match self.version {
            Version::V4 => &gap[..],
            Version::V5 => &gap[..2],
        };
        let numbers = angles
            .iter()
            .map(|angle| angle.cos())
            .chain(angles.iter().map(|angle| angle.sin()))
            .chain(physics.qpos[2..].iter().copied())
            .chain(physics.qvel[..2].iter().copied())
            .chain(gap.iter().copied());
        observation.iter_mut().zip(numbers).for_each(|(shown, x)| *shown = x);
    }

    /// The distance, for v4.
    fn mark(&self, physics: Physics) -> [f64; 2] {
        [norm(&self.gap(physics)), 0.0]
    }

    fn terms(&self) -> &'static [&'static str] {
        &["dist", "ctrl"]
    }

    fn judge(
        &self,
        mark: [f64; 2],
        physics: Physics,
        action: &[f32],
        terms: &mut [f64],
    ) -> Judgement {
        let [distance, _] = match self.version {
            Version::V4 => mark,
            Version::V5 => self.mark(physics),
        };
        let control_cost = f64::from(sum_of_squares(action));
        terms.copy_from_slice(&[-distance, -control_cost]);
        Judgement { reward: -distance - control_cost, terminated: false }
    }
}
