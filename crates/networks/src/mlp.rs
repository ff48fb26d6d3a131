//! Multi-layer perceptrons: forward pass, and forward pass with a tangent.

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
    /// x sigmoid(x).
    Silu,
    /// tanh(x).
    Tanh,
}

impl Activation {
    /// The value at `x`.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            // For a few rows a single operation is what counts, not its arithmetic.
            Self::Mish if x.numel() < MISH_NATIVE_BELOW => x.mish(),
            Self::Mish => {
                let (n, _) = mish_terms(x);
                x * &n / (&n + 2.0)
            }
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
        }
    }

    /// The directional derivative at `x` along `dx`. The Jacobian is diagonal,
    /// so LibTorch's fused backward kernels compute just that.
    fn tangent(self, x: &Tensor, dx: &Tensor) -> Tensor {
        match self {
            Self::Relu => dx * x.gt(0.0).to_kind(x.kind()),
            Self::Mish => {
                let (n, e) = mish_terms(x);
                let d = &n + 2.0;
                // d/dx of n / (n + 2) is 4 e (e + 1) / (n + 2)^2.
                let slope = (x * 4.0 * &e * (e + 1.0) / &d + n) / d;
                dx * slope
            }
            Self::Silu => x.silu_backward(dx),
            Self::Tanh => {
                let y = x.tanh();
                dx * (1.0 - &y * &y)
            }
        }
    }
}

/// Numbers in a tensor below which LibTorch's own Mish is the faster one.
const MISH_NATIVE_BELOW: usize = 2048;

/// e = exp(x) and n = e (e + 2), with which tanh(softplus(x)) = n / (n + 2).
///
/// LibTorch's own kernel takes a tanh, a log1p and an exp for each number and
/// costs more than the matrix product before it; this takes one exp. Beyond
/// x = 20 the ratio is 1 in `f32` (and in `f64` within 1e-17), and e stays finite.
fn mish_terms(x: &Tensor) -> (Tensor, Tensor) {
    let e = x.clamp_max(20.0).exp();
    (&e * (&e + 2.0), e)
}

/// A linear layer y = x W^T + b; W is stored (outputs, inputs) as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: usize,
    bias: usize,
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
        Self {
            weight: builder.uniform(format!("{name}.weight"), &[outputs, inputs], bound, rng),
            bias: builder.uniform(format!("{name}.bias"), &[outputs], bound, rng),
        }
    }

    /// A layer that starts with zero weights and the given bias.
    pub fn constant(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        outputs: i64,
        bias: f64,
    ) -> Self {
        Self {
            weight: builder.constant(format!("{name}.weight"), &[outputs, inputs], 0.0),
            bias: builder.constant(format!("{name}.bias"), &[outputs], bias as f32),
        }
    }

    /// x (B, inputs) -> (B, outputs); `p` is the list that the layer was laid out in.
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        x.linear(&p[self.weight], Some(&p[self.bias]))
    }

    /// Value and tangent.
    pub fn jvp(&self, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
        (self.forward(p, x), dx.linear(&p[self.weight], None::<&Tensor>))
    }

    /// Where the bias stands in the list.
    pub fn bias_index(&self) -> usize {
        self.bias
    }
}

/// Linear layers, each followed by the activation: a trunk on which heads stand.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
}

impl Mlp {
    /// A trunk of `depth` layers of the given width.
    pub fn new(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        width: i64,
        depth: usize,
        activation: Activation,
        rng: &mut impl Rng,
    ) -> Self {
        let layers = (0..depth)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { width };
                Linear::new(builder, &format!("{name}.{i}"), inputs, width, rng)
            })
            .collect();
        Self { layers, activation }
    }

    /// x (B, inputs) -> (B, width).
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        for layer in &self.layers {
            h = self.activation.forward(&layer.forward(p, &h));
        }
        h
    }

    /// Value at `x` and directional derivative along `dx`, in one pass.
    ///
    /// Forward-mode differentiation by hand, since `tch` has none: each layer
    /// carries (value, tangent). The cost is two forward passes.
    pub fn jvp(&self, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
        let (mut h, mut dh) = (x.shallow_clone(), dx.shallow_clone());
        for layer in &self.layers {
            let (y, dy) = layer.jvp(p, &h, &dh);
            dh = self.activation.tangent(&y, &dy);
            h = self.activation.forward(&y);
        }
        (h, dh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn tangent_equals_central_differences_for_every_activation() {
        for activation in [Activation::Mish, Activation::Silu, Activation::Tanh, Activation::Relu] {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
            let mut builder = ParamsBuilder::new();
            let mlp = Mlp::new(&mut builder, "m", 5, 16, 3, activation, &mut rng);
            let p = builder.build(Kind::Double, Device::Cpu);
            let x = crate::normal(&mut rng, &[7, 5], Device::Cpu).to_kind(Kind::Double);
            let dx = crate::normal(&mut rng, &[7, 5], Device::Cpu).to_kind(Kind::Double);
            let (value, tangent) = mlp.jvp(p.frozen(), &x, &dx);
            assert!(value.allclose(&mlp.forward(p.frozen(), &x), 0.0, 0.0, false));
            let h = 1e-6;
            let ahead = mlp.forward(p.frozen(), &(&x + &dx * h));
            let behind = mlp.forward(p.frozen(), &(&x - &dx * h));
            let differences = (ahead - behind) / (2.0 * h);
            let error = (tangent - differences).abs().max().double_value(&[]);
            assert!(error < 1e-8, "{activation:?}: {error}");
        }
    }

    #[test]
    fn mish_is_libtorchs_mish_with_its_gradient_from_minus_to_plus_infinity() {
        let x =
            Tensor::linspace(-100, 100, 4001, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (ours, theirs) = (Activation::Mish.forward(&x), x.mish());
        assert!(ours.allclose(&theirs, 1e-5, 1e-7, false));
        let gradient =
            |y: &Tensor| Tensor::run_backward(&[y.sum(Kind::Float)], &[&x], false, false);
        assert!(gradient(&ours)[0].allclose(&gradient(&theirs)[0], 1e-5, 1e-6, false));
    }

    #[test]
    fn linear_layers_start_within_pytorchs_bounds_and_fill_them() {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
        let mut builder = ParamsBuilder::new();
        Linear::new(&mut builder, "l", 100, 200, &mut rng);
        let p = builder.build(Kind::Float, Device::Cpu);
        let largest = p.flat().abs().max().double_value(&[]);
        assert!(largest <= 0.1 && largest > 0.0999, "{largest}");
        // The variance of U(-b, b) is b^2 / 3.
        let std = p.flat().std(true).double_value(&[]);
        assert!((std - 0.1 / 3f64.sqrt()).abs() < 1e-3, "{std}");
    }
}
