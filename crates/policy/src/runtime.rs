//! Actions from a graph.

use crate::{Error, Graph, Op, math};
use alloc::vec::Vec;
use core::ops::Range;

/// Outputs that are summed at a time. It changes the speed, never the bits.
const BLOCK: usize = 32;
/// Added to the variance in layer normalisation: PyTorch's.
const LAYER_EPSILON: f32 = 1e-5;

/// The machine code that runs. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Compiled for the target's base instructions: SSE2 on x86-64, NEON on AArch64.
    Base,
    /// Compiled for AVX2, without fused multiply-add.
    Avx2,
}

/// A loaded policy with its working memory.
pub struct Policy {
    graph: Graph,
    /// Where each value lies in `memory`.
    places: Vec<Range<usize>>,
    memory: Vec<f32>,
    kernel: Kernel,
}

impl Policy {
    /// A policy from the content of a `policy.smfp`.
    ///
    /// # Errors
    /// As [`Graph::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(Graph::from_bytes(bytes)?)
    }

    /// A policy from a graph, with the fastest kernel of this processor.
    ///
    /// # Errors
    /// As [`Graph::lengths`].
    pub fn new(graph: Graph) -> Result<Self, Error> {
        let mut end = 0;
        let place = |n: usize| {
            end += n;
            end - n..end
        };
        let places: Vec<_> = graph.lengths()?.into_iter().map(place).collect();
        let mut memory = alloc::vec![0.0; end];
        for (op, place) in graph.ops.iter().zip(&places[3..]) {
            if let Op::Constant(t) = *op {
                memory[place.clone()].copy_from_slice(&graph.tensors[t as usize]);
            }
        }
        Ok(Self { graph, places, memory, kernel: best() })
    }

    /// Uses another kernel; one that this processor lacks is ignored.
    pub fn set_kernel(&mut self, kernel: Kernel) {
        if kernel == Kernel::Base || best() == kernel {
            self.kernel = kernel;
        }
    }

    /// The kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Lengths of the observation, z, xi and the actions.
    pub fn sizes(&self) -> [usize; 4] {
        let [obs, z, xi] = self.graph.inputs.map(|n| n as usize);
        [obs, z, xi, self.places.last().map_or(0, Range::len)]
    }

    /// Writes the actions for an observation. `z` and `xi` are standard-normal numbers; None
    /// stands for zeros. Allocates nothing.
    ///
    /// # Errors
    /// The argument whose length is not the policy's.
    pub fn act(
        &mut self,
        obs: &[f32],
        z: Option<&[f32]>,
        xi: Option<&[f32]>,
        actions: &mut [f32],
    ) -> Result<(), Error> {
        let sizes = self.sizes();
        let names = ["obs", "z", "xi", "actions"];
        let given = [Some(obs), z, xi, Some(&*actions)];
        for ((name, expected), given) in names.into_iter().zip(sizes).zip(given) {
            let found = given.map_or(expected, <[f32]>::len);
            if found != expected {
                return Err(Error::Length { name, expected, found });
            }
        }
        for (place, input) in self.places.iter().zip([Some(obs), z, xi]) {
            let memory = &mut self.memory[place.clone()];
            match input {
                Some(input) => memory.copy_from_slice(input),
                None => memory.fill(0.0),
            }
        }
        let (graph, places, memory) = (&self.graph, &self.places, &mut self.memory);
        match self.kernel {
            Kernel::Base => run(graph, places, memory),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the kernel is Avx2 only if the processor has AVX2")]
            // SAFETY: `new` and `set_kernel` choose Avx2 only after `best` has detected it.
            Kernel::Avx2 => unsafe { run_avx2(graph, places, memory) },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 => run(graph, places, memory),
        }
        if let Some(last) = self.places.last() {
            actions.copy_from_slice(&self.memory[last.clone()]);
        }
        Ok(())
    }
}

/// The fastest kernel of this processor.
fn best() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return Kernel::Avx2;
    }
    Kernel::Base
}

/// [`run`], compiled for AVX2. The compiler never fuses a product and a sum by itself.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2(graph: &Graph, places: &[Range<usize>], memory: &mut [f32]) {
    run(graph, places, memory);
}

/// Computes every operation in order. A result lies behind all of its operands.
#[inline(always)]
fn run(graph: &Graph, places: &[Range<usize>], memory: &mut [f32]) {
    for (op, place) in graph.ops.iter().zip(&places[3..]) {
        let (before, rest) = memory.split_at_mut(place.start);
        let out = &mut rest[..place.len()];
        let value = |v: u32| &before[places[v as usize].clone()];
        let tensor = |t: u32| &graph.tensors[t as usize][..];
        match *op {
            // Written when the policy was loaded, and never over.
            Op::Constant(_) => {}
            Op::Affine(x, w, b) => affine(value(x), tensor(w), tensor(b), out),
            Op::Concat(a, b) => {
                let (first, second) = out.split_at_mut(value(a).len());
                first.copy_from_slice(value(a));
                second.copy_from_slice(value(b));
            }
            Op::Slice(x, start, n) => {
                out.copy_from_slice(&value(x)[start as usize..][..n as usize]);
            }
            Op::Add(a, b) => zip(value(a), value(b), out, |a, b| a + b),
            Op::Sub(a, b) => zip(value(a), value(b), out, |a, b| a - b),
            Op::Mul(a, b) => zip(value(a), value(b), out, |a, b| a * b),
            Op::Clip(x, low, high) => map(value(x), out, |x| math::clip(x, low, high)),
            Op::Exp(x) => map(value(x), out, math::exp),
            Op::Tanh(x) => map(value(x), out, math::tanh),
            Op::Relu(x) => map(value(x), out, |x| if x < 0.0 { 0.0 } else { x }),
            Op::Mish(x) => map(value(x), out, math::mish),
            Op::LayerNorm(x, w, b) => layer_norm(value(x), tensor(w), tensor(b), out),
        }
    }
}

/// bias + weights x: every output is summed input by input; the outputs lie across lanes.
#[inline(always)]
fn affine(x: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let n = out.len();
    out.copy_from_slice(bias);
    let mut start = 0;
    while start + BLOCK <= n {
        let Some(out) = out[start..].first_chunk_mut::<BLOCK>() else { break };
        let mut sums = *out;
        for (&x, row) in x.iter().zip(weights.chunks_exact(n)) {
            let Some(row) = row[start..].first_chunk::<BLOCK>() else { break };
            for lane in 0..BLOCK {
                sums[lane] += x * row[lane];
            }
        }
        *out = sums;
        start += BLOCK;
    }
    if start < n {
        for (&x, row) in x.iter().zip(weights.chunks_exact(n)) {
            for (sum, w) in out[start..].iter_mut().zip(&row[start..]) {
                *sum += x * w;
            }
        }
    }
}

/// Layer normalisation with its scale and shift.
#[inline(always)]
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let share = 1.0 / x.len() as f32;
    let mean = sum(x, |x| x) * share;
    let variance = sum(x, |x| (x - mean) * (x - mean)) * share;
    let factor = math::rsqrt(variance + LAYER_EPSILON);
    zip(x, weight, out, |x, weight| (x - mean) * factor * weight);
    for (out, bias) in out.iter_mut().zip(bias) {
        *out += bias;
    }
}

/// The sum of f over the entries: lane l has entries l, l + 8, ..., and the lanes are added in order.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    let chunks = x.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    lanes.iter().sum()
}

#[inline(always)]
fn zip(a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

#[inline(always)]
fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f(x);
    }
}
