//! A policy as a graph of operations, the form that it is exported in (crate `policy`).

use crate::ObsNorm;
use networks::{Activation, DenseLayer, GELU_CUBIC, GELU_SCALE, Mlp};
use policy::{Graph, Op, Value};
use tch::{Device, Kind, Tensor};

/// A graph as an algorithm builds it: operations on the observation, the latent z and the head's
/// noise xi.
pub struct GraphBuilder(Graph);

/// A network's parameters in a graph, which may be called several times.
pub struct Layers {
    layers: Vec<Layer>,
    /// The first layer's weights of constant inputs, (outputs, constants), and its biases.
    first: (Tensor, Tensor),
    activation: Activation,
}

/// A layer's tensors in a graph.
struct Layer {
    /// (inputs, outputs)
    weight: u32,
    /// (outputs)
    bias: u32,
    /// Scale and shift of a layer normalisation: (outputs) each.
    layer_norm: Option<[u32; 2]>,
    outputs: i64,
}

impl Layers {
    /// What constants that follow the input add to the first layer's biases: (outputs), f64.
    pub fn shift(&self, constants: &Tensor) -> Tensor {
        double(&self.first.0).mv(&double(constants).view([-1]))
    }
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

    /// Takes in a network whose last `constants` inputs will be constants, for [`Layers::shift`].
    pub fn layers(&mut self, network: &Mlp, p: &[Tensor], constants: i64) -> Layers {
        self.dense(network.layers(p), network.activation(), constants)
    }

    /// Takes in a linear map: weights (outputs, inputs) and biases (outputs).
    pub fn linear(&mut self, [weight, bias]: [Tensor; 2]) -> Layers {
        // (There is no nonlinearity after the last layer.)
        self.dense(vec![DenseLayer { weight, bias, layer_norm: None }], Activation::Relu, 0)
    }

    fn dense(&mut self, dense: Vec<DenseLayer>, activation: Activation, constants: i64) -> Layers {
        let DenseLayer { weight, bias, .. } = &dense[0];
        let own = weight.size()[1] - constants;
        let first = (weight.narrow(1, own, constants), bias.shallow_clone());
        let mut layers = Vec::new();
        for (i, DenseLayer { weight, bias, layer_norm }) in dense.into_iter().enumerate() {
            let weight = if i == 0 { weight.narrow(1, 0, own) } else { weight };
            let mut tensor = |tensor: &Tensor| self.0.tensor(floats(tensor));
            layers.push(Layer {
                weight: tensor(&weight.transpose(0, 1)),
                bias: tensor(&bias),
                layer_norm: layer_norm.map(|norm| norm.each_ref().map(&mut tensor)),
                outputs: bias.size()[0],
            });
        }
        Layers { layers, first, activation }
    }

    /// The network's heads for an input x, next to each other. `shift` (outputs) is added to the
    /// first layer's biases.
    pub fn call(&mut self, layers: &Layers, x: Value, shift: Option<&Tensor>) -> Value {
        let mut x = x;
        for (i, layer) in layers.layers.iter().enumerate() {
            let bias = match (i, shift) {
                (0, Some(shift)) => {
                    self.0.tensor(floats(&(double(&layers.first.1) + double(shift))))
                }
                _ => layer.bias,
            };
            x = self.push(Op::Affine(x, layer.weight, bias));
            if let Some([scale, shift]) = layer.layer_norm {
                x = self.push(Op::LayerNorm(x, scale, shift));
            }
            if i + 1 < layers.layers.len() {
                x = self.activation(layers.activation, x, layer.outputs);
            }
        }
        x
    }

    /// x scale + shift, entry by entry: batch normalisation with its running statistics.
    pub fn scaled_and_shifted(&mut self, x: Value, [scale, shift]: [Tensor; 2]) -> Value {
        let (scale, shift) = (self.constant(&scale), self.constant(&shift));
        let scaled = self.push(Op::Mul(x, scale));
        self.push(Op::Add(scaled, shift))
    }

    /// Layer normalisation of x with a scale and a shift, of x's length each.
    pub fn layer_norm(&mut self, x: Value, tensors: [Tensor; 2]) -> Value {
        let [scale, shift] = tensors.each_ref().map(|tensor| self.0.tensor(floats(tensor)));
        self.push(Op::LayerNorm(x, scale, shift))
    }

    /// x sigmoid(y) = x / 2 + x / 2 tanh(y / 2), of vectors of length `n`.
    pub fn gated(&mut self, x: Value, y: Value, n: i64) -> Value {
        let half = self.scaled(x, 0.5, n);
        let inner = if x == y { half } else { self.scaled(y, 0.5, n) };
        self.plus_tanh(half, inner)
    }

    /// A nonlinearity of x, whose length is `n`.
    fn activation(&mut self, activation: Activation, x: Value, n: i64) -> Value {
        match activation {
            Activation::Relu => self.push(Op::Relu(x)),
            Activation::Mish => self.push(Op::Mish(x)),
            Activation::Swish => self.gated(x, x, n),
            Activation::Gelu => {
                let square = self.push(Op::Mul(x, x));
                let cubic = self.scaled(square, GELU_SCALE * GELU_CUBIC, n);
                let scale = self.full(GELU_SCALE, n);
                let factor = self.push(Op::Add(cubic, scale));
                let inner = self.push(Op::Mul(x, factor));
                let half = self.scaled(x, 0.5, n);
                self.plus_tanh(half, inner)
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
    fn plus_tanh(&mut self, x: Value, y: Value) -> Value {
        let tanh = self.push(Op::Tanh(y));
        let part = self.push(Op::Mul(x, tanh));
        self.push(Op::Add(x, part))
    }

    /// A number, `n` times.
    pub fn full(&mut self, number: f64, n: i64) -> Value {
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

fn double(tensor: &Tensor) -> Tensor {
    tensor.to_device(Device::Cpu).to_kind(Kind::Double)
}

/// The numbers of a tensor in row-major order.
fn floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    Vec::try_from(flat).expect("a vector of f32")
}
