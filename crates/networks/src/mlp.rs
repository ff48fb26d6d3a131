//! Multi-layer perceptrons: forward pass, and forward pass with a tangent.

use crate::cpu::{self, Kept};
use crate::node;
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::params::ParamsBuilder;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
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
    fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Mish => x.mish(),
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
                // tanh(softplus(x)) = n / (n + 2) with e = exp(x), n = e (e + 2).
                // Beyond x = 20 the ratio is 1, and e stays finite.
                let e = x.clamp_max(20.0).exp();
                let n = &e * (&e + 2.0);
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

/// A linear layer y = x W^T + b; W is stored (outputs, inputs) as in PyTorch.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
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
        let bias = builder.uniform(format!("{name}.bias"), &[outputs], bound, rng);
        Self { weight, bias, inputs, outputs }
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
        let bias = builder.constant(format!("{name}.bias"), &[outputs], bias as f32);
        Self { weight, bias, inputs, outputs }
    }

    fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        x.linear(&p[self.weight], Some(&p[self.bias]))
    }

    fn tangent(&self, p: &[Tensor], dx: &Tensor) -> Tensor {
        dx.linear(&p[self.weight], None::<&Tensor>)
    }
}

/// A hidden layer: linear, then the nonlinearity, with normalisation before it
/// (LayerNorm) or after it (BatchNorm, as CrossQ has it).
#[derive(Debug)]
pub(crate) struct Block {
    pub linear: Linear,
    pub layer_norm: Option<LayerNorm>,
    pub batch_norm: Option<BatchNorm>,
}

/// Where the tensors of a network lie in its list of parameters.
#[derive(Debug)]
pub(crate) struct Layout {
    pub input_norm: Option<BatchNorm>,
    pub blocks: Vec<Block>,
    pub heads: Vec<Linear>,
    pub activation: Activation,
}

impl Layout {
    pub fn batch_norms(&self) -> impl Iterator<Item = &BatchNorm> {
        self.input_norm.iter().chain(self.blocks.iter().filter_map(|b| b.batch_norm.as_ref()))
    }

    pub fn has_batch_norm(&self) -> bool {
        self.batch_norms().next().is_some()
    }

    /// Whether there is no normalisation at all.
    pub fn is_plain(&self) -> bool {
        !self.has_batch_norm() && self.blocks.iter().all(|block| block.layer_norm.is_none())
    }

    /// The positions of all parameters, in the order of the layers.
    pub fn parameters(&self) -> Vec<usize> {
        let norm = |norm: &BatchNorm| [norm.weight, norm.bias];
        let linear = |linear: &Linear| [linear.weight, linear.bias];
        let mut all: Vec<usize> = self.input_norm.iter().flat_map(norm).collect();
        for block in &self.blocks {
            all.extend(linear(&block.linear));
            all.extend(block.layer_norm.iter().flat_map(|norm| [norm.weight, norm.bias]));
            all.extend(block.batch_norm.iter().flat_map(norm));
        }
        all.extend(self.heads.iter().flat_map(linear));
        all
    }

    /// The forward pass as operations of LibTorch: on a GPU, and in `f64`.
    fn operations(&self, p: &[Tensor], stats: &[Tensor], x: &Tensor, mode: NormMode) -> Tensor {
        let normed = |norm: &Option<BatchNorm>, h: Tensor| match norm {
            Some(norm) => norm.forward(p, stats, &h, mode),
            None => h,
        };
        let mut h = normed(&self.input_norm, x.shallow_clone());
        for block in &self.blocks {
            let mut y = block.linear.forward(p, &h);
            if let Some(norm) = &block.layer_norm {
                y = norm.forward(p, &y);
            }
            h = normed(&block.batch_norm, self.activation.forward(&y));
        }
        let outputs: Vec<Tensor> = self.heads.iter().map(|head| head.forward(p, &h)).collect();
        if outputs.len() == 1 { outputs[0].shallow_clone() } else { Tensor::cat(&outputs, 1) }
    }

    /// Value and tangent as operations of LibTorch. Forward-mode differentiation
    /// by hand, since `tch` has none: each layer carries (value, tangent).
    fn tangent_operations(&self, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
        let (mut h, mut dh) = (x.shallow_clone(), dx.shallow_clone());
        for block in &self.blocks {
            let (y, dy) = (block.linear.forward(p, &h), block.linear.tangent(p, &dh));
            dh = self.activation.tangent(&y, &dy);
            h = self.activation.forward(&y);
        }
        let (values, tangents): (Vec<Tensor>, Vec<Tensor>) =
            self.heads.iter().map(|head| (head.forward(p, &h), head.tangent(p, &dh))).unzip();
        (Tensor::cat(&values, 1), Tensor::cat(&tangents, 1))
    }
}

/// A multi-layer perceptron: hidden layers, and linear heads beside each other
/// on the last of them.
///
/// In `f32` on the CPU its passes are the explicit ones of [`crate::cpu`], and a
/// forward pass is a single node of LibTorch's graph; elsewhere they are
/// LibTorch's operations. This is the only place where the two meet.
#[derive(Debug, Clone)]
pub struct Mlp(pub(crate) Arc<Layout>);

impl Mlp {
    /// `depth` hidden layers of the given width, and a head (or several) on top,
    /// laid out by `heads` from the builder.
    #[allow(clippy::too_many_arguments)]
    pub fn new<R: Rng>(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        width: i64,
        depth: usize,
        activation: Activation,
        rng: &mut R,
        heads: impl FnOnce(&mut ParamsBuilder, &mut R) -> Vec<Linear>,
    ) -> Self {
        let blocks = (0..depth)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { width };
                let linear = Linear::new(builder, &format!("{name}.{i}"), inputs, width, rng);
                Block { linear, layer_norm: None, batch_norm: None }
            })
            .collect();
        let heads = heads(builder, rng);
        Self(Arc::new(Layout { input_norm: None, blocks, heads, activation }))
    }

    /// x (B, inputs) -> (B, outputs), the heads' outputs beside each other; `p`
    /// is the list that the network was laid out in.
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        self.forward_with(p, &[], x, NormMode::Running)
    }

    /// The same for a network with batch normalisation, whose running statistics
    /// are in `stats`; in `NormMode::Batch` they move.
    pub(crate) fn forward_with(
        &self,
        p: &[Tensor],
        stats: &[Tensor],
        x: &Tensor,
        mode: NormMode,
    ) -> Tensor {
        if self.explicit(p, x) {
            self.node(p, stats, x, mode)
        } else {
            self.0.operations(p, stats, x, mode)
        }
    }

    /// The explicit forward pass as one node of the graph, a function of `x` and of
    /// the parameters that require gradients.
    fn node(&self, p: &[Tensor], stats: &[Tensor], x: &Tensor, mode: NormMode) -> Tensor {
        let parameters = self.0.parameters();
        let mut inputs = vec![x];
        inputs.extend(parameters.iter().map(|at| &p[*at]));
        let in_graph = node::in_graph(&inputs);
        let (mut output, kept) = cpu::forward(&self.0, p, stats, x, mode, in_graph);
        let Some(kept) = kept else { return output };
        let (layout, all, all_stats) = (self.0.clone(), handles(p), handles(stats));
        let shapes: Vec<(i64, Vec<i64>)> =
            inputs[1..].iter().map(|tensor| (tensor.numel() as i64, tensor.size())).collect();
        let way_back = move |gradient: &Tensor, wanted: &[bool]| {
            let count = shapes.iter().map(|(count, _)| count).sum::<i64>();
            let mut flat = wanted[1..]
                .contains(&true)
                .then(|| Tensor::empty([count], (gradient.kind(), gradient.device())));
            let (p, stats) = (&all, &all_stats);
            let columns = wanted[0].then_some(0..layout.blocks[0].linear.inputs as usize);
            let input = cpu::backward(&layout, p, stats, &kept, gradient, columns, flat.as_mut());
            let mut gradients = vec![input];
            let mut offset = 0;
            for ((count, shape), wanted) in shapes.iter().zip(&wanted[1..]) {
                let part = flat.as_ref().filter(|_| *wanted);
                gradients.push(part.map(|flat| flat.narrow(0, offset, *count).view(&shape[..])));
                offset += count;
            }
            gradients
        };
        node::attach(&mut output, &inputs, Box::new(way_back));
        output
    }

    /// The same, with what its gradients need, outside of any graph of the caller's.
    pub(crate) fn pass(&self, p: &[Tensor], stats: &[Tensor], x: &Tensor, mode: NormMode) -> Pass {
        if self.explicit(p, x) {
            let (output, kept) = cpu::forward(&self.0, p, stats, x, mode, true);
            let way_back = WayBack::Explicit {
                network: self.clone(),
                p: handles(p),
                stats: handles(stats),
                kept: Box::new(kept.expect("asked for")),
            };
            return Pass { output, way_back };
        }
        self.pass_by_operations(p, stats, x, mode)
    }

    pub(crate) fn pass_by_operations(
        &self,
        p: &[Tensor],
        stats: &[Tensor],
        x: &Tensor,
        mode: NormMode,
    ) -> Pass {
        let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        let input = leaf(x);
        let p: Vec<Tensor> = p.iter().map(leaf).collect();
        let graph = tch::with_grad(|| self.0.operations(&p, stats, &input, mode));
        let leaves = self.0.parameters().into_iter().map(|at| p[at].shallow_clone()).collect();
        Pass { output: graph.detach(), way_back: WayBack::Graph { graph, input, leaves } }
    }

    /// Value at `x` and directional derivative along `dx` in one pass, each
    /// (B, outputs): the cost of two forward passes. Only for networks without
    /// normalisation; outside of a graph on the CPU.
    pub fn jvp(&self, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
        if self.explicit(p, x) {
            cpu::tangent(&self.0, p, x, dx)
        } else {
            self.0.tangent_operations(p, x, dx)
        }
    }

    fn explicit(&self, p: &[Tensor], x: &Tensor) -> bool {
        cpu::handles(x) && cpu::handles(&p[self.0.heads[0].weight])
    }
}

/// Tensors that share the storage of others: they can move to another thread.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

/// A forward pass that remembers the way back.
pub(crate) struct Pass {
    /// (B, outputs)
    pub output: Tensor,
    way_back: WayBack,
}

enum WayBack {
    Explicit { network: Mlp, p: Vec<Tensor>, stats: Vec<Tensor>, kept: Box<Kept> },
    Graph { graph: Tensor, input: Tensor, leaves: Vec<Tensor> },
}

impl Pass {
    /// Of a scalar whose gradient with respect to the output is `d_output`
    /// (B, outputs): the gradient with respect to some columns of the input, where
    /// they are wanted, (B, columns). That of the parameters is written to
    /// `parameters`, a vector with their numbers in their order, where there is one.
    pub fn back(
        self,
        d_output: &Tensor,
        wanted: Option<Range<usize>>,
        mut parameters: Option<Tensor>,
    ) -> Option<Tensor> {
        match self.way_back {
            WayBack::Explicit { network, p, stats, kept } => {
                let into = parameters.as_mut();
                cpu::backward(&network.0, &p, &stats, &kept, d_output, wanted, into)
            }
            WayBack::Graph { graph, input, leaves } => {
                let scalar = tch::with_grad(|| (graph * d_output).sum(None));
                let mut of: Vec<&Tensor> = wanted.is_some().then_some(&input).into_iter().collect();
                if parameters.is_some() {
                    of.extend(&leaves);
                }
                let mut gradients = Tensor::run_backward(&[scalar], &of, false, false);
                let input = wanted.map(|columns| {
                    let (first, count) = (columns.start as i64, columns.len() as i64);
                    gradients.remove(0).narrow(1, first, count)
                });
                if let Some(into) = &mut parameters {
                    let flat: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
                    into.copy_(&Tensor::cat(&flat, 0));
                }
                input
            }
        }
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
            let mlp = Mlp::new(&mut builder, "m", 5, 16, 3, activation, &mut rng, |b, rng| {
                vec![Linear::new(b, "a", 16, 2, rng), Linear::new(b, "b", 16, 3, rng)]
            });
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

    /// A network with two heads, called twice in one graph, the second time on its
    /// own output: value and gradients of parameters and input.
    fn twice(activation: Activation, explicit: bool) -> [Tensor; 3] {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
        let mut builder = ParamsBuilder::new();
        let mlp = Mlp::new(&mut builder, "m", 5, 16, 3, activation, &mut rng, |b, rng| {
            vec![Linear::new(b, "a", 16, 2, rng), Linear::new(b, "b", 16, 3, rng)]
        });
        let p = builder.build(Kind::Float, Device::Cpu);
        let x = crate::normal(&mut rng, &[300, 5], Device::Cpu).set_requires_grad(true);
        let call = |x: &Tensor| match explicit {
            true => mlp.forward(p.trainable(), x),
            false => mlp.0.operations(p.trainable(), &[], x, NormMode::Running),
        };
        let y = call(&call(&x));
        let weights = crate::normal(&mut rng, &[300, 5], Device::Cpu);
        let gradient = p.gradient(&(&y * &weights).sum(Kind::Float));
        let y = call(&call(&x));
        let scalar = (&y * weights).sum(Kind::Float);
        let slope = Tensor::run_backward(&[scalar], &[x], false, false).remove(0);
        [y.detach(), gradient, slope]
    }

    #[test]
    fn explicit_passes_equal_those_of_libtorch_and_autograd() {
        for activation in [Activation::Mish, Activation::Silu, Activation::Tanh, Activation::Relu] {
            let pairs = twice(activation, true).into_iter().zip(twice(activation, false));
            for (name, (ours, theirs)) in ["value", "gradient", "slope"].iter().zip(pairs) {
                let scale = theirs.abs().max().double_value(&[]);
                let error = (ours - theirs).abs().max().double_value(&[]);
                assert!(error <= 1e-5 * scale, "{activation:?} {name}: {error:e} of {scale}");
            }
        }
    }

    #[test]
    fn explicit_tangents_equal_those_of_libtorch() {
        for activation in [Activation::Mish, Activation::Silu, Activation::Tanh, Activation::Relu] {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(4);
            let mut builder = ParamsBuilder::new();
            let mlp = Mlp::new(&mut builder, "m", 5, 16, 2, activation, &mut rng, |b, rng| {
                vec![Linear::new(b, "a", 16, 2, rng), Linear::new(b, "b", 16, 3, rng)]
            });
            let p = builder.build(Kind::Float, Device::Cpu);
            let x = crate::normal(&mut rng, &[300, 5], Device::Cpu);
            let dx = crate::normal(&mut rng, &[300, 5], Device::Cpu);
            let (value, tangent) = mlp.jvp(p.frozen(), &x, &dx);
            let (exact_value, exact) = mlp.0.tangent_operations(p.frozen(), &x, &dx);
            assert!(value.allclose(&exact_value, 1e-5, 1e-6, false), "{activation:?}");
            assert!(tangent.allclose(&exact, 1e-5, 1e-6, false), "{activation:?}");
        }
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
