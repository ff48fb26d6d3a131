//! A first file for a model.

use std::fmt::Write;
use std::path::Path;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtDyn, MjtJoint, MjtObjBase};

use super::document::is_range;
use super::problem::shown;
use crate::error::Error;
use crate::interface::actuators;
use crate::models::load;

/// Seconds per action that the file aims at.
const SECONDS: f64 = 0.02;
/// Noise of initial positions, in metres and radians.
const NOISE: f64 = 0.01;

/// The text of a task's file for a model, to begin with: it can be trained on, and its comments say
/// what the model has and what to change. `named` is the model's path in it.
///
/// # Errors
/// [`Error::UnreadableModel`], [`Error::Model`]; [`Error::ModelSize`]: there is nothing to control.
pub fn sketch(model: &Path, named: &str) -> Result<String, Error> {
    let file = model;
    let model = load(file)?;
    for (what, count) in [("actuators", model.nu()), ("joints", model.njnt())] {
        if count == 0 {
            return Err(Error::ModelSize {
                file: file.to_owned(),
                task: "a task".into(),
                what: format!("its number of {what}"),
                found: "0".into(),
                expected: "at least 1: add them to the model".into(),
            });
        }
    }
    let text = write(&model, named).expect("a string can be written to");
    Ok(text)
}

fn write(model: &MjModel, named: &str) -> Result<String, std::fmt::Error> {
    let named = toml_edit::Value::from(named);
    let timestep = model.opt().timestep;
    let steps = (SECONDS / timestep).round().clamp(1.0, 10_000.0);
    // What is before it may be a door or a pendulum, but what floats is most often the robot.
    let free = model.jnt_type().iter().position(|kind| *kind == MjtJoint::mjJNT_FREE);
    let body = model.jnt_bodyid()[free.unwrap_or(0)] as usize;
    let body = model.id_to_name(MjtObjBase::mjOBJ_BODY, body).filter(|name| usable(name));
    let free = free.map(|joint| model.jnt_qposadr()[joint] as usize);
    let keyframe = model.id_to_name(MjtObjBase::mjOBJ_KEY, 0).filter(|name| usable(name));
    let start = if keyframe.is_some() { model.key_qpos() } else { model.qpos0() };
    let mut out = String::new();
    let o = &mut out;

    writeln!(o, "# A task: `runner task check FILE` shows what it gives, and")?;
    writeln!(
        o,
        "# `runner --env FILE --seed 0` trains on it. docs/tasks.md has everything a file can say."
    )?;
    writeln!(o, "#\n# The model has:")?;
    list(o, model, "joints", MjtObjBase::mjOBJ_JOINT, model.njnt())?;
    list(o, model, "actuators", MjtObjBase::mjOBJ_ACTUATOR, model.nu())?;
    list(o, model, "sensors", MjtObjBase::mjOBJ_SENSOR, model.nsensor())?;
    list(o, model, "bodies", MjtObjBase::mjOBJ_BODY, model.nbody())?;
    list(o, model, "sites", MjtObjBase::mjOBJ_SITE, model.nsite())?;
    list(o, model, "keyframes", MjtObjBase::mjOBJ_KEY, model.nkey())?;
    writeln!(o, "model = {named}\n")?;
    writeln!(o, "# MuJoCo steps of {timestep} s per action, and actions per episode.")?;
    writeln!(o, "steps_per_action = {steps}\nmax_episode_steps = 1000\n")?;

    writeln!(o, "# The reward of a step: an expression over the terms below.")?;
    writeln!(o, "reward = \"forward - control\"")?;
    if let Some(first) = free {
        let height = start[first + 2];
        let place = body.map_or(format!("qpos[{}]", first + 2), |body| format!("xpos('{body}').z"));
        let least = rounded(0.5 * height);
        // No episode may begin with its end: a height can be that of something near the floor or below.
        let off = if least > 0.0 && least < height - NOISE { "" } else { "# " };
        writeln!(o, "# The episode ends, with nothing more to be had, where this holds.")?;
        writeln!(o, "{off}terminate = \"{place} < {least}\"")?;
    } else {
        writeln!(o, "# terminate = \"qpos[0] > 1\"")?;
    }
    writeln!(o, "\n[start]")?;
    if let Some(key) = keyframe {
        writeln!(o, "keyframe = \"{key}\"")?;
    }
    writeln!(o, "\n[start.set]\n# Noise, so that no episode is like another.")?;
    writeln!(o, "qpos = \"qpos + uniform(-{NOISE}, {NOISE})\"\nqvel = \"0.01 * normal()\"")?;

    writeln!(o, "\n[action]")?;
    ranges(o, model)?;
    writeln!(o, "# kind = \"position\" # motors follow targets: default + scale * action")?;
    writeln!(o, "# kp = 20.0 # one number, or a list with one for each actuator")?;
    writeln!(o, "# kd = 0.5\n# scale = 0.5")?;

    writeln!(o, "\n[observation]")?;
    // How far it came is nothing to act on.
    writeln!(o, "position = \"qpos[{}:]\"", free.map_or(0, |first| first + 2))?;
    if let Some(first) = free.filter(|first| *first > 0) {
        writeln!(o, "others = \"qpos[:{first}]\" # joints before the free one")?;
    }
    writeln!(o, "velocity = \"clip(qvel, -10, 10)\"")?;
    if model.na() > 0 {
        writeln!(o, "activation = \"act\"")?;
    }
    let sensors = (0..model.nsensor() as usize)
        .filter_map(|i| model.id_to_name(MjtObjBase::mjOBJ_SENSOR, i))
        .filter(|name| usable(name));
    for sensor in sensors.take(3) {
        // The names above are taken.
        let key = match word(sensor) {
            key if ["position", "others", "velocity", "activation"].contains(&&*key) => {
                format!("{key}_sensor")
            }
            key => key,
        };
        writeln!(o, "# {key} = \"sensordata('{sensor}')\"")?;
    }
    writeln!(o, "\n[terms]")?;
    match body {
        Some(body) => writeln!(o, "forward = \"rate(xpos('{body}').x)\" # metres per second")?,
        None => writeln!(o, "forward = \"rate(qpos[{}])\"", free.unwrap_or(0))?,
    }
    writeln!(o, "control = \"control_cost(0.01)\" # 0.01 times the action's sum of squares")?;
    Ok(out)
}

/// What the action is: a range only for the actuators that have none.
fn ranges(out: &mut String, model: &MjModel) -> std::fmt::Result {
    let lacks = |i: usize| !is_range(model.actuator_ctrlrange()[i]);
    let range = |i: usize| match model.actuator_dyntype()[i] {
        _ if !lacks(i) => model.actuator_ctrlrange()[i],
        // An excitation.
        MjtDyn::mjDYN_MUSCLE => [0.0, 1.0],
        _ => [-1.0, 1.0],
    };
    let count = model.nu() as usize;
    if !(0..count).any(lacks) {
        return writeln!(out, "kind = \"motor\" # the action is the actuators' control");
    }
    if (0..count).all(|i| lacks(i) && range(i) == range(0)) {
        writeln!(out, "# The actuators have no ctrlrange.")?;
        return writeln!(out, "range = {:?}", range(0));
    }
    writeln!(
        out,
        "# Some actuators have no ctrlrange. For each, in the model's order:\nrange = ["
    )?;
    for (i, name) in actuators(model).iter().enumerate() {
        let note = if lacks(i) { " (has no ctrlrange)" } else { "" };
        writeln!(out, "  {:?}, # {}{note}", range(i), shown(name))?;
    }
    writeln!(out, "]")
}

/// A comment with the names of objects of a kind.
fn list(
    out: &mut String,
    model: &MjModel,
    kind: &str,
    object: MjtObjBase,
    count: i64,
) -> std::fmt::Result {
    const MOST: usize = 40;
    let names = (0..count as usize).filter_map(|i| model.id_to_name(object, i));
    let names: Vec<&str> = names.filter(|name| usable(name)).collect();
    if count == 0 {
        return Ok(());
    }
    let more = if names.len() > MOST { ", ..." } else { "" };
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    writeln!(out, "#   {count} {kind}: {shown}{more}")
}

/// Whether a name can stand in an expression of the file as it is.
fn usable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_control() || "'\"\\*".contains(c))
}

/// A name as a key.
fn word(name: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let word: String = name.chars().map(fine).collect();
    if word.starts_with(|c: char| c.is_ascii_digit()) { format!("_{word}") } else { word }
}

fn rounded(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
