//! Ensembles of action-value networks.

use crate::mlp::{Activation, Block, Layout, Linear, Mlp, Pass, handles};
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::params::{Params, ParamsBuilder};
use crate::pool;
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
    /// Share of the running statistics that a batch leaves in place (CrossQ).
    pub norm_momentum: f64,
}

/// How the members' values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// The smallest (Fujimoto et al. 2018).
    Min,
    /// The mean.
    Mean,
    /// The first member's.
    First,
}

impl Aggregate {
    /// q (members, B) -> (B).
    pub fn join(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => q.min_dim(0, false).0,
            Self::Mean => q.mean_dim(&[0i64][..], false, q.kind()),
            Self::First => q.get(0),
        }
    }

    /// The derivative of the joined value with respect to each member's:
    /// q (members, B) to the same shape.
    fn shares(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => {
                let smallest = q.argmin(0, true);
                q.zeros_like().scatter_value(0, &smallest, 1.0)
            }
            Self::Mean => q.ones_like() / q.size()[0] as f64,
            Self::First => {
                let shares = q.zeros_like();
                let _ = shares.get(0).fill_(1.0);
                shares
            }
        }
    }
}

/// What makes a target of next values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TdTarget {
    /// How the members' values become one.
    pub aggregate: Aggregate,
    /// Discount.
    pub gamma: f64,
}

/// Errors of an ensemble's values.
pub struct TdErrors {
    /// Sum over the members of mean squared errors, a scalar.
    pub loss: Tensor,
    /// Its gradient, in the shape of `q`; zero in columns that have no target.
    pub d_q: Tensor,
    /// Mean of the values, a scalar.
    pub q_mean: Tensor,
}

/// Errors Q_i(s, a) - y, with y = r + gamma (1 - terminated) (Q(s', a') + bonus).
///
/// `q` (members, B or more columns) has Q(s, a) in its first B columns; `next_q`
/// has Q(s', a') in B columns from `next_first` on. Rewards, terminations and the
/// bonus are (B). Outside of any graph.
pub fn td_errors(
    target: &TdTarget,
    q: &Tensor,
    (next_q, next_first): (&Tensor, i64),
    (reward, terminated): (&Tensor, &Tensor),
    bonus: Option<&Tensor>,
) -> TdErrors {
    let _guard = tch::no_grad_guard();
    let rows = reward.size()[0];
    let next = target.aggregate.join(&next_q.narrow(1, next_first, rows));
    // (Not in place: of `Aggregate::First` it is a view of the members' values.)
    let next = bonus.map_or(next.shallow_clone(), |bonus| &next + bonus);
    let y: Tensor = reward + next * (1.0 - terminated) * target.gamma;
    let own = q.narrow(1, 0, rows);
    let error = &own - y;
    let loss = (error.square().sum(Kind::Double) / rows as f64).to_kind(q.kind());
    let d_q = error * (2.0 / rows as f64);
    let d_q = d_q.constant_pad_nd([0, q.size()[1] - rows]);
    TdErrors { loss, d_q, q_mean: own.mean(Kind::Double).to_kind(q.kind()) }
}

/// An ensemble of Q(s, a): where its tensors lie, and its running statistics.
pub struct Critics {
    members: Vec<Mlp>,
    /// How many numbers the parameters of each member are.
    counts: Vec<i64>,
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
        let (members, counts) = (0..config.members)
            .map(|i| {
                let (inputs, before) = (obs_dim + act_dim, params.count());
                let name = i.to_string();
                let member = member(config, &name, inputs, &mut params, &mut stats, rng);
                (member, params.count() - before)
            })
            .unzip();
        let critics = Self { members, counts, stats: stats.build(Kind::Float, device) };
        (critics, params.build(Kind::Float, device))
    }

    /// The values of all members: (B, obs) and (B, act) -> (members, B), the
    /// members beside each other on all threads; outside of any graph.
    pub fn forward(&self, p: &[Tensor], obs: &Tensor, action: &Tensor) -> Tensor {
        let input = Tensor::cat(&[obs, action], 1);
        let jobs = self.members.iter().map(|member| {
            // Handles can move to another thread, but not be shared with it.
            let (member, p, stats) = (member.clone(), handles(p), handles(self.stats.frozen()));
            let input = input.shallow_clone();
            move || {
                let _guard = tch::no_grad_guard();
                member.forward_with(&p, &stats, &input, NormMode::Running)
            }
        });
        beside_each_other(&pool::run(jobs.collect()))
    }

    /// The same with the way back to gradients, from rows [s, a]. In
    /// `NormMode::Batch` the running statistics move.
    pub fn pass(&self, p: &[Tensor], input: &Tensor, mode: NormMode) -> CriticPass {
        let jobs = self.members.iter().map(|member| {
            let (member, p, stats) = (member.clone(), handles(p), handles(self.stats.frozen()));
            let input = input.shallow_clone();
            move || member.pass(&p, &stats, &input, mode)
        });
        let passes = pool::run(jobs.collect());
        let outputs: Vec<Tensor> = passes.iter().map(|pass| pass.output.shallow_clone()).collect();
        CriticPass { q: beside_each_other(&outputs), passes, counts: self.counts.clone() }
    }

    /// One value per row, joined over the members, and its derivative with
    /// respect to the action: (B) and (B, act), outside of any graph.
    pub fn value_and_slope(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        aggregate: Aggregate,
    ) -> (Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        let pass = self.pass(p, &Tensor::cat(&[obs, action], 1), NormMode::Running);
        let (value, shares) = (aggregate.join(&pass.q), aggregate.shares(&pass.q));
        let first = obs.size()[1] as usize;
        let slope = pass.input_gradient(&shares, first..first + action.size()[1] as usize);
        (value, slope)
    }

    /// The running statistics of batch normalisation (none for other kinds).
    pub fn stats(&self) -> &Params {
        &self.stats
    }

    /// The running statistics, to load them.
    pub fn stats_mut(&mut self) -> &mut Params {
        &mut self.stats
    }
}

/// A forward pass of an ensemble that remembers the way back.
pub struct CriticPass {
    /// The values of all members: (members, B).
    pub q: Tensor,
    passes: Vec<Pass>,
    counts: Vec<i64>,
}

impl CriticPass {
    /// Of a scalar whose gradient with respect to `q` is `d_q` (members, B): the
    /// gradient with respect to all parameters, as one vector.
    pub fn parameter_gradient(self, d_q: &Tensor) -> Tensor {
        let flat = Tensor::empty([self.counts.iter().sum::<i64>()], (d_q.kind(), d_q.device()));
        let mut offset = 0;
        let parts: Vec<Tensor> = self
            .counts
            .iter()
            .map(|count| {
                offset += count;
                flat.narrow(0, offset - count, *count)
            })
            .collect();
        let each = self.passes.into_iter().zip(parts).enumerate().map(|(i, (pass, part))| {
            let d = d_q.get(i as i64).unsqueeze(1);
            move || pass.back(&d, None, Some(part))
        });
        pool::run(each.collect());
        flat
    }

    /// The same with respect to some columns of the input: (B, columns), the sum over
    /// the members.
    pub fn input_gradient(self, d_q: &Tensor, columns: Range<usize>) -> Tensor {
        let each = self.passes.into_iter().enumerate().map(|(i, pass)| {
            let d = d_q.get(i as i64).unsqueeze(1);
            let columns = columns.clone();
            move || pass.back(&d, Some(columns), None).expect("the input's gradient")
        });
        let parts = pool::run(each.collect());
        parts.into_iter().reduce(|sum, part| sum + part).expect("an ensemble has members")
    }
}

/// Columns (B, 1) -> (members, B).
fn beside_each_other(q: &[Tensor]) -> Tensor {
    Tensor::cat(q, 0).view([q.len() as i64, -1])
}

fn member(
    config: &CriticsConfig,
    name: &str,
    inputs: i64,
    params: &mut ParamsBuilder,
    stats: &mut ParamsBuilder,
    rng: &mut impl Rng,
) -> Mlp {
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
    Mlp(Arc::new(Layout { input_norm, blocks, heads, activation: Activation::Relu }))
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn members_start_apart_and_answer_one_value_per_row() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let q = critics.forward(params.frozen(), &obs, &action);
            assert_eq!(q.size(), [2, 16]);
            assert!((q.get(0) - q.get(1)).abs().max().double_value(&[]) > 1e-3, "{kind:?}");
        }
    }

    #[test]
    fn the_slope_is_that_of_the_joined_value_by_central_differences() {
        for kind in KINDS {
            for aggregate in [Aggregate::Min, Aggregate::Mean, Aggregate::First] {
                let (critics, params, obs, action) = ensemble(kind);
                let p = params.frozen();
                let (value, slope) = critics.value_and_slope(p, &obs, &action, aggregate);
                let at = |action: &Tensor| aggregate.join(&critics.forward(p, &obs, action));
                assert!(value.allclose(&at(&action), 1e-5, 1e-6, false));
                let direction = action.ones_like();
                let differences = (at(&(&action + 1e-3)) - at(&(&action - 1e-3))) / 2e-3;
                let along = (slope * direction).sum_dim_intlist(&[1i64][..], false, None);
                // A ReLU or the smaller member may change within the step.
                let error = (along - differences).abs().median().double_value(&[]);
                assert!(error < 1e-3, "{kind:?} {aggregate:?}: {error}");
            }
        }
    }

    #[test]
    fn only_the_batch_mode_of_crossq_moves_its_statistics() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let before = critics.stats().flat().copy();
            let _ = critics.forward(params.frozen(), &obs, &action);
            let input = Tensor::cat(&[obs, action], 1);
            let _ = critics.pass(params.frozen(), &input, NormMode::Running);
            assert_eq!(critics.stats().flat(), &before);
            let _ = critics.pass(params.frozen(), &input, NormMode::Batch(None));
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

    /// Output, both gradients and running statistics, by both ways.
    fn compare_passes(kind: CriticKind, mode: NormMode, rows: i64) {
        if rows == 1 && mode != NormMode::Running {
            return; // one row has no variance
        }
        let (critics, params, ..) = ensemble(kind);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(12);
        let input = crate::normal(&mut rng, &[rows, 8], Device::Cpu) * 2.0 + 0.5;
        let d = crate::normal(&mut rng, &[rows, 1], Device::Cpu);
        // As of a minimum over an ensemble: some rows have no gradient.
        let d = &d * d.gt(-0.3);
        let (member, count) = (&critics.members[0], critics.counts[0]);
        let start = critics.stats().flat().copy();
        let run = |explicit: bool, wanted: Option<Range<usize>>| {
            critics.stats().flat().shallow_clone().copy_(&start);
            let stats = critics.stats().frozen();
            let pass = match explicit {
                true => member.pass(params.frozen(), stats, &input, mode),
                false => member.pass_by_operations(params.frozen(), stats, &input, mode),
            };
            let output = pass.output.shallow_clone();
            let flat = Tensor::zeros([count], (Kind::Float, Device::Cpu));
            let into = wanted.is_none().then(|| flat.shallow_clone());
            let gradient = pass.back(&d, wanted.clone(), into).unwrap_or(flat);
            [output, gradient, critics.stats().flat().copy()]
        };
        for wanted in [None, Some(0..8), Some(5..8)] {
            let pairs = run(true, wanted.clone()).into_iter().zip(run(false, wanted));
            for (name, (ours, theirs)) in ["output", "gradient", "statistics"].iter().zip(pairs) {
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
