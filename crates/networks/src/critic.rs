//! Ensembles of action-value networks.

use crate::layout::{Activation, Block, Layout, Linear};
use crate::mlp::Forward;
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::op::{Backward, apply, handles, record};
use crate::params::{Params, ParamsBuilder};
use rand::Rng;
use serde::{Deserialize, Serialize};
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
    /// Momentum m of the running statistics: running = m running + (1 - m) batch (CrossQ).
    pub norm_momentum: f64,
}

/// An ensemble of Q(s, a): where its tensors are, and its running statistics.
pub struct Critics {
    members: Vec<Arc<Layout>>,
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
        let critics = Self { members, stats: stats.build(Kind::Float, device) };
        (critics, params.build(Kind::Float, device))
    }

    /// The values of all members: (B, obs) and (B, act) -> (members, B), as part of
    /// the caller's graph. In `NormMode::Batch` the running statistics move.
    ///
    /// With [`Params::frozen`] gradients reach observation and action only, where
    /// they require any.
    pub fn forward(&self, p: &[Tensor], obs: &Tensor, action: &Tensor, mode: NormMode) -> Tensor {
        self.by_member(&apply(self.op(p, obs, action, mode)))
    }

    /// The same outside of any graph, with a backward pass for a caller that knows
    /// the gradient at the values.
    pub fn record(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
    ) -> CriticPass {
        let (q, backward) = record(self.op(p, obs, action, mode));
        CriticPass { q: self.by_member(&q), backward }
    }

    fn op(&self, p: &[Tensor], obs: &Tensor, action: &Tensor, mode: NormMode) -> Forward {
        Forward {
            networks: self.members.clone(),
            p: handles(p),
            stats: handles(self.stats.frozen()),
            x: handles([obs, action]),
            mode,
        }
    }

    /// (members * B, 1) -> (members, B).
    fn by_member(&self, q: &Tensor) -> Tensor {
        q.view([self.members.len() as i64, -1])
    }

    /// The running statistics of batch normalisation (none for other kinds).
    pub fn stats(&self) -> &Params {
        &self.stats
    }
}

/// A forward pass of an ensemble whose backward pass is yet to run.
pub struct CriticPass {
    /// The values of all members: (members, B).
    pub q: Tensor,
    backward: Backward<Forward>,
}

impl CriticPass {
    /// Of a scalar with the gradient `d_q` (members, B) at the values: the gradient of
    /// all parameters as one flat vector. The pass was called with
    /// [`Params::trainable`] of `params`.
    pub fn parameter_gradient(self, params: &Params, d_q: &Tensor) -> Tensor {
        // Behind observation and action.
        let gradients = self.gradients(d_q).into_iter().skip(2);
        let gradients: Vec<Tensor> =
            gradients.map(|gradient| gradient.unwrap_or_else(Tensor::new)).collect();
        params.join(&gradients)
    }

    /// The same at the action: (B, act).
    ///
    /// # Panics
    /// If the pass was called with an action that requires no gradient.
    pub fn action_gradient(self, d_q: &Tensor) -> Tensor {
        self.gradients(d_q).swap_remove(1).expect("an action that requires a gradient")
    }

    fn gradients(self, d_q: &Tensor) -> Vec<Option<Tensor>> {
        self.backward.gradients(&d_q.reshape([-1, 1]))
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
    let crossq = config.kind == CriticKind::CrossQ;
    let mut batch_norm = |params: &mut ParamsBuilder, at: &str, features| {
        BatchNorm::new(params, stats, &format!("{name}.{at}"), features, config.norm_momentum)
    };
    let input_norm = crossq.then(|| batch_norm(params, "norm_in", inputs));
    let blocks = (0..config.depth)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { config.width };
            let linear = Linear::new(params, &format!("{name}.{i}"), inputs, config.width, rng);
            let layer_norm = (config.kind == CriticKind::LayerNorm)
                .then(|| LayerNorm::new(params, &format!("{name}.norm_{i}"), config.width));
            let batch_norm = crossq.then(|| batch_norm(params, &format!("norm_{i}"), config.width));
            Block { linear, layer_norm, batch_norm }
        })
        .collect();
    let heads = vec![Linear::new(params, &format!("{name}.head"), config.width, 1, rng)];
    Layout { input_norm, blocks, heads, activation: Activation::Relu }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use rand::SeedableRng;

    const KINDS: [CriticKind; 3] = [CriticKind::Mlp, CriticKind::LayerNorm, CriticKind::CrossQ];

    fn ensemble(kind: CriticKind) -> (Critics, Params, Tensor, Tensor) {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(11);
        let config = CriticsConfig { kind, members: 2, width: 32, depth: 2, norm_momentum: 0.99 };
        let (critics, params) = Critics::new(&config, 5, 3, Device::Cpu, &mut rng);
        let obs = crate::normal(&mut rng, &[16, 5], Device::Cpu);
        let action = crate::normal(&mut rng, &[16, 3], Device::Cpu);
        (critics, params, obs, action)
    }

    #[test]
    fn members_start_apart_and_return_one_value_per_row() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let q = critics.forward(params.frozen(), &obs, &action, NormMode::Running);
            assert_eq!(q.size(), [2, 16]);
            assert!((q.get(0) - q.get(1)).abs().max().double_value(&[]) > 1e-3, "{kind:?}");
        }
    }

    #[test]
    fn only_the_batch_mode_of_crossq_moves_its_statistics() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let before = critics.stats().flat().copy();
            let _ = critics.forward(params.trainable(), &obs, &action, NormMode::Running);
            assert_eq!(critics.stats().flat(), &before);
            let _ = critics.forward(params.trainable(), &obs, &action, NormMode::Batch(None));
            let moved = critics.stats().flat() != &before;
            assert_eq!(moved, kind == CriticKind::CrossQ, "{kind:?}");
        }
    }

    #[test]
    fn explicit_passes_equal_those_of_libtorch_and_autograd() {
        let renorm = NormMode::Batch(Some(crate::Renorm { r_max: 1.2, d_max: 0.3 }));
        for kind in KINDS {
            for mode in [NormMode::Running, NormMode::Batch(None), renorm] {
                for rows in [1, 16, 300] {
                    compare_passes(kind, mode, rows);
                }
            }
        }
    }

    /// Values, gradients and running statistics, by both forms.
    fn compare_passes(kind: CriticKind, mode: NormMode, rows: i64) {
        if rows == 1 && mode != NormMode::Running {
            return; // one row has no variance
        }
        let (critics, params, ..) = ensemble(kind);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(12);
        let mut normal = |columns| crate::normal(&mut rng, &[rows, columns], Device::Cpu);
        let (obs, action) = (normal(5) * 2.0 + 0.5, normal(3) * 2.0 + 0.5);
        // As of a minimum over the ensemble: some values have no gradient.
        let d = normal(2).tr();
        let d = &d * d.gt(-0.3);
        let start = critics.stats().flat().copy();
        let run = |explicit: bool, p: &[Tensor], wanted: [bool; 2]| {
            critics.stats().flat().shallow_clone().copy_(&start);
            let leaf = |x: &Tensor, wanted: bool| x.detach().set_requires_grad(wanted);
            let x = [leaf(&obs, wanted[0]), leaf(&action, wanted[1])];
            let q = if explicit {
                critics.forward(p, &x[0], &x[1], mode)
            } else {
                let networks = critics.members.clone();
                let stats = handles(critics.stats.frozen());
                let forward = Forward { networks, p: handles(p), stats, x: handles(&x), mode };
                forward.fallback().view([2, -1])
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
            critics.record(p, &obs, action, mode)
        };
        let recorded = record(params.trainable(), &action).parameter_gradient(&params, &d);
        assert_eq!(recorded, run(true, params.trainable(), [false, false])[1]);
        let leaf = action.detach().set_requires_grad(true);
        let recorded = record(params.frozen(), &leaf).action_gradient(&d);
        assert_eq!(recorded.reshape([-1]), run(true, params.frozen(), [false, true])[1]);
        for (p, wanted) in cases {
            let pairs = run(true, p, wanted).into_iter().zip(run(false, p, wanted));
            for (name, (ours, theirs)) in ["values", "gradient", "statistics"].iter().zip(pairs) {
                if theirs.numel() == 0 {
                    continue; // only CrossQ has statistics
                }
                let scale = theirs.abs().max().double_value(&[]);
                let error = (ours - theirs).abs().max().double_value(&[]);
                assert!(error <= 1e-5 * scale + 1e-7, "{kind:?} {mode:?} {rows} {name}: {error:e}");
            }
        }
    }
}
