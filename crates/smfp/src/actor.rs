//! The actor: the objective (4) for a given value function.

use crate::config::{EntropyMode, SmfpConfig, Squash};
use crate::entropy::{penalty, scalar, scheduled_alpha, surrogate, target_entropy};
use crate::mirror;
use crate::noise::{ActorNoise, MirrorNoise};
use crate::policy::{Draw, Policy};
use agent::{Metrics, Random, Scale, Temperature, Value};
use networks::{Adam, Counter, Params, merge_state};
use tch::{Device, Kind, Tensor};

/// A Stochastic MeanFlow Policy and its update for any value Q(s, a): the critics of
/// [`Smfp`](crate::Smfp), or a known function.
pub struct SmfpActor {
    config: SmfpConfig,
    policy: Policy,
    params: Params,
    /// The lagged policy, pi_old of equation (3).
    lagged: Params,
    adam: Adam,
    /// Learned alpha of `entropy.mode = "soft"`.
    temperature: Option<Temperature>,
    scale: Scale,
    updates: Counter,
}

impl SmfpActor {
    /// Draws the network for the given sizes. The configuration must be valid; its `[critic]` is
    /// not used.
    pub fn new(
        config: &SmfpConfig,
        obs_dim: i64,
        act_dim: i64,
        device: Device,
        rng: &mut Random,
    ) -> Self {
        let (policy, params) = Policy::new(config, obs_dim, act_dim, Kind::Float, device, rng);
        let temperature = config.soft().then(|| {
            Temperature::new(config.entropy.alpha, config.entropy.alpha_learning_rate, device)
        });
        Self {
            config: config.clone(),
            policy,
            lagged: params.duplicate(),
            adam: Adam::new(config.actor.adam(), &params),
            params,
            temperature,
            scale: Scale::new(&config.objective, device),
            updates: Counter::default(),
        }
    }

    /// The policy's architecture and parameters.
    pub fn policy(&self) -> (&Policy, &Params) {
        (&self.policy, &self.params)
    }

    /// Adds the observations (B, obs) of a minibatch to the statistics that normalise them.
    pub fn observe(&mut self, obs: &Tensor) {
        self.policy.observe(obs);
    }

    /// alpha, the entropy's weight: (1).
    pub(crate) fn alpha(&self) -> Tensor {
        match &self.temperature {
            Some(temperature) => temperature.alpha(),
            None => {
                let updates = self.updates.get();
                scalar(scheduled_alpha(&self.config.entropy, updates), self.params.flat())
            }
        }
    }

    /// One step on equation (4) in some states (B, obs), with the replay's actions
    /// there (B, act).
    pub fn update(
        &mut self,
        obs: &Tensor,
        replay_action: &Tensor,
        noise: &ActorNoise,
        value: &Value,
    ) -> Metrics {
        let config = &self.config;
        let p = self.params.trainable();
        let ActorNoise { z, xi, mirror } = noise;
        // The actions of a state share their latents: the estimate of log pi needs no others.
        let actions = config.actions_per_state();
        let states = xi.size()[0] / actions;
        let draw = self.policy.draw_semi_implicit(p, &obs.narrow(0, 0, states), z, xi);
        let of_actions = |each: &Tensor| match actions {
            1 => each.shallow_clone(),
            _ => each.narrow(0, 0, states).repeat([actions, 1]),
        };
        let at = of_actions(obs);

        let q = value(&at, &draw.action);
        let mirror = mirror.as_ref().map(|noise| self.mirror(obs, replay_action, noise, value));
        self.scale.update(value, &at, &of_actions(replay_action), &q.detach());
        let alpha = self.alpha();
        let mut loss = penalty(&config.entropy, &alpha, &draw);
        if !config.mirror.only {
            loss -= self.in_units_of_the_loss(&q.mean(Kind::Float));
        }
        if config.policy.squash == Squash::Clip && config.policy.bound_penalty > 0.0 {
            let beyond = (draw.mean.abs() - 1.0).relu().mean(Kind::Float);
            loss += beyond * config.policy.bound_penalty;
        }
        if let Some(mirror) = &mirror {
            let weighted = mirror * config.objective.lambda;
            // In mode "soft" Q is not divided by S, which multiplies lambda instead.
            loss += if config.soft() { weighted * self.scale.get() } else { weighted };
        }

        let gradient = self.params.gradient(&loss);
        self.adam.step(&mut self.params, &gradient);
        if self.config.uses_mirror() {
            self.lagged.polyak(&self.params, self.config.mirror.policy_tau);
        }
        let entropy = self.measured_entropy(&draw);
        if let Some(temperature) = &mut self.temperature {
            let target = target_entropy(self.config.entropy.sigma_target, self.policy.act_dim());
            temperature.update(&entropy, target);
        }
        self.updates.increment();

        let mut metrics = Metrics::from([("actor_loss", &loss), ("grad_norm", &gradient.norm())]);
        if let Some(mirror) = &mirror {
            metrics.record("mirror_loss", mirror);
        }
        if self.policy.stochastic() {
            metrics.record("entropy", &entropy);
        }
        if self.config.entropy.mode != EntropyMode::None {
            metrics.record("alpha", &alpha);
        }
        metrics
    }

    /// A mean of Q in the units of the actor's loss: Q / S, in mode "soft" Q itself.
    fn in_units_of_the_loss(&self, q: &Tensor) -> Tensor {
        if self.config.soft() { q.shallow_clone() } else { q / self.scale.get() }
    }

    /// The entropy that is reported and that alpha is learned by: a scalar.
    fn measured_entropy(&self, draw: &Draw) -> Tensor {
        let squashed = self.config.policy.squash == Squash::Tanh;
        if squashed || self.config.entropy.latents > 0 {
            -draw.log_prob.detach().mean(Kind::Float)
        } else {
            surrogate(&draw.log_std.detach())
        }
    }

    /// L_mirror in the first B_m states: a scalar.
    fn mirror(&self, obs: &Tensor, replay: &Tensor, noise: &MirrorNoise, value: &Value) -> Tensor {
        let config = &self.config;
        let rows = config.mirror_rows(obs.size()[0]);
        let (obs, replay) = (obs.narrow(0, 0, rows), replay.narrow(0, 0, rows));
        let lagged = self.lagged.frozen();
        let (action, weight) =
            mirror::regression(&config.mirror, &self.policy, lagged, value, &obs, &replay, noise);
        let target = mirror::mean_flow_target(
            &config.mirror,
            config.entropy.sigma_target,
            &self.policy,
            self.params.frozen(),
            &obs,
            &self.policy.unsquash(&action),
            noise,
        );
        let error = mirror::error(&self.policy, self.params.trainable(), &obs, &target);
        mirror::loss(&error, &weight)
    }

    /// The state by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.params.named("actor"),
            self.lagged.named("actor_lagged"),
            self.adam.named("actor_adam"),
            self.temperature.as_ref().map(Temperature::state).unwrap_or_default(),
            self.scale.state(),
            self.policy.state(),
            vec![("actor_updates".to_string(), self.updates.tensor())],
        ])
    }
}
