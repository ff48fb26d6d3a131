//! Compiled expressions: a list of operations on numbers in one slice.
//!
//! The slice is a copy's notes: the last action, constants, what is kept from step to step, and
//! results, each of which has a place of its own behind those that it is made of. So an
//! evaluation takes a time that is known, allocates nothing and can't fail.

use super::functions::Tolerance;
use crate::numpy::{Stream, squared, sum_of_squares, vector_times_matrix};
use crate::physics::Physics;

/// Numbers in the notes: `step` is 0 for a scalar that meets every number of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: usize,
    pub step: usize,
}

impl Span {
    fn at(self, notes: &[f64], i: usize) -> f64 {
        notes[self.start + i * self.step]
    }
}

/// Writes `len` numbers from `to` on.
pub(super) struct Operation {
    pub to: usize,
    pub len: usize,
    pub kind: OperationKind,
}

pub(super) enum OperationKind {
    /// Numbers of a field that follow each other.
    Load {
        read: for<'a> fn(&Physics<'a>) -> &'a [f64],
        first: usize,
    },
    /// Numbers of a field.
    Gather {
        read: for<'a> fn(&Physics<'a>) -> &'a [f64],
        indices: Box<[u32]>,
    },
    /// Seconds of simulated time.
    Time,
    /// Contacts.
    Contacts,
    /// The centre of mass of all bodies, as Gymnasium computes it.
    CentreOfMass {
        masses: Box<[f64]>,
        total: f64,
    },
    /// Numbers from elsewhere in the notes.
    Pick {
        indices: Box<[u32]>,
    },
    Unary {
        f: fn(f64) -> f64,
        x: Span,
    },
    Binary {
        f: fn(f64, f64) -> f64,
        x: Span,
        y: Span,
    },
    Ternary {
        f: fn(f64, f64, f64) -> f64,
        x: Span,
        y: Span,
        z: Span,
    },
    /// Of the `of` numbers from `x` on.
    Reduce {
        f: fn(&[f64]) -> f64,
        x: usize,
        of: usize,
    },
    Inner {
        f: fn(&[f64], &[f64]) -> f64,
        x: usize,
        y: usize,
        of: usize,
    },
    IntoFrame {
        v: usize,
        matrix: usize,
    },
    Tolerance {
        tolerance: Tolerance,
        x: Span,
        /// The lower bound, the upper bound and the margin.
        bounds: [Span; 3],
        scalar: bool,
    },
    /// The weighted sum of squares of the action, in `f32`.
    ControlCost {
        weight: f32,
    },
    /// A vector divided by its norm.
    Unit {
        x: usize,
    },
    Uniform {
        low: Span,
        high: Span,
    },
    Normal,
}

/// What operations read besides the notes.
pub(super) struct Inputs<'a> {
    pub physics: Physics<'a>,
    pub action: &'a [f32],
    /// For programs of initial states only.
    pub random: Option<&'a mut Stream>,
}

/// Carries out operations in order.
pub(super) fn run(operations: &[Operation], inputs: &mut Inputs, notes: &mut [f64]) {
    for operation in operations {
        operation.run(inputs, notes);
    }
}

fn each(to: &mut [f64], mut f: impl FnMut(usize) -> f64) {
    to.iter_mut().enumerate().for_each(|(i, to)| *to = f(i));
}

impl Operation {
    fn run(&self, inputs: &mut Inputs, notes: &mut [f64]) {
        let (before, after) = notes.split_at_mut(self.to);
        let to = &mut after[..self.len];
        match &self.kind {
            OperationKind::Load { read, first } => {
                to.copy_from_slice(&read(&inputs.physics)[*first..][..self.len]);
            }
            OperationKind::Gather { read, indices } => {
                let from = read(&inputs.physics);
                to.iter_mut().zip(indices).for_each(|(to, i)| *to = from[*i as usize]);
            }
            OperationKind::Time => to[0] = inputs.physics.time,
            OperationKind::Contacts => to[0] = f64::from(inputs.physics.ncon),
            OperationKind::CentreOfMass { masses, total } => {
                to.fill(0.0);
                for (mass, position) in masses.iter().zip(inputs.physics.xipos) {
                    to.iter_mut().zip(position).for_each(|(sum, x)| *sum += mass * x);
                }
                to.iter_mut().for_each(|moment| *moment /= total);
            }
            OperationKind::Pick { indices } => {
                to.iter_mut().zip(indices).for_each(|(to, i)| *to = before[*i as usize]);
            }
            OperationKind::Unary { f, x } => each(to, |i| f(x.at(before, i))),
            OperationKind::Binary { f, x, y } => each(to, |i| f(x.at(before, i), y.at(before, i))),
            OperationKind::Ternary { f, x, y, z } => {
                each(to, |i| f(x.at(before, i), y.at(before, i), z.at(before, i)));
            }
            OperationKind::Reduce { f, x, of } => to[0] = f(&before[*x..][..*of]),
            OperationKind::Inner { f, x, y, of } => {
                to[0] = f(&before[*x..][..*of], &before[*y..][..*of])
            }
            OperationKind::IntoFrame { v, matrix } => {
                for (to, v) in to.chunks_exact_mut(3).zip(before[*v..].chunks_exact(3)) {
                    to.copy_from_slice(&vector_times_matrix(v, &before[*matrix..][..9]));
                }
            }
            OperationKind::Tolerance { tolerance, x, bounds, scalar } => {
                // NumPy squares an array by multiplication, and a scalar by the C library's `pow`.
                let square: fn(f64) -> f64 = if *scalar { squared } else { |x| x * x };
                each(to, |i| {
                    tolerance.at(x.at(before, i), bounds.map(|bound| bound.at(before, i)), square)
                });
            }
            OperationKind::ControlCost { weight } => {
                to[0] = f64::from(weight * sum_of_squares(inputs.action));
            }
            OperationKind::Unit { x } => {
                let x = &before[*x..][..self.len];
                let norm = crate::numpy::norm(x);
                to.iter_mut().zip(x).for_each(|(to, x)| *to = x / norm);
            }
            OperationKind::Uniform { low, high } => {
                let random = inputs.random.as_mut().expect("only initial states are drawn");
                let (low, high) = (*low, *high);
                each(to, |i| random.uniform(low.at(before, i), high.at(before, i)));
            }
            OperationKind::Normal => {
                let random = inputs.random.as_mut().expect("only initial states are drawn");
                to.iter_mut().for_each(|to| *to = random.standard_normal());
            }
        }
    }
}
