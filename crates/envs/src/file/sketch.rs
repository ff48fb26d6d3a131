//! A first file for a model.

use std::fmt::Write;
use std::path::Path;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};

use crate::error::Error;
use crate::models::load;

/// Seconds per action that the file aims at.
const SECONDS: f64 = 0.02;

/// The text of a task's file for a model, to begin with: it can be trained on, and its comments say
/// what the model has and what to change. `named` is the model's path in it.
///
/// # Errors
/// [`Error::UnreadableModel`], [`Error::Model`].
pub fn sketch(model: &Path, named: &str) -> Result<String, Error> {
    let model = load(model)?;
    let text = write(&model, named).expect("a string can be written to");
    Ok(text)
}

fn write(model: &MjModel, named: &str) -> Result<String, std::fmt::Error> {
    let named = named.replace('\\', "\\\\").replace('"', "\\\"");
    let timestep = model.opt().timestep;
    let steps = (SECONDS / timestep).round().clamp(1.0, 10_000.0);
    let free = model.njnt() > 0 && model.jnt_type()[0] == MjtJoint::mjJNT_FREE;
    let body = model.jnt_bodyid().first().map_or(0, |body| *body as usize);
    let body = model.id_to_name(MjtObjBase::mjOBJ_BODY, body).filter(|name| usable(name));
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
    writeln!(o, "model = \"{named}\"\n")?;
    writeln!(o, "# MuJoCo steps of {timestep} s per action, and actions per episode.")?;
    writeln!(o, "steps_per_action = {steps}\nmax_episode_steps = 1000\n")?;

    writeln!(o, "# The reward of a step: an expression over the terms below.")?;
    writeln!(o, "reward = \"forward - control\"")?;
    match (free, body) {
        (true, Some(body)) => {
            let height = model.qpos0()[2];
            writeln!(o, "# The episode ends, with nothing more to be had, where this holds.")?;
            writeln!(o, "terminate = \"xpos('{body}').z < {}\"", rounded(0.5 * height))?;
        }
        _ => writeln!(o, "# terminate = \"qpos[0] > 1\"")?,
    }
    writeln!(o, "\n[start]")?;
    if let Some(key) = model.id_to_name(MjtObjBase::mjOBJ_KEY, 0).filter(|name| usable(name)) {
        writeln!(o, "keyframe = \"{key}\"")?;
    }
    writeln!(o, "\n[start.set]\n# Noise, so that no episode is like another.")?;
    writeln!(o, "qpos = \"qpos + uniform(-0.01, 0.01)\"\nqvel = \"0.01 * normal()\"")?;

    let unlimited = model.actuator_ctrlrange().iter().any(|range| range[0] >= range[1]);
    writeln!(o, "\n[action]")?;
    if unlimited {
        writeln!(o, "# Some actuators have no ctrlrange.\nrange = [-1, 1]")?;
    } else {
        writeln!(o, "kind = \"motor\" # the action is the actuators' control")?;
    }
    writeln!(o, "# kind = \"position\" # motors follow targets: default + scale * action")?;
    writeln!(o, "# kp = 20.0\n# kd = 0.5\n# scale = 0.5")?;

    writeln!(o, "\n[observation]")?;
    // How far it came is nothing to act on.
    let skipped = if free { 2 } else { 0 };
    writeln!(o, "position = \"qpos[{skipped}:]\"\nvelocity = \"clip(qvel, -10, 10)\"")?;
    if model.na() > 0 {
        writeln!(o, "activation = \"act\"")?;
    }
    let sensors = (0..model.nsensor() as usize)
        .filter_map(|i| model.id_to_name(MjtObjBase::mjOBJ_SENSOR, i))
        .filter(|name| usable(name));
    for sensor in sensors.take(3) {
        // The names above are taken.
        let key = match word(sensor) {
            key if ["position", "velocity", "activation"].contains(&&*key) => {
                format!("{key}_sensor")
            }
            key => key,
        };
        writeln!(o, "# {key} = \"sensordata('{sensor}')\"")?;
    }
    writeln!(o, "\n[terms]")?;
    match body {
        Some(body) => writeln!(o, "forward = \"rate(xpos('{body}').x)\" # metres per second")?,
        None => writeln!(o, "forward = \"rate(qpos[0])\"")?,
    }
    writeln!(o, "control = \"control_cost(0.01)\" # 0.01 times the action's sum of squares")?;
    Ok(out)
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
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !"'\"\\*".contains(c))
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
