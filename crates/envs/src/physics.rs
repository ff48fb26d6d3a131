//! A MuJoCo simulation: reset, step, and the quantities that tasks read.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::slice;
use std::sync::Arc;

use mujoco_rs::mujoco_c::{
    mj_forward, mj_resetData, mj_resetDataKeyframe, mj_rnePostConstraint, mj_step, mj_step1,
    mj_step2, mjData, mjModel, mjWarningStat, mjtIntegrator,
};
use mujoco_rs::wrappers::mj_data::{MjData, MjtWarning};
use mujoco_rs::wrappers::mj_model::MjModel;

/// A simulation that owns its `mjData`; the model may be shared.
pub(crate) type Simulation = MjData<Arc<MjModel>>;

/// A borrowed simulation, owned by an [`Env`](crate::Env) or by MuJoCo's batch.
///
/// Both use this type, so that a batch behaves like a single environment. None of its methods has
/// anything to drop while MuJoCo runs, because in a batch MuJoCo's errors `longjmp` over them.
pub(crate) struct World<'a> {
    // Pointers, because MuJoCo's functions take pointers and own the arrays.
    model: *const mjModel,
    data: *mut mjData,
    owner: PhantomData<&'a mut mjData>,
}

impl<'a> World<'a> {
    /// Borrows a simulation for `'a`.
    ///
    /// # Safety
    /// `data` must be made for `model` or for a copy of it, both must be valid, and during `'a`
    /// nothing else may use `data` or change `model`.
    pub unsafe fn new(model: *const mjModel, data: *mut mjData) -> Self {
        Self { model, data, owner: PhantomData }
    }

    /// Borrows a simulation that is owned in Rust.
    pub fn of(simulation: &'a mut Simulation) -> Self {
        let model: *const mjModel = simulation.model().ffi();
        // SAFETY: `simulation` was made for `model`, which it keeps alive and nothing changes, and
        // it is borrowed for `'a`. Its `mjData` is not replaced.
        unsafe { Self::new(model, simulation.ffi_mut()) }
    }

    /// Resets to the model's default state and clears the warnings.
    pub fn reset(&mut self) {
        // SAFETY: `new` promises a valid pair, here and in the functions that follow.
        unsafe { mj_resetData(self.model, self.data) }
    }

    /// Computes all quantities that depend on positions and velocities.
    pub fn forward(&mut self) {
        // SAFETY: as in `reset`.
        unsafe { mj_forward(self.model, self.data) }
    }

    /// Sets the controls to an action of `nu` numbers.
    pub fn control(&mut self, action: &[f32]) {
        for (control, &component) in self.ctrl_mut().iter_mut().zip(action) {
            *control = f64::from(component);
        }
    }

    /// Makes `count` MuJoCo steps. What depends on positions is afterwards that of the state
    /// before the last step.
    pub fn steps(&mut self, count: u32) {
        for _ in 0..count {
            // SAFETY: as in `reset`.
            unsafe { mj_step(self.model, self.data) }
        }
    }

    /// Computes the contact forces on bodies (`cfrc_ext`), which `mj_step` leaves stale;
    /// Gymnasium does so once per environment step.
    pub fn contact_forces(&mut self) {
        // SAFETY: as in `reset`.
        unsafe { mj_rnePostConstraint(self.model, self.data) }
    }

    /// Computes what depends on positions and velocities, as dm_control does after the steps.
    ///
    /// dm_control ends the first step of the next action with `mj_step2`, which goes on from here;
    /// `mj_step` computes the same again. In a batch it must: simulations share a `mjData`.
    pub fn refresh(&mut self) {
        // SAFETY: as in `reset`.
        unsafe { mj_step1(self.model, self.data) }
    }

    /// Resets to a keyframe of the model.
    pub fn reset_to_keyframe(&mut self, keyframe: usize) {
        // SAFETY: as in `reset`; MuJoCo checks the index.
        unsafe { mj_resetDataKeyframe(self.model, self.data, keyframe as i32) }
    }

    /// [`forward`](Self::forward) with a copy of the model that has other options.
    pub fn forward_with(&mut self, copy: &MjModel) {
        // SAFETY: as in `reset`; MuJoCo allows a copy, whose sizes are the same.
        unsafe { mj_forward(copy.ffi(), self.data) }
    }

    /// Makes `count` MuJoCo steps that are not part of the episode, as dm_control does: the first
    /// one with forces of the state of the last `forward`. Time is then 0.
    pub fn settle(&mut self, count: u32) {
        // SAFETY: as in `reset`.
        unsafe {
            if (*self.model).opt.integrator == mjtIntegrator::mjINT_RK4 as i32 {
                mj_step(self.model, self.data);
            } else {
                mj_step2(self.model, self.data);
            }
            for _ in 1..count {
                mj_step(self.model, self.data);
            }
            mj_step1(self.model, self.data);
            (*self.data).time = 0.0;
        }
    }

    /// Positions (`nq`), velocities (`nv`) and activations (`na`), to set an initial state.
    pub fn state_mut(&mut self) -> [&mut [f64]; 3] {
        // SAFETY: as in `reset`.
        let (model, data) = unsafe { (&*self.model, &*self.data) };
        [(data.qpos, model.nq), (data.qvel, model.nv), (data.act, model.na)].map(
            |(first, length)| match length {
                0 => &mut [][..], // the pointer may be null
                // SAFETY: `mjdata.h` gives the arrays these lengths, they do not overlap, and `self`
                // is borrowed for as long as they are.
                _ => unsafe { slice::from_raw_parts_mut(first, length as usize) },
            },
        )
    }

    /// The controls, `nu`.
    pub fn ctrl_mut(&mut self) -> &mut [f64] {
        // SAFETY: as in `state_mut`. Every task has an actuator, so the array is not empty.
        unsafe { slice::from_raw_parts_mut((*self.data).ctrl, (*self.model).nu as usize) }
    }

    /// The quantities that tasks read.
    pub fn physics(&self) -> Physics<'_> {
        /// # Safety
        /// `first` must point to `length` numbers or rows of numbers that do not change during
        /// `'b`, or `length` must be 0.
        unsafe fn view<'b, T>(first: *const f64, length: i64) -> &'b [T] {
            match length {
                0 => &[], // the pointer may be null
                // SAFETY: the caller promises it.
                _ => unsafe { slice::from_raw_parts(first.cast(), length as usize) },
            }
        }
        // SAFETY: `mjdata.h` gives the arrays these lengths and row widths, and `self` is borrowed
        // for as long as they are.
        unsafe {
            let (model, data) = (&*self.model, &*self.data);
            Physics {
                qpos: view(data.qpos, model.nq),
                qvel: view(data.qvel, model.nv),
                qacc: view(data.qacc, model.nv),
                act: view(data.act, model.na),
                ctrl: view(data.ctrl, model.nu),
                actuator_force: view(data.actuator_force, model.nout),
                sensordata: view(data.sensordata, model.nsensordata),
                xquat: view(data.xquat, model.nbody),
                xmat: view(data.xmat, model.nbody),
                subtree_com: view(data.subtree_com, model.nbody),
                geom_xpos: view(data.geom_xpos, model.ngeom),
                geom_xmat: view(data.geom_xmat, model.ngeom),
                site_xmat: view(data.site_xmat, model.nsite),
                time: data.time,
                ncon: data.ncon,
                qfrc_actuator: view(data.qfrc_actuator, model.nv),
                qfrc_constraint: view(data.qfrc_constraint, model.nv),
                xpos: view(data.xpos, model.nbody),
                xipos: view(data.xipos, model.nbody),
                site_xpos: view(data.site_xpos, model.nsite),
                cinert: view(data.cinert, model.nbody),
                cvel: view(data.cvel, model.nbody),
                cfrc_ext: view(data.cfrc_ext, model.nbody),
            }
        }
    }
}

/// The first of MuJoCo's warnings of an unstable simulation, if any, as text.
pub(crate) fn instability(counts: &[mjWarningStat]) -> Option<&'static str> {
    const UNSTABLE: [(MjtWarning, &str); 3] = [
        (MjtWarning::mjWARN_BADQPOS, "NaN, infinite or huge value in qpos"),
        (MjtWarning::mjWARN_BADQVEL, "NaN, infinite or huge value in qvel"),
        (MjtWarning::mjWARN_BADQACC, "NaN, infinite or huge value in qacc"),
    ];
    let mut raised = UNSTABLE.into_iter().filter(|(kind, _)| counts[*kind as usize].number > 0);
    raised.next().map(|(_, warning)| warning)
}

/// MuJoCo's arrays from which observations and rewards are computed, borrowed.
///
/// Names are MuJoCo's (`mjData`); lengths are those of the model.
#[derive(Clone, Copy)]
pub(crate) struct Physics<'a> {
    /// Positions, `nq`: metres, radians, quaternions.
    pub qpos: &'a [f64],
    /// Velocities, `nv`: metres and radians per second.
    pub qvel: &'a [f64],
    /// Accelerations, `nv`.
    pub qacc: &'a [f64],
    /// Activations of actuators, `na`.
    pub act: &'a [f64],
    /// Controls, `nu`.
    pub ctrl: &'a [f64],
    /// Forces of the actuators, `nu`.
    pub actuator_force: &'a [f64],
    /// Readings of sensors, `nsensordata`.
    pub sensordata: &'a [f64],
    /// Orientations of the bodies' frames, `nbody`, as quaternions.
    pub xquat: &'a [[f64; 4]],
    /// Orientations of the bodies' frames, `nbody`, as matrices by rows.
    pub xmat: &'a [[f64; 9]],
    /// Centres of mass of the bodies with all that hangs on them, `nbody`, in metres.
    pub subtree_com: &'a [[f64; 3]],
    /// Geoms, `ngeom`, in metres.
    pub geom_xpos: &'a [[f64; 3]],
    /// Orientations of geoms, `ngeom`, as matrices by rows.
    pub geom_xmat: &'a [[f64; 9]],
    /// Orientations of sites, `nsite`, as matrices by rows.
    pub site_xmat: &'a [[f64; 9]],
    /// Simulated time, in seconds.
    pub time: f64,
    /// Contacts.
    pub ncon: i32,
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

impl Physics<'_> {
    /// No simulation.
    pub const NONE: Physics<'static> = Physics {
        qpos: &[],
        qvel: &[],
        qacc: &[],
        act: &[],
        ctrl: &[],
        actuator_force: &[],
        sensordata: &[],
        xquat: &[],
        xmat: &[],
        subtree_com: &[],
        geom_xpos: &[],
        geom_xmat: &[],
        site_xmat: &[],
        qfrc_actuator: &[],
        qfrc_constraint: &[],
        xpos: &[],
        xipos: &[],
        site_xpos: &[],
        cinert: &[],
        cvel: &[],
        cfrc_ext: &[],
        time: 0.0,
        ncon: 0,
    };
}
