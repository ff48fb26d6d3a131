//! A scene as the page reads it.

use crate::Error;
use crate::mesh::{GRIDS, Reduction, cluster};
use crate::pack::{Pack, Packer};
use envs::{HeightField, Mesh, Shape};
use serde::Serialize;
use serde_json::{Value, json};

/// Most characters of a page for the meshes of a model.
const MOST_MESHES: usize = 1_500_000;

/// Bodies, shapes, meshes and height fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Scene {
    bodies: Vec<String>,
    roots: Vec<usize>,
    actuators: Vec<String>,
    geoms: Vec<Value>,
    meshes: Vec<Pack>,
    fields: Vec<Field>,
    /// What was left out of the meshes, if anything was.
    pub reduced: Option<Reduction>,
}

/// A height field.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Field {
    size: [f64; 4],
    rows: usize,
    columns: usize,
    #[serde(flatten)]
    pack: Pack,
}

impl Scene {
    /// Reads the scene of a task. Meshes and height fields that no shape uses are left out.
    ///
    /// # Errors
    /// Its meshes are too large.
    pub fn of(scene: &envs::Scene, task: &str) -> Result<Self, Error> {
        let mut used = Vec::new();
        let mut fields = Vec::new();
        let mut geoms = Vec::new();
        for geom in &scene.geoms {
            let (kind, size) = match &geom.shape {
                Shape::Plane([x, y]) => ("plane", vec![*x, *y]),
                Shape::Sphere(radius) => ("ellipsoid", vec![*radius; 3]),
                Shape::Capsule(radius, half) => ("capsule", vec![*radius, *half]),
                Shape::Ellipsoid(size) => ("ellipsoid", size.to_vec()),
                Shape::Cylinder(radius, half) => ("cylinder", vec![*radius, *half]),
                Shape::Box(size) => ("box", size.to_vec()),
                Shape::Mesh(at) => ("mesh", vec![place(&mut used, *at)]),
                Shape::HeightField(at) => ("field", vec![place(&mut fields, *at)]),
            };
            let short = |values: &[f64]| -> Vec<f32> { values.iter().map(|x| *x as f32).collect() };
            geoms.push(json!({
                "kind": kind, "size": short(&size), "body": geom.body,
                "pos": short(&geom.pos), "quat": short(&geom.quat), "rgba": geom.rgba,
            }));
        }
        let meshes: Vec<&Mesh> = used.iter().map(|at| &scene.meshes[*at]).collect();
        let (meshes, reduced) = fit(&meshes, task)?;
        let fields = fields.iter().map(|at| field(&scene.height_fields[*at])).collect();
        let (bodies, roots) = (scene.bodies.clone(), scene.roots.clone());
        let actuators = scene.actuators.clone();
        Ok(Self { bodies, roots, actuators, geoms, meshes, fields, reduced })
    }
}

/// The place of an index in a list, to which it is added if it is new.
fn place(list: &mut Vec<usize>, index: usize) -> f64 {
    let found = list.iter().position(|known| *known == index);
    found.unwrap_or_else(|| {
        list.push(index);
        list.len() - 1
    }) as f64
}

/// Meshes on the finest grid with which they fit into a page.
fn fit(meshes: &[&Mesh], task: &str) -> Result<(Vec<Pack>, Option<Reduction>), Error> {
    let faces = |mesh: &Mesh| mesh.faces.len();
    let before = meshes.iter().map(|mesh| faces(mesh)).sum();
    let mut size = 0;
    for (i, cells) in GRIDS.into_iter().enumerate() {
        let small: Vec<Mesh> = meshes.iter().map(|mesh| cluster(mesh, cells)).collect();
        let packs: Vec<Pack> = small.iter().map(pack).collect();
        size = packs.iter().map(|pack| pack.data.len()).sum();
        if size <= MOST_MESHES {
            let after = small.iter().map(faces).sum();
            return Ok((packs, (i > 0).then_some(Reduction { before, after })));
        }
    }
    let megabytes = |bytes: usize| format!("{:.1}", bytes as f64 / 1e6);
    let largest = meshes.iter().max_by_key(|mesh| faces(mesh)).expect("there are meshes");
    Err(Error::Meshes {
        task: task.into(),
        found: megabytes(size),
        most: megabytes(MOST_MESHES),
        largest: largest.name.clone(),
    })
}

fn pack(mesh: &Mesh) -> Pack {
    let points: Vec<f64> = mesh.vertices.as_flattened().iter().map(|x| f64::from(*x)).collect();
    let longest = points.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let mut packer = Packer::default();
    packer.numbers("vertices", 3, &points, longest * 1e-4);
    packer.integers("faces", 3, mesh.faces.as_flattened());
    packer.finish()
}

fn field(field: &HeightField) -> Field {
    let heights: Vec<f64> = field.elevations.iter().map(|x| f64::from(*x)).collect();
    let mut packer = Packer::default();
    packer.numbers("elevations", 1, &heights, 1e-4);
    let HeightField { size, rows, columns, .. } = *field;
    Field { size, rows, columns, pack: packer.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wavy surface with a rough skin, which does not compress.
    fn rough(side: u32, skin: f32) -> Mesh {
        let noise = |i: u32| {
            let mixed = i.wrapping_mul(2_654_435_761);
            ((mixed ^ (mixed >> 15)).wrapping_mul(2_246_822_519) >> 8) as f32 / 16_777_216.0
        };
        let wave = |i: u32| 0.2 * ((i % side) as f32 / side as f32 * 9.0).sin();
        let vertices = (0..side * side)
            .map(|i| {
                [
                    (i % side) as f32 / side as f32,
                    (i / side) as f32 / side as f32,
                    wave(i) + skin * noise(i),
                ]
            })
            .collect();
        let cell = |i: u32| [[i, i + 1, i + side], [i + 1, i + side + 1, i + side]];
        let faces = (0..side * (side - 1)).filter(|i| i % side < side - 1).flat_map(cell).collect();
        Mesh { name: "rough".into(), vertices, faces }
    }

    #[test]
    fn large_meshes_are_reduced_and_refused_if_that_is_not_enough() {
        let small = rough(20, 0.003);
        assert_eq!(fit(&[&small], "Task").unwrap().1, None);

        let large = rough(700, 0.05);
        let (packs, reduced) = fit(&[&large; 3], "Task").unwrap();
        assert!(packs.iter().map(|pack| pack.data.len()).sum::<usize>() <= MOST_MESHES);
        let Reduction { before, after } = reduced.unwrap();
        assert!(before == 3 * large.faces.len() && after * 2 < before, "{before} {after}");

        let message = fit(&[&rough(700, 1.0); 4], "Task").unwrap_err().to_string();
        assert!(message.contains("'rough'") && message.contains("group 2"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}
