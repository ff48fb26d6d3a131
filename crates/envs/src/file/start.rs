//! Initial states.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint};

use super::document::{Joints, Moment, Order};
use super::program::{Inputs, Operation, run};
use crate::numpy::{Stream, norm};
use crate::physics::World;

/// Attempts at a state without contact; the last is used.
const ATTEMPTS: usize = 1000;

/// Attempts at a height without contact; the last is used.
const RAISES: usize = 10_000;

/// How an episode starts.
pub(super) struct Start {
    pub order: Order,
    /// The model with actuation off, for dm_control's order.
    pub passive: Arc<MjModel>,
    pub keyframe: Option<usize>,
    pub joints: Vec<Joint>,
    pub set: Vec<Assignment>,
    /// Whether to draw again until nothing touches: where the notes have room for the state that every
    /// attempt begins with.
    pub until_no_contact: Option<Range<usize>>,
    pub raise: Option<Raise>,
    pub settle_steps: u32,
    pub goal: Vec<Operation>,
    pub goal_drawn: Moment,
}

/// A free joint goes up until nothing touches.
pub(super) struct Raise {
    /// Metres.
    pub step: f64,
    /// The index of its height in `qpos`.
    pub height: usize,
    /// Where the notes have room for a state.
    pub state: Range<usize>,
}

/// A joint with a random position, from `first` on in `qpos`.
#[derive(Clone, Copy)]
pub(super) struct Joint {
    first: usize,
    kind: JointKind,
}

#[derive(Clone, Copy)]
enum JointKind {
    Range(f64, f64),
    /// The quaternion of a free joint. dm_control draws its four numbers from [0, 1).
    Free,
    Ball,
    LimitedBall(f64),
}

/// Some numbers of the state and what they are set to.
pub(super) struct Assignment {
    pub state: Part,
    pub indices: Vec<u32>,
    pub program: Vec<Operation>,
    /// Where the values are in the notes; one value if `scalar`.
    pub from: usize,
    pub scalar: bool,
}

/// A part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Positions,
    Velocities,
    Activations,
}

/// The joints of a model that have random positions.
pub(super) fn random_joints(model: &MjModel, joints: Joints) -> Vec<Joint> {
    let all = joints == Joints::LimitedAndRotational;
    let joint = |i: usize| {
        let limited = model.jnt_limited()[i];
        let [low, high] = model.jnt_range()[i];
        let kind = match model.jnt_type()[i] {
            MjtJoint::mjJNT_HINGE | MjtJoint::mjJNT_SLIDE if limited => JointKind::Range(low, high),
            MjtJoint::mjJNT_HINGE if all => JointKind::Range(-PI, PI),
            MjtJoint::mjJNT_BALL if all && limited => JointKind::LimitedBall(high),
            MjtJoint::mjJNT_BALL if all => JointKind::Ball,
            MjtJoint::mjJNT_FREE if all => JointKind::Free,
            _ => return None,
        };
        Some(Joint { first: model.jnt_qposadr()[i] as usize, kind })
    };
    match joints {
        Joints::AsInModel => Vec::new(),
        Joints::Limited | Joints::LimitedAndRotational => {
            (0..model.njnt() as usize).filter_map(joint).collect()
        }
    }
}

impl Joint {
    /// `randomize_limited_and_rotational_joints` of dm_control.
    fn draw(self, random: &mut Stream, qpos: &mut [f64]) {
        let unit = |x: [f64; 4]| {
            let length = norm(&x);
            x.map(|x| x / length)
        };
        let place = &mut qpos[self.first..];
        match self.kind {
            JointKind::Range(low, high) => place[0] = random.uniform(low, high),
            JointKind::Free => {
                let quaternion = unit(std::array::from_fn(|_| random.uniform(0.0, 1.0)));
                place[3..7].copy_from_slice(&quaternion);
            }
            JointKind::Ball => {
                let quaternion = unit(std::array::from_fn(|_| random.standard_normal()));
                place[..4].copy_from_slice(&quaternion);
            }
            JointKind::LimitedBall(limit) => {
                let axis: [f64; 3] = std::array::from_fn(|_| random.standard_normal());
                let length = norm(&axis);
                let half = 0.5 * (random.uniform(0.0, 1.0) * limit);
                place[0] = half.cos();
                for (to, x) in place[1..4].iter_mut().zip(axis) {
                    *to = x / length * half.sin();
                }
            }
        }
    }
}

impl Start {
    /// Brings MuJoCo to an initial state and computes all that depends on it.
    pub fn run(&self, random: &mut Stream, world: &mut World, notes: &mut [f64]) {
        self.reset(world);
        let draw_goal = |random: &mut Stream, world: &World, notes: &mut [f64]| {
            let physics = world.physics();
            run(&self.goal, &mut Inputs { physics, action: &[], random: Some(random) }, notes);
        };
        if self.goal_drawn == Moment::Before {
            draw_goal(random, world, notes);
        }
        if let Some(state) = &self.until_no_contact {
            keep(world, &mut notes[state.clone()]);
        }
        for attempt in 0..ATTEMPTS {
            // An expression may add noise to what is there. (Accelerations, from which MuJoCo's solver starts,
            // stay as dm_control leaves them.)
            if let Some(state) = self.until_no_contact.as_ref().filter(|_| attempt > 0) {
                bring_back(world, &notes[state.clone()]);
            }
            for joint in &self.joints {
                joint.draw(random, world.state_mut()[0]);
            }
            for assignment in &self.set {
                assignment.run(random, world, notes);
            }
            if self.until_no_contact.is_none() {
                break;
            }
            self.forward(world);
            if world.physics().ncon == 0 {
                break;
            }
        }
        if let Some(raise) = &self.raise {
            self.raise(raise, world, &mut notes[raise.state.clone()]);
        }
        if self.settle_steps > 0 {
            // dm_control's first step has the forces of the reset.
            if self.order == Order::Gymnasium {
                world.forward();
            }
            world.settle(self.settle_steps);
        }
        self.forward(world);
        if self.goal_drawn == Moment::After {
            draw_goal(random, world, notes);
        }
    }

    fn reset(&self, world: &mut World) {
        match self.keyframe {
            None => world.reset(),
            Some(keyframe) => world.reset_to_keyframe(keyframe),
        }
        self.forward(world);
    }

    /// As dm_control does it: each attempt begins with a reset, whose accelerations are those from
    /// which MuJoCo's solver starts.
    fn raise(&self, raise: &Raise, world: &mut World, state: &mut [f64]) {
        keep(world, state);
        for _ in 0..RAISES {
            self.forward(world);
            if world.physics().ncon == 0 {
                break;
            }
            state[raise.height] += raise.step;
            self.reset(world);
            bring_back(world, state);
        }
    }

    fn forward(&self, world: &mut World) {
        match self.order {
            Order::Gymnasium => world.forward(),
            Order::DmControl => world.forward_with(&self.passive),
        }
    }
}

/// Copies the state into the notes: `qpos`, `qvel`, `act`.
fn keep(world: &mut World, state: &mut [f64]) {
    world.state_mut().into_iter().flatten().zip(state).for_each(|(from, to)| *to = *from);
}

/// Copies it back.
fn bring_back(world: &mut World, state: &[f64]) {
    world.state_mut().into_iter().flatten().zip(state).for_each(|(to, from)| *to = *from);
}

impl Assignment {
    fn run(&self, random: &mut Stream, world: &mut World, notes: &mut [f64]) {
        let physics = world.physics();
        let mut inputs = Inputs { physics, action: &[], random: Some(random) };
        run(&self.program, &mut inputs, notes);
        let [qpos, qvel, act] = world.state_mut();
        let state = match self.state {
            Part::Positions => qpos,
            Part::Velocities => qvel,
            Part::Activations => act,
        };
        for (i, &at) in self.indices.iter().enumerate() {
            state[at as usize] = notes[if self.scalar { self.from } else { self.from + i }];
        }
    }
}
