//! Training an actor on a toy problem.

use crate::toy::uniform_points;
use crate::{Point, PriorIn, Toy};
use agent::{Diverged, Random, stream};
use baselines::flowrl::{FlowRlActor, FlowRlActorNoise, FlowRlConfig};
use baselines::path::{PathActor, PathAgent, path_noise};
use baselines::sac::{SacActor, SacConfig};
use networks::{NormMode, normal};
use rand::RngExt;
use smfp::{ActorNoise, Draw, SmfpActor, SmfpConfig};
use tch::{Device, Kind, Tensor};

/// Size of an action.
const ACT_DIM: i64 = 2;
/// Uniform actions at the start of the replay of [`Toy::ThreeModes`], as in a run on a
/// task.
const WARMUP_ACTIONS: i64 = 5000;

/// An algorithm's actor, without critics.
#[allow(clippy::large_enum_variant)] // There is only one at a time.
pub enum Actor {
    /// SMFP, with its configuration.
    Smfp(SmfpActor, SmfpConfig),
    /// SAC's squashed Gaussian.
    Sac(SacActor),
    /// A policy that draws an action in several noisy steps: SAC Flow's or DIME's.
    Path(PathActor),
    /// FlowRL's, which takes Q for the value of the replay's actions too.
    FlowRl(FlowRlActor),
}

impl Actor {
    /// SMFP for a toy. The configuration must be valid; its critics are not used.
    pub fn smfp(config: &SmfpConfig, seed: u64) -> Self {
        let mut rng = stream(seed, "network initialisation");
        Self::Smfp(SmfpActor::new(config, 1, ACT_DIM, Device::Cpu, &mut rng), config.clone())
    }

    /// SAC for a toy. The configuration must be valid; its critics are not used.
    pub fn sac(config: &SacConfig, seed: u64) -> Self {
        let mut rng = stream(seed, "network initialisation");
        Self::Sac(SacActor::new(config, 1, ACT_DIM, Device::Cpu, &mut rng))
    }

    /// SAC Flow or DIME for a toy, by the `agent` function of a configuration, which takes the sizes
    /// of an observation and an action. Its critics are not used.
    pub fn path(agent: impl FnOnce(i64, i64, Device, &mut Random) -> PathAgent, seed: u64) -> Self {
        let mut rng = stream(seed, "network initialisation");
        Self::Path(agent(1, ACT_DIM, Device::Cpu, &mut rng).into_actor())
    }

    /// FlowRL for a toy. The configuration must be valid; its critics are not used.
    pub fn flowrl(config: &FlowRlConfig, seed: u64) -> Self {
        let mut rng = stream(seed, "network initialisation");
        Self::FlowRl(FlowRlActor::new(config, 1, ACT_DIM, Device::Cpu, &mut rng))
    }
}

/// The source of the replay's actions.
enum Replay {
    /// Uniform actions, then one action of the policy per update, all kept, as in a run
    /// on a task.
    Own { actions: Vec<f32>, exploration: Random },
    /// New actions for every update: from pi_old, or uniform if pi_old is in the value.
    Fresh(PriorIn),
}

/// Samples and statistics of a policy, in the toy's units.
pub struct Drawn {
    /// The samples.
    pub samples: Vec<Point>,
    /// The entropy: the surrogate, equation (2), for SMFP; the mean of -log pi over the
    /// samples for SAC. None for a deterministic head, and for policies of several steps.
    pub entropy: Option<f64>,
    /// Mean standard deviation of the Gaussian head (SAC's before squashing), 0 for a deterministic
    /// one. None for policies of several steps.
    pub sigma_mean: Option<f64>,
    /// Standard deviation of mu over the latent: the root of its variance, averaged over
    /// the coordinates. None where there is no Gaussian given a latent.
    pub spread_z: Option<f64>,
}

/// An actor in the one state of a toy, with its replay and its random streams.
pub struct Learner {
    toy: Toy,
    prior: PriorIn,
    /// Half the side of the square of actions, in the toy's units.
    scale: f64,
    actor: Actor,
    /// The state, repeated for each row of a batch: (B, 1).
    obs: Tensor,
    replay: Replay,
    sampling: Random,
    learning: Random,
    seed: u64,
}

impl Learner {
    /// A learner for an untrained actor, with batches of the given size. Its actions a
    /// correspond to points x = `scale` a of the toy.
    pub fn new(toy: Toy, prior: PriorIn, scale: f64, actor: Actor, batch: i64, seed: u64) -> Self {
        let mut exploration = stream(seed, "exploration");
        let replay = match toy {
            Toy::ThreeModes => {
                let first = uniform_points(1.0, WARMUP_ACTIONS, &mut exploration);
                Replay::Own { actions: flat(&first), exploration }
            }
            Toy::TwoBumps => Replay::Fresh(prior),
        };
        Self {
            toy,
            prior,
            scale,
            actor,
            obs: state(batch),
            replay,
            sampling: stream(seed, "replay"),
            learning: stream(seed, "learning"),
            seed,
        }
    }

    /// One update, with the code of a training run.
    ///
    /// # Errors
    /// A metric is not finite.
    pub fn update(&mut self) -> Result<(), Diverged> {
        let (toy, prior, scale) = (self.toy, self.prior, self.scale);
        let batch = self.obs.size()[0];
        let value = |_: &Tensor, action: &Tensor| toy.value(prior, &(action * scale));
        let replay = self.replay_actions(batch);
        let metrics = match &mut self.actor {
            Actor::Smfp(actor, config) => {
                let noise = ActorNoise::draw(config, batch, ACT_DIM, &mut self.learning);
                actor.update(&self.obs, &replay, &noise, &value)
            }
            Actor::Sac(actor) => {
                let noise = normal(&mut self.learning, &[batch, ACT_DIM], Device::Cpu);
                actor.update(&self.obs, &noise, &value)
            }
            Actor::Path(actor) => {
                let noise = path_noise(actor.policy().0, batch, Device::Cpu, &mut self.learning);
                actor.update(&self.obs, &noise, NormMode::Running, &value)
            }
            Actor::FlowRl(actor) => {
                let noise = FlowRlActorNoise::draw(batch, ACT_DIM, &mut self.learning);
                actor.update(&self.obs, &replay, &noise, &value, &value)
            }
        };
        metrics.read().map(|_| ())
    }

    /// A minibatch of the replay's actions: (B, 2) in [-1, 1].
    fn replay_actions(&mut self, batch: i64) -> Tensor {
        let scale = self.scale;
        match &mut self.replay {
            Replay::Fresh(PriorIn::Replay) => {
                (self.toy.prior(batch, &mut self.sampling) / scale).clamp(-1.0, 1.0)
            }
            Replay::Fresh(PriorIn::Value) => uniform_points(1.0, batch, &mut self.sampling),
            Replay::Own { actions, exploration } => {
                let (action, _) = draw(&self.actor, 1, exploration);
                actions.extend(flat(&action));
                let count = actions.len() / 2;
                let chosen: Vec<f32> = (0..batch)
                    .flat_map(|_| {
                        let at = 2 * self.sampling.random_range(0..count);
                        [actions[at], actions[at + 1]]
                    })
                    .collect();
                Tensor::from_slice(&chosen).view([batch, ACT_DIM])
            }
        }
    }

    /// Samples of the current policy, always with the same noise. Changes nothing.
    pub fn draw(&self, count: i64) -> Drawn {
        let scale = self.scale;
        let mut rng = stream(self.seed, "samples");
        let (action, gaussian) = draw(&self.actor, count, &mut rng);
        let units = ACT_DIM as f64 * scale.ln();
        let (entropy, spread_z) = match (&self.actor, &gaussian) {
            (Actor::Smfp(actor, _), Some(Gaussian { mean, log_std, .. })) => {
                let variance = mean.var_dim(&[0i64][..], true, false).mean(Kind::Float);
                let surrogate = smfp::entropy::surrogate(log_std).double_value(&[]) + units;
                let stochastic = actor.policy().0.stochastic();
                (stochastic.then_some(surrogate), Some(variance.double_value(&[]).sqrt() * scale))
            }
            (_, Some(Gaussian { log_prob, .. })) => {
                (Some(units - log_prob.mean(Kind::Float).double_value(&[])), None)
            }
            (_, None) => (None, None),
        };
        let sigma_mean = gaussian.map(|Gaussian { log_std, .. }| match entropy {
            Some(_) => log_std.exp().mean(Kind::Float).double_value(&[]) * scale,
            None => 0.0,
        });
        Drawn { samples: points(&(action * scale)), entropy, sigma_mean, spread_z }
    }
}

/// The Gaussians that actions were drawn from.
struct Gaussian {
    /// Means and log standard deviations: (N, 2) each.
    mean: Tensor,
    log_std: Tensor,
    /// log pi (for SMFP given the latent): (N).
    log_prob: Tensor,
}

/// Actions (N, 2), and their Gaussians if the policy has such.
fn draw(actor: &Actor, count: i64, rng: &mut Random) -> (Tensor, Option<Gaussian>) {
    let _guard = tch::no_grad_guard();
    let obs = state(count);
    let noise = |rng: &mut Random| normal(rng, &[count, ACT_DIM], Device::Cpu);
    match actor {
        Actor::Smfp(actor, _) => {
            let (policy, params) = actor.policy();
            let (z, xi) = (noise(rng), noise(rng));
            let Draw { action, mean, log_std, log_prob, .. } =
                policy.draw(params.frozen(), &obs, &z, Some(&xi));
            (action, Some(Gaussian { mean, log_std, log_prob }))
        }
        Actor::Sac(actor) => {
            let (policy, params) = actor.policy();
            let head = policy.gaussian(params.frozen(), &obs);
            let sample = policy.sample(params.frozen(), &obs, &noise(rng));
            let (mean, log_std) = (head.mean, head.log_std);
            (sample.action, Some(Gaussian { mean, log_std, log_prob: sample.log_prob }))
        }
        Actor::Path(actor) => {
            let (policy, params) = actor.policy();
            let noise = path_noise(policy, count, Device::Cpu, rng);
            (policy.draw(params.frozen(), &obs, &noise, NormMode::Running).action, None)
        }
        Actor::FlowRl(actor) => (actor.act(&obs, &noise(rng)), None),
    }
}

/// The only state, with observation 1, in each row: (N, 1).
fn state(rows: i64) -> Tensor {
    Tensor::ones([rows, 1], (Kind::Float, Device::Cpu))
}

fn flat(actions: &Tensor) -> Vec<f32> {
    Vec::try_from(&actions.reshape([-1])).expect("a vector of f32 on the CPU")
}

/// Converts (N, 2) to points.
pub(crate) fn points(x: &Tensor) -> Vec<Point> {
    flat(x).chunks_exact(2).map(|xy| [f64::from(xy[0]), f64::from(xy[1])]).collect()
}
