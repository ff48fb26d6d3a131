//! Compiles expressions for a model: finds what names stand for, and checks lengths.

use std::collections::BTreeMap;
use std::ops::Range;

use mujoco_rs::wrappers::mj_model::MjModel;

use super::call::{Call, SPECIAL};
use super::fields::{self, Field, Read};
use super::functions::{FUNCTIONS, Function, PAIRWISE, operator};
use super::parse::{Code, Item};
use super::problem::{Problem, shown};
use super::program::{Inputs, Operation, OperationKind, Span, run};
use crate::physics::Physics;

/// Most numbers of a vector, and of all notes of a copy.
const LONGEST: usize = 20_000;
const MOST_NOTES: usize = 200_000;

/// Quantities that are no fields.
const QUANTITIES: [&str; 9] =
    ["action", "center_of_mass", "dt", "gravity", "inf", "ncon", "pi", "time", "timestep"];
/// Rows and columns of numbers; a scalar meets vectors of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub scalar: bool,
}

impl Shape {
    pub const SCALAR: Self = Self { rows: 1, columns: 1, scalar: true };

    pub fn vector(rows: usize, columns: usize) -> Self {
        Self { rows, columns, scalar: false }
    }

    pub fn len(self) -> usize {
        self.rows * self.columns
    }
}

/// A value during compilation.
#[derive(Clone)]
pub(super) struct Value {
    pub shape: Shape,
    pub place: Place,
    pub at: usize,
}

#[derive(Clone)]
pub(super) enum Place {
    Text(String),
    /// Known already.
    Constant(Vec<f64>),
    /// Numbers of `mjData`, not read yet.
    Data(for<'a> fn(&Physics<'a>) -> &'a [f64], Vec<u32>),
    /// In the notes.
    Notes(usize),
}

/// What an expression may use besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Observation,
    /// A term, the reward or the end of an episode: these may compare with the last step.
    Judgement,
    /// Initial values of as many numbers, which may be random.
    Start(usize),
    /// A goal, whose random numbers are scalars.
    Goal,
}

/// Compiles the expressions of one task into programs that share their notes.
pub(super) struct Compiler<'m> {
    model: &'m MjModel,
    pub dt: f64,
    /// Named terms.
    pub terms: BTreeMap<String, Value>,
    /// Named goals.
    pub goals: BTreeMap<String, Value>,
    /// The names of all terms and goals of the file, for mistakes in their use.
    pub named: [Vec<String>; 2],
    /// The notes so far, with the values of constants.
    pub notes: Vec<f64>,
    /// What is kept for the next step.
    pub kept: Vec<Kept>,
}

/// Numbers that are kept for the next step: `len` from `from` to `to`.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub from: usize,
    pub to: usize,
    pub len: usize,
}

/// Checks that a term or a goal does not hide a quantity from the expressions after it.
fn hides_nothing(name: &str, code: &Code) -> Result<(), Problem> {
    if fields::find(name).is_none() && !QUANTITIES.contains(&name) {
        return Ok(());
    }
    let message = format!("'{name}' is a quantity of the simulation, expected another name");
    Err(Problem::new(code.at, message))
}

impl<'m> Compiler<'m> {
    /// A compiler of nothing yet. The notes begin with the last action.
    pub fn new(model: &'m MjModel, dt: f64) -> Self {
        let notes = vec![0.0; model.nu() as usize];
        let (terms, goals) = (BTreeMap::new(), BTreeMap::new());
        Self { model, dt, terms, goals, named: [Vec::new(), Vec::new()], notes, kept: Vec::new() }
    }

    /// Compiles an expression, whose numbers are then in the notes from the returned place on.
    pub fn compile(
        &mut self,
        code: &Code,
        role: Role,
        program: &mut Vec<Operation>,
    ) -> Result<(usize, Shape), Problem> {
        let value = self.value(code, role, program)?;
        let start = self.in_notes(&value, program)?;
        Ok((start, value.shape))
    }

    /// Compiles an expression that must be a number.
    pub fn scalar(
        &mut self,
        code: &Code,
        what: &str,
        program: &mut Vec<Operation>,
    ) -> Result<usize, Problem> {
        let (start, shape) = self.compile(code, Role::Judgement, program)?;
        if shape.len() == 1 {
            return Ok(start);
        }
        let hint = "use sum, mean, norm ... or an index";
        let message = format!("{what} is {} numbers, expected one; {hint}", shape.len());
        Err(Problem::new(code.at, message))
    }

    /// Compiles a named term.
    pub fn term(
        &mut self,
        name: &str,
        code: &Code,
        program: &mut Vec<Operation>,
    ) -> Result<(usize, Shape), Problem> {
        if self.goals.contains_key(name) {
            let message = format!("'{name}' is the name of a goal too");
            return Err(Problem::new(code.at, message));
        }
        hides_nothing(name, code)?;
        let (mut start, shape) = self.compile(code, Role::Judgement, program)?;
        // What a term was in the last step is overwritten before anybody reads this step's terms.
        if self.kept.iter().any(|kept| (kept.to..kept.to + kept.len).contains(&start)) {
            let indices = (start as u32..(start + shape.len()) as u32).collect();
            let copy = self.emit(shape, OperationKind::Pick { indices }, code.at, program)?;
            start = self.in_notes(&copy, program)?;
        }
        let value = Value { shape, place: Place::Notes(start), at: code.at };
        self.terms.insert(name.to_owned(), value);
        Ok((start, shape))
    }

    /// Compiles a named goal; returns where its numbers are.
    pub fn goal(
        &mut self,
        name: &str,
        code: &Code,
        program: &mut Vec<Operation>,
    ) -> Result<Range<usize>, Problem> {
        hides_nothing(name, code)?;
        let (start, shape) = self.compile(code, Role::Goal, program)?;
        let value = Value { shape, place: Place::Notes(start), at: code.at };
        self.goals.insert(name.to_owned(), value);
        Ok(start..start + shape.len())
    }

    /// The numbers of `qpos` or `qvel` that an initial value is for.
    pub fn target(&mut self, code: &Code, fields: &[&str]) -> Result<(String, Vec<u32>), Problem> {
        let expected =
            format!("expected {} or a part of it, such as qpos('hip')", fields.join(", "));
        let Some(Item::Name(name) | Item::Call { function: name, .. }) = code
            .items
            .iter()
            .map(|placed| &placed.item)
            .find(|item| !matches!(item, Item::Text(_)))
        else {
            return Err(Problem::new(code.at, expected));
        };
        if !fields.contains(&name.as_str()) {
            let message = format!("'{}' can't be set, {expected}", shown(name));
            return Err(Problem::new(code.at, message));
        }
        let value = self.value(code, Role::Observation, &mut Vec::new())?;
        match value.place {
            Place::Data(_, indices) => Ok((name.clone(), indices)),
            _ => Err(Problem::new(code.at, expected)),
        }
    }

    fn value(
        &mut self,
        code: &Code,
        role: Role,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let mut stack: Vec<Value> = Vec::new();
        for placed in &code.items {
            let at = placed.at;
            let value = match &placed.item {
                Item::Number(x) => constant(*x, at),
                Item::Text(text) => {
                    Value { shape: Shape::SCALAR, place: Place::Text(text.clone()), at }
                }
                Item::Name(name) => self.name(name, at, role, program)?,
                Item::Operator(name) => {
                    let function = operator(name);
                    let operands = if matches!(function, Function::Unary(_)) { 1 } else { 2 };
                    let operands = stack.split_off(stack.len() - operands);
                    self.apply(name, function, &operands, at, program)?
                }
                Item::Call { function, arguments } => {
                    let operands = stack.split_off(stack.len() - arguments.len());
                    let call = Call { function, keywords: arguments, operands: &operands, at };
                    self.call(&call, role, program)?
                }
                Item::Rows { first, last, one } => {
                    let of = stack.pop().expect("the parser pushed it");
                    self.rows(of, (*first, *last, *one), at, program)?
                }
                Item::Columns(names) => {
                    let of = stack.pop().expect("the parser pushed it");
                    self.columns(of, names, at, program)?
                }
            };
            stack.push(value);
        }
        let value = stack.pop().expect("an expression has a value");
        match &value.place {
            Place::Text(text) => {
                let what = format!("'{}' is a text, expected a number", shown(text));
                Err(Problem::new(value.at, what))
            }
            _ => Ok(value),
        }
    }

    fn name(
        &mut self,
        name: &str,
        at: usize,
        role: Role,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        if role == Role::Judgement
            && let Some(term) = self.terms.get(name)
        {
            return Ok(Value { at, ..term.clone() });
        }
        if let Some(goal) = self.goals.get(name) {
            return Ok(Value { at, ..goal.clone() });
        }
        if let Some(field) = fields::find(name) {
            let rows = field.of.rows(self.model);
            let indices = (0..(rows * field.columns) as u32).collect();
            return self.field(field, indices, Shape::vector(rows, field.columns), at);
        }
        let timestep = self.model.opt().timestep;
        let mut computed = |shape: Shape, kind| self.emit(shape, kind, at, program);
        match name {
            "pi" => Ok(constant(std::f64::consts::PI, at)),
            "inf" => Ok(constant(f64::INFINITY, at)),
            "timestep" => Ok(constant(timestep, at)),
            "dt" => Ok(constant(self.dt, at)),
            "gravity" => {
                let place = Place::Constant(self.model.opt().gravity.to_vec());
                Ok(Value { shape: Shape::vector(1, 3), place, at })
            }
            "time" => computed(Shape::SCALAR, OperationKind::Time),
            "ncon" => computed(Shape::SCALAR, OperationKind::Contacts),
            "center_of_mass" => {
                let masses: Box<[f64]> = self.model.body_mass().into();
                let total = crate::numpy::sum_of(&masses, |mass| mass);
                self.emit(
                    Shape::vector(1, 3),
                    OperationKind::CentreOfMass { masses, total },
                    at,
                    program,
                )
            }
            "action" => {
                let shape = Shape::vector(self.model.nu() as usize, 1);
                Ok(Value { shape, place: Place::Notes(0), at })
            }
            _ => {
                if let Some(why) = self.not_here(name, role) {
                    return Err(Problem::new(at, why));
                }
                let terms = self.terms.keys().map(String::as_str);
                let terms = terms.filter(|_| role == Role::Judgement);
                let terms = terms.chain(self.goals.keys().map(String::as_str));
                let functions = FUNCTIONS.iter().map(|(known, _)| *known).chain(SPECIAL);
                if functions.clone().any(|known| known == name) {
                    let message = format!("'{name}' is a function, expected '(' after it");
                    return Err(Problem::new(at, message));
                }
                let fields = fields::FIELDS.iter().map(|field| field.name);
                let known: Vec<&str> = terms.chain(fields).chain(QUANTITIES).collect();
                Err(Problem::unknown(at, "name", name, known))
            }
        }
    }

    /// Why a term or a goal can't be used in an expression, if the name is one's.
    fn not_here(&self, name: &str, role: Role) -> Option<String> {
        let [terms, goals] = &self.named;
        let known = |names: &[String]| names.iter().any(|known| known == name);
        let below = |kind| {
            format!(
                "the {kind} '{name}' is not defined above, but here or below: a {kind} may use only \
                 those above it"
            )
        };
        if known(goals) {
            return Some(match role {
                Role::Goal => below("goal"),
                _ => format!(
                    "the goal '{name}' is drawn after the initial state (goal = \"after\"), which \
                     can't depend on it"
                ),
            });
        }
        known(terms).then(|| match role {
            Role::Judgement => below("term"),
            _ => format!("'{name}' is a term, which only [terms], reward and terminate may use"),
        })
    }

    /// Numbers of a field.
    fn field(
        &self,
        field: &Field,
        indices: Vec<u32>,
        shape: Shape,
        at: usize,
    ) -> Result<Value, Problem> {
        if shape.len() == 0 {
            return Err(Problem::new(at, format!("{} is empty in this model", field.name)));
        }
        let place = match field.read {
            Read::Data(read) => Place::Data(read, indices),
            Read::Model(read) => {
                let all = read(self.model);
                Place::Constant(indices.iter().map(|i| all[*i as usize]).collect())
            }
        };
        let value = Value { shape, place, at };
        check_length(shape, at)?;
        Ok(value)
    }

    /// A field of objects by name.
    pub fn field_of(&self, field: &Field, call: &Call) -> Result<Value, Problem> {
        let mut indices = Vec::new();
        let mut rows = 0;
        let mut exact = call.operands.len() == 1;
        if call.operands.is_empty() {
            let message = format!("{}() has no name, expected such as {0}('name')", field.name);
            return Err(Problem::new(call.at, message));
        }
        for operand in call.operands {
            let Place::Text(name) = &operand.place else {
                let message = format!("{} takes names in quotes; rows have [ ]", field.name);
                return Err(Problem::new(operand.at, message));
            };
            exact &= !name.contains('*');
            for object in field.of.named(self.model, name, operand.at)? {
                let (first, count) = field.of.rows_of(self.model, object);
                rows += count;
                let width = field.columns;
                indices.extend((first * width) as u32..((first + count) * width) as u32);
                if indices.len() > LONGEST {
                    check_length(Shape::vector(indices.len(), 1), operand.at)?;
                }
            }
        }
        if indices.is_empty() {
            let message = format!("{} of what is named here is empty in this model", field.name);
            return Err(Problem::new(call.at, message));
        }
        let scalar = exact && indices.len() == 1;
        let shape = Shape { rows, columns: field.columns, scalar };
        self.field(field, indices, shape, call.at)
    }

    /// Puts a value into the notes and returns where it is.
    pub fn in_notes(
        &mut self,
        value: &Value,
        program: &mut Vec<Operation>,
    ) -> Result<usize, Problem> {
        match &value.place {
            Place::Notes(start) => Ok(*start),
            Place::Constant(numbers) => self.reserve(numbers, value.at),
            Place::Data(read, indices) => {
                let follow = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
                let kind = if follow {
                    OperationKind::Load { read: *read, first: indices[0] as usize }
                } else {
                    OperationKind::Gather { read: *read, indices: indices.clone().into() }
                };
                let value = self.emit(value.shape, kind, value.at, program)?;
                self.in_notes(&value, program)
            }
            Place::Text(text) => {
                let message = format!("the text '{}', expected a number", shown(text));
                Err(Problem::new(value.at, message))
            }
        }
    }

    /// Makes room in the notes for numbers.
    pub fn reserve(&mut self, numbers: &[f64], at: usize) -> Result<usize, Problem> {
        let start = self.notes.len();
        if start + numbers.len() > MOST_NOTES {
            let message =
                format!("the expressions of this file hold more than {MOST_NOTES} numbers");
            return Err(Problem::new(at, message));
        }
        self.notes.extend(numbers);
        Ok(start)
    }

    /// Adds an operation with a result of some shape.
    pub fn emit(
        &mut self,
        shape: Shape,
        kind: OperationKind,
        at: usize,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        check_length(shape, at)?;
        let to = self.reserve(&vec![0.0; shape.len()], at)?;
        program.push(Operation { to, len: shape.len(), kind });
        Ok(Value { shape, place: Place::Notes(to), at })
    }

    pub fn span(&mut self, value: &Value, program: &mut Vec<Operation>) -> Result<Span, Problem> {
        let start = self.in_notes(value, program)?;
        Ok(Span { start, step: usize::from(!value.shape.scalar) })
    }

    /// The common shape of operands that meet number by number.
    pub fn common(&self, what: &str, operands: &[Value], at: usize) -> Result<Shape, Problem> {
        let mut common = Shape::SCALAR;
        for operand in operands.iter().filter(|operand| !operand.shape.scalar) {
            if common.scalar || common.len() == operand.shape.len() {
                let same = common.scalar || common.columns == operand.shape.columns;
                let flat = Shape::vector(operand.shape.len(), 1);
                common = if same { operand.shape } else { flat };
            } else {
                let (a, b) = (common.len(), operand.shape.len());
                let message = format!("'{what}' of vectors of {a} and {b} numbers");
                return Err(Problem::new(at, message));
            }
        }
        Ok(common)
    }

    pub fn apply(
        &mut self,
        name: &str,
        function: Function,
        operands: &[Value],
        at: usize,
        program: &mut Vec<Operation>,
    ) -> Result<Value, Problem> {
        let expected = match function {
            Function::Unary(_) | Function::Reduce(_) => 1,
            Function::Binary(_) | Function::Inner(_) => 2,
            Function::Ternary(_) => 3,
        };
        if operands.len() != expected {
            let found = operands.len();
            let pairwise = PAIRWISE.iter().any(|(known, _)| *known == name);
            let expected = if pairwise { "1 or 2".into() } else { expected.to_string() };
            let message = format!("{name} has {found} arguments, expected {expected}");
            return Err(Problem::new(at, message));
        }
        let constant = operands.iter().all(|value| matches!(value.place, Place::Constant(_)));
        // Constants are computed once, by the same operations.
        let mut once = Vec::new();
        let shape = match function {
            Function::Reduce(_) => Shape::SCALAR,
            Function::Inner(_) => {
                self.common(name, operands, at)?;
                Shape::SCALAR
            }
            _ => self.common(name, operands, at)?,
        };
        let into = if constant { &mut once } else { &mut *program };
        let mut spans = [Span { start: 0, step: 0 }; 3];
        for (span, operand) in spans.iter_mut().zip(operands) {
            *span = self.span(operand, into)?;
        }
        let [x, y, z] = spans;
        let of = operands[0].shape.len();
        let kind = match function {
            Function::Unary(f) => OperationKind::Unary { f, x },
            Function::Binary(f) => OperationKind::Binary { f, x, y },
            Function::Ternary(f) => OperationKind::Ternary { f, x, y, z },
            Function::Reduce(f) => OperationKind::Reduce { f, x: x.start, of },
            Function::Inner(f) => {
                if operands.iter().any(|operand| operand.shape.len() != of) {
                    return Err(Problem::new(at, format!("{name} of a scalar and a vector")));
                }
                OperationKind::Inner { f, x: x.start, y: y.start, of }
            }
        };
        let value = self.emit(shape, kind, at, into)?;
        if constant { self.fold(value, &once) } else { Ok(value) }
    }

    /// The constant that operations on constants give.
    fn fold(&mut self, value: Value, once: &[Operation]) -> Result<Value, Problem> {
        let Place::Notes(start) = value.place else { return Ok(value) };
        let mut inputs = Inputs { physics: Physics::NONE, action: &[], random: None };
        run(once, &mut inputs, &mut self.notes);
        let numbers = self.notes[start..][..value.shape.len()].to_vec();
        Ok(Value { place: Place::Constant(numbers), ..value })
    }
}

pub(super) fn constant(x: f64, at: usize) -> Value {
    Value { shape: Shape::SCALAR, place: Place::Constant(vec![x]), at }
}

pub(super) fn check_length(shape: Shape, at: usize) -> Result<(), Problem> {
    if shape.len() <= LONGEST {
        return Ok(());
    }
    let message = format!("a vector of {} numbers, expected at most {LONGEST}", shape.len());
    Err(Problem::new(at, message))
}
