//! Where the parts of a robot are, computed on a copy of its state.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_model::MjModel;

use crate::physics::{Simulation, World};
use crate::state::INTEGRATION;

/// Poses and contacts of one moment of a simulation ([`Batch::look`](crate::Batch::look)).
///
/// It computes with an `mjData` of its own, so a simulation never notices that it is recorded. A
/// copy is needed for the positions too: after `mj_step` those of the simulation are one MuJoCo
/// step old.
pub struct Recorder {
    simulation: Simulation,
    forces: Vec<f64>,
}

impl Recorder {
    pub(crate) fn new(model: Arc<MjModel>) -> Self {
        let forces = vec![0.0; model.nbody() as usize];
        Self { simulation: Simulation::new(model), forces }
    }

    /// Takes a state (`mjSTATE_INTEGRATION`).
    pub(crate) fn take(&mut self, state: &[f64]) {
        self.simulation.set_state(state, INTEGRATION).expect("a state of the same model");
        World::of(&mut self.simulation).forward();
        self.forces.fill(0.0);
        let bodies = self.simulation.model().geom_bodyid();
        for (i, contact) in self.simulation.contact().iter().enumerate() {
            let [normal, ..] = self.simulation.contact_force(i);
            // A flex has no geom.
            for geom in contact.geom.iter().filter_map(|geom| usize::try_from(*geom).ok()) {
                self.forces[bodies[geom] as usize] += normal;
            }
        }
    }

    /// The copy that it computes with.
    #[cfg(feature = "render")]
    pub(crate) fn simulation(&self) -> &Simulation {
        &self.simulation
    }

    /// Origins of the bodies' frames in the world, in metres, one per body.
    pub fn positions(&self) -> &[[f64; 3]] {
        self.simulation.xpos()
    }

    /// Orientations of the bodies' frames in the world: unit quaternions, the real part first.
    pub fn orientations(&self) -> &[[f64; 4]] {
        self.simulation.xquat()
    }

    /// The sum of the normal forces of each body's contacts, in newton; 0 without contact.
    pub fn contact_forces(&self) -> &[f64] {
        &self.forces
    }
}
