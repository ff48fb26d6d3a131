//! A policy without its noise.

use policy::{Graph, Op, Value};

/// What a value is when z = xi = 0.
#[derive(Clone, Copy)]
enum Known {
    /// So many zeros.
    Zeros(u32),
    /// A value of the new graph, followed by so many zeros.
    Padded(Value, u32),
}

/// The graph for z = xi = 0, with the observation as its only input, and the same bits. What is
/// multiplied by a zero is left out.
pub fn without_noise(graph: &Graph) -> Graph {
    let [obs, z, xi] = graph.inputs;
    let mut new = Graph { inputs: [obs, 0, 0], tensors: graph.tensors.clone(), ops: Vec::new() };
    let mut known = vec![Known::Padded(0, 0), Known::Zeros(z), Known::Zeros(xi)];
    for op in &graph.ops {
        let value = rewrite(&mut new, &known, op);
        known.push(value);
    }
    let last = known[known.len() - 1];
    let last = plain(&mut new, last);
    if last as usize != new.ops.len() + 2 {
        // An operation that only repeats the result, which has to be the last.
        new.push(Op::Clip(last, f32::MIN, f32::MAX));
    }
    only_what_is_used(&new)
}

fn rewrite(new: &mut Graph, known: &[Known], op: &Op) -> Known {
    use Known::{Padded, Zeros};
    let of = |v: Value| known[v as usize];
    let op = match *op {
        Op::Mul(a, b) => match (of(a), of(b)) {
            (Zeros(n), _) | (_, Zeros(n)) => return Zeros(n),
            (a, b) => Op::Mul(plain(new, a), plain(new, b)),
        },
        Op::Add(a, b) => match (of(a), of(b)) {
            (Zeros(_), other) | (other, Zeros(_)) => return other,
            (a, b) => Op::Add(plain(new, a), plain(new, b)),
        },
        Op::Sub(a, b) => match (of(a), of(b)) {
            (other, Zeros(_)) => return other,
            (a, b) => Op::Sub(plain(new, a), plain(new, b)),
        },
        Op::Concat(a, b) => match (of(a), of(b)) {
            (Zeros(n), Zeros(m)) => return Zeros(n + m),
            (a, Zeros(n)) => return Padded(plain(new, a), n),
            (a, b) => Op::Concat(plain(new, a), plain(new, b)),
        },
        Op::Slice(x, start, n) => match of(x) {
            Zeros(_) => return Zeros(n),
            x => Op::Slice(plain(new, x), start, n),
        },
        Op::Affine(x, w, b) => match of(x) {
            Padded(x, zeros) if zeros > 0 => {
                let weights = &new.tensors[w as usize];
                let kept = weights.len() - zeros as usize * new.tensors[b as usize].len();
                let weights = weights[..kept].to_vec();
                Op::Affine(x, new.tensor(weights), b)
            }
            x => Op::Affine(plain(new, x), w, b),
        },
        Op::Constant(t) => Op::Constant(t),
        Op::Clip(x, low, high) => Op::Clip(plain(new, of(x)), low, high),
        Op::Exp(x) => Op::Exp(plain(new, of(x))),
        Op::Tanh(x) => Op::Tanh(plain(new, of(x))),
        Op::Relu(x) => Op::Relu(plain(new, of(x))),
        Op::Mish(x) => Op::Mish(plain(new, of(x))),
        Op::LayerNorm(x, w, b) => Op::LayerNorm(plain(new, of(x)), w, b),
    };
    Padded(new.push(op), 0)
}

/// A value with its zeros written out.
fn plain(new: &mut Graph, value: Known) -> Value {
    let zeros = |new: &mut Graph, n: u32| {
        let tensor = new.tensor(vec![0.0; n as usize]);
        new.push(Op::Constant(tensor))
    };
    match value {
        Known::Padded(value, 0) => value,
        Known::Zeros(n) => zeros(new, n),
        Known::Padded(value, n) => {
            let zeros = zeros(new, n);
            new.push(Op::Concat(value, zeros))
        }
    }
}

/// The graph without tensors and operations that no result needs.
fn only_what_is_used(graph: &Graph) -> Graph {
    let mut used = vec![false; graph.ops.len() + 3];
    used[graph.ops.len() + 2] = true;
    for (i, op) in graph.ops.iter().enumerate().rev() {
        if used[i + 3] {
            operands(op, |v| used[*v as usize] = true, |_| ());
        }
    }
    let mut new = Graph { inputs: graph.inputs, ..Graph::default() };
    let mut values: Vec<Value> = vec![0, 1, 2];
    let mut tensors = vec![None; graph.tensors.len()];
    for (i, op) in graph.ops.iter().enumerate() {
        let mut op = *op;
        if !used[i + 3] {
            values.push(Value::MAX);
            continue;
        }
        operands_mut(
            &mut op,
            |v| *v = values[*v as usize],
            |t| {
                let old = *t as usize;
                *t = *tensors[old].get_or_insert_with(|| new.tensor(graph.tensors[old].clone()));
            },
        );
        values.push(new.push(op));
    }
    new
}

/// Shows an operation's operands: values, and tensors.
fn operands(op: &Op, mut value: impl FnMut(&Value), mut tensor: impl FnMut(&u32)) {
    let mut op = *op;
    operands_mut(&mut op, |v| value(v), |t| tensor(t));
}

fn operands_mut(op: &mut Op, mut value: impl FnMut(&mut Value), mut tensor: impl FnMut(&mut u32)) {
    match op {
        Op::Constant(t) => tensor(t),
        Op::Affine(x, w, b) | Op::LayerNorm(x, w, b) => {
            value(x);
            tensor(w);
            tensor(b);
        }
        Op::Concat(a, b) | Op::Add(a, b) | Op::Sub(a, b) | Op::Mul(a, b) => {
            value(a);
            value(b);
        }
        Op::Slice(x, ..) | Op::Clip(x, ..) => value(x),
        Op::Exp(x) | Op::Tanh(x) | Op::Relu(x) | Op::Mish(x) => value(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::make_agent;
    use crate::train::settings::{Sources, resolve};
    use policy::Policy;
    use tch::Device;

    #[test]
    fn every_algorithms_graph_without_noise_has_the_bits_of_zeros() {
        let spec = envs::Env::make("Ant-v4").unwrap().spec().clone();
        for algo in crate::algorithms() {
            let sources = Sources { algo, env: &spec.id, preset: "default", ..Default::default() };
            let settings = resolve(&sources).ok().unwrap();
            let agent = make_agent(settings.algorithm.as_ref(), &spec, 3, Device::Cpu);
            for (name, tensor) in agent.state() {
                if name.starts_with("actor") && tensor.kind() == tch::Kind::Float {
                    let _ = tch::no_grad(|| tensor.shallow_clone().g_add_scalar_(0.01));
                }
            }
            let graph = agent.graph();
            let mean = without_noise(&graph);
            assert_eq!(mean.inputs, [27, 0, 0], "{algo}");
            let [mut full, mut mean] = [graph, mean].map(|graph| Policy::new(graph).unwrap());
            let n = spec.act_dim;
            for i in 0..200 {
                let obs: Vec<f32> = (0..27).map(|j| ((i * 27 + j) as f32).sin() * 3.0).collect();
                let [mut a, mut b] = [vec![0.0; n], vec![0.0; n]];
                full.act(&obs, None, None, &mut a).unwrap();
                mean.act(&obs, None, None, &mut b).unwrap();
                // (A sum with a zero may turn -0 into 0.)
                assert_eq!(a, b, "{algo}");
            }
        }
    }
}
