//! Meshes with fewer triangles: vertices are merged on a grid.

use envs::Mesh;
use std::collections::{HashMap, HashSet};

/// What was left out of a model's meshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reduction {
    /// Triangles in the model.
    pub before: usize,
    /// Triangles on the page.
    pub after: usize,
}

/// Grids that are tried one after the other: cells along the longest edge of a mesh. The first
/// merges only vertices that are in the same place; with the last an arm is still an arm.
pub(crate) const GRIDS: [u32; 6] = [1 << 20, 192, 96, 64, 48, 32];

/// Merges the vertices in each cell of a grid into their mean, and drops triangles that
/// become lines or occur twice (Rossignac and Borrel 1993).
pub(crate) fn cluster(mesh: &Mesh, cells: u32) -> Mesh {
    let axis = |i: usize| mesh.vertices.iter().map(move |vertex| vertex[i]);
    let low: [f32; 3] = std::array::from_fn(|i| axis(i).fold(f32::INFINITY, f32::min));
    let high: [f32; 3] = std::array::from_fn(|i| axis(i).fold(f32::NEG_INFINITY, f32::max));
    let longest = (0..3).map(|i| high[i] - low[i]).fold(f32::MIN_POSITIVE, f32::max);
    let cell = |vertex: &[f32; 3]| -> [u32; 3] {
        std::array::from_fn(|i| ((vertex[i] - low[i]) / longest * cells as f32) as u32)
    };
    let mut places: HashMap<[u32; 3], u32> = HashMap::new();
    let mut sums: Vec<([f64; 3], f64)> = Vec::new();
    let merged: Vec<u32> = mesh
        .vertices
        .iter()
        .map(|vertex| {
            let place = *places.entry(cell(vertex)).or_insert_with(|| {
                sums.push(([0.0; 3], 0.0));
                sums.len() as u32 - 1
            });
            let (sum, count) = &mut sums[place as usize];
            (0..3).for_each(|i| sum[i] += f64::from(vertex[i]));
            *count += 1.0;
            place
        })
        .collect();
    let mut seen = HashSet::new();
    let faces = mesh
        .faces
        .iter()
        .map(|face| face.map(|at| merged[at as usize]))
        .filter(|[a, b, c]| a != b && b != c && c != a)
        .filter(|face| {
            // The smallest index first, so that the order of rotation is kept.
            let first = (0..3).min_by_key(|i| face[*i]).expect("three");
            seen.insert(std::array::from_fn::<_, 3, _>(|i| face[(first + i) % 3]))
        })
        .collect();
    let vertices = sums.iter().map(|(sum, count)| sum.map(|x| (x / count) as f32)).collect();
    Mesh { name: mesh.name.clone(), vertices, faces }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ball of radius 1 whose triangles share no vertices, as in an STL file.
    fn ball(rings: u32) -> Mesh {
        use std::f32::consts::PI;
        let point = |i: u32, j: u32| {
            let (a, b) = (PI * i as f32 / rings as f32, PI * j as f32 / rings as f32);
            [a.sin() * b.cos(), a.sin() * b.sin(), a.cos()]
        };
        let mut mesh = Mesh { name: "ball".into(), vertices: vec![], faces: vec![] };
        for i in 0..rings {
            for j in 0..2 * rings {
                let (a, b) = (point(i, j), point(i + 1, j));
                let (c, d) = (point(i + 1, j + 1), point(i, j + 1));
                for corners in [[a, b, c], [a, c, d]] {
                    let first = mesh.vertices.len() as u32;
                    mesh.vertices.extend(corners);
                    mesh.faces.push([first, first + 1, first + 2]);
                }
            }
        }
        mesh
    }

    fn volume(mesh: &Mesh) -> f64 {
        let corner = |at: u32| mesh.vertices[at as usize].map(f64::from);
        let six = mesh.faces.iter().map(|face| {
            let [a, b, c] = face.map(corner);
            a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
                + a[2] * (b[0] * c[1] - b[1] * c[0])
        });
        six.sum::<f64>() / 6.0
    }

    #[test]
    fn a_ball_keeps_its_volume_its_size_and_its_outside_with_far_fewer_triangles() {
        let ball = ball(100);
        let exact = 4.0 / 3.0 * std::f64::consts::PI;
        assert!((volume(&ball) / exact - 1.0).abs() < 0.01);
        let small = cluster(&ball, 32);
        assert!(small.faces.len() * 5 < ball.faces.len(), "{}", small.faces.len());
        assert!((volume(&small) / exact - 1.0).abs() < 0.03, "{}", volume(&small));
        for vertex in &small.vertices {
            let radius = vertex.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((0.94..=1.001).contains(&radius), "{radius}");
        }
    }

    #[test]
    fn the_finest_grid_merges_only_what_is_in_the_same_place() {
        let ball = ball(20);
        let same = cluster(&ball, GRIDS[0]);
        assert!(same.vertices.len() * 5 < ball.vertices.len());
        assert!((volume(&same) - volume(&ball)).abs() < 1e-5);
    }
}
