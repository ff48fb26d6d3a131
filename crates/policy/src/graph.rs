//! A policy as a list of operations on vectors, the form that every algorithm is exported in.

use crate::Error;
use alloc::vec::Vec;

/// Largest number of f32 in all values of a graph together (16 MiB).
const MAX_FLOATS: usize = 1 << 22;

/// Index of a vector: 0, 1 and 2 are the inputs, 3 + i is the result of operation i.
pub type Value = u32;

/// One operation; its result is a new value. Tensors are indices into [`Graph::tensors`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// The tensor itself.
    Constant(u32),
    /// bias + weights x, for a tensor of weights stored (inputs, outputs) and one of biases
    /// (outputs). The sum starts with the bias and goes through the inputs in order.
    Affine(Value, u32, u32),
    /// The first vector, then the second.
    Concat(Value, Value),
    /// `Slice(x, start, n)`: n entries from `start` on.
    Slice(Value, u32, u32),
    /// a + b
    Add(Value, Value),
    /// a - b
    Sub(Value, Value),
    /// a b, entry by entry
    Mul(Value, Value),
    /// Clipped to [low, high]; a NaN stays.
    Clip(Value, f32, f32),
    /// e^x
    Exp(Value),
    /// tanh x
    Tanh(Value),
    /// max(x, 0); a NaN stays.
    Relu(Value),
    /// x tanh(ln(1 + e^x))
    Mish(Value),
    /// (x - mean) / sqrt(variance + 1e-5) over the entries, times the first tensor, plus the second.
    LayerNorm(Value, u32, u32),
}

/// Inputs, constants and operations. The result of the last operation is the action.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Lengths of the inputs: observation, latent z, the head's noise xi (0: not used).
    pub inputs: [u32; 3],
    /// Constants and parameters.
    pub tensors: Vec<Vec<f32>>,
    /// Operations, each on inputs and results of those before it.
    pub ops: Vec<Op>,
}

impl Graph {
    /// Adds a tensor and returns its index.
    pub fn tensor(&mut self, numbers: Vec<f32>) -> u32 {
        self.tensors.push(numbers);
        self.tensors.len() as u32 - 1
    }

    /// Adds an operation and returns its result.
    pub fn push(&mut self, op: Op) -> Value {
        self.ops.push(op);
        self.ops.len() as u32 + 2
    }

    /// Lengths of all values, inputs first.
    ///
    /// # Errors
    /// The first operation that is invalid, that there is none, or that the inputs are too large.
    pub fn lengths(&self) -> Result<Vec<usize>, Error> {
        let mut lengths: Vec<usize> = self.inputs.iter().map(|&n| n as usize).collect();
        let mut total = 0_usize;
        for &n in &lengths {
            total = total.saturating_add(n);
        }
        if self.ops.is_empty() {
            return Err(Error::Empty);
        }
        if total > MAX_FLOATS {
            return Err(Error::Inputs);
        }
        for (index, op) in self.ops.iter().enumerate() {
            let length = self.length(op, &lengths).ok_or(Error::Operation(index))?;
            total = total.saturating_add(length);
            if total > MAX_FLOATS {
                return Err(Error::Operation(index));
            }
            lengths.push(length);
        }
        Ok(lengths)
    }

    /// Length of an operation's result, None if the operation is invalid.
    fn length(&self, op: &Op, lengths: &[usize]) -> Option<usize> {
        let value = |v: Value| lengths.get(v as usize).copied();
        let tensor = |t: u32| self.tensors.get(t as usize).map(Vec::len);
        match *op {
            Op::Constant(t) => tensor(t),
            Op::Affine(x, weights, bias) => {
                let outputs = tensor(bias)?;
                let size = value(x)?.checked_mul(outputs)?;
                (tensor(weights)? == size).then_some(outputs)
            }
            Op::Concat(a, b) => value(a)?.checked_add(value(b)?),
            Op::Slice(x, start, n) => {
                let end = (start as usize).checked_add(n as usize)?;
                (end <= value(x)?).then_some(n as usize)
            }
            Op::Add(a, b) | Op::Sub(a, b) | Op::Mul(a, b) => {
                let n = value(a)?;
                (n == value(b)?).then_some(n)
            }
            Op::Clip(x, low, high) => {
                if low <= high {
                    value(x)
                } else {
                    None
                }
            }
            Op::Exp(x) | Op::Tanh(x) | Op::Relu(x) | Op::Mish(x) => value(x),
            Op::LayerNorm(x, weight, bias) => {
                let n = value(x)?;
                (n > 0 && tensor(weight)? == n && tensor(bias)? == n).then_some(n)
            }
        }
    }
}
