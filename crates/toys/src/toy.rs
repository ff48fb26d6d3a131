//! The problems, in coordinates x = scale a, where actions a are in [-1, 1].

use crate::Point;
use crate::learner::points;
use agent::Random;
use networks::{normal, uniform};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// A problem with one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toy {
    /// Q is the log density of an equal mixture of three Gaussians, which is the target;
    /// there is no pi_old.
    ThreeModes,
    /// Q is two bumps, pi_old = N(0, 4 I), the target pi_old exp(Q).
    TwoBumps,
}

/// A mode of the target.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Its maximum.
    pub centre: Point,
    /// Its standard deviation: that of a Gaussian with the same curvature.
    pub std: f64,
}

/// Where pi_old enters an update of [`Toy::TwoBumps`]. Without effect on
/// [`Toy::ThreeModes`], which has no pi_old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorIn {
    /// In the replay: its actions are drawn from pi_old, and the value is Q. The target of
    /// the mirror term with `mirror.actions = "replay"` is then
    /// pi_old exp(Q / temperature); the pathwise term maximises Q without pi_old.
    Replay,
    /// In the value, Q + log pi_old: maximising it plus the entropy at alpha = 1
    /// minimises the reverse KL divergence to the target. The replay's actions are
    /// uniform, so that the mirror term's weights turn them into the same target.
    Value,
}

const THREE_MODES: [Mode; 3] = [
    Mode { centre: [-0.5, -0.5], std: 0.1 },
    Mode { centre: [0.5, -0.5], std: 0.1 },
    Mode { centre: [0.0, 0.5], std: 0.1 },
];

/// The maxima of pi_old exp(Q), with std = (-d2/dx2 log density)^(-1/2) there.
const TWO_BUMPS: [Mode; 2] =
    [Mode { centre: [2.074, 2.074], std: 1.156 }, Mode { centre: [-2.543, -2.543], std: 0.777 }];

/// Bumps of Q, each of height 5: centre, and divisor of the squared distance.
const BUMPS: [(Point, f64); 2] = [([3.0, 3.0], 16.0), ([-3.0, -3.0], 6.0)];
const HEIGHT: f64 = 5.0;
/// Upper bound of Q; its maximum is 5.06, near (-3, -3).
const Q_BOUND: f64 = 5.1;
/// Standard deviation of pi_old.
const PRIOR_STD: f64 = 2.0;

impl Toy {
    /// All toys.
    pub const ALL: [Self; 2] = [Self::ThreeModes, Self::TwoBumps];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ThreeModes => "three-modes",
            Self::TwoBumps => "two-bumps",
        }
    }

    /// Default of half the side of the square of actions, in the toy's units: 1, or 4
    /// standard deviations of pi_old, outside which the target has less than 1e-3 of its
    /// mass.
    pub fn scale(self) -> f64 {
        match self {
            Self::ThreeModes => 1.0,
            Self::TwoBumps => 4.0 * PRIOR_STD,
        }
    }

    /// The modes of the target.
    pub fn modes(self) -> &'static [Mode] {
        match self {
            Self::ThreeModes => &THREE_MODES,
            Self::TwoBumps => &TWO_BUMPS,
        }
    }

    /// Q of points x (B, 2) in the toy's units: (B).
    pub fn q(self, x: &Tensor) -> Tensor {
        match self {
            Self::ThreeModes => {
                let each = THREE_MODES.map(|mode| {
                    log_gaussian(&square_distance(x, mode.centre), mode.std) - 3f64.ln()
                });
                Tensor::stack(&each, 0).logsumexp(&[0i64][..], false)
            }
            Self::TwoBumps => {
                let [wide, narrow] = BUMPS
                    .map(|(centre, width)| (square_distance(x, centre) / -width).exp() * HEIGHT);
                wide + narrow
            }
        }
    }

    /// The log density of the target, up to a constant, at x (B, 2): (B).
    pub fn log_target(self, x: &Tensor) -> Tensor {
        match self {
            Self::ThreeModes => self.q(x),
            Self::TwoBumps => self.q(x) + log_gaussian(&square_distance(x, [0.0; 2]), PRIOR_STD),
        }
    }

    /// The value that an actor maximises, at points x (B, 2) in the toy's units: (B).
    pub fn value(self, prior: PriorIn, x: &Tensor) -> Tensor {
        match prior {
            PriorIn::Replay => self.q(x),
            PriorIn::Value => self.log_target(x),
        }
    }

    /// Samples of the target: (count, 2) in the toy's units.
    pub fn exact(self, count: i64, rng: &mut Random) -> Tensor {
        match self {
            Self::ThreeModes => {
                let which = uniform(rng, &[count], Device::Cpu) * 3.0;
                let flat: Vec<f64> = THREE_MODES.iter().flat_map(|mode| mode.centre).collect();
                let centres = Tensor::from_slice(&flat).view([3, 2]).to_kind(Kind::Float);
                let centre = centres.index_select(0, &which.floor().to_kind(Kind::Int64));
                centre + normal(rng, &[count, 2], Device::Cpu) * THREE_MODES[0].std
            }
            Self::TwoBumps => {
                let mut kept = Tensor::zeros([0, 2], (Kind::Float, Device::Cpu));
                while kept.size()[0] < count {
                    let x = self.prior(count, rng);
                    let accept = (self.q(&x) - Q_BOUND).exp();
                    let at = uniform(rng, &[count], Device::Cpu).lt_tensor(&accept).nonzero();
                    kept = Tensor::cat(&[kept, x.index_select(0, &at.squeeze_dim(1))], 0);
                }
                kept.narrow(0, 0, count)
            }
        }
    }

    /// Samples of the target as points, in the toy's units.
    pub fn exact_points(self, count: i64, rng: &mut Random) -> Vec<Point> {
        points(&self.exact(count, rng))
    }

    /// Samples of pi_old: (count, 2) in the toy's units. Uniform points for
    /// [`Toy::ThreeModes`], which has no pi_old.
    pub fn prior(self, count: i64, rng: &mut Random) -> Tensor {
        match self {
            Self::ThreeModes => uniform_points(self.scale(), count, rng),
            Self::TwoBumps => normal(rng, &[count, 2], Device::Cpu) * PRIOR_STD,
        }
    }
}

/// Uniform points in the square: (count, 2).
pub(crate) fn uniform_points(scale: f64, count: i64, rng: &mut Random) -> Tensor {
    (uniform(rng, &[count, 2], Device::Cpu) * 2.0 - 1.0) * scale
}

/// |x - centre|^2: (B).
fn square_distance(x: &Tensor, centre: Point) -> Tensor {
    let columns = [0, 1].map(|i| (x.select(1, i as i64) - centre[i]).square());
    let [first, second] = columns;
    first + second
}

/// The log density of an isotropic Gaussian in the plane at a squared distance.
fn log_gaussian(square_distance: &Tensor, std: f64) -> Tensor {
    square_distance / (-2.0 * std * std) - (2.0 * PI * std * std).ln()
}
