//! The actor: the unified objective (4) against a value that is given.

use crate::config::{EntropyEstimate, EntropyMode, Improvement, QScale, SmfpConfig, Squash};
use crate::entropy::{penalty, scalar, scheduled_alpha, semi_implicit_log_prob, surrogate, target};
use crate::mirror;
use crate::noise::{ActorNoise, MirrorNoise};
use crate::policy::{Draw, Policy};
use agent::{Measured, Random, Temperature, Value};
use networks::{Adam, AdamConfig, Counter, Params, merge_state};
use tch::{Device, Kind, Tensor};

/// Smallest value of the running scale of Q.
const MIN_SCALE: f64 = 1e-6;

/// A Stochastic MeanFlow Policy that learns from whatever tells it Q(s, a): the
/// critics of [`Smfp`](crate::Smfp), or a function that is known.
pub struct SmfpActor {
    config: SmfpConfig,
    policy: Policy,
    params: Params,
    /// The lagged policy, pi_old of equation (3).
    lagged: Params,
    adam: Adam,
    /// Learned alpha of `entropy.mode = "dual"`.
    temperature: Option<Temperature>,
    /// S, the running scale of Q: (1); negative before its first value.
    scale: Tensor,
    updates: Counter,
}

impl SmfpConfig {
    /// Whether the mirror term is part of the objective.
    pub fn uses_mirror(&self) -> bool {
        self.objective.improvement != Improvement::Pathwise && self.objective.lambda > 0.0
    }

    /// States of a batch that take part in the mirror term.
    pub fn mirror_rows(&self, batch: i64) -> i64 {
        ((batch as f64 * self.mirror.batch_share).round() as i64).clamp(1, batch)
    }
}

impl SmfpActor {
    /// Draws the network for the given sizes. The configuration must be valid; its
    /// `[critic]` is not used.
    pub fn new(
        config: &SmfpConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, params) =
            Policy::new(&config.actor, &config.entropy, obs_dim, act_dim, Kind::Float, device, rng);
        let learning_rate = config.actor.learning_rate;
        let adam = AdamConfig { learning_rate, beta1: 0.9, beta2: 0.999 };
        let temperature = (config.entropy.mode == EntropyMode::Dual).then(|| {
            Temperature::new(config.entropy.alpha, config.entropy.alpha_learning_rate, device)
        });
        let unscaled = config.objective.q_scale == QScale::None;
        let initial_scale = if unscaled { 1.0 } else { -1.0 };
        Self {
            config: config.clone(),
            policy,
            lagged: params.duplicate(),
            adam: Adam::new(adam, &params),
            params,
            temperature,
            scale: Tensor::full([1], initial_scale, (Kind::Float, device)),
            updates: Counter::default(),
        }
    }

    /// The policy's architecture and parameters.
    pub fn policy(&self) -> (&Policy, &Params) {
        (&self.policy, &self.params)
    }

    /// S, the running scale of Q: (1), zero before its first value.
    pub(crate) fn scale(&self) -> Tensor {
        self.scale.clamp_min(0.0)
    }

    /// alpha, the entropy's weight: (1).
    pub(crate) fn alpha(&self) -> Tensor {
        match &self.temperature {
            Some(temperature) => temperature.alpha(),
            None => {
                let updates = self.updates.get();
                scalar(scheduled_alpha(&self.config.entropy, updates), &self.scale)
            }
        }
    }

    /// One step on equation (4) in some states (B, obs), with the replay's actions
    /// there (B, act).
    pub fn update(
        &mut self,
        obs: &Tensor,
        replay: &Tensor,
        noise: &ActorNoise,
        value: &Value,
    ) -> Measured {
        let config = &self.config;
        let p = self.params.trainable();
        let (draw, log_prob) = self.draw_with_log_prob(p, obs, noise);

        let q = value(obs, &draw.action);
        self.scale = self.next_scale(obs, replay, &q.detach(), value);
        let alpha = self.alpha();
        let mut loss = penalty(&config.entropy, &alpha, &draw, &log_prob);
        if config.objective.improvement != Improvement::Mirror {
            let scale = match config.objective.q_scale {
                QScale::None => self.scale.ones_like(),
                _ => self.scale.clamp_min(MIN_SCALE),
            };
            loss -= q.mean(Kind::Float) / scale;
        }
        if config.actor.squash == Squash::Clip && config.objective.bound_penalty > 0.0 {
            let beyond = (draw.mean.abs() - 1.0).relu().mean(Kind::Float);
            loss += beyond * config.objective.bound_penalty;
        }
        let mirror = noise.mirror.as_ref().map(|noise| self.mirror_loss(obs, replay, noise, value));
        if let Some(mirror) = &mirror {
            loss += mirror * config.objective.lambda;
        }

        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        self.lagged.polyak(&self.params, self.config.mirror.policy_tau);
        let entropy = self.measured_entropy(&draw, &log_prob);
        if let Some(temperature) = &mut self.temperature {
            let wanted = target(self.config.entropy.sigma_target, self.policy.act_dim());
            temperature.update(&entropy, wanted);
        }
        self.updates.raise();

        Measured {
            actor_loss: Some(loss.detach()),
            mirror_loss: mirror.map(|loss| loss.detach()),
            entropy: self.policy.stochastic().then_some(entropy),
            alpha: (self.config.entropy.mode != EntropyMode::None).then_some(alpha),
            grad_norm: Some(gradient.norm()),
            ..Measured::default()
        }
    }

    /// Actions for every state, with log pi(a|s) by the configured estimate.
    fn draw_with_log_prob(&self, p: &[Tensor], obs: &Tensor, noise: &ActorNoise) -> (Draw, Tensor) {
        let Some(latents) = &noise.latents else {
            let draw = self.policy.draw(p, obs, &noise.z, Some(&noise.xi));
            let log_prob = draw.log_prob.shallow_clone();
            return (draw, log_prob);
        };
        // The action's own latent and the fresh ones share one pass.
        let (batch, act_dim) = (obs.size()[0], self.policy.act_dim());
        let all = Tensor::cat(&[&noise.z, latents], 0);
        let count = all.size()[0] / batch;
        let (means, log_stds) = self.policy.one_step(p, &obs.repeat([count, 1]), &all);
        let (means, log_stds) =
            (means.view([count, batch, act_dim]), log_stds.view([count, batch, act_dim]));
        let draw = self.policy.finish(means.get(0), log_stds.get(0), Some(&noise.xi));
        let log_prob = semi_implicit_log_prob(&self.policy, &draw.raw, &means, &log_stds);
        (draw, log_prob)
    }

    /// The entropy that is reported and that the dual step reads: a scalar.
    fn measured_entropy(&self, draw: &Draw, log_prob: &Tensor) -> Tensor {
        let squashed = self.config.actor.squash == Squash::Tanh;
        if squashed || self.config.entropy.estimate == EntropyEstimate::SemiImplicit {
            -log_prob.detach().mean(Kind::Float)
        } else {
            surrogate(&draw.log_std.detach())
        }
    }

    /// S after this batch. `q` is the value of the policy's actions; with the
    /// replay's actions beside them, A = Q(s, b) - Q(s, a) is a one-sample
    /// advantage.
    fn next_scale(&self, obs: &Tensor, replay: &Tensor, q: &Tensor, value: &Value) -> Tensor {
        let _guard = tch::no_grad_guard();
        let now = match self.config.objective.q_scale {
            QScale::AdvantageStd => (value(obs, replay) - q).std(false).reshape([1]),
            QScale::MeanAbsQ => q.abs().mean(Kind::Float).reshape([1]),
            QScale::None => return self.scale.ones_like(),
        };
        let decay = self.config.objective.q_scale_decay;
        let first = self.scale.lt(0.0);
        let next = &self.scale * decay + &now * (1.0 - decay);
        now.where_self(&first, &next)
    }

    fn mirror_loss(
        &self,
        obs: &Tensor,
        replay: &Tensor,
        noise: &MirrorNoise,
        value: &Value,
    ) -> Tensor {
        let config = &self.config;
        let rows = config.mirror_rows(obs.size()[0]);
        let (obs, replay) = (obs.narrow(0, 0, rows), replay.narrow(0, 0, rows));
        let lagged = self.lagged.frozen();
        let regression =
            mirror::regression(&config.mirror, &self.policy, lagged, value, &obs, &replay, noise);
        let target = mirror::mean_flow_target(
            &config.mirror,
            config.entropy.sigma_target,
            &self.policy,
            self.params.frozen(),
            &obs,
            &self.policy.unsquash(&regression.action),
            noise,
        );
        let p = self.params.trainable();
        mirror::loss(&config.mirror, &self.policy, p, &obs, &target, &regression.weight)
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.params.named("actor"),
            self.lagged.named("actor_lagged"),
            self.adam.named("actor_adam"),
            self.temperature.as_ref().map(Temperature::state).unwrap_or_default(),
            vec![
                ("q_scale".to_string(), self.scale.shallow_clone()),
                ("actor_updates".to_string(), self.updates.tensor()),
            ],
        ])
    }
}
