//! What a network is: its layers, and where their tensors are in a list.

use crate::norm::{BatchNorm, LayerNorm};
use crate::params::ParamsBuilder;
use rand::Rng;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A nonlinearity between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x tanh(softplus(x)) (Misra 2019): smooth, which the tangent needs.
    Mish,
    /// x sigmoid(x) (Ramachandran et al. 2017), also called SiLU.
    Swish,
    /// x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU in its form with tanh (Hendrycks
    /// and Gimpel 2016), Flax's default.
    Gelu,
    /// x above 0, exp(x) - 1 below (Clevert et al. 2016).
    Elu,
}

/// GELU's sqrt(2 / pi).
pub const GELU_SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
/// GELU's factor of x^3.
pub const GELU_CUBIC: f64 = 0.044715;

impl Activation {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [Self::Relu, Self::Mish, Self::Swish, Self::Gelu, Self::Elu];

    /// The value at `x`, by LibTorch's operations.
    pub(crate) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Mish => x.mish(),
            Self::Swish => x.silu(),
            Self::Gelu => x.gelu("tanh"),
            Self::Elu => x.elu(),
        }
    }

    /// The directional derivative at `x` along `dx`. The Jacobian is diagonal,
    /// so LibTorch's fused backward kernels compute just that.
    pub(crate) fn tangent(self, x: &Tensor, dx: &Tensor) -> Tensor {
        match self {
            Self::Relu => dx * x.gt(0.0).to_kind(x.kind()),
            Self::Mish => {
                // tanh(softplus(x)) = n / (n + 2) with e = exp(x), n = e (e + 2).
                // Beyond x = 20 the ratio is 1, and e stays finite.
                let e = x.clamp_max(20.0).exp();
                let n = &e * (&e + 2.0);
                let d = &n + 2.0;
                // d/dx of n / (n + 2) is 4 e (e + 1) / (n + 2)^2.
                let slope = (x * 4.0 * &e * (e + 1.0) / &d + n) / d;
                dx * slope
            }
            Self::Swish => {
                let s = x.sigmoid();
                dx * (&s + x * &s * (1.0 - &s))
            }
            Self::Gelu => {
                let square = x.square();
                let s = (x * (&square * GELU_CUBIC + 1.0) * (2.0 * GELU_SCALE)).sigmoid();
                let inner = (square * (3.0 * GELU_CUBIC) + 1.0) * (2.0 * GELU_SCALE);
                dx * (&s + x * &s * (1.0 - &s) * inner)
            }
            Self::Elu => dx * x.clamp_max(0.0).exp(),
        }
    }
}

/// A linear layer y = x W^T + b; W is stored (outputs, inputs) as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) inputs: i64,
    pub(crate) outputs: i64,
}

impl Linear {
    /// A layer that starts as PyTorch's do: uniform in +-1/sqrt(inputs).
    /// (`tch::nn::linear` starts its weights differently.)
    pub fn new(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        outputs: i64,
        rng: &mut impl Rng,
    ) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = builder.uniform(format!("{name}.weight"), &[outputs, inputs], bound, rng);
        let bias = Some(builder.uniform(format!("{name}.bias"), &[outputs], bound, rng));
        Self { weight, bias, inputs, outputs }
    }

    /// The same without a bias, for layers before a normalisation, which has its own shift.
    pub fn without_bias(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        outputs: i64,
        rng: &mut impl Rng,
    ) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = builder.uniform(format!("{name}.weight"), &[outputs, inputs], bound, rng);
        Self { weight, bias: None, inputs, outputs }
    }

    /// A layer that starts with zero weights and the given bias.
    pub fn constant(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        outputs: i64,
        bias: f64,
    ) -> Self {
        let weight = builder.constant(format!("{name}.weight"), &[outputs, inputs], 0.0);
        let bias = Some(builder.constant(format!("{name}.bias"), &[outputs], bias as f32));
        Self { weight, bias, inputs, outputs }
    }

    /// x (B, inputs) -> (B, outputs), by LibTorch's operations.
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        x.linear(&p[self.weight], self.bias.map(|bias| &p[bias]))
    }

    /// Weights (outputs, inputs) and biases (outputs), of a layer that has both.
    pub fn tensors(&self, p: &[Tensor]) -> [Tensor; 2] {
        let bias = self.bias.expect("a layer with a bias");
        [self.weight, bias].map(|at| p[at].shallow_clone())
    }

    pub(crate) fn tangent(&self, p: &[Tensor], dx: &Tensor) -> Tensor {
        dx.linear(&p[self.weight], None::<&Tensor>)
    }
}

/// A hidden layer: linear, then the nonlinearity, with normalisation before it
/// (LayerNorm, or BatchNorm as XQC has it) or after it (BatchNorm, as CrossQ has it).
#[derive(Debug)]
pub(crate) struct Block {
    pub linear: Linear,
    pub layer_norm: Option<LayerNorm>,
    /// Before the nonlinearity.
    pub pre_norm: Option<BatchNorm>,
    /// After the nonlinearity.
    pub batch_norm: Option<BatchNorm>,
}

/// The layers of a network, with the positions of their tensors in a list.
#[derive(Debug)]
pub(crate) struct Layout {
    pub input_norm: Option<BatchNorm>,
    pub blocks: Vec<Block>,
    pub heads: Vec<Linear>,
    pub activation: Activation,
}

impl Layout {
    pub fn batch_norms(&self) -> impl Iterator<Item = &BatchNorm> {
        let of_blocks = self.blocks.iter().flat_map(|b| b.pre_norm.iter().chain(&b.batch_norm));
        self.input_norm.iter().chain(of_blocks)
    }

    pub fn has_batch_norm(&self) -> bool {
        self.batch_norms().next().is_some()
    }

    /// Whether there is no normalisation at all.
    pub fn is_plain(&self) -> bool {
        !self.has_batch_norm() && self.blocks.iter().all(|block| block.layer_norm.is_none())
    }

    /// Columns of the network's output.
    pub fn outputs(&self) -> usize {
        self.heads.iter().map(|head| head.outputs as usize).sum()
    }

    /// The positions of all parameters, in the order of the layers.
    pub fn parameters(&self) -> Vec<usize> {
        let norm = |norm: &BatchNorm| [norm.weight, norm.bias];
        let linear = |linear: &Linear| std::iter::once(linear.weight).chain(linear.bias);
        let mut all: Vec<usize> = self.input_norm.iter().flat_map(norm).collect();
        for block in &self.blocks {
            all.extend(linear(&block.linear));
            all.extend(block.layer_norm.iter().flat_map(|norm| [norm.weight, norm.bias]));
            all.extend(block.pre_norm.iter().chain(&block.batch_norm).flat_map(norm));
        }
        all.extend(self.heads.iter().flat_map(linear));
        all
    }
}
