//! The agent: the actor with its critics.

use crate::actor::SmfpActor;
use crate::config::{EvalLatent, SmfpConfig};
use crate::noise::UpdateNoise;
use crate::policy::{Draw, Policy};
use agent::candidates::{best_of, repeat_rows, take};
use agent::{ActMode, Agent, Batch, CriticLearner, Metrics, Noise, Random};
use networks::{Params, merge_state, normal};
use tch::{Device, Kind, Tensor};

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

    /// Which of K stochastic proposals per state is the best by `value`, as rows of the proposals (B),
    /// and all of these (B K, act). The noise is (B K, act).
    fn best_proposals(
        &self,
        obs: &Tensor,
        z: &Tensor,
        xi: &Tensor,
        value: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let k = z.size()[0] / obs.size()[0];
        let rows = repeat_rows(obs, k);
        let (policy, params) = self.policy();
        let actions = policy.action(params.frozen(), &rows, z, xi);
        (best_of(&value(&rows, &actions), k), actions)
    }

    /// The next actions of the critics' target, with log pi as the configuration has it.
    fn next(&self, obs: &Tensor, noise: &UpdateNoise) -> Draw {
        let (mut z, mut xi) = (noise.next_z.shallow_clone(), noise.next_xi.shallow_clone());
        if self.config.candidates.target > 1 {
            // The chosen are drawn once more: the K need no densities.
            let value = |obs: &Tensor, action: &Tensor| self.critic.target_value(obs, action);
            let (best, _) = self.best_proposals(obs, &z, &xi, value);
            (z, xi) = (take(&z, &best), take(&xi, &best));
        }
        if let Some(latents) = &noise.next_latents {
            z = Tensor::cat(&[&z, latents], 0);
        }
        let (policy, params) = self.policy();
        policy.draw_semi_implicit(params.frozen(), obs, &z, &xi)
    }

    /// One step of the critics on equation (6).
    fn update_critics(&mut self, batch: &Batch, noise: &UpdateNoise) -> Metrics {
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let next = self.next(&batch.next_obs, noise);
            let bonus = self.config.soft().then(|| -next.log_prob * self.actor.alpha());
            (next.action, bonus)
        };
        self.critic.update(batch, &next_action, bonus.as_ref())
    }

    /// One update with the given noise: the critics, and the actor if there is noise for it.
    pub fn update_with(&mut self, batch: &Batch, noise: &UpdateNoise) -> Metrics {
        self.actor.observe(&batch.obs);
        let mut metrics = self.update_critics(batch, noise);
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
        let shape = [obs.size()[0] * k, self.act_dim()];
        let (policy, params) = self.policy();
        if !matches!(mode, ActMode::Deterministic | ActMode::Mean) {
            let (z, xi) = (normal(rng, &shape, self.device), normal(rng, &shape, self.device));
            return match k {
                1 => policy.action(params.frozen(), obs, &z, &xi),
                _ => {
                    let value = |obs: &Tensor, action: &Tensor| self.critic.value(obs, action);
                    let (best, actions) = self.best_proposals(obs, &z, &xi, value);
                    take(&actions, &best)
                }
            };
        }
        let zero = mode == ActMode::Mean || self.config.policy.eval_latent == EvalLatent::Zero;
        let z = match zero {
            false => normal(rng, &shape, self.device),
            true => Tensor::zeros(shape, (Kind::Float, self.device)),
        };
        policy.draw(params.frozen(), obs, &z, None).action
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        Box::new(UpdateNoise::draw(&self.config, rows, self.act_dim(), with_actor, rng))
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        self.critic.branches()
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.config.actor.due(self.critic.updates())
    }

    fn graph(&self) -> policy::Graph {
        let (policy, params) = self.policy();
        policy.graph(params.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.actor.state(), self.critic.state()])
    }
}
