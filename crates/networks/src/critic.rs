//! Ensembles of action-value networks.

use crate::mlp::Linear;
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::params::{Params, ParamsBuilder};
use crate::pool::Pool;
use rand::Rng;
use serde::{Deserialize, Serialize};
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
}

impl Aggregate {
    /// q (members, B) -> (B).
    pub fn join(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => q.min_dim(0, false).0,
            Self::Mean => q.mean_dim(&[0i64][..], false, q.kind()),
        }
    }

    /// The derivative of the joined value with respect to each member's:
    /// q (members, B) -> (members, B).
    fn shares(self, q: &Tensor) -> Tensor {
        match self {
            Self::Min => {
                let smallest = q.argmin(0, true);
                q.zeros_like().scatter_value(0, &smallest, 1.0)
            }
            Self::Mean => q.ones_like() / q.size()[0] as f64,
        }
    }
}

enum Norm {
    None,
    Layer(LayerNorm),
    Batch(BatchNorm),
}

struct Member {
    input: Option<BatchNorm>,
    hidden: Vec<(Linear, Norm)>,
    head: Linear,
}

/// An ensemble of Q(s, a): where its tensors lie, and its running statistics.
pub struct Critics {
    members: Vec<Member>,
    /// Where each member's tensors end in the list of parameters.
    ends: Vec<usize>,
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
        let (members, ends) = (0..config.members)
            .map(|i| {
                let inputs = obs_dim + act_dim;
                let name = i.to_string();
                let member = member(config, &name, inputs, &mut params, &mut stats, rng);
                (member, params.len())
            })
            .unzip();
        let critics = Self { members, ends, stats: stats.build(Kind::Float, device) };
        (critics, params.build(Kind::Float, device))
    }

    /// The values of all members: (B, obs) and (B, act) -> (members, B), the
    /// members beside each other on the pool's threads.
    ///
    /// In `NormMode::Batch` the running statistics move.
    pub fn forward(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        mode: NormMode,
        pool: &Pool,
    ) -> Tensor {
        let values = self.forward_each(p, &Tensor::cat(&[obs, action], 1), mode, pool);
        Tensor::cat(&values, 1).transpose(0, 1)
    }

    /// One value per row, joined over the members, and its derivative with
    /// respect to the action: (B) and (B, act), outside the graph.
    ///
    /// Each member is differentiated on its own, so that no sum of gradients
    /// depends on which thread was first.
    pub fn value_and_slope(
        &self,
        p: &[Tensor],
        obs: &Tensor,
        action: &Tensor,
        aggregate: Aggregate,
        pool: &Pool,
    ) -> (Tensor, Tensor) {
        let forward = self.members.iter().map(|member| {
            let (p, stats) = (handles(p), handles(self.stats.frozen()));
            let (obs, action) = (obs.shallow_clone(), action.detach().set_requires_grad(true));
            move || {
                let input = Tensor::cat(&[&obs, &action], 1);
                let q = value(member, &p, &stats, &input, NormMode::Running);
                (action, q)
            }
        });
        let (leaves, values): (Vec<Tensor>, Vec<Tensor>) =
            pool.run(forward.collect()).into_iter().unzip();
        let q = Tensor::cat(&values, 1).detach().transpose(0, 1);
        let shares = aggregate.shares(&q);
        let backward = leaves.into_iter().zip(values).enumerate().map(|(i, (leaf, value))| {
            let share = shares.get(i as i64).unsqueeze(1);
            move || {
                Tensor::run_backward(&[(value * share).sum(None)], &[leaf], false, false).remove(0)
            }
        });
        let slopes = pool.run(backward.collect());
        (aggregate.join(&q), Tensor::stack(&slopes, 0).sum_dim_intlist(&[0i64][..], false, None))
    }

    /// [`forward`](Self::forward) from rows [s, a], one tensor (B, 1) for each member: their
    /// graphs share nothing but the input.
    pub fn forward_each(
        &self,
        p: &[Tensor],
        input: &Tensor,
        mode: NormMode,
        pool: &Pool,
    ) -> Vec<Tensor> {
        // Whether a graph is built is a state of each thread.
        let graph = input.requires_grad() || p.iter().any(Tensor::requires_grad);
        let jobs = self
            .members
            .iter()
            .map(|member| {
                // Handles can move to another thread, but not be shared with it.
                let (p, stats) = (handles(p), handles(self.stats.frozen()));
                let input = input.shallow_clone();
                move || {
                    let _guard = (!graph).then(tch::no_grad_guard);
                    value(member, &p, &stats, &input, mode)
                }
            })
            .collect();
        pool.run(jobs)
    }

    /// Where each member's tensors end in the list of parameters, as
    /// [`Params::gradient_of_parts`] wants it.
    pub fn ends(&self) -> &[usize] {
        &self.ends
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

fn handles(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

fn value(
    member: &Member,
    p: &[Tensor],
    stats: &[Tensor],
    input: &Tensor,
    mode: NormMode,
) -> Tensor {
    let mut h = match &member.input {
        Some(norm) => norm.forward(p, stats, input, mode),
        None => input.shallow_clone(),
    };
    for (linear, norm) in &member.hidden {
        let y = linear.forward(p, &h);
        h = match norm {
            Norm::None => y.relu(),
            Norm::Layer(norm) => norm.forward(p, &y).relu(),
            Norm::Batch(norm) => norm.forward(p, stats, &y.relu(), mode),
        };
    }
    member.head.forward(p, &h)
}

fn member(
    config: &CriticsConfig,
    name: &str,
    inputs: i64,
    params: &mut ParamsBuilder,
    stats: &mut ParamsBuilder,
    rng: &mut impl Rng,
) -> Member {
    let crossq = config.kind == CriticKind::CrossQ;
    let mut batch_norm = |params: &mut ParamsBuilder, at: &str, features| {
        BatchNorm::new(params, stats, &format!("{name}.{at}"), features, config.norm_momentum)
    };
    let input = crossq.then(|| batch_norm(params, "norm_in", inputs));
    let hidden = (0..config.depth)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { config.width };
            let linear = Linear::new(params, &format!("{name}.{i}"), inputs, config.width, rng);
            let norm = match config.kind {
                CriticKind::Mlp => Norm::None,
                CriticKind::LayerNorm => {
                    Norm::Layer(LayerNorm::new(params, &format!("{name}.norm_{i}"), config.width))
                }
                CriticKind::CrossQ => {
                    Norm::Batch(batch_norm(params, &format!("norm_{i}"), config.width))
                }
            };
            (linear, norm)
        })
        .collect();
    let head = Linear::new(params, &format!("{name}.head"), config.width, 1, rng);
    Member { input, hidden, head }
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
            let q =
                critics.forward(params.frozen(), &obs, &action, NormMode::Running, &Pool::new(1));
            assert_eq!(q.size(), [2, 16]);
            assert!((q.get(0) - q.get(1)).abs().max().double_value(&[]) > 1e-3, "{kind:?}");
        }
    }

    #[test]
    fn a_frozen_critic_passes_gradients_to_the_action_and_needs_none_itself() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let action = action.set_requires_grad(true);
            let q =
                critics.forward(params.frozen(), &obs, &action, NormMode::Running, &Pool::new(1));
            let loss = Aggregate::Min.join(&q).sum(Kind::Float);
            let grads = Tensor::run_backward(&[&loss], &[&action], false, false);
            assert!(grads[0].abs().sum(Kind::Float).double_value(&[]) > 0.0);
            assert!(params.frozen().iter().all(|tensor| !tensor.requires_grad()));
        }
    }

    #[test]
    fn only_the_batch_mode_of_crossq_moves_its_statistics() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let before = critics.stats().flat().copy();
            let _ =
                critics.forward(params.frozen(), &obs, &action, NormMode::Running, &Pool::new(1));
            assert_eq!(critics.stats().flat(), &before);
            let _ = critics.forward(
                params.frozen(),
                &obs,
                &action,
                NormMode::Batch(None),
                &Pool::new(1),
            );
            let moved = critics.stats().flat() != &before;
            assert_eq!(moved, kind == CriticKind::CrossQ, "{kind:?}");
        }
    }
}
