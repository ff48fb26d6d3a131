//! Ensembles of action-value networks.

use crate::layout::{Activation, Block, Layout, Linear};
use crate::mlp::Forward;
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::op::{Backward, apply, handles, record};
use crate::params::{Params, ParamsBuilder};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The body of a critic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CriticKind {
    /// Linear -> ReLU layers.
    Mlp,
    /// Linear -> LayerNorm -> ReLU layers.
    LayerNorm,
    /// BatchNorm on the input and after every ReLU (CrossQ, Bhatt et al. 2024).
    CrossQ,
    /// BatchNorm on the input and before every ReLU, hidden layers without bias, and weights
    /// with rows of length 1 (XQC, Palenicek et al. 2025). The caller keeps them so after each
    /// step, by [`Params::unit_rows`].
    Xqc,
}

impl CriticKind {
    /// Whether it has batch normalisation.
    pub fn has_batch_norm(self) -> bool {
        matches!(self, Self::CrossQ | Self::Xqc)
    }
}

/// The shape of an ensemble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CriticsConfig {
    /// The body.
    pub kind: CriticKind,
    /// Networks in the ensemble (2: clipped double Q).
    pub members: usize,
    /// Units in a hidden layer.
    pub width: i64,
    /// Hidden layers.
    pub depth: usize,
    /// Numbers that a network returns for a pair (s, a).
    pub outputs: i64,
    /// Momentum m of the running statistics: running = m running + (1 - m) batch (CrossQ, XQC).
    pub norm_momentum: f64,
}

/// An ensemble of Q(s, a): where its tensors are, and its running statistics.
pub struct Critics {
    members: Vec<Arc<Layout>>,
    outputs: i64,
    stats: Params,
}

impl Critics {
    /// Lays out an ensemble and draws its parameters.
    pub fn new(
        config: &CriticsConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut impl Rng,
    ) -> (Self, Params) {
        let (mut params, mut stats) = (ParamsBuilder::new(), ParamsBuilder::new());
        let members = (0..config.members)
            .map(|i| {
                let (inputs, name) = (obs_dim + act_dim, i.to_string());
                Arc::new(member(config, &name, inputs, &mut params, &mut stats, rng))
            })
            .collect();
        let stats = stats.build(Kind::Float, device);
        let mut params = params.build(Kind::Float, device);
        if config.kind == CriticKind::Xqc {
            params.unit_rows();
        }
        (Self { members, outputs: config.outputs, stats }, params)
    }

    /// The outputs of all members: (B, obs) and (B, act) -> (members, B, outputs), as part
    /// of the caller's graph. In `NormMode::Batch` the running statistics move.
    ///
    /// With [`Params::frozen`] gradients reach observation and action only, where
    /// they require any.
    pub fn forward(&self, p: &[Tensor], obs: &Tensor, action: &Tensor, mode: NormMode) -> Tensor {
        self.forward_rows(p, obs, action, mode, 0..obs.size()[0])
    }

    /// The same for some of the rows, (members, rows, outputs), which depend on the others
    /// through the statistics of a batch.
    ///
    /// # Panics
    /// If rows are left out and do not depend on each other.
    pub fn forward_rows(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
        rows: Range<i64>,
    ) -> Tensor {
        self.by_member(&apply(self.op(p, obs, action, mode, rows)))
    }

    /// As [`forward`](Self::forward) outside of any graph, with a backward pass for a caller
    /// that knows the gradient at the outputs.
    pub fn record(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
    ) -> CriticPass {
        self.record_rows(p, obs, action, mode, 0..obs.size()[0])
    }

    /// The same for some of the rows, as in [`forward_rows`](Self::forward_rows).
    pub fn record_rows(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
        rows: Range<i64>,
    ) -> CriticPass {
        let (outputs, backward) = record(self.op(p, obs, action, mode, rows));
        CriticPass { outputs: self.by_member(&outputs), backward }
    }

    fn op(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
        rows: Range<i64>,
    ) -> Forward {
        Forward {
            networks: self.members.clone(),
            p: handles(p),
            stats: handles(self.stats.frozen()),
            x: handles([obs, action]),
            mode,
            rows: rows.start as usize..rows.end as usize,
        }
    }

    /// (members * B, outputs) -> (members, B, outputs).
    fn by_member(&self, outputs: &Tensor) -> Tensor {
        outputs.view([self.members.len() as i64, -1, self.outputs])
    }

    /// The running statistics of batch normalisation (none for other kinds).
    pub fn stats(&self) -> &Params {
        &self.stats
    }
}

/// A forward pass of an ensemble whose backward pass is yet to run.
pub struct CriticPass {
    /// The outputs of all members: (members, B, outputs).
    pub outputs: Tensor,
    backward: Backward<Forward>,
}

impl CriticPass {
    /// Of a scalar with the gradient `d` (members, B, outputs) at the outputs: the gradient of
    /// all parameters as one flat vector. The pass was called with [`Params::trainable`] of
    /// `params`.
    ///
    /// In batch modes `d` may be of the first n rows, (members, n, outputs), where the others'
    /// is zero.
    pub fn parameter_gradient(self, params: &Params, d: &Tensor) -> Tensor {
        // Behind observation and action.
        let gradients = self.gradients(d).into_iter().skip(2);
        let gradients: Vec<Tensor> =
            gradients.map(|gradient| gradient.unwrap_or_else(Tensor::new)).collect();
        params.join(&gradients)
    }

    /// The same at the action: (B, act).
    ///
    /// # Panics
    /// If the pass was called with an action that requires no gradient.
    pub fn action_gradient(self, d: &Tensor) -> Tensor {
        self.gradients(d).swap_remove(1).expect("an action that requires a gradient")
    }

    fn gradients(self, d: &Tensor) -> Vec<Option<Tensor>> {
        let without = self.outputs.size()[1] - d.size()[1];
        let d = match without > 0 && !self.backward.is_explicit() {
            true => &d.constant_pad_nd([0, 0, 0, without]),
            false => d,
        };
        self.backward.gradients(&d.reshape([-1, d.size()[2]]))
    }
}

fn member(
    config: &CriticsConfig,
    name: &str,
    inputs: i64,
    params: &mut ParamsBuilder,
    stats: &mut ParamsBuilder,
    rng: &mut impl Rng,
) -> Layout {
    let (crossq, xqc) = (config.kind == CriticKind::CrossQ, config.kind == CriticKind::Xqc);
    let mut batch_norm = |params: &mut ParamsBuilder, at: &str, features| {
        BatchNorm::new(params, stats, &format!("{name}.{at}"), features, config.norm_momentum)
    };
    let input_norm = config.kind.has_batch_norm().then(|| batch_norm(params, "norm_in", inputs));
    let blocks = (0..config.depth)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { config.width };
            let at = format!("{name}.{i}");
            let linear = match xqc {
                true => Linear::without_bias(params, &at, inputs, config.width, rng),
                false => Linear::new(params, &at, inputs, config.width, rng),
            };
            let layer_norm = (config.kind == CriticKind::LayerNorm)
                .then(|| LayerNorm::new(params, &format!("{name}.norm_{i}"), config.width));
            let mut batch_norm =
                |on: bool| on.then(|| batch_norm(params, &format!("norm_{i}"), config.width));
            let (pre_norm, batch_norm) = (batch_norm(xqc), batch_norm(crossq));
            Block { linear, layer_norm, pre_norm, batch_norm }
        })
        .collect();
    let head = format!("{name}.head");
    let heads = vec![Linear::new(params, &head, config.width, config.outputs, rng)];
    Layout { input_norm, blocks, heads, activation: Activation::Relu }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use rand::SeedableRng;

    use CriticKind::{CrossQ, LayerNorm, Mlp, Xqc};

    const KINDS: [CriticKind; 4] = [Mlp, LayerNorm, CrossQ, Xqc];

    /// Numbers that the members return for a row: XQC's have several.
    fn outputs(kind: CriticKind) -> i64 {
        if kind == Xqc { 7 } else { 1 }
    }

    fn ensemble(kind: CriticKind) -> (Critics, Params, Tensor, Tensor) {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(11);
        let outputs = outputs(kind);
        let (members, width, depth, norm_momentum) = (2, 32, 2, 0.99);
        let config = CriticsConfig { kind, members, width, depth, outputs, norm_momentum };
        let (critics, params) = Critics::new(&config, 5, 3, Device::Cpu, &mut rng);
        let obs = crate::normal(&mut rng, &[16, 5], Device::Cpu);
        let action = crate::normal(&mut rng, &[16, 3], Device::Cpu);
        (critics, params, obs, action)
    }

    #[test]
    fn members_start_apart_and_return_their_outputs_for_every_row() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let q = critics.forward(params.frozen(), &obs, &action, NormMode::Running);
            assert_eq!(q.size(), [2, 16, outputs(kind)]);
            assert!((q.get(0) - q.get(1)).abs().max().double_value(&[]) > 1e-3, "{kind:?}");
        }
    }

    #[test]
    fn only_the_batch_mode_moves_statistics_where_there_are_any() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let before = critics.stats().flat().copy();
            for mode in [NormMode::Running, NormMode::BatchOnly] {
                let _ = critics.forward(params.trainable(), &obs, &action, mode);
                assert_eq!(critics.stats().flat(), &before);
            }
            let _ = critics.forward(params.trainable(), &obs, &action, NormMode::Batch(None));
            let moved = critics.stats().flat() != &before;
            assert_eq!(moved, kind.has_batch_norm(), "{kind:?}");
        }
    }

    #[test]
    fn explicit_passes_equal_those_of_libtorch_and_autograd() {
        let renorm = NormMode::Batch(Some(crate::Renorm { r_max: 1.2, d_max: 0.3 }));
        for kind in KINDS {
            for mode in [NormMode::Running, NormMode::Batch(None), renorm, NormMode::BatchOnly] {
                for rows in [1, 16, 300] {
                    compare_passes(kind, mode, rows, 0..rows);
                }
                if kind.has_batch_norm() && mode != NormMode::Running {
                    compare_passes(kind, mode, 300, 40..187);
                    compare_passes(kind, mode, 300, 64..256);
                }
            }
        }
    }

    /// Outputs of some rows, gradients and running statistics, by both forms.
    fn compare_passes(kind: CriticKind, mode: NormMode, rows: i64, part: Range<i64>) {
        if rows == 1 && mode != NormMode::Running {
            return; // one row has no variance
        }
        let (critics, params, ..) = ensemble(kind);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(12);
        let mut normal = |columns| crate::normal(&mut rng, &[rows, columns], Device::Cpu);
        let (obs, action) = (normal(5) * 2.0 + 0.5, normal(3) * 2.0 + 0.5);
        // As of a minimum over the ensemble: some values have no gradient.
        let d = normal(2).tr().narrow(1, 0, part.end - part.start).unsqueeze(2);
        let d = (&d * d.gt(-0.3)).repeat([1, 1, outputs(kind)]);
        let d = d * Tensor::linspace(1.0, 2.0, outputs(kind), (Kind::Float, Device::Cpu));
        let start = critics.stats().flat().copy();
        let run = |explicit: bool, p: &[Tensor], wanted: [bool; 2]| {
            critics.stats().flat().shallow_clone().copy_(&start);
            let leaf = |x: &Tensor, wanted: bool| x.detach().set_requires_grad(wanted);
            let x = [leaf(&obs, wanted[0]), leaf(&action, wanted[1])];
            let q = if explicit {
                critics.forward_rows(p, &x[0], &x[1], mode, part.clone())
            } else {
                critics.by_member(&critics.op(p, &x[0], &x[1], mode, part.clone()).fallback())
            };
            let leaves: Vec<&Tensor> = x.iter().chain(p).filter(|x| x.requires_grad()).collect();
            let loss = (&q * &d).sum(Kind::Float);
            let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
            let flat: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
            [q.detach(), Tensor::cat(&flat, 0), critics.stats().flat().copy()]
        };
        let cases = [
            (params.trainable(), [false, false]),
            (params.trainable(), [true, true]),
            (params.frozen(), [false, true]),
            (params.frozen(), [true, false]),
        ];
        // A recorded pass has the same gradients without a graph.
        let record = |p: &[Tensor], action: &Tensor| {
            critics.stats().flat().shallow_clone().copy_(&start);
            critics.record_rows(p, &obs, action, mode, part.clone())
        };
        let gradient =
            |d: &Tensor| record(params.trainable(), &action).parameter_gradient(&params, d);
        let recorded = gradient(&d);
        assert_eq!(recorded, run(true, params.trainable(), [false, false])[1]);
        if kind.has_batch_norm() && mode != NormMode::Running {
            // Rows at the end without a gradient can be left out, in both forms.
            let (first, rest) = (d.size()[1] / 3, d.size()[1] - d.size()[1] / 3);
            let short = d.narrow(1, 0, first);
            let (ours, theirs) =
                (gradient(&short), gradient(&short.constant_pad_nd([0, 0, 0, rest])));
            assert!(ours.allclose(&theirs, 1e-5, 1e-7, false), "{kind:?} {mode:?} {part:?}");
            critics.stats().flat().shallow_clone().copy_(&start);
            let op = critics.op(params.trainable(), &obs, &action, mode, part.clone());
            let inputs = handles(op.inputs());
            let output = op.fallback();
            let outputs = critics.by_member(&output.detach());
            let pass = CriticPass { outputs, backward: Backward::Fallback { inputs, output } };
            let theirs = pass.parameter_gradient(&params, &short);
            let error = (ours - &theirs).abs().max().double_value(&[]);
            assert!(error <= 1e-5 * theirs.abs().max().double_value(&[]) + 1e-7, "{error:e}");
        }
        let leaf = action.detach().set_requires_grad(true);
        let recorded = record(params.frozen(), &leaf).action_gradient(&d);
        assert_eq!(recorded.reshape([-1]), run(true, params.frozen(), [false, true])[1]);
        for (p, wanted) in cases {
            let pairs = run(true, p, wanted).into_iter().zip(run(false, p, wanted));
            for (name, (ours, theirs)) in ["values", "gradient", "statistics"].iter().zip(pairs) {
                if theirs.numel() == 0 {
                    continue; // only batch normalisation has statistics
                }
                let scale = theirs.abs().max().double_value(&[]);
                let error = (ours - theirs).abs().max().double_value(&[]);
                assert!(
                    error <= 1e-5 * scale + 1e-7,
                    "{kind:?} {mode:?} {rows} {part:?} {name}: {error:e}"
                );
            }
        }
    }
}
