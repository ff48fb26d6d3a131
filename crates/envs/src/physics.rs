//! What a task sees of the simulation.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;

/// A simulation of its own, of a model that may be shared.
pub(crate) type Simulation = MjData<Arc<MjModel>>;

/// MuJoCo's arrays that observations and rewards are made of, borrowed.
///
/// Names are MuJoCo's (`mjData`); lengths are those of the model. Tasks are written against this
/// view and not against [`Simulation`], so that the same code judges a single environment and a
/// member of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Physics<'a> {
    /// Positions, `nq`: metres, radians, quaternions.
    pub qpos: &'a [f64],
    /// Velocities, `nv`: metres and radians per second.
    pub qvel: &'a [f64],
    /// Controls, `nu`: the last action.
    pub ctrl: &'a [f64],
    /// Actuator forces on the joints, `nv`.
    pub qfrc_actuator: &'a [f64],
    /// Constraint forces on the joints, `nv`.
    pub qfrc_constraint: &'a [f64],
    /// Origins of the bodies' frames, `nbody`, in metres.
    pub xpos: &'a [[f64; 3]],
    /// Centres of mass of the bodies, `nbody`, in metres.
    pub xipos: &'a [[f64; 3]],
    /// Sites, `nsite`, in metres.
    pub site_xpos: &'a [[f64; 3]],
    /// Inertias and masses of the bodies about the centre of mass, `nbody`.
    pub cinert: &'a [[f64; 10]],
    /// Angular and linear velocities of the bodies, `nbody`.
    pub cvel: &'a [[f64; 6]],
    /// External torques and forces on the bodies, `nbody`.
    pub cfrc_ext: &'a [[f64; 6]],
}

impl<'a> From<&'a Simulation> for Physics<'a> {
    fn from(simulation: &'a Simulation) -> Self {
        Self {
            qpos: simulation.qpos(),
            qvel: simulation.qvel(),
            ctrl: simulation.ctrl(),
            qfrc_actuator: simulation.qfrc_actuator(),
            qfrc_constraint: simulation.qfrc_constraint(),
            xpos: simulation.xpos(),
            xipos: simulation.xipos(),
            site_xpos: simulation.site_xpos(),
            cinert: simulation.cinert(),
            cvel: simulation.cvel(),
            cfrc_ext: simulation.cfrc_ext(),
        }
    }
}
