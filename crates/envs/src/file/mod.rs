//! Tasks that are files: a model, and rules in TOML with expressions, next to it.
//!
//! `document` reads the keys, `parse` the syntax of expressions; `compile` finds what they mean for
//! a model, with `call` for functions and `parts` for rows and columns; `program` evaluates them,
//! `start` makes initial states, `remove` takes objects out of the model. [docs/tasks.md] describes the format.
//!
//! [docs/tasks.md]: ../../../../docs/tasks.md

mod call;
mod compile;
mod document;
mod fields;
mod functions;
mod parse;
mod parts;
mod problem;
mod program;
mod remove;
mod sketch;
mod start;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use mujoco_rs::mujoco_c::mjtDisableBit;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{
    MjModel, MjtBias, MjtDyn, MjtGain, MjtJoint, MjtObjBase, MjtTrn,
};

use self::compile::{Compiler, Kept, Role};
use self::document::{Moment, Order, PositionKeys, RANGE, Random, TaskFile, is_range};
use self::parse::Code;
use self::problem::Problem;
use self::program::{Inputs, Operation, run};
use self::start::{Assignment, Part, Raise, Start, random_joints};
use crate::episode::Rules;
use crate::error::Error;
use crate::interface::{Term, actuators, coordinates};
use crate::messages::one_line;
use crate::numpy::Stream;
use crate::physics::{Physics, World};
use crate::registry::{PerActuator, PositionTargets, Spec};
use crate::tasks::{Judgement, Task};

pub(crate) use self::document::read;
pub use self::document::{file_name_for, is_file, task_name, wrong_name};
pub(crate) use self::problem::nearest;
pub(crate) use self::remove::load_without;
pub use self::sketch::sketch;

/// A task read from a file and compiled for a model.
pub(crate) struct FileTask {
    random: Random,
    order: Order,
    start: Start,
    targets: Option<Targets>,
    /// The observation's operations, and where its numbers are in the notes.
    observe: Vec<Operation>,
    observation: Vec<Range<usize>>,
    /// Operations of terms, reward and termination.
    judge: Vec<Operation>,
    terms: Vec<usize>,
    reward: usize,
    terminate: Option<usize>,
    keep: Vec<Kept>,
    kept: Vec<Range<usize>>,
    /// The notes of a copy before its first reset.
    notes: Vec<f64>,
    act_dim: usize,
}

/// Position targets: a proportional-derivative controller for every actuator.
struct Targets {
    joints: Vec<TargetJoint>,
}

/// The joint of an actuator.
#[derive(Clone, Copy)]
struct TargetJoint {
    position: usize,
    velocity: usize,
    kp: f64,
    kd: f64,
    scale: f64,
    default: f64,
    gear: f64,
}

/// Compiles a file for its model, which is edited as the file says.
///
/// # Errors
/// [`Error::TaskFile`].
pub(crate) fn build(file: &TaskFile, model: &mut MjModel) -> Result<Rules, Error> {
    compile_file(file, model).map_err(|problem| problem.in_file(&file.path, &file.text))
}

fn compile_file(file: &TaskFile, model: &mut MjModel) -> Result<Rules, Problem> {
    edit(file, model)?;
    let act_dim = model.nu() as usize;
    if act_dim == 0 {
        return Err(Problem::new(0, "the model has no actuators, so that there is no action"));
    }
    let dt = model.opt().timestep * f64::from(file.steps_per_action);
    let mut compiler = Compiler::new(model, dt);
    compiler.named =
        [&file.terms, &file.goal].map(|named| named.iter().map(|(name, _)| name.clone()).collect());

    let (start, goals) = start(file, model, &mut compiler)?;
    let mut observe = Vec::new();
    let mut observation = Vec::new();
    let mut observation_terms = Vec::new();
    let mut obs_dim = 0;
    for (name, code) in &file.observation {
        let (from, shape) = compiler.compile(code, Role::Observation, &mut observe)?;
        let length = shape.len();
        observation.push(from..from + length);
        let entries = entries(code, model, &mut compiler);
        let expression = one_line(&code.text);
        let term = Term { name: name.clone(), expression, start: obs_dim, length, entries };
        observation_terms.push(term);
        obs_dim += length;
    }
    let mut judge = Vec::new();
    let (mut term_names, mut terms) = (Vec::new(), Vec::new());
    for (name, code) in &file.terms {
        let (at, shape) = compiler.term(name, code, &mut judge)?;
        if shape.len() == 1 {
            term_names.push(name.clone());
            terms.push(at);
        }
    }
    let reward = compiler.scalar(&file.reward, "the reward", &mut judge)?;
    let terminate = file.terminate.as_ref();
    let terminate =
        terminate.map(|code| compiler.scalar(code, "terminate", &mut judge)).transpose()?;

    let (act_low, act_high) = bounds(file, model)?;
    let keys = file.action.position.as_ref();
    let targets = keys.map(|keys| targets_of(keys, file.action.at, model)).transpose()?;
    let position_targets = keys.zip(targets.as_ref()).map(|(keys, targets)| PositionTargets {
        kp: keys.kp.0.clone(),
        kd: keys.kd.0.clone(),
        scale: keys.scale.0.clone(),
        default: targets.joints.iter().map(|joint| joint.default).collect(),
    });
    let spec = Spec {
        id: task_name(&file.path.to_string_lossy()).to_owned(),
        obs_dim,
        act_dim,
        actuators: actuators(model),
        act_low,
        act_high,
        max_episode_steps: file.max_episode_steps,
        model_file: file.model.display().to_string(),
        frame_skip: file.steps_per_action,
        dt,
        observation: observation_terms,
        position_targets,
        terms: term_names,
    };
    let kept = compiler.kept.iter().map(|kept| kept.to..kept.to + kept.len);
    let kept = kept.chain(goals).collect();
    let Compiler { notes, kept: keep, .. } = compiler;
    let task = FileTask {
        random: file.random,
        order: file.order,
        start,
        targets,
        observe,
        observation,
        judge,
        terms,
        reward,
        terminate,
        keep,
        kept,
        notes,
        act_dim,
    };
    Ok(Rules { spec, task: Box::new(task) })
}

/// The coordinates that a term of the observation is: names if it is a part of `qpos` or `qvel` as it
/// stands.
fn entries(code: &Code, model: &MjModel, compiler: &mut Compiler) -> Vec<String> {
    use parse::Item::{Call, Columns, Name, Rows, Text};
    let part = |item: &parse::Item| match item {
        Name(name) | Call { function: name, .. } => matches!(&name[..], "qpos" | "qvel"),
        Text(_) | Rows { .. } | Columns(_) => true,
        _ => false,
    };
    if !code.items.iter().all(|placed| part(&placed.item)) {
        return Vec::new();
    }
    let Ok((field, indices)) = compiler.target(code, &["qpos", "qvel"]) else {
        return Vec::new();
    };
    let (positions, velocities) = coordinates(model);
    let names = if field == "qpos" { positions } else { velocities };
    indices.iter().map(|i| names[*i as usize].clone()).collect()
}

/// Changes numbers of the model.
fn edit(file: &TaskFile, model: &mut MjModel) -> Result<(), Problem> {
    const FIELDS: [&str; 3] = ["dof_damping", "dof_armature", "dof_frictionloss"];
    let mut heavier = false;
    for (target, value) in &file.model_edits {
        // The same numbers of `qvel`, whose rows these fields share.
        let mut code = target.clone();
        let mut field = None;
        for placed in &mut code.items {
            if let parse::Item::Name(name) | parse::Item::Call { function: name, .. } =
                &mut placed.item
                && let Some(known) = FIELDS.iter().find(|known| *known == name)
            {
                field = Some(*known);
                "qvel".clone_into(name);
            }
        }
        let Some(field) = field else {
            let expected =
                format!("expected {} of joints, such as dof_damping('hip')", FIELDS.join(", "));
            return Err(Problem::new(target.at, expected));
        };
        let (_, indices) = Compiler::new(model, 1.0).target(&code, &["qvel"])?;
        if *value < 0.0 {
            return Err(Problem::new(
                target.at,
                format!("{field} is {value}, expected at least 0"),
            ));
        }
        heavier |= field == "dof_armature";
        let numbers = match field {
            "dof_damping" => model.dof_damping_mut(),
            "dof_armature" => model.dof_armature_mut(),
            _ => model.dof_frictionloss_mut(),
        };
        indices.iter().for_each(|i| numbers[*i as usize] = *value);
    }
    if heavier {
        // What MuJoCo derived from the armature as it compiled the model.
        MjData::new(model).set_const();
    }
    Ok(())
}

/// How episodes start, and where goals are in the notes.
fn start(
    file: &TaskFile,
    model: &MjModel,
    compiler: &mut Compiler,
) -> Result<(Start, Vec<Range<usize>>), Problem> {
    let keys = &file.start;
    let mut set = Vec::new();
    let mut goal = Vec::new();
    let mut goals = |compiler: &mut Compiler| -> Result<Vec<Range<usize>>, Problem> {
        file.goal.iter().map(|(name, code)| compiler.goal(name, code, &mut goal)).collect()
    };
    let mut places = Vec::new();
    if keys.goal == Moment::Before {
        places = goals(compiler)?;
    }
    for (target, code) in &keys.set {
        let (field, indices) = compiler.target(target, &["qpos", "qvel", "act"])?;
        let mut program = Vec::new();
        let (from, shape) = compiler.compile(code, Role::Start(indices.len()), &mut program)?;
        let scalar = shape.len() == 1;
        if !scalar && shape.len() != indices.len() {
            let message =
                format!("{} numbers for {} numbers of {field}", shape.len(), indices.len());
            return Err(Problem::new(code.at, message));
        }
        let state = match field.as_str() {
            "qpos" => Part::Positions,
            "qvel" => Part::Velocities,
            _ => Part::Activations,
        };
        set.push(Assignment { state, indices, program, from, scalar });
    }
    if keys.goal == Moment::After {
        places = goals(compiler)?;
    }
    let mut passive = model.clone();
    passive.opt_mut().disableflags |= mjtDisableBit::mjDSBL_ACTUATION as i32;
    let start = Start {
        order: file.order,
        passive: Arc::new(passive),
        keyframe: keys.keyframe.as_ref().map(|key| keyframe(key, model)).transpose()?,
        joints: random_joints(model, keys.joints),
        set,
        until_no_contact: match keys.until_no_contact {
            true => Some(room_for_state(model, compiler, 0)?),
            false => None,
        },
        raise: keys
            .raise
            .map(|raise| raised(raise, keys.until_no_contact, model, compiler))
            .transpose()?,
        settle_steps: keys.settle_steps,
        goal,
        goal_drawn: keys.goal,
    };
    Ok((start, places))
}

/// How the model's first free joint is raised.
fn raised(
    (step, at): (f64, usize),
    until_no_contact: bool,
    model: &MjModel,
    compiler: &mut Compiler,
) -> Result<Raise, Problem> {
    if until_no_contact {
        return Err(Problem::new(at, "raise and until_no_contact exclude each other"));
    }
    let free = model.jnt_type().iter().position(|kind| *kind == MjtJoint::mjJNT_FREE);
    let Some(joint) = free else {
        return Err(Problem::new(at, "raise: the model has no free joint"));
    };
    let state = room_for_state(model, compiler, at)?;
    let height = model.jnt_qposadr()[joint] as usize + 2;
    Ok(Raise { step, height, state })
}

/// Where the notes have room for `qpos`, `qvel` and `act`.
fn room_for_state(
    model: &MjModel,
    compiler: &mut Compiler,
    at: usize,
) -> Result<Range<usize>, Problem> {
    let numbers = (model.nq() + model.nv() + model.na()) as usize;
    let first = compiler.reserve(&vec![0.0; numbers], at)?;
    Ok(first..first + numbers)
}

/// The index of a keyframe.
fn keyframe((name, at): &(String, usize), model: &MjModel) -> Result<usize, Problem> {
    let names = (0..model.nkey() as usize)
        .filter_map(|i| Some((i, model.id_to_name(MjtObjBase::mjOBJ_KEY, i)?)));
    let found = names.clone().find(|(_, known)| known == name);
    found
        .map(|(i, _)| i)
        .ok_or_else(|| Problem::unknown(*at, "keyframe", name, names.map(|(_, name)| name)))
}

/// Bounds of the action.
fn bounds(file: &TaskFile, model: &MjModel) -> Result<(Vec<f32>, Vec<f32>), Problem> {
    if let Some(range) = &file.action.range {
        check_count("range", "pairs", range, model)?;
    }
    let mut bounds = Vec::new();
    for (i, own) in model.actuator_ctrlrange().iter().enumerate() {
        let range = match (&file.action.position, &file.action.range) {
            (Some(_), _) => [-1.0, 1.0],
            (None, Some((given, _))) => given.of(i),
            (None, None) => *own,
        };
        if !is_range(range) {
            let name = model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, i);
            let name = name.map_or(format!("actuator {i}"), |name| format!("actuator '{name}'"));
            let found = match range {
                [0.0, 0.0] => "has no range".to_owned(),
                [low, high] => format!("has the range [{low:?}, {high:?}], expected {RANGE}"),
            };
            let fix = "give it a ctrlrange in the model, or the task `[action] range = [-1, 1]`";
            let message = format!("{name} of the model {found}; {fix}");
            return Err(Problem::new(file.action.at, message));
        }
        let [low, high] = range.map(|bound| bound as f32);
        bounds.push((low, high));
    }
    Ok(bounds.into_iter().unzip())
}

/// Checks that a list has one entry for each actuator.
fn check_count<T>(
    key: &str,
    what: &str,
    (given, at): &(PerActuator<T>, usize),
    model: &MjModel,
) -> Result<(), Problem> {
    let actuators = model.nu() as usize;
    match given {
        PerActuator::Each(list) if list.len() != actuators => {
            let found = list.len();
            let message = format!(
                "{key} is a list of {found} {what}, but the model has {actuators} actuators: \
                 expected one for each, in the model's order"
            );
            Err(Problem::new(*at, message))
        }
        _ => Ok(()),
    }
}

fn targets_of(keys: &PositionKeys, at: usize, model: &MjModel) -> Result<Targets, Problem> {
    for (key, gain) in [("kp", &keys.kp), ("kd", &keys.kd), ("scale", &keys.scale)] {
        check_count(key, "numbers", gain, model)?;
    }
    let default = match &keys.default {
        None => model.qpos0().to_vec(),
        Some(key) => {
            let key = keyframe(key, model)?;
            let nq = model.nq() as usize;
            model.key_qpos()[key * nq..][..nq].to_vec()
        }
    };
    let joint = |i: usize| {
        let joint = model.actuator_trnid()[i][0].max(0) as usize;
        let kind = model.actuator_trntype()[i];
        let simple = kind == MjtTrn::mjTRN_JOINT
            && matches!(model.jnt_type()[joint], MjtJoint::mjJNT_HINGE | MjtJoint::mjJNT_SLIDE);
        let gear = model.actuator_gear()[i][0];
        let refused =
            |why: &str| Err(Problem::new(at, format!("kind = \"position\": actuator {i} {why}")));
        if !simple || gear == 0.0 {
            return refused("does not move a hinge or slide joint");
        }
        let motor = model.actuator_gaintype()[i] == MjtGain::mjGAIN_FIXED
            && model.actuator_gainprm()[i][0] == 1.0
            && model.actuator_biastype()[i] == MjtBias::mjBIAS_NONE
            && model.actuator_dyntype()[i] == MjtDyn::mjDYN_NONE;
        if !motor {
            return refused(
                "is no <motor>, whose control is the force; kp and kd of the file replace its servo",
            );
        }
        let position = model.jnt_qposadr()[joint] as usize;
        let velocity = model.jnt_dofadr()[joint] as usize;
        let [kp, kd, scale] = [&keys.kp, &keys.kd, &keys.scale].map(|(gain, _)| gain.of(i));
        Ok(TargetJoint { position, velocity, kp, kd, scale, default: default[position], gear })
    };
    let joints = (0..model.nu() as usize).map(joint).collect::<Result<_, _>>()?;
    Ok(Targets { joints })
}

impl Targets {
    /// Sets the controls for the action in the notes.
    fn control(&self, world: &mut World, action: &[f64]) {
        for (i, joint) in self.joints.iter().enumerate() {
            let target = joint.default + joint.scale * action[i];
            let [qpos, qvel, _] = world.state_mut();
            let (position, velocity) = (qpos[joint.position], qvel[joint.velocity]);
            let force = joint.kp * (target - position) - joint.kd * velocity;
            world.ctrl_mut()[i] = force / joint.gear;
        }
    }
}

impl FileTask {
    /// Evaluates terms, reward and termination.
    fn evaluate(&self, physics: Physics, action: &[f32], notes: &mut [f64]) {
        run(&self.judge, &mut Inputs { physics, action, random: None }, notes);
    }

    /// Keeps what the next step compares with. An expression comes before those around it, so in reverse:
    /// `previous(previous(x))` takes the inner value before that is replaced.
    fn keep(&self, notes: &mut [f64]) {
        for kept in self.keep.iter().rev() {
            notes.copy_within(kept.from..kept.from + kept.len, kept.to);
        }
    }
}

/// An action of zeros, for the terms of an initial state.
static NO_ACTION: [f32; 1] = [0.0];

impl Task for FileTask {
    fn stream(&self, seed: u64) -> Stream {
        match self.random {
            Random::Pcg64 => Stream::pcg64(seed),
            Random::Mt19937 => Stream::mt19937(seed),
        }
    }

    fn notes(&self) -> Vec<f64> {
        self.notes.clone()
    }

    fn kept(&self) -> &[Range<usize>] {
        &self.kept
    }

    fn terms(&self) -> &[usize] {
        &self.terms
    }

    fn start(&self, random: &mut Stream, world: &mut World, notes: &mut [f64]) {
        notes[..self.act_dim].fill(0.0);
        self.start.run(random, world, notes);
        // As often as expressions can be nested, so that nothing is left of the episode before.
        for _ in 0..self.keep.len().max(1) {
            self.evaluate(world.physics(), &NO_ACTION, notes);
            self.keep(notes);
        }
    }

    fn advance(&self, world: &mut World, frame_skip: u32, action: &[f32], notes: &mut [f64]) {
        let kept = &mut notes[..self.act_dim];
        kept.iter_mut().zip(action).for_each(|(to, from)| *to = f64::from(*from));
        match &self.targets {
            None => {
                world.control(action);
                world.steps(frame_skip);
            }
            Some(targets) => {
                for _ in 0..frame_skip {
                    targets.control(world, &notes[..self.act_dim]);
                    world.steps(1);
                }
            }
        }
        match self.order {
            Order::Gymnasium => world.contact_forces(),
            Order::DmControl => world.refresh(),
        }
    }

    fn observe(&self, physics: Physics, notes: &mut [f64], observation: &mut [f64]) {
        run(&self.observe, &mut Inputs { physics, action: &[], random: None }, notes);
        let mut rest = observation;
        for term in &self.observation {
            let (now, later) = rest.split_at_mut(term.len());
            now.copy_from_slice(&notes[term.clone()]);
            rest = later;
        }
        assert!(rest.is_empty(), "an observation is {} numbers too short", rest.len());
    }

    fn judge(&self, physics: Physics, action: &[f32], notes: &mut [f64]) -> Judgement {
        self.evaluate(physics, action, notes);
        let reward = notes[self.reward];
        let terminated = self.terminate.is_some_and(|at| notes[at] != 0.0);
        self.keep(notes);
        Judgement { reward, terminated }
    }
}
