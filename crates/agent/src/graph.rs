//! A policy as a graph of operations, the form that it is exported in (crate `policy`).

use crate::ObsNorm;
use networks::{Activation, GELU_CUBIC, GELU_SCALE, Mlp};
use policy::{Graph, Op, Value};
use tch::{Device, Kind, Tensor};

/// A graph as an algorithm builds it: operations on the observation, the latent z and the head's
/// noise xi.
pub struct GraphBuilder(Graph);

/// A network's parameters in a graph, which may be called several times.
pub struct Layers {
    /// Weights (inputs, outputs), and biases (outputs), of each layer.
    tensors: Vec<[u32; 2]>,
    /// Outputs of each layer.
    outputs: Vec<i64>,
    /// The first layer's weights of constant inputs, (outputs, constants), and its biases.
    first: (Tensor, Tensor),
    activation: Activation,
}

impl GraphBuilder {
    /// The observation.
    pub const OBS: Value = 0;
    /// The latent.
    pub const Z: Value = 1;
    /// The head's noise.
    pub const XI: Value = 2;

    /// A graph of inputs of these lengths; 0 for noise that the policy does not have.
    pub fn new(obs: i64, z: i64, xi: i64) -> Self {
        Self(Graph { inputs: [obs, z, xi].map(|n| n as u32), ..Graph::default() })
    }

    /// Adds an operation.
    pub fn push(&mut self, op: Op) -> Value {
        self.0.push(op)
    }

    /// A vector of constants, from a tensor of any shape.
    pub fn constant(&mut self, numbers: &Tensor) -> Value {
        let tensor = self.0.tensor(floats(numbers));
        self.push(Op::Constant(tensor))
    }

    /// x times a number; `n` is the length of x.
    pub fn scaled(&mut self, x: Value, factor: f64, n: i64) -> Value {
        let factor = self.full(factor, n);
        self.push(Op::Mul(x, factor))
    }

    /// The observation as the network sees it.
    pub fn observation(&mut self, norm: &ObsNorm) -> Value {
        let Some((mean, factor, clip)) = norm.affine() else { return Self::OBS };
        let (mean, factor) = (self.constant(&mean), self.constant(&factor));
        let centred = self.push(Op::Sub(Self::OBS, mean));
        let scaled = self.push(Op::Mul(centred, factor));
        self.push(Op::Clip(scaled, -clip as f32, clip as f32))
    }

    /// Takes in a network whose last `constants` inputs will be constants: they are folded into
    /// the first layer's biases.
    pub fn layers(&mut self, network: &Mlp, p: &[Tensor], constants: i64) -> Layers {
        let mut first = None;
        let (mut tensors, mut outputs) = (Vec::new(), Vec::new());
        for [weight, bias] in network.layers(p) {
            let own = weight.size()[1] - if first.is_none() { constants } else { 0 };
            let of_constants = weight.narrow(1, own, weight.size()[1] - own);
            outputs.push(bias.size()[0]);
            first.get_or_insert_with(|| (of_constants, bias.shallow_clone()));
            let weight = weight.narrow(1, 0, own).transpose(0, 1);
            tensors.push([&weight, &bias].map(|tensor| self.0.tensor(floats(tensor))));
        }
        let first = first.expect("a network has a layer");
        Layers { tensors, outputs, first, activation: network.activation() }
    }

    /// The network's heads for an input x and constants that follow it, next to each other.
    pub fn call(&mut self, layers: &Layers, x: Value, constants: Option<&Tensor>) -> Value {
        let mut x = x;
        for (i, &[weight, bias]) in layers.tensors.iter().enumerate() {
            let bias = match (i, constants) {
                (0, Some(constants)) => {
                    let (weight, bias) = &layers.first;
                    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                    let shift = double(weight).mv(&double(constants).view([-1]));
                    self.0.tensor(floats(&(double(bias) + shift)))
                }
                _ => bias,
            };
            x = self.push(Op::Affine(x, weight, bias));
            if i + 1 < layers.tensors.len() {
                let n = layers.outputs[i];
                x = self.activation(layers.activation, x, n);
            }
        }
        x
    }

    /// A nonlinearity of x, whose length is `n`.
    fn activation(&mut self, activation: Activation, x: Value, n: i64) -> Value {
        match activation {
            Activation::Relu => self.push(Op::Relu(x)),
            Activation::Mish => self.push(Op::Mish(x)),
            // x sigmoid(y) = x / 2 + x / 2 tanh(y / 2).
            Activation::Swish => {
                let half = self.scaled(x, 0.5, n);
                self.gated(half, half)
            }
            Activation::Gelu => {
                let square = self.push(Op::Mul(x, x));
                let cubic = self.scaled(square, GELU_SCALE * GELU_CUBIC, n);
                let scale = self.full(GELU_SCALE, n);
                let factor = self.push(Op::Add(cubic, scale));
                let inner = self.push(Op::Mul(x, factor));
                let half = self.scaled(x, 0.5, n);
                self.gated(half, inner)
            }
            Activation::Elu => {
                let positive = self.push(Op::Relu(x));
                let negative = self.push(Op::Clip(x, f32::MIN, 0.0));
                let exp = self.push(Op::Exp(negative));
                let one = self.full(1.0, n);
                let below = self.push(Op::Sub(exp, one));
                self.push(Op::Add(positive, below))
            }
        }
    }

    /// x + x tanh(y)
    fn gated(&mut self, x: Value, y: Value) -> Value {
        let tanh = self.push(Op::Tanh(y));
        let part = self.push(Op::Mul(x, tanh));
        self.push(Op::Add(x, part))
    }

    /// A number, `n` times.
    fn full(&mut self, number: f64, n: i64) -> Value {
        self.constant(&Tensor::full([n], number, (Kind::Float, Device::Cpu)))
    }

    /// mean + exp(log sigma) xi for heads (mean, log sigma) of `act` numbers each.
    pub fn gaussian(&mut self, mean: Value, heads: Value, act: i64, range: (f64, f64)) -> Value {
        let log_std = self.push(Op::Slice(heads, act as u32, act as u32));
        let log_std = self.push(Op::Clip(log_std, range.0 as f32, range.1 as f32));
        let std = self.push(Op::Exp(log_std));
        let noise = self.push(Op::Mul(std, Self::XI));
        self.push(Op::Add(mean, noise))
    }

    /// The graph; its result is that of the last operation.
    pub fn finish(self) -> Graph {
        self.0
    }
}

/// The numbers of a tensor in row-major order.
fn floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    Vec::try_from(flat).expect("a vector of f32")
}
