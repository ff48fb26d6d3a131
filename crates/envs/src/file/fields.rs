//! MuJoCo's arrays that expressions read, by their names in `mjData` and `mjModel`.

use mujoco_rs::wrappers::mj_model::{MjModel, MjtJoint, MjtObjBase};

use super::problem::{Problem, shown};
use crate::physics::Physics;

/// An array, by row of an object.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    /// The kind of object that has the rows.
    pub of: Kind,
    /// Numbers per row; for rows of different lengths 1.
    pub columns: usize,
    pub read: Read,
}

/// Where a field's numbers are.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// In `mjData`: they change.
    Data(for<'a> fn(&Physics<'a>) -> &'a [f64]),
    /// In `mjModel`: they do not.
    Model(fn(&MjModel) -> Vec<f64>),
}

/// Kinds of objects of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Body,
    Geom,
    Site,
    Actuator,
    Sensor,
    /// Joints, with a row of positions.
    Position,
    /// Joints, with a row of velocities.
    Velocity,
    /// Joints, with one row each.
    Joint,
    /// Actuators, with a row of activations.
    Activation,
}

use Kind::{Activation, Actuator, Body, Geom, Joint, Position, Sensor, Site, Velocity};
use Read::{Data, Model};

const fn data(
    name: &'static str,
    of: Kind,
    columns: usize,
    read: for<'a> fn(&Physics<'a>) -> &'a [f64],
) -> Field {
    Field { name, of, columns, read: Data(read) }
}

/// All fields.
pub(super) const FIELDS: &[Field] = &[
    data("qpos", Position, 1, |p| p.qpos),
    data("qvel", Velocity, 1, |p| p.qvel),
    data("qacc", Velocity, 1, |p| p.qacc),
    data("qfrc_actuator", Velocity, 1, |p| p.qfrc_actuator),
    data("qfrc_constraint", Velocity, 1, |p| p.qfrc_constraint),
    data("ctrl", Actuator, 1, |p| p.ctrl),
    data("actuator_force", Actuator, 1, |p| p.actuator_force),
    data("act", Activation, 1, |p| p.act),
    data("sensordata", Sensor, 1, |p| p.sensordata),
    data("xpos", Body, 3, |p| p.xpos.as_flattened()),
    data("xquat", Body, 4, |p| p.xquat.as_flattened()),
    data("xmat", Body, 9, |p| p.xmat.as_flattened()),
    data("xipos", Body, 3, |p| p.xipos.as_flattened()),
    data("subtree_com", Body, 3, |p| p.subtree_com.as_flattened()),
    data("cinert", Body, 10, |p| p.cinert.as_flattened()),
    data("cvel", Body, 6, |p| p.cvel.as_flattened()),
    data("cfrc_ext", Body, 6, |p| p.cfrc_ext.as_flattened()),
    data("geom_xpos", Geom, 3, |p| p.geom_xpos.as_flattened()),
    data("geom_xmat", Geom, 9, |p| p.geom_xmat.as_flattened()),
    data("site_xpos", Site, 3, |p| p.site_xpos.as_flattened()),
    data("site_xmat", Site, 9, |p| p.site_xmat.as_flattened()),
    Field { name: "qpos0", of: Position, columns: 1, read: Model(|m| m.qpos0().to_vec()) },
    Field { name: "body_mass", of: Body, columns: 1, read: Model(|m| m.body_mass().to_vec()) },
    Field {
        name: "geom_size",
        of: Geom,
        columns: 3,
        read: Model(|m| m.geom_size().as_flattened().to_vec()),
    },
    Field {
        name: "site_size",
        of: Site,
        columns: 3,
        read: Model(|m| m.site_size().as_flattened().to_vec()),
    },
    Field {
        name: "actuator_ctrlrange",
        of: Actuator,
        columns: 2,
        read: Model(|m| m.actuator_ctrlrange().as_flattened().to_vec()),
    },
    Field {
        name: "body_subtreemass",
        of: Body,
        columns: 1,
        read: Model(|m| m.body_subtreemass().to_vec()),
    },
    Field {
        name: "jnt_range",
        of: Joint,
        columns: 2,
        read: Model(|m| m.jnt_range().as_flattened().to_vec()),
    },
];

/// The field with this name.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

impl Kind {
    fn object(self) -> (MjtObjBase, &'static str) {
        match self {
            Body => (MjtObjBase::mjOBJ_BODY, "body"),
            Geom => (MjtObjBase::mjOBJ_GEOM, "geom"),
            Site => (MjtObjBase::mjOBJ_SITE, "site"),
            Actuator | Activation => (MjtObjBase::mjOBJ_ACTUATOR, "actuator"),
            Sensor => (MjtObjBase::mjOBJ_SENSOR, "sensor"),
            Position | Velocity | Joint => (MjtObjBase::mjOBJ_JOINT, "joint"),
        }
    }

    /// Objects of this kind.
    fn count(self, model: &MjModel) -> usize {
        (match self {
            Body => model.nbody(),
            Geom => model.ngeom(),
            Site => model.nsite(),
            Actuator | Activation => model.nu(),
            Sensor => model.nsensor(),
            Position | Velocity | Joint => model.njnt(),
        }) as usize
    }

    /// Rows of all objects together.
    pub fn rows(self, model: &MjModel) -> usize {
        (match self {
            Position => model.nq(),
            Velocity => model.nv(),
            Activation => model.na(),
            Sensor => model.nsensordata(),
            Body | Geom | Site | Actuator | Joint => self.count(model) as i64,
        }) as usize
    }

    /// The rows of one object: the first, and how many.
    pub fn rows_of(self, model: &MjModel, object: usize) -> (usize, usize) {
        let lengths = |free, ball| match model.jnt_type()[object] {
            MjtJoint::mjJNT_FREE => free,
            MjtJoint::mjJNT_BALL => ball,
            _ => 1,
        };
        match self {
            Position => (model.jnt_qposadr()[object] as usize, lengths(7, 4)),
            Velocity => (model.jnt_dofadr()[object] as usize, lengths(6, 3)),
            Activation => {
                let (first, count) =
                    (model.actuator_actadr()[object], model.actuator_actnum()[object]);
                (first.max(0) as usize, count.max(0) as usize)
            }
            Sensor => (model.sensor_adr()[object] as usize, model.sensor_dim()[object] as usize),
            Body | Geom | Site | Actuator | Joint => (object, 1),
        }
    }

    /// Objects that a name stands for: the one that has it, or, if `*` is in it, all that match, in
    /// the model's order.
    ///
    /// # Errors
    /// No object of this kind has the name or matches the pattern.
    pub fn named(self, model: &MjModel, name: &str, at: usize) -> Result<Vec<usize>, Problem> {
        let (object, kind) = self.object();
        let names =
            || (0..self.count(model)).filter_map(|i| Some((i, model.id_to_name(object, i)?)));
        let found: Vec<usize> =
            names().filter(|(_, found)| matches(name, found)).map(|(i, _)| i).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if name.contains('*') {
            let message = format!("no {kind} of the model matches '{}'", shown(name));
            return Err(Problem::new(at, message));
        }
        Err(Problem::unknown(at, kind, name, names().map(|(_, name)| name)))
    }
}

/// Whether a name matches a pattern in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

/// Names of columns, for rows of 2 (ranges), 3, 4 and 9 numbers.
pub(super) fn column(columns: usize, name: &str) -> Option<usize> {
    let names: &[&str] = match columns {
        2 => &["low", "high"],
        3 => &["x", "y", "z"],
        4 => &["w", "x", "y", "z"],
        9 => &["xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"],
        _ => &[],
    };
    names.iter().position(|known| *known == name)
}
