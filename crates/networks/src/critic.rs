//! Ensembles of action-value networks.

use crate::mlp::Linear;
use crate::norm::{BatchNorm, LayerNorm, NormMode};
use crate::params::{Params, ParamsBuilder};
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
                let inputs = obs_dim + act_dim;
                member(config, &format!("{i}"), inputs, &mut params, &mut stats, rng)
            })
            .collect();
        let critics = Self { members, stats: stats.build(Kind::Float, device) };
        (critics, params.build(Kind::Float, device))
    }

    /// The values of all members: (B, obs) and (B, act) -> (members, B).
    ///
    /// In `NormMode::Batch` the running statistics move.
    pub fn forward(&self, p: &[Tensor], obs: &Tensor, action: &Tensor, mode: NormMode) -> Tensor {
        let input = Tensor::cat(&[obs, action], 1);
        let values: Vec<Tensor> =
            self.members.iter().map(|member| self.value(member, p, &input, mode)).collect();
        Tensor::cat(&values, 1).transpose(0, 1)
    }

    fn value(&self, member: &Member, p: &[Tensor], input: &Tensor, mode: NormMode) -> Tensor {
        let stats = self.stats.frozen();
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

    /// The running statistics of batch normalisation (none for other kinds).
    pub fn stats(&self) -> &Params {
        &self.stats
    }

    /// The running statistics, to load them.
    pub fn stats_mut(&mut self) -> &mut Params {
        &mut self.stats
    }
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
            let q = critics.forward(params.frozen(), &obs, &action, NormMode::Running);
            assert_eq!(q.size(), [2, 16]);
            assert!((q.get(0) - q.get(1)).abs().max().double_value(&[]) > 1e-3, "{kind:?}");
        }
    }

    #[test]
    fn a_frozen_critic_passes_gradients_to_the_action_and_needs_none_itself() {
        for kind in KINDS {
            let (critics, params, obs, action) = ensemble(kind);
            let action = action.set_requires_grad(true);
            let q = critics.forward(params.frozen(), &obs, &action, NormMode::Running);
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
            let _ = critics.forward(params.frozen(), &obs, &action, NormMode::Running);
            assert_eq!(critics.stats().flat(), &before);
            let _ = critics.forward(params.frozen(), &obs, &action, NormMode::Batch(None));
            let moved = critics.stats().flat() != &before;
            assert_eq!(moved, kind == CriticKind::CrossQ, "{kind:?}");
        }
    }
}
