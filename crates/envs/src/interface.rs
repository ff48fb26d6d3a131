//! What the numbers of a task's observations and actions are: names for users of a policy.

use std::path::Path;

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase, MjtTrn};

use crate::error::Error;
use crate::registry::{Spec, open};

/// A task's observation and actions, entry by entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Sizes and bounds.
    pub spec: Spec,
    /// The parts of an observation, in order; their lengths add up to `obs_dim`.
    pub observation: Vec<Term>,
}

/// A part of an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// MuJoCo's name of the quantity, with the function of it that is observed, if any; of a task
    /// that is a file, the name that the file gives it.
    pub name: String,
    /// The file's expression for it; empty of a built-in task, whose names say it.
    pub expression: String,
    /// Its first entry.
    pub start: usize,
    /// Its number of entries.
    pub length: usize,
    /// A name for each entry, where it is a coordinate of a joint; empty elsewhere.
    pub entries: Vec<String>,
}

/// The interface of a task with its own model or the user's.
///
/// # Errors
/// Those of [`Env::make_with_model`](crate::Env::make_with_model).
pub fn interface(id: &str, model: Option<&Path>) -> Result<Interface, Error> {
    let (rules, model) = open(id, model)?;
    let spec = rules.spec;
    if !spec.observation.is_empty() {
        return Ok(Interface { observation: spec.observation.clone(), spec });
    }
    let (qpos, qvel) = coordinates(&model);
    let (robot, version) = spec.id.split_once('-').unwrap_or((&spec.id, ""));
    let (nq, nv) = (qpos.len(), qvel.len());
    // The bodies, joints and forces that v5 leaves out: see the files of `tasks/`.
    let v5 = version == "v5";
    let bodies = model.nbody() as usize - usize::from(v5);
    let body = |name, width| (name, Kind::Other(bodies * width));
    use Kind::{Other, Positions, Velocities};
    let terms = match robot {
        "InvertedPendulum" => vec![("qpos", Positions(0..nq)), ("qvel", Velocities(0..nv))],
        "InvertedDoublePendulum" => vec![
            ("qpos", Positions(0..1)),
            ("sin(qpos)", Positions(1..nq)),
            ("cos(qpos)", Positions(1..nq)),
            ("clip(qvel, -10, 10)", Velocities(0..nv)),
            ("clip(qfrc_constraint, -10, 10)", Velocities(0..if v5 { 1 } else { nv })),
        ],
        "Reacher" => vec![
            ("cos(qpos)", Positions(0..2)),
            ("sin(qpos)", Positions(0..2)),
            ("qpos", Positions(2..nq)),
            ("qvel", Velocities(0..2)),
            ("xpos of the fingertip - xpos of the target", Other(if v5 { 2 } else { 3 })),
        ],
        "Pusher" => vec![
            ("qpos", Positions(0..7)),
            ("qvel", Velocities(0..7)),
            ("xpos of tips_arm", Other(3)),
            ("xpos of object", Other(3)),
            ("xpos of goal", Other(3)),
        ],
        "Hopper" | "Walker2d" => {
            vec![("qpos", Positions(1..nq)), ("clip(qvel, -10, 10)", Velocities(0..nv))]
        }
        "HalfCheetah" => vec![("qpos", Positions(1..nq)), ("qvel", Velocities(0..nv))],
        "Humanoid" | "HumanoidStandup" => vec![
            ("qpos", Positions(2..nq)),
            ("qvel", Velocities(0..nv)),
            body("cinert", 10),
            body("cvel", 6),
            ("qfrc_actuator", Velocities(if v5 { 6 } else { 0 }..nv)),
            body("cfrc_ext", 6),
        ],
        "Ant" if v5 => vec![
            ("qpos", Positions(2..nq)),
            ("qvel", Velocities(0..nv)),
            body("clip(cfrc_ext, -1, 1)", 6),
        ],
        // Swimmer and Ant.
        _ => vec![("qpos", Positions(2..nq)), ("qvel", Velocities(0..nv))],
    };
    let mut start = 0;
    let mut term = |(name, kind): (&'static str, Kind)| {
        let entries = match &kind {
            Positions(range) => qpos[range.clone()].to_vec(),
            Velocities(range) => qvel[range.clone()].to_vec(),
            Other(_) => Vec::new(),
        };
        let length = if let Other(length) = kind { length } else { entries.len() };
        start += length;
        Term {
            name: name.to_owned(),
            expression: String::new(),
            start: start - length,
            length,
            entries,
        }
    };
    let observation = terms.into_iter().map(&mut term).collect();
    Ok(Interface { spec, observation })
}

/// Where a term's entries come from.
enum Kind {
    Positions(std::ops::Range<usize>),
    Velocities(std::ops::Range<usize>),
    Other(usize),
}

/// Names of the entries of `qpos` and `qvel`: the joint's, with a suffix if it has several.
pub(crate) fn coordinates(model: &MjModel) -> (Vec<String>, Vec<String>) {
    let (mut qpos, mut qvel) = (Vec::new(), Vec::new());
    for (i, kind) in model.jnt_type().iter().enumerate() {
        let joint = name(model, MjtObjBase::mjOBJ_JOINT, i, "joint");
        let (positions, velocities): (&[&str], &[&str]) = match kind {
            MjtJoint::mjJNT_FREE => (
                &[".x", ".y", ".z", ".qw", ".qx", ".qy", ".qz"],
                &[".x", ".y", ".z", ".rx", ".ry", ".rz"],
            ),
            MjtJoint::mjJNT_BALL => (&[".qw", ".qx", ".qy", ".qz"], &[".rx", ".ry", ".rz"]),
            _ => (&[""], &[""]),
        };
        qpos.extend(positions.iter().map(|suffix| format!("{joint}{suffix}")));
        qvel.extend(velocities.iter().map(|suffix| format!("{joint}{suffix}")));
    }
    (qpos, qvel)
}

/// The actuators' names; the name of the joint that it drives for one without.
pub(crate) fn actuators(model: &MjModel) -> Vec<String> {
    let name = |index: usize| {
        let own = model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, index);
        let drives_joint = matches!(
            model.actuator_trntype()[index],
            MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT
        );
        if own.is_none_or(str::is_empty) && drives_joint {
            let [joint, _] = model.actuator_trnid()[index];
            return name(model, MjtObjBase::mjOBJ_JOINT, joint as usize, "joint");
        }
        name(model, MjtObjBase::mjOBJ_ACTUATOR, index, "actuator")
    };
    (0..model.nu() as usize).map(name).collect()
}

/// An object's name; its kind and index if it has none.
fn name(model: &MjModel, kind: MjtObjBase, index: usize, word: &str) -> String {
    let found = model.id_to_name(kind, index).filter(|name| !name.is_empty());
    found.map_or_else(|| format!("{word} {index}"), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Env;
    use crate::physics::World;

    #[test]
    fn the_terms_fill_every_tasks_observation_and_show_the_simulators_numbers() {
        for id in crate::ids() {
            let found = interface(id, None).unwrap();
            let total: usize = found.observation.iter().map(|term| term.length).sum();
            assert_eq!(total, found.spec.obs_dim, "{id}");
            assert_eq!(found.spec.actuators.len(), found.spec.act_dim, "{id}");

            let mut env = Env::make(id).unwrap();
            let mut obs = vec![0.0; found.spec.obs_dim];
            env.reset(Some(3), &mut obs);
            for i in 0..5 {
                let action = vec![0.1 * i as f32; found.spec.act_dim];
                env.step(&action, &mut obs).unwrap();
            }
            let (_, model) = open(id, None).unwrap();
            let (names, _) = coordinates(&model);
            let world = World::of(&mut env.simulation);
            let data = world.physics();
            for term in found.observation.iter().filter(|term| term.name == "qpos") {
                for (entry, shown) in term.entries.iter().zip(&obs[term.start..]) {
                    let at = names.iter().position(|name| name == entry).unwrap();
                    assert_eq!(*shown, data.qpos[at], "{id}: {entry}");
                }
            }
        }
    }

    #[test]
    fn the_terms_of_a_file_are_those_that_it_names_with_the_coordinates_that_they_are() {
        let file = crate::models_dir().join("dm_control/quadruped-walk.toml");
        let found = interface(file.to_str().unwrap(), None).unwrap();
        let terms: Vec<_> = found
            .observation
            .iter()
            .map(|term| (&term.name[..], term.start, term.length))
            .collect();
        let expected = [
            ("egocentric_state", 0, 44),
            ("torso_velocity", 44, 3),
            ("torso_upright", 47, 1),
            ("imu", 48, 6),
            ("force_torque", 54, 24),
        ];
        assert_eq!(terms, expected);
        assert!(found.observation.iter().all(|term| term.entries.is_empty()));

        let crawler = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/crawler/crawler.toml");
        let found = interface(crawler, None).unwrap();
        let joints = found.observation.iter().find(|term| term.name == "joints").unwrap();
        // All hips, then all knees: another order than that of the actuators.
        assert_eq!(found.spec.actuators[..2], ["front_left_hip", "front_left_knee"]);
        assert_eq!(joints.entries[..2], ["front_left_hip", "front_right_hip"]);
        assert_eq!(joints.entries[4], "front_left_knee");
        let velocities = found.observation.iter().find(|term| term.name == "joint_velocities");
        assert!(velocities.unwrap().entries.is_empty(), "these are scaled");
    }

    #[test]
    fn joints_and_actuators_have_the_models_names() {
        let found = interface("Hopper-v4", None).unwrap();
        let [positions, velocities] = &found.observation[..] else { panic!() };
        let joints = ["rootz", "rooty", "thigh_joint", "leg_joint", "foot_joint"];
        assert_eq!(positions.entries, joints);
        assert_eq!((velocities.start, &velocities.entries[0][..]), (5, "rootx"));
        // The model has no names for them.
        assert_eq!(found.spec.actuators, ["thigh_joint", "leg_joint", "foot_joint"]);
        assert_eq!(interface("Humanoid-v4", None).unwrap().spec.actuators[0], "abdomen_y");
        let ant = interface("Ant-v4", None).unwrap();
        assert_eq!(ant.observation[0].entries[..2], ["root.z", "root.qw"]);
    }
}
