//! The functions of expressions, with NumPy's rounding.

use crate::numpy::{norm, sum_of};

/// What a function does, with its operands' numbers.
#[derive(Clone, Copy)]
pub(super) enum Function {
    /// A number of one number; of a vector, number by number.
    Unary(fn(f64) -> f64),
    /// A number of two; vectors must have equal lengths, and a scalar meets all numbers.
    Binary(fn(f64, f64) -> f64),
    /// A number of three.
    Ternary(fn(f64, f64, f64) -> f64),
    /// A number of a vector.
    Reduce(fn(&[f64]) -> f64),
    /// A number of two vectors of equal length.
    Inner(fn(&[f64], &[f64]) -> f64),
}

use Function::{Binary, Inner, Reduce, Ternary, Unary};

/// Functions by name. `min` and `max` are here those of one vector; of two operands they go
/// number by number ([`PAIRWISE`]).
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("abs", Unary(f64::abs)),
    ("acos", Unary(f64::acos)),
    ("asin", Unary(f64::asin)),
    ("asinh", Unary(asinh)),
    ("atan", Unary(f64::atan)),
    ("atan2", Binary(f64::atan2)),
    ("cos", Unary(f64::cos)),
    ("exp", Unary(f64::exp)),
    ("finite", Unary(|x| truth(x.is_finite()))),
    ("log", Unary(f64::ln)),
    ("log1p", Unary(f64::ln_1p)),
    ("sin", Unary(f64::sin)),
    ("sqrt", Unary(f64::sqrt)),
    ("square", Unary(|x| x * x)),
    ("tan", Unary(f64::tan)),
    ("tanh", Unary(f64::tanh)),
    ("clip", Ternary(clip)),
    ("if", Ternary(|condition, yes, no| if condition != 0.0 { yes } else { no })),
    ("sum", Reduce(|x| sum_of(x, |x| x))),
    ("mean", Reduce(|x| sum_of(x, |x| x) / x.len() as f64)),
    ("prod", Reduce(|x| x.iter().fold(1.0, |product, x| product * x))),
    ("min", Reduce(|x| x.iter().copied().fold(f64::INFINITY, least))),
    ("max", Reduce(|x| x.iter().copied().fold(f64::NEG_INFINITY, most))),
    ("norm", Reduce(norm)),
    ("all", Reduce(|x| truth(x.iter().all(|x| *x != 0.0)))),
    ("any", Reduce(|x| truth(x.iter().any(|x| *x != 0.0)))),
    ("dot", Inner(|x, y| x.iter().zip(y).fold(0.0, |sum, (x, y)| sum + x * y))),
];

/// `min` and `max` of two operands.
pub(super) const PAIRWISE: &[(&str, Function)] = &[("min", Binary(least)), ("max", Binary(most))];

/// The operators.
pub(super) fn operator(name: &str) -> Function {
    match name {
        "+" => Binary(|x, y| x + y),
        "-" => Binary(|x, y| x - y),
        "*" => Binary(|x, y| x * y),
        "/" => Binary(|x, y| x / y),
        "^" => Binary(f64::powf),
        "<" => Binary(|x, y| truth(x < y)),
        "<=" => Binary(|x, y| truth(x <= y)),
        ">" => Binary(|x, y| truth(x > y)),
        ">=" => Binary(|x, y| truth(x >= y)),
        "==" => Binary(|x, y| truth(x == y)),
        "!=" => Binary(|x, y| truth(x != y)),
        "and" => Binary(|x, y| truth(x != 0.0 && y != 0.0)),
        "or" => Binary(|x, y| truth(x != 0.0 || y != 0.0)),
        "not" => Unary(|x| truth(x == 0.0)),
        _ => Unary(|x| -x),
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(holds)
}

/// NumPy's `arcsinh` is the C library's; Rust's is a formula of its own.
fn asinh(x: f64) -> f64 {
    crate::ffi::asinh(x)
}

/// `numpy.clip`: keeps NaN; the upper bound if it is below the lower one.
fn clip(x: f64, low: f64, high: f64) -> f64 {
    least(most(x, low), high)
}

/// `numpy.minimum`: NaN if one is.
fn least(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

/// `numpy.maximum`.
fn most(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// dm_control's `rewards.tolerance`: 1 within the bounds, less beyond, `value_at_margin` at the
/// distance `margin` from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    sigmoid: Sigmoid,
    /// A factor that depends on the value at the margin.
    scale: f64,
}

/// How a tolerance falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sigmoid {
    Gaussian,
    Linear,
    Quadratic,
    LongTail,
    Reciprocal,
}

pub(super) const SIGMOIDS: [(&str, Sigmoid); 5] = [
    ("gaussian", Sigmoid::Gaussian),
    ("linear", Sigmoid::Linear),
    ("quadratic", Sigmoid::Quadratic),
    ("long_tail", Sigmoid::LongTail),
    ("reciprocal", Sigmoid::Reciprocal),
];

impl Tolerance {
    /// # Errors
    /// What is wrong with the value at the margin.
    pub fn new(value: f64, sigmoid: Sigmoid) -> Result<Self, &'static str> {
        let zero = matches!(sigmoid, Sigmoid::Linear | Sigmoid::Quadratic) && value == 0.0;
        if !(zero || (value > 0.0 && value < 1.0)) {
            return Err("value_at_margin must be between 0 and 1 (0 only if linear or quadratic)");
        }
        let scale = match sigmoid {
            Sigmoid::Gaussian => (-2.0 * value.ln()).sqrt(),
            Sigmoid::Linear => 1.0 - value,
            Sigmoid::Quadratic => (1.0 - value).sqrt(),
            Sigmoid::LongTail => (1.0 / value - 1.0).sqrt(),
            Sigmoid::Reciprocal => 1.0 / value - 1.0,
        };
        Ok(Self { sigmoid, scale })
    }

    /// The value at `x`; a margin below 0 is as 0. `square` is how NumPy squares a number, which
    /// differs between scalars and vectors.
    pub fn at(&self, x: f64, [lower, upper, margin]: [f64; 3], square: fn(f64) -> f64) -> f64 {
        if lower <= x && x <= upper {
            return 1.0;
        }
        if margin <= 0.0 {
            return 0.0;
        }
        let beyond = if x < lower { lower - x } else { x - upper };
        let distance = beyond / margin;
        let scaled = distance * self.scale;
        match self.sigmoid {
            Sigmoid::Gaussian => (-0.5 * square(scaled)).exp(),
            Sigmoid::LongTail => 1.0 / (square(scaled) + 1.0),
            Sigmoid::Reciprocal => 1.0 / (distance.abs() * self.scale + 1.0),
            Sigmoid::Linear if scaled.abs() < 1.0 => 1.0 - scaled,
            Sigmoid::Quadratic if scaled.abs() < 1.0 => 1.0 - square(scaled),
            Sigmoid::Linear | Sigmoid::Quadratic => 0.0,
        }
    }
}
