//! Measures of samples against a target.

use crate::{Mode, Point};
use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// A mode counts if it has at least this share of the samples ...
const MODE_SHARE: f64 = 0.15;
/// ... within this many of its standard deviations.
const MODE_RADIUS: f64 = 3.0;
/// Points per side in the Wasserstein distance; the cost of the exact assignment is cubic
/// in their number.
const W2_POINTS: usize = 500;
/// Squared distances are rounded to integer multiples of this unit, as required by the exact
/// assignment.
const W2_UNIT: f64 = 1e-9;

/// Measures of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// Modes with at least 15 % of the samples within 3 standard deviations.
    pub modes: usize,
    /// Share of the samples at each mode.
    pub shares: Vec<f64>,
    /// Wasserstein-2 distance between the first 500 samples and the first 500 exact
    /// samples, in the toy's units.
    pub w2: f64,
}

impl Measures {
    /// Compares samples with modes and exact samples.
    pub fn of(samples: &[Point], modes: &[Mode], exact: &[Point]) -> Self {
        let shares = shares(samples, modes);
        let count = W2_POINTS.min(samples.len()).min(exact.len());
        Self {
            modes: shares.iter().filter(|share| **share >= MODE_SHARE).count(),
            shares,
            w2: wasserstein_2(&samples[..count], &exact[..count]),
        }
    }
}

/// The share of samples within 3 standard deviations of each mode.
pub fn shares(samples: &[Point], modes: &[Mode]) -> Vec<f64> {
    let near = |mode: &Mode| {
        let radius = (MODE_RADIUS * mode.std).powi(2);
        samples.iter().filter(|x| square_distance(x, &mode.centre) <= radius).count()
    };
    modes.iter().map(|mode| near(mode) as f64 / samples.len() as f64).collect()
}

/// Wasserstein-2 distance between two sets of equal size: the root of the mean squared
/// distance under the assignment that minimises it.
///
/// # Panics
/// If the sizes differ, or a coordinate is not finite.
pub fn wasserstein_2(a: &[Point], b: &[Point]) -> f64 {
    assert_eq!(a.len(), b.len(), "expected the same number of points on both sides");
    if a.is_empty() {
        return 0.0;
    }
    let cost = Matrix::from_fn(a.len(), b.len(), |(i, j)| {
        let square = square_distance(&a[i], &b[j]) / W2_UNIT;
        assert!(square < 1e15, "the points {:?} and {:?} are too far apart", a[i], b[j]);
        square.round() as i64
    });
    let (total, _) = kuhn_munkres_min(&cost);
    (total as f64 * W2_UNIT / a.len() as f64).sqrt()
}

fn square_distance(a: &Point, b: &Point) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}
