//! Compiles calls of functions.

use super::compile::{Compiler, Kept, Place, Role, Shape, Value, check_length, constant};
use super::fields;
use super::functions::{FUNCTIONS, PAIRWISE, SIGMOIDS, Sigmoid, Tolerance, operator};
use super::problem::{Problem, shown};
use super::program::{Operation, OperationKind};

/// Functions that are not in [`FUNCTIONS`].
pub(super) const SPECIAL: [&str; 9] = [
    "cat",
    "control_cost",
    "in_frame",
    "normal",
    "previous",
    "rate",
    "tolerance",
    "uniform",
    "unit",
];

/// A call of a function.
pub(super) struct Call<'a> {
    pub function: &'a str,
    pub keywords: &'a [Option<String>],
    pub operands: &'a [Value],
    pub at: usize,
}

impl Call<'_> {
    fn no_keywords(&self) -> Result<(), Problem> {
        match self.keywords.iter().flatten().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("{} has no argument '{}'", self.function, shown(name));
                Err(Problem::new(self.at, message))
            }
        }
    }
}

impl Compiler<'_> {
    pub fn call(
        &mut self,
        call: &Call,
        role: Role,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let Call { function, operands, at, .. } = *call;
        if let Some(field) = fields::find(function) {
            call.no_keywords()?;
            return self.field_of(field, call);
        }
        if function != "tolerance" {
            call.no_keywords()?;
        }
        let pairwise = PAIRWISE.iter().find(|(name, _)| *name == function && operands.len() == 2);
        let known = FUNCTIONS.iter().find(|(name, _)| *name == function);
        if let Some((name, known)) = pairwise.or(known) {
            return self.apply(name, *known, operands, at, program);
        }
        let scalar = |i: usize| -> Result<f64, Problem> {
            match operands.get(i).map(|value| &value.place) {
                Some(Place::Constant(x)) if x.len() == 1 => Ok(x[0]),
                _ => Err(Problem::new(
                    at,
                    format!("{function} takes a number that is known, such as 0.1"),
                )),
            }
        };
        let arity = |expected: usize| match operands.len() == expected {
            true => Ok(()),
            false => {
                let found = operands.len();
                let message = format!("{function} has {found} arguments, expected {expected}");
                Err(Problem::new(at, message))
            }
        };
        let random = || match role {
            Role::Start(count) => Ok(Shape::vector(count, 1)),
            Role::Goal => Ok(Shape::SCALAR),
            _ => Err(Problem::new(
                at,
                format!("{function} is random, which only [start.set] and [goal] may be"),
            )),
        };
        match function {
            "cat" => self.cat(call, program),
            "tolerance" => self.tolerance(call, program),
            "control_cost" => {
                arity(1)?;
                let weight = scalar(0)? as f32;
                if role != Role::Judgement {
                    return Err(Problem::new(at, "control_cost belongs to the reward"));
                }
                self.emit(Shape::SCALAR, OperationKind::ControlCost { weight }, at, program)
            }
            "in_frame" => {
                arity(2)?;
                let [v, matrix] = [&operands[0], &operands[1]];
                let rows_of_3 = v.shape.columns == 3 || (v.shape.rows, v.shape.columns) == (3, 1);
                if !rows_of_3 || matrix.shape.len() != 9 {
                    let found = format!("{} and {} numbers", v.shape.len(), matrix.shape.len());
                    let message = format!(
                        "in_frame of {found}, expected rows of 3, such as xpos, and 9, such as xmat('torso')"
                    );
                    return Err(Problem::new(at, message));
                }
                let shape = v.shape;
                let v = self.in_notes(v, program)?;
                let matrix = self.in_notes(matrix, program)?;
                self.emit(shape, OperationKind::IntoFrame { v, matrix }, at, program)
            }
            "unit" => {
                arity(1)?;
                let x = self.in_notes(&operands[0], program)?;
                self.emit(operands[0].shape, OperationKind::Unit { x }, at, program)
            }
            "uniform" => {
                arity(2)?;
                let shape = random()?;
                let bad = operands.iter().find(|x| !x.shape.scalar && x.shape.len() != shape.len());
                if let Some(bad) = bad {
                    let message = format!("{} bounds for {} numbers", bad.shape.len(), shape.len());
                    return Err(Problem::new(bad.at, message));
                }
                let low = self.span(&operands[0], program)?;
                let high = self.span(&operands[1], program)?;
                self.emit(shape, OperationKind::Uniform { low, high }, at, program)
            }
            "normal" => {
                arity(0)?;
                let shape = random()?;
                self.emit(shape, OperationKind::Normal, at, program)
            }
            "rate" | "previous" => {
                arity(1)?;
                if role != Role::Judgement {
                    let message = format!(
                        "{function} compares with the last step, which only [terms], reward and terminate may"
                    );
                    return Err(Problem::new(at, message));
                }
                let x = &operands[0];
                let from = self.in_notes(x, program)?;
                let to = self.reserve(&vec![0.0; x.shape.len()], at)?;
                self.kept.push(Kept { from, to, len: x.shape.len() });
                let before = Value { shape: x.shape, place: Place::Notes(to), at };
                if function == "previous" {
                    return Ok(before);
                }
                let now = Value { shape: x.shape, place: Place::Notes(from), at };
                let change = self.apply("-", operator("-"), &[now, before], at, program)?;
                let dt = constant(self.dt, at);
                self.apply("/", operator("/"), &[change, dt], at, program)
            }
            _ => {
                let functions = FUNCTIONS.iter().map(|(name, _)| *name).chain(SPECIAL);
                let fields = fields::FIELDS.iter().map(|field| field.name);
                let known: Vec<&str> = functions.chain(fields).collect();
                Err(Problem::unknown(at, "function", function, known))
            }
        }
    }

    /// Vectors one after the other.
    fn cat(&mut self, call: &Call, program: &mut Vec<Operation>) -> Result<Value, Problem> {
        let mut indices = Vec::new();
        for operand in call.operands {
            let start = self.in_notes(operand, program)?;
            indices.extend(start as u32..(start + operand.shape.len()) as u32);
            check_length(Shape::vector(indices.len(), 1), operand.at)?;
        }
        if indices.is_empty() {
            return Err(Problem::new(call.at, "cat() of nothing"));
        }
        let shape = Shape::vector(indices.len(), 1);
        self.emit(shape, OperationKind::Pick { indices: indices.into() }, call.at, program)
    }

    /// `tolerance(x, lower = 0, upper = 0, margin = 0, value_at_margin = 0.1, sigmoid = 'gaussian')`.
    fn tolerance(&mut self, call: &Call, program: &mut Vec<Operation>) -> Result<Value, Problem> {
        const NAMES: [&str; 6] = ["x", "lower", "upper", "margin", "value_at_margin", "sigmoid"];
        let mut x = None;
        let mut bounds = [0.0; 3].map(|x| constant(x, call.at));
        let mut value_at_margin = 0.1;
        let mut sigmoid = Sigmoid::Gaussian;
        let mut given = [false; 6];
        for (i, (operand, keyword)) in call.operands.iter().zip(call.keywords).enumerate() {
            let at = operand.at;
            let name = keyword.as_deref().or(NAMES.get(i).copied()).unwrap_or("");
            let Some(index) = NAMES.iter().position(|known| *known == name) else {
                return Err(match keyword {
                    Some(name) => Problem::unknown(at, "argument", name, NAMES),
                    None => Problem::new(at, "tolerance has more than six arguments"),
                });
            };
            if std::mem::replace(&mut given[index], true) {
                return Err(Problem::new(at, format!("{name} is given twice")));
            }
            match (&operand.place, index) {
                (Place::Text(_), 0) => {
                    return Err(Problem::new(at, "x of tolerance must be a number"));
                }
                (_, 0) => x = Some(operand.clone()),
                (Place::Text(text), 5) => {
                    let known = SIGMOIDS.iter().find(|(name, _)| name == text);
                    let names = SIGMOIDS.iter().map(|(name, _)| *name);
                    let unknown = || Problem::unknown(at, "sigmoid", text, names);
                    sigmoid = known.ok_or_else(unknown)?.1;
                }
                (Place::Constant(x), 4) if x.len() == 1 => value_at_margin = x[0],
                (Place::Constant(_) | Place::Data(..) | Place::Notes(_), 1..4) => {
                    bounds[index - 1] = operand.clone();
                }
                _ => {
                    let expected = match index {
                        4 => "a number that is known",
                        5 => "a name in quotes",
                        _ => "a number",
                    };
                    return Err(Problem::new(
                        at,
                        format!("{name} of tolerance must be {expected}"),
                    ));
                }
            }
        }
        let Some(x) = x else {
            return Err(Problem::new(call.at, "tolerance of nothing, expected tolerance(x, ...)"));
        };
        let wrong = |reason| Problem::new(call.at, format!("tolerance: {reason}"));
        let tolerance = Tolerance::new(value_at_margin, sigmoid).map_err(wrong)?;
        check_bounds(&bounds).map_err(wrong)?;
        let [lower, upper, margin] = bounds;
        let operands = [x, lower, upper, margin];
        let shape = self.common("tolerance", &operands, call.at)?;
        let [x, lower, upper, margin] = &operands;
        let x = self.span(x, program)?;
        let bounds =
            [self.span(lower, program)?, self.span(upper, program)?, self.span(margin, program)?];
        let kind = OperationKind::Tolerance { tolerance, x, bounds, scalar: shape.scalar };
        self.emit(shape, kind, call.at, program)
    }
}

/// Checks the bounds and the margin of a tolerance as far as they are known.
fn check_bounds([lower, upper, margin]: &[Value; 3]) -> Result<(), &'static str> {
    let known = |value: &Value| match &value.place {
        Place::Constant(x) => x.clone(),
        _ => Vec::new(),
    };
    let (lower, upper) = (known(lower), known(upper));
    let pairs = if lower.is_empty() || upper.is_empty() { 0 } else { lower.len().max(upper.len()) };
    // A scalar is compared with every number of a vector.
    if !(0..pairs).all(|i| lower[i % lower.len()] <= upper[i % upper.len()]) {
        return Err("the lower bound is above the upper one");
    }
    if !known(margin).iter().all(|margin| *margin >= 0.0 && margin.is_finite()) {
        return Err("the margin is negative or not finite");
    }
    Ok(())
}
