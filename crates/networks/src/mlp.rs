//! Multi-layer perceptrons: forward pass, and forward pass with a tangent.

use crate::cpu::{self, Kept, View};
use crate::layout::{Activation, Block, Layout, Linear};
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::op::{Differentiable, Op, apply, handles, run};
use crate::params::ParamsBuilder;
use crate::pool;
use crate::storage::{empty, values, values_mut};
use rand::Rng;
use std::ops::Range;
use std::sync::Arc;
use tch::Tensor;

/// The tensors of a layer.
pub struct DenseLayer {
    /// (outputs, inputs)
    pub weight: Tensor,
    /// (outputs)
    pub bias: Tensor,
    /// Scale and shift of a layer normalisation that follows, (outputs) each.
    pub layer_norm: Option<[Tensor; 2]>,
}

/// The hidden layers of a network.
#[derive(Debug, Clone, Copy)]
pub struct Hidden {
    /// Units in each.
    pub width: i64,
    /// How many there are.
    pub depth: usize,
    /// Their nonlinearity.
    pub activation: Activation,
    /// Whether a LayerNorm stands between each and its nonlinearity.
    pub layer_norm: bool,
}

impl Hidden {
    /// Layers without LayerNorm.
    pub fn new(width: i64, depth: usize, activation: Activation) -> Self {
        Self { width, depth, activation, layer_norm: false }
    }

    /// The same with a LayerNorm between each and its nonlinearity.
    pub fn layer_normed(self) -> Self {
        Self { layer_norm: true, ..self }
    }
}

/// A multi-layer perceptron: hidden layers, and one or several linear heads on the
/// last of them.
#[derive(Debug, Clone)]
pub struct Mlp(Arc<Layout>);

impl Mlp {
    /// The hidden layers, and the heads that `heads` lays out in the builder.
    pub fn new<R: Rng>(
        builder: &mut ParamsBuilder,
        name: &str,
        inputs: i64,
        hidden: Hidden,
        rng: &mut R,
        heads: impl FnOnce(&mut ParamsBuilder, &mut R) -> Vec<Linear>,
    ) -> Self {
        let Hidden { width, depth, activation, layer_norm } = hidden;
        let blocks = (0..depth)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { width };
                let linear = Linear::new(builder, &format!("{name}.{i}"), inputs, width, rng);
                let layer_norm =
                    layer_norm.then(|| LayerNorm::new(builder, &format!("{name}.norm_{i}"), width));
                Block { linear, layer_norm, pre_norm: None, batch_norm: None }
            })
            .collect();
        let heads = heads(builder, rng);
        Self(Arc::new(Layout { input_norm: None, blocks, heads, activation }))
    }

    /// x (B, inputs) -> (B, outputs), the heads' outputs in adjacent columns; `p` is
    /// the list that the network was laid out in.
    pub fn forward(&self, p: &[Tensor], x: &Tensor) -> Tensor {
        apply(Forward {
            networks: vec![self.0.clone()],
            p: handles(p),
            stats: Vec::new(),
            x: vec![x.shallow_clone()],
            mode: NormMode::Running,
            rows: 0..x.size()[0] as usize,
        })
    }

    /// [`forward`](Self::forward) with a vector (width) that is added to the first layer's bias:
    /// what inputs that are the same in all rows contribute, without their columns.
    pub fn forward_shifted(&self, p: &[Tensor], shift: &Tensor, x: &Tensor) -> Tensor {
        let at = self.0.blocks[0].linear.bias.expect("layers of an Mlp have biases");
        let mut p = handles(p);
        p[at] = &p[at] + shift;
        self.forward(&p, x)
    }

    /// Every layer, the heads joined into one. Only for networks without batch normalisation.
    pub fn layers(&self, p: &[Tensor]) -> Vec<DenseLayer> {
        assert!(!self.0.has_batch_norm(), "layers are of networks without batch normalisation");
        let of_block = |block: &Block| {
            let layer_norm = block.layer_norm.as_ref().map(|norm| norm.tensors(p));
            let [weight, bias] = block.linear.tensors(p);
            DenseLayer { weight, bias, layer_norm }
        };
        let mut layers: Vec<_> = self.0.blocks.iter().map(of_block).collect();
        let heads = self.0.heads.iter().map(|head| head.tensors(p));
        let (weights, biases) = heads.map(|[weight, bias]| (weight, bias)).unzip();
        let (weight, bias) = (cat(weights, 0), cat(biases, 0));
        layers.push(DenseLayer { weight, bias, layer_norm: None });
        layers
    }

    /// The nonlinearity between layers.
    pub fn activation(&self) -> Activation {
        self.0.activation
    }

    /// Value at `x` and directional derivative along `dx` in one pass, each
    /// (B, outputs): the cost of two forward passes. Only for networks without
    /// normalisation; outside of any graph.
    pub fn jvp(&self, p: &[Tensor], x: &Tensor, dx: &Tensor) -> (Tensor, Tensor) {
        run(Tangent { network: &self.0, p, x, dx })
    }
}

/// The forward pass of networks that share one input, such as an ensemble's members:
/// (networks * n, outputs) for n rows, one network's after another's.
pub(crate) struct Forward {
    pub networks: Vec<Arc<Layout>>,
    /// The parameters of all networks, in the list that they were laid out in.
    pub p: Vec<Tensor>,
    /// Running statistics of batch normalisation; they move in `NormMode::Batch`.
    pub stats: Vec<Tensor>,
    /// Columns of the input, (B, n) each. A gradient is computed for those that want
    /// one only.
    pub x: Vec<Tensor>,
    pub mode: NormMode,
    /// The rows whose outputs are wanted: all, or some that a batch's statistics couple
    /// with the others.
    pub rows: Range<usize>,
}

impl Forward {
    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.networks.iter().flat_map(|network| network.parameters()).map(|at| &self.p[at])
    }

    /// x (B, inputs).
    fn input(&self) -> Tensor {
        match &self.x[..] {
            [x] => x.contiguous(),
            parts => Tensor::cat(parts, 1),
        }
    }

    /// The networks over the numbers of their tensors.
    ///
    /// # Safety
    /// While they live, nobody writes to parameters or statistics.
    #[expect(unsafe_code, reason = "passes the promise on")]
    unsafe fn views(&self) -> Vec<View<'_>> {
        let view = |network: &Arc<Layout>| {
            // SAFETY: the caller's promise.
            unsafe { View::new(network, &self.p, &self.stats, self.mode) }
        };
        self.networks.iter().map(view).collect()
    }

    /// The forward form on the CPU; with `keep`, what the backward form needs of each
    /// network.
    fn explicit(&self, keep: bool) -> (Tensor, Vec<Kept>) {
        let x = self.input();
        let (rows, outputs) = (self.rows.len(), self.networks[0].outputs());
        let mut y = empty(self.networks.len() * rows, outputs);
        // SAFETY: `y` is new. Parameters and statistics are written by an optimiser's
        // step, by loading, and below, and never during a pass: `pool::run` returns
        // after the last of its jobs.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (views, x, mut y_left) = unsafe { (self.views(), values(&x), values_mut(&mut y)) };
        let jobs = views.iter().map(|view| {
            let y = y_left.split_off_mut(..rows * outputs).expect("rows of every network");
            let rows = self.rows.clone();
            move || cpu::forward(view, x, &rows, y, keep)
        });
        let (moments, kept): (Vec<_>, Vec<_>) = pool::run(jobs.collect()).into_iter().unzip();
        drop(views);
        for (network, moments) in self.networks.iter().zip(moments) {
            // SAFETY: the views are gone.
            #[expect(unsafe_code, reason = "writes the storage of tensors")]
            unsafe {
                cpu::move_running_statistics(network, &self.stats, &moments);
            }
        }
        (y, kept.into_iter().flatten().collect())
    }

    /// The columns of the input that each part of it is.
    fn parts(&self) -> Vec<Range<usize>> {
        let mut first = 0;
        let range = |x: &Tensor| {
            let width = x.size()[1] as usize;
            first += width;
            first - width..first
        };
        self.x.iter().map(range).collect()
    }
}

impl Op for Forward {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        self.x.iter().chain(self.parameters()).collect()
    }

    fn cpu(self) -> Tensor {
        self.explicit(false).0
    }

    fn fallback(self) -> Tensor {
        let (x, p, stats, mode) = (self.input(), &self.p, &self.stats, self.mode);
        let of_rows = |network: &Arc<Layout>| {
            let outputs = network.operations(p, stats, &x, mode);
            outputs.narrow(0, self.rows.start as i64, self.rows.len() as i64)
        };
        cat(self.networks.iter().map(of_rows).collect(), 0)
    }
}

impl Differentiable for Forward {
    type Kept = Vec<Kept>;

    fn forward(&self) -> (Tensor, Self::Kept) {
        self.explicit(true)
    }

    fn backward(
        &self,
        kept: &Self::Kept,
        d_output: &Tensor,
        wanted: &[bool],
    ) -> Vec<Option<Tensor>> {
        let members = self.networks.len();
        let rows = self.x[0].size()[0] as usize;
        // (Gradients may be of the first of the outputs only.)
        let with_gradient = d_output.size()[0] as usize / members;
        let (x_wanted, p_wanted) = wanted.split_at(self.x.len());
        let parts = self.parts();
        // From the first column that wants a gradient to the last.
        let mut reached = parts.iter().zip(x_wanted).filter(|(_, wanted)| **wanted);
        let columns = match (reached.next(), reached.next_back()) {
            (None, _) => 0..0,
            (Some((first, _)), last) => first.start..last.map_or(first, |(last, _)| last).end,
        };
        // One vector for the gradients of all parameters.
        let numbers = |network: &Arc<Layout>| -> usize {
            network.parameters().into_iter().map(|at| self.p[at].numel()).sum()
        };
        let numbers: Vec<usize> = self.networks.iter().map(numbers).collect();
        let count = if p_wanted.contains(&true) { numbers.iter().sum() } else { 0 };

        let d_output = d_output.contiguous();
        let (mut d_x, mut d_p) = (empty(members * rows, columns.len()), empty(1, count));
        // SAFETY: `d_x` and `d_p` are new; for the others see `explicit`.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        let (views, mut d_y, mut d_x_left, mut d_p_left) = unsafe {
            (self.views(), values(&d_output), values_mut(&mut d_x), values_mut(&mut d_p))
        };
        let jobs = views.iter().zip(&numbers).zip(kept).map(|((view, numbers), kept)| {
            let columns = columns.clone();
            let outputs = with_gradient * view.outputs;
            let d_y = d_y.split_off(..outputs).expect("rows of every network");
            let d_x = d_x_left.split_off_mut(..rows * columns.len()).expect("as many rows");
            let d_p = d_p_left.split_off_mut(..*numbers); // none where no gradient is wanted
            move || cpu::backward(view, kept, d_y, columns, d_x, d_p)
        });
        pool::run(jobs.collect());
        drop(views);

        // (Each operation takes microseconds, of numbers that nobody wants too.)
        if !columns.is_empty() && members > 1 {
            let of_network = |i: usize| d_x.narrow(0, (i * rows) as i64, rows as i64);
            d_x = (0..members).map(of_network).reduce(|sum, d| sum + d).expect("a network");
        }
        let d_x = parts.iter().zip(x_wanted).map(|(part, wanted)| {
            let first = part.start as i64 - columns.start as i64;
            wanted.then(|| match part == &columns {
                true => d_x.shallow_clone(),
                false => d_x.narrow(1, first, part.len() as i64),
            })
        });
        let sizes: Vec<i64> = self.parameters().map(|p| p.numel() as i64).collect();
        let d_p = if count > 0 { d_p.view(-1).split_with_sizes(&sizes, 0) } else { Vec::new() };
        let mut d_p = d_p.into_iter();
        let d_p = self.parameters().zip(p_wanted).map(|(p, wanted)| {
            let d = d_p.next().filter(|_| *wanted)?;
            Some(if p.dim() == 1 { d } else { d.view(p.size().as_slice()) })
        });
        d_x.chain(d_p).collect()
    }
}

/// Value and directional derivative of a network without normalisation.
struct Tangent<'a> {
    network: &'a Arc<Layout>,
    p: &'a [Tensor],
    x: &'a Tensor,
    dx: &'a Tensor,
}

impl Op for Tangent<'_> {
    type Output = (Tensor, Tensor);

    fn inputs(&self) -> Vec<&Tensor> {
        let parameters = self.network.parameters().into_iter().map(|at| &self.p[at]);
        [self.x, self.dx].into_iter().chain(parameters).collect()
    }

    fn cpu(self) -> (Tensor, Tensor) {
        assert!(self.network.is_plain(), "tangents are for networks without normalisation");
        let (x, dx) = (self.x.contiguous(), self.dx.contiguous());
        let rows = x.size()[0] as usize;
        let [mut y, mut dy] = [(); 2].map(|()| empty(rows, self.network.outputs()));
        // SAFETY: `y` and `dy` are new, and nobody writes to the others during a pass.
        #[expect(unsafe_code, reason = "reads and writes the storage of tensors")]
        unsafe {
            let view = View::new(self.network, self.p, &[], NormMode::Running);
            let inputs = [values(&x), values(&dx)];
            cpu::tangent(&view, inputs, [values_mut(&mut y), values_mut(&mut dy)]);
        }
        (y, dy)
    }

    fn fallback(self) -> (Tensor, Tensor) {
        self.network.tangent_operations(self.p, self.x, self.dx)
    }
}

/// The reference forms.
impl Layout {
    /// The forward pass as operations of LibTorch.
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
            y = normed(&block.pre_norm, y);
            h = normed(&block.batch_norm, self.activation.forward(&y));
        }
        cat(self.heads.iter().map(|head| head.forward(p, &h)).collect(), 1)
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
        let (values, tangents) =
            self.heads.iter().map(|head| (head.forward(p, &h), head.tangent(p, &dh))).unzip();
        (cat(values, 1), cat(tangents, 1))
    }
}

/// Tensors joined along a dimension, without a copy where there is one only.
fn cat(mut tensors: Vec<Tensor>, dim: i64) -> Tensor {
    if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(&tensors, dim) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn layer_normalised_passes_equal_those_of_libtorch_for_every_activation() {
        for activation in Activation::ALL {
            let run = |kind: Kind| {
                let mut rng = rand_pcg::Pcg64::seed_from_u64(8);
                let mut builder = ParamsBuilder::new();
                let b = &mut builder;
                let mlp = Mlp::new(
                    b,
                    "m",
                    5,
                    Hidden::new(32, 2, activation).layer_normed(),
                    &mut rng,
                    |b, rng| vec![Linear::new(b, "out", 32, 3, rng)],
                );
                let params = builder.build(kind, Device::Cpu);
                let x = crate::normal(&mut rng, &[150, 5], Device::Cpu).to_kind(kind);
                let x = x.set_requires_grad(true);
                let weights = crate::normal(&mut rng, &[150, 3], Device::Cpu).to_kind(kind);
                let y = mlp.forward(params.trainable(), &x);
                let leaves: Vec<&Tensor> = params.trainable().iter().chain([&x]).collect();
                let scalar = (&y * weights).sum(kind);
                let gradients = Tensor::run_backward(&[scalar], &leaves, false, false);
                let flat: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
                [y.detach(), Tensor::cat(&flat, 0)]
            };
            // `f32` takes the CPU form, `f64` the fallback.
            for (ours, theirs) in run(Kind::Float).iter().zip(run(Kind::Double)) {
                let error = (ours - &theirs).abs().max().double_value(&[]);
                let scale = theirs.abs().max().double_value(&[]);
                assert!(error <= 1e-5 * scale, "{activation:?}: {error:e} of {scale}");
            }
        }
    }

    #[test]
    fn a_shift_of_the_first_layer_stands_for_inputs_that_all_rows_have() {
        for kind in [Kind::Float, Kind::Double] {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(6);
            let mut builder = ParamsBuilder::new();
            let mlp = Mlp::new(
                &mut builder,
                "m",
                5,
                Hidden::new(16, 2, Activation::Gelu),
                &mut rng,
                |b, rng| vec![Linear::new(b, "out", 16, 2, rng)],
            );
            let params = builder.build(kind, Device::Cpu);
            let x = crate::normal(&mut rng, &[9, 5], Device::Cpu).to_kind(kind);
            let first = x.narrow(0, 0, 1).narrow(1, 3, 2).expand([9, 2], true).copy();
            x.narrow(1, 3, 2).copy_(&first);
            let run = |shifted: bool| {
                let p = params.trainable();
                let y = if shifted {
                    let shift =
                        x.get(0).narrow(0, 3, 2).unsqueeze(0).matmul(&p[0].narrow(1, 3, 2).tr());
                    let rest = x.copy();
                    let _ = rest.narrow(1, 3, 2).zero_();
                    mlp.forward_shifted(p, &shift.squeeze_dim(0), &rest)
                } else {
                    mlp.forward(p, &x)
                };
                [y.detach(), params.gradient(&y.square().sum(kind))]
            };
            for (ours, theirs) in run(true).iter().zip(run(false)) {
                assert!(ours.allclose(&theirs, 1e-5, 1e-5, false), "{kind:?}");
            }
        }
    }

    #[test]
    fn tangent_equals_central_differences_for_every_activation() {
        for activation in Activation::ALL {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
            let mut builder = ParamsBuilder::new();
            let mlp = Mlp::new(
                &mut builder,
                "m",
                5,
                Hidden::new(16, 3, activation),
                &mut rng,
                |b, rng| vec![Linear::new(b, "a", 16, 2, rng), Linear::new(b, "b", 16, 3, rng)],
            );
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
        let mlp =
            Mlp::new(&mut builder, "m", 5, Hidden::new(16, 3, activation), &mut rng, |b, rng| {
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
        for activation in Activation::ALL {
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
        for activation in Activation::ALL {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(4);
            let mut builder = ParamsBuilder::new();
            let mlp = Mlp::new(
                &mut builder,
                "m",
                5,
                Hidden::new(16, 2, activation),
                &mut rng,
                |b, rng| vec![Linear::new(b, "a", 16, 2, rng), Linear::new(b, "b", 16, 3, rng)],
            );
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
