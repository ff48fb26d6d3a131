//! What a model looks like: the shapes of its bodies, for a renderer.

use crate::interface::actuators;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtGeomBase as Kind, MjtObjBase};

/// The geoms of a model that a renderer shows, and its bodies.
///
/// Geoms in groups above 2, by convention collision geometry, and invisible ones (alpha 0) are
/// left out, and so are kinds without a surface of their own (signed distance fields).
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The names of the bodies, "body 3" for one without; the first is the world.
    pub bodies: Vec<String>,
    /// The root of the kinematic tree that each body is in; the world's is the world.
    pub roots: Vec<usize>,
    /// The names of the actuators; of its joint for one without, else "actuator 3".
    pub actuators: Vec<String>,
    /// The shapes.
    pub geoms: Vec<Geom>,
    /// The meshes that shapes refer to.
    pub meshes: Vec<Mesh>,
    /// The height fields that shapes refer to.
    pub height_fields: Vec<HeightField>,
}

/// A shape fixed to a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Geom {
    /// Its kind.
    pub shape: Shape,
    /// The body that it moves with.
    pub body: usize,
    /// Its centre in the body's frame, in metres.
    pub pos: [f64; 3],
    /// Its orientation in the body's frame: a unit quaternion, the real part first.
    pub quat: [f64; 4],
    /// Red, green, blue and alpha in [0, 1]: the material's, unless the geom has its own.
    pub rgba: [f32; 4],
}

/// A kind of shape, with half sizes in metres along the geom's axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// An infinite plane if a half size is 0; its normal is z.
    Plane([f64; 2]),
    /// A ball of a radius.
    Sphere(f64),
    /// A cylinder along z with hemispheres at its ends: the radius, and half the length
    /// of the cylinder.
    Capsule(f64, f64),
    /// Half the lengths of its axes.
    Ellipsoid([f64; 3]),
    /// A cylinder along z: the radius, and half the length.
    Cylinder(f64, f64),
    /// Half the lengths of its edges.
    Box([f64; 3]),
    /// One of [`Scene::meshes`].
    Mesh(usize),
    /// One of [`Scene::height_fields`].
    HeightField(usize),
}

/// A surface of triangles.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Its name.
    pub name: String,
    /// Points, in metres.
    pub vertices: Vec<[f32; 3]>,
    /// Three indices of vertices each, counter-clockwise seen from outside.
    pub faces: Vec<[u32; 3]>,
}

/// Terrain on a regular grid.
#[derive(Clone, Debug, PartialEq)]
pub struct HeightField {
    /// Half the length along x and y, the height of an elevation of 1, and the thickness
    /// below an elevation of 0, in metres.
    pub size: [f64; 4],
    /// The number of rows, which are along x, one after the other along y.
    pub rows: usize,
    /// The number of points in a row.
    pub columns: usize,
    /// Elevations in [0, 1], row by row.
    pub elevations: Vec<f32>,
}

/// Geoms in higher groups are not shown, as in MuJoCo's own viewer by default.
const HIGHEST_GROUP: i32 = 2;
/// The colour of a geom that has no colour of its own.
const DEFAULT_RGBA: [f32; 4] = [0.5, 0.5, 0.5, 1.0];

impl Scene {
    /// Reads a model.
    pub(crate) fn of(model: &MjModel) -> Self {
        let name = |kind, of: &str, i: usize| {
            model.id_to_name(kind, i).map_or_else(|| format!("{of} {i}"), str::to_owned)
        };
        let count = |n: i64| 0..n as usize;
        Self {
            bodies: count(model.nbody()).map(|i| name(MjtObjBase::mjOBJ_BODY, "body", i)).collect(),
            roots: model.body_rootid().iter().map(|root| *root as usize).collect(),
            actuators: actuators(model),
            geoms: count(model.ngeom()).filter_map(|i| geom(model, i)).collect(),
            meshes: count(model.nmesh())
                .map(|i| mesh(model, i, name(MjtObjBase::mjOBJ_MESH, "mesh", i)))
                .collect(),
            height_fields: count(model.nhfield()).map(|i| height_field(model, i)).collect(),
        }
    }
}

/// Geom `i`, if it is to be seen.
fn geom(model: &MjModel, i: usize) -> Option<Geom> {
    let [a, b, c] = model.geom_size()[i];
    let data = usize::try_from(model.geom_dataid()[i]);
    let shape = match model.geom_type()[i] {
        Kind::mjGEOM_PLANE => Shape::Plane([a, b]),
        Kind::mjGEOM_SPHERE => Shape::Sphere(a),
        Kind::mjGEOM_CAPSULE => Shape::Capsule(a, b),
        Kind::mjGEOM_ELLIPSOID => Shape::Ellipsoid([a, b, c]),
        Kind::mjGEOM_CYLINDER => Shape::Cylinder(a, b),
        Kind::mjGEOM_BOX => Shape::Box([a, b, c]),
        Kind::mjGEOM_MESH => Shape::Mesh(data.ok()?),
        Kind::mjGEOM_HFIELD => Shape::HeightField(data.ok()?),
        _ => return None,
    };
    let own = model.geom_rgba()[i];
    let rgba = match usize::try_from(model.geom_matid()[i]) {
        Ok(material) if own == DEFAULT_RGBA => model.mat_rgba()[material],
        _ => own,
    };
    (model.geom_group()[i] <= HIGHEST_GROUP && rgba[3] > 0.0).then(|| Geom {
        shape,
        body: model.geom_bodyid()[i] as usize,
        pos: model.geom_pos()[i],
        quat: model.geom_quat()[i],
        rgba,
    })
}

fn mesh(model: &MjModel, i: usize, name: String) -> Mesh {
    let part = |first: &[i32], count: &[i32]| first[i] as usize..(first[i] + count[i]) as usize;
    let vertices = part(model.mesh_vertadr(), model.mesh_vertnum());
    let faces = part(model.mesh_faceadr(), model.mesh_facenum());
    Mesh {
        name,
        vertices: model.mesh_vert()[vertices].to_vec(),
        faces: model.mesh_face()[faces].iter().map(|face| face.map(|at| at as u32)).collect(),
    }
}

fn height_field(model: &MjModel, i: usize) -> HeightField {
    let [rows, columns] = [model.hfield_nrow()[i], model.hfield_ncol()[i]].map(|n| n as usize);
    let first = model.hfield_adr()[i] as usize;
    HeightField {
        size: model.hfield_size()[i],
        rows,
        columns,
        elevations: model.hfield_data()[first..first + rows * columns].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"<mujoco>
      <asset>
        <material name="steel" rgba=".2 .3 .4 1"/>
        <mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
        <hfield name="hill" nrow="2" ncol="3" size="4 2 1 .1" elevation="0 1 0  0 2 4"/>
      </asset>
      <worldbody>
        <geom type="plane" size="0 0 1" material="steel"/>
        <geom type="hfield" hfield="hill"/>
        <body name="trunk" pos="0 0 2">
          <freejoint/>
          <geom type="capsule" size=".1 .3" material="steel"/>
          <geom type="ellipsoid" size=".1 .2 .3" material="steel" rgba="1 0 0 1"/>
          <geom type="box" size=".1 .2 .3" group="3"/>
          <geom type="sphere" size=".1" rgba="0 0 0 0"/>
          <body pos="0 0 1"><joint name="hinge"/><geom type="mesh" mesh="wedge" pos=".5 0 0"/></body>
        </body>
      </worldbody>
      <actuator><motor joint="hinge"/><motor name="push" joint="hinge"/></actuator>
    </mujoco>"#;

    #[test]
    fn a_scene_has_what_a_viewer_shows_in_the_colours_that_it_shows() {
        let scene = Scene::of(&MjModel::from_xml_string(MODEL).unwrap());
        assert_eq!(scene.bodies, ["world", "trunk", "body 2"]);
        assert_eq!(scene.roots, [0, 1, 1]);
        assert_eq!(scene.actuators, ["hinge", "push"]);
        let steel = [0.2, 0.3, 0.4, 1.0];
        let expected = [
            (Shape::Plane([0.0, 0.0]), 0, steel),
            (Shape::HeightField(0), 0, DEFAULT_RGBA),
            (Shape::Capsule(0.1, 0.3), 1, steel),
            (Shape::Ellipsoid([0.1, 0.2, 0.3]), 1, [1.0, 0.0, 0.0, 1.0]),
            (Shape::Mesh(0), 2, DEFAULT_RGBA),
        ];
        let found: Vec<_> =
            scene.geoms.iter().map(|geom| (geom.shape.clone(), geom.body, geom.rgba)).collect();
        assert_eq!(found, expected, "group 3 and alpha 0 are left out");

        let hill = &scene.height_fields[0];
        assert_eq!((hill.rows, hill.columns, hill.size), (2, 3, [4.0, 2.0, 1.0, 0.1]));
        // MuJoCo scales them to [0, 1].
        let mut elevations = hill.elevations.clone();
        elevations.sort_by(f32::total_cmp);
        assert_eq!(elevations, [0.0, 0.0, 0.0, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn a_mesh_is_where_its_file_has_it_although_mujoco_centres_it() {
        let scene = Scene::of(&MjModel::from_xml_string(MODEL).unwrap());
        let (mesh, geom) = (&scene.meshes[0], &scene.geoms[4]);
        assert_eq!((mesh.name.as_str(), mesh.faces.len()), ("wedge", 4));
        let rotate = |v: [f64; 3]| {
            let [w, x, y, z] = geom.quat;
            let cross = |a: [f64; 3], b: [f64; 3]| {
                [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
            };
            let t = cross([x, y, z], v).map(|a| 2.0 * a);
            let u = cross([x, y, z], t);
            std::array::from_fn::<f64, 3, _>(|i| v[i] + w * t[i] + u[i] + geom.pos[i])
        };
        for corner in [[0.5, 0.0, 0.0], [1.5, 0.0, 0.0], [0.5, 1.0, 0.0], [0.5, 0.0, 1.0]] {
            let near = mesh.vertices.iter().any(|vertex| {
                let found = rotate(vertex.map(f64::from));
                (0..3).all(|i| (found[i] - corner[i]).abs() < 1e-6)
            });
            assert!(near, "no vertex at {corner:?}");
        }
    }
}
