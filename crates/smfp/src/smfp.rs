//! The agent: the unified objective (4) and one update.

use crate::actor::SmfpActor;
use crate::config::{SmfpConfig, TargetEntropy};
use crate::entropy::target;
use crate::noise::UpdateNoise;
use crate::policy::{Draw, Policy};
use agent::candidates::{best_of, repeat_rows, take};
use agent::{ActMode, Agent, Batch, CriticLearner, Metrics, Random};
use networks::{Params, merge_state, normal};
use tch::{Device, Tensor};

/// A Stochastic MeanFlow Policy with its critics.
pub struct Smfp {
    config: SmfpConfig,
    actor: SmfpActor,
    critic: CriticLearner,
    device: Device,
}

impl Smfp {
    /// Draws networks for the given sizes. The configuration must be valid.
    pub fn new(
        config: &SmfpConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let actor = SmfpActor::new(config, obs_dim, act_dim, device, rng);
        let critic = CriticLearner::new(&config.critic, obs_dim, act_dim, device, rng);
        Self { config: config.clone(), actor, critic, device }
    }

    /// The policy's architecture and parameters.
    pub fn policy(&self) -> (&Policy, &Params) {
        self.actor.policy()
    }

    /// The best of K stochastic proposals per state under the critics, or
    /// under their targets. The noise is (B K, act).
    fn propose(&self, obs: &Tensor, z: &Tensor, xi: &Tensor, under_target: bool) -> Draw {
        let k = z.size()[0] / obs.size()[0];
        let rows = repeat_rows(obs, k);
        let (policy, params) = self.policy();
        let draw = policy.draw(params.frozen(), &rows, z, Some(xi));
        if k == 1 {
            return draw;
        }
        let q = if under_target {
            self.critic.target_value(&rows, &draw.action)
        } else {
            self.critic.value(&rows, &draw.action)
        };
        let best = best_of(&q, k);
        let pick = |tensor: &Tensor| take(tensor, &best);
        Draw {
            action: pick(&draw.action),
            mean: pick(&draw.mean),
            raw: pick(&draw.raw),
            log_std: pick(&draw.log_std),
            log_prob: pick(&draw.log_prob),
        }
    }

    /// One step of the critics on equation (6).
    fn update_critics(&mut self, batch: &Batch, z: &Tensor, xi: &Tensor) -> Metrics {
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let next = self.propose(&batch.next_obs, z, xi, true);
            let target = match self.config.entropy.in_target {
                TargetEntropy::None => None,
                TargetEntropy::Plain => Some(0.0),
                TargetEntropy::Centred => {
                    Some(target(self.config.entropy.sigma_target, self.act_dim()))
                }
            };
            // alpha weighs the entropy against Q / S; Bellman's equation has Q.
            let bonus = target
                .map(|target| (-&next.log_prob - target) * self.actor.alpha() * self.actor.scale());
            (next.action, bonus)
        };
        self.critic.update(batch, &next_action, bonus.as_ref())
    }

    /// One update with the given noise: the critics, and the actor where there
    /// is noise for it.
    pub fn update_with(&mut self, batch: &Batch, noise: &UpdateNoise) -> Metrics {
        let mut metrics = self.update_critics(batch, &noise.next_z, &noise.next_xi);
        if let Some(noise) = &noise.actor {
            let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
            metrics.extend(self.actor.update(&batch.obs, &batch.action, noise, &value));
        }
        metrics
    }

    fn act_dim(&self) -> i64 {
        self.policy().0.act_dim()
    }
}

impl Agent for Smfp {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let k = mode.candidates(self.config.candidates.act);
        let (policy, params) = self.policy();
        let p = params.frozen();
        let shape = [obs.size()[0] * k, policy.act_dim()];
        let z = normal(rng, &shape, self.device);
        if mode == ActMode::Deterministic {
            return policy.draw(p, obs, &z, None).action;
        }
        let xi = normal(rng, &shape, self.device);
        if k == 1 {
            return policy.action(p, obs, &z, &xi);
        }
        self.propose(obs, &z, &xi, false).action
    }

    fn learn(&mut self, batch: &Batch, with_actor: bool, rng: &mut Random) -> Metrics {
        let (rows, act_dim) = (batch.len(), self.act_dim());
        let noise = UpdateNoise::draw(&self.config, rows, act_dim, with_actor, self.device, rng);
        self.update_with(batch, &noise)
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.actor.state(), self.critic.state()])
    }
}
