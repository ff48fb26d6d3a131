//! Training an actor on a toy problem.

use crate::toy::uniform_points;
use crate::{Point, PriorIn, Toy};
use agent::{Diverged, Random, stream};
use baselines::sac::{SacActor, SacConfig};
use networks::normal;
use rand::RngExt;
use smfp::{ActorNoise, SmfpActor, SmfpConfig};
use tch::{Device, Kind, Tensor};

/// Size of an action.
const ACT_DIM: i64 = 2;
/// Uniform actions at the start of the replay of [`Toy::ThreeModes`], as in a run on a
/// task.
const WARMUP_ACTIONS: i64 = 5000;

/// The actor of [`smfp::Smfp`] or [`baselines::sac::Sac`], without critics.
#[allow(clippy::large_enum_variant)] // There is only one at a time.
pub enum Actor {
    /// SMFP, with its configuration.
    Smfp(SmfpActor, SmfpConfig),
    /// SAC's squashed Gaussian.
    Sac(SacActor),
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
    /// samples for SAC. None for a deterministic head.
    pub entropy: Option<f64>,
    /// Mean standard deviation of the Gaussian head (SAC's before squashing).
    pub sigma_mean: f64,
    /// Standard deviation of mu over the latent: the root of its variance, averaged over
    /// the coordinates. None for SAC, which has no latent.
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
                let (action, ..) = draw(&self.actor, 1, exploration);
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
        let (action, mean, log_std, log_prob) = draw(&self.actor, count, &mut rng);
        let units = ACT_DIM as f64 * scale.ln();
        let (entropy, spread_z) = match &self.actor {
            Actor::Smfp(actor, _) => {
                let variance = mean.var_dim(&[0i64][..], true, false).mean(Kind::Float);
                let surrogate = smfp::entropy::surrogate(&log_std).double_value(&[]) + units;
                let stochastic = actor.policy().0.stochastic();
                (stochastic.then_some(surrogate), Some(variance.double_value(&[]).sqrt() * scale))
            }
            Actor::Sac(_) => (Some(units - log_prob.mean(Kind::Float).double_value(&[])), None),
        };
        let sigma_mean = match entropy {
            Some(_) => log_std.exp().mean(Kind::Float).double_value(&[]) * scale,
            None => 0.0,
        };
        Drawn { samples: points(&(action * scale)), entropy, sigma_mean, spread_z }
    }
}

/// Actions, means and log standard deviations of their Gaussians, (N, 2) each, and log pi,
/// (N) (for SMFP given the latent).
fn draw(actor: &Actor, count: i64, rng: &mut Random) -> (Tensor, Tensor, Tensor, Tensor) {
    let _guard = tch::no_grad_guard();
    let obs = state(count);
    let mut noise = || normal(rng, &[count, ACT_DIM], Device::Cpu);
    match actor {
        Actor::Smfp(actor, _) => {
            let (policy, params) = actor.policy();
            let draw = policy.draw(params.frozen(), &obs, &noise(), Some(&noise()));
            (draw.action, draw.mean, draw.log_std, draw.log_prob)
        }
        Actor::Sac(actor) => {
            let (policy, params) = actor.policy();
            let gaussian = policy.gaussian(params.frozen(), &obs);
            let sample = policy.sample(params.frozen(), &obs, &noise());
            (sample.action, gaussian.mean, gaussian.log_std, sample.log_prob)
        }
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
