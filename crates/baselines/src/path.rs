//! Soft actor-critic for policies that draw an action in several steps, which SAC Flow and DIME
//! are: their agent, for any such policy.
//!
//! ```text
//! actor        min E [alpha log p - Q(s, a)]
//! target       y = r + gamma (1 - terminated) (Q(s', a') - alpha log p')
//! temperature  up while E [-log p] is below its target, down while it is above
//! ```
//!
//! This is SAC with log p of the whole path x_0, .., x_K of a draw in place of log pi(a | s), which
//! such a policy doesn't know. What log p is, and what E [-log p] has to do with the entropy of
//! the action, is up to the policy.

use agent::candidates::{repeat_rows, rows_of_share};
use agent::{
    ActMode, ActorConfig, Agent, Aggregate, Batch, CriticConfig, CriticLearner, DistributionConfig,
    Metrics, Noise, Random, Temperature, TemperatureConfig, Value,
};
use networks::{Adam, NormMode, Params, merge_state, normal};
use policy::Graph;
use tch::{Device, Kind, Tensor};

/// A policy whose draw is a path: x_0 and one noisy step after another. All methods take raw
/// observations (B, obs) and standard-normal noise (K + 1, B, act), of x_0 and of the K steps.
pub trait PathPolicy {
    /// Size of an action.
    fn act_dim(&self) -> i64;

    /// Steps K of a path, each a call of the network.
    fn steps(&self) -> i64;

    /// Draws actions with the log densities of their paths.
    fn draw(&self, p: &[Tensor], obs: &Tensor, noise: &Tensor, mode: NormMode) -> Path;

    /// How the network is called in an update of the actor, after some updates of the critics.
    fn training_mode(&self, _critic_updates: i64) -> NormMode {
        NormMode::Running
    }

    /// Whether a deterministic action has no noise but that of x_0.
    fn steps_without_noise(&self) -> bool;

    /// Adds the observations of a minibatch to the statistics that normalise them.
    fn observe(&mut self, obs: &Tensor);

    /// The policy as a graph. Noise that deterministic actions have is its latent, the rest its xi,
    /// both step by step.
    fn graph(&self, p: &[Tensor]) -> Graph;

    /// The state next to the parameters, by name.
    fn state(&self) -> Vec<(String, Tensor)>;
}

/// Draws of a policy.
pub struct Path {
    /// x_0, .., x_K before squashing: (B, act) each.
    pub states: Vec<Tensor>,
    /// tanh x_K: (B, act).
    pub action: Tensor,
    /// log p: (B).
    pub log_prob: Tensor,
}

/// The sections of a configuration that an agent has besides its policy's own.
pub struct PathConfig<'a> {
    /// The critics.
    pub critic: &'a CriticConfig,
    /// What they return, if not values.
    pub distribution: Option<&'a DistributionConfig>,
    /// The network's optimiser and delay.
    pub actor: &'a ActorConfig,
    /// The entropy's weight.
    pub temperature: &'a TemperatureConfig,
    /// What differs from SAC.
    pub objective: PathObjective,
}

/// What differs from SAC in an update.
#[derive(Debug, Clone, Copy)]
pub struct PathObjective {
    /// Share of the batch that the actor learns from.
    pub batch_share: f64,
    /// Each entry of the actor's gradient is clipped to +- this; infinity for none.
    pub gradient_clip: f64,
    /// How the critics' values become one for the actor.
    pub value: Aggregate,
}

impl PathObjective {
    /// SAC's own.
    pub const SAC: Self =
        Self { batch_share: 1.0, gradient_clip: f64::INFINITY, value: Aggregate::Min };
}

/// A policy, its temperature and their update for any value Q(s, a): the critics of
/// [`PathAgent`], or a known function.
pub struct PathActor {
    config: TemperatureConfig,
    objective: PathObjective,
    policy: Box<dyn PathPolicy>,
    params: Params,
    adam: Adam,
    temperature: Temperature,
}

/// A policy, its temperature and its critics.
pub struct PathAgent {
    actor: PathActor,
    actor_config: ActorConfig,
    critic: CriticLearner,
    device: Device,
}

/// Noise of one update: (K + 1, B, act) each.
pub struct PathNoise {
    /// Of the next actions in the target.
    pub next: Tensor,
    /// Of the actor's actions, where its update is due: in the first states of the batch, as many
    /// as there is noise for.
    pub actor: Option<Tensor>,
}

/// Noise of `rows` paths: (K + 1, B, act).
pub fn path_noise(policy: &dyn PathPolicy, rows: i64, device: Device, rng: &mut Random) -> Tensor {
    normal(rng, &[policy.steps() + 1, rows, policy.act_dim()], device)
}

impl Noise for PathNoise {
    fn tensors(&mut self) -> Vec<&mut Tensor> {
        std::iter::once(&mut self.next).chain(&mut self.actor).collect()
    }
}

impl PathActor {
    /// An actor for a policy and its parameters. The configuration must be valid; its critics are
    /// not used.
    pub fn new(config: &PathConfig, policy: Box<dyn PathPolicy>, params: Params) -> Self {
        Self {
            config: config.temperature.clone(),
            objective: config.objective,
            policy,
            adam: Adam::new(config.actor.adam(), &params),
            temperature: config.temperature.start(params.device()),
            params,
        }
    }

    /// The policy and its parameters.
    pub fn policy(&self) -> (&dyn PathPolicy, &Params) {
        (self.policy.as_ref(), &self.params)
    }

    /// One step on E [alpha log p - Q(s, a)] in some states (B, obs), then of the temperature.
    pub fn update(
        &mut self,
        obs: &Tensor,
        noise: &Tensor,
        mode: NormMode,
        value: &Value,
    ) -> Metrics {
        let alpha = self.temperature.alpha();
        let path = self.policy.draw(self.params.trainable(), obs, noise, mode);
        let q = value(obs, &path.action);
        let loss = (&alpha * &path.log_prob - q).mean(Kind::Float);
        let gradient = self.params.gradient(&loss);
        let clip = self.objective.gradient_clip;
        let clipped = if clip.is_finite() { &gradient.clamp(-clip, clip) } else { &gradient };
        self.adam.step(&mut self.params, clipped);
        let entropy = -path.log_prob.detach().mean(Kind::Float);
        self.config.step(&mut self.temperature, &entropy, self.policy.act_dim());
        Metrics::from([
            ("actor_loss", &loss),
            ("entropy", &entropy),
            ("alpha", &alpha),
            ("grad_norm", &gradient.norm()),
        ])
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([
            self.params.named("actor"),
            self.adam.named("actor_adam"),
            self.temperature.state(),
            self.policy.state(),
        ])
    }
}

impl PathAgent {
    /// An agent for a policy and its parameters, with critics of its own. The configuration must
    /// be valid.
    pub fn new(
        config: &PathConfig,
        (policy, params): (Box<dyn PathPolicy>, Params),
        obs_dim: i64,
        rng: &mut Random,
    ) -> Self {
        let (act_dim, device) = (policy.act_dim(), params.device());
        let critic = match config.distribution {
            None => CriticLearner::new(config.critic, obs_dim, act_dim, device, rng),
            Some(of) => {
                CriticLearner::distributional(config.critic, of, obs_dim, act_dim, device, rng)
            }
        };
        Self {
            actor: PathActor::new(config, policy, params),
            actor_config: config.actor.clone(),
            critic,
            device,
        }
    }

    /// The actor alone, for a known value.
    pub fn into_actor(self) -> PathActor {
        self.actor
    }

    /// One update with the given noise.
    pub fn update_with(&mut self, batch: &Batch, noise: &PathNoise) -> Metrics {
        self.actor.policy.observe(&batch.obs);
        let (next_action, bonus) = {
            let _guard = tch::no_grad_guard();
            let PathActor { config, policy, params, temperature, .. } = &self.actor;
            let p = params.frozen();
            let next = policy.draw(p, &batch.next_obs, &noise.next, NormMode::Running);
            let bonus = config.in_target.then(|| -next.log_prob * temperature.alpha());
            (next.action, bonus)
        };
        let mut metrics = self.critic.update(batch, &next_action, bonus.as_ref());
        if let Some(noise) = &noise.actor {
            let mode = self.actor.policy.training_mode(self.critic.updates());
            let obs = batch.obs.narrow(0, 0, noise.size()[1]);
            let join = self.actor.objective.value;
            let value = |obs: &Tensor, action: &Tensor| self.critic.value_by(join, obs, action);
            metrics.extend(self.actor.update(&obs, noise, mode, &value));
        }
        metrics
    }
}

impl Agent for PathAgent {
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor {
        let _guard = tch::no_grad_guard();
        let (policy, params) = self.actor.policy();
        let k = mode.candidates(1);
        let rows = repeat_rows(obs, k);
        let noise = path_noise(policy, rows.size()[0], self.device, rng);
        if mode == ActMode::Deterministic && policy.steps_without_noise() {
            let _ = noise.narrow(0, 1, policy.steps()).zero_();
        }
        if mode == ActMode::Mean {
            let _ = noise.shallow_clone().zero_();
        }
        let path = policy.draw(params.frozen(), &rows, &noise, NormMode::Running);
        self.critic.choose(&rows, &path.action, k)
    }

    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise> {
        let (policy, _) = self.actor.policy();
        let next = path_noise(policy, rows, Device::Cpu, rng);
        let rows = rows_of_share(rows, self.actor.objective.batch_share);
        let actor = with_actor.then(|| path_noise(policy, rows, Device::Cpu, rng));
        Box::new(PathNoise { next, actor })
    }

    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics {
        self.update_with(batch, noise.downcast())
    }

    fn branches(&self) -> Vec<bool> {
        let mut branches = self.critic.branches();
        // The critics' step comes first.
        let mode = self.actor.policy.training_mode(self.critic.updates() + 1);
        branches.push(matches!(mode, NormMode::Batch(Some(_))));
        branches
    }

    fn calls_per_action(&self) -> u32 {
        self.actor.policy.steps() as u32
    }

    fn draws_unused_xi(&self) -> bool {
        self.actor.policy().0.steps_without_noise()
    }

    fn graph(&self) -> Graph {
        let (policy, params) = self.actor.policy();
        policy.graph(params.frozen())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        merge_state([self.actor.state(), self.critic.state()])
    }

    fn observe_returns(&mut self, returns: &[f64]) {
        self.critic.observe_returns(returns);
    }

    fn actor_due(&self) -> bool {
        self.actor_config.due(self.critic.updates())
    }
}
