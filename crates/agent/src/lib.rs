//! What off-policy algorithms share.
//!
//! An algorithm is a struct that implements [`Agent`]: it acts, updates from a [`Batch`], and
//! returns its state as named tensors. It knows no environment, no file and no clock, and draws
//! every random number from a generator that the caller owns.

mod act_mode;
mod actor;
mod batch;
pub mod candidates;
mod captured;
mod categorical;
mod critic;
mod device_replay;
mod graph;
mod head;
mod metrics;
mod obs_norm;
pub mod presets;
mod random;
mod returns;
mod scale;
mod td;
mod temperature;

pub use act_mode::ActMode;
pub use actor::ActorConfig;
pub use batch::Batch;
pub use candidates::CandidatesConfig;
pub use captured::CapturedUpdates;
pub use categorical::DistributionConfig;
pub use critic::{CriticConfig, CriticLearner};
pub use device_replay::DeviceReplay;
pub use graph::{GraphBuilder, Layers};
pub use metrics::{Diverged, Metrics};
pub use obs_norm::ObsNorm;
pub use random::{Random, stream};
pub use scale::{ObjectiveConfig, QScale, RunningMean, Scale};
pub use td::Aggregate;
pub use temperature::{Temperature, TemperatureConfig};

use networks::{StateError, load_state, move_together};
use policy::Graph;
use std::any::Any;
use tch::{Device, Tensor};

/// Q(s, a): observations (B, obs) and actions (B, act) to values (B), with
/// gradients to the actions.
pub type Value<'a> = dyn Fn(&Tensor, &Tensor) -> Tensor + 'a;

/// The random numbers of an update, drawn before it.
pub trait Noise: Any {
    /// All of them, in the same order for every update with the same parts.
    fn tensors(&mut self) -> Vec<&mut Tensor>;
}

impl dyn Noise {
    /// The noise of one algorithm.
    ///
    /// # Panics
    /// It is another algorithm's.
    pub fn downcast<N: Noise>(&self) -> &N {
        (self as &dyn Any).downcast_ref().expect("noise that the same algorithm drew")
    }
}

/// An off-policy algorithm.
///
/// An update changes its state in place, and no number of the host changes what it does: two updates
/// with the same [`branches`](Self::branches) are the same operations on the same tensors. So one can be
/// captured as a CUDA graph (`docs/gpu.md`), unless [`AgentConfig::why_not_captured`] says otherwise.
pub trait Agent {
    /// Actions for observations: (N, obs) -> (N, act), in [-1, 1].
    fn act(&self, obs: &Tensor, mode: ActMode, rng: &mut Random) -> Tensor;

    /// Draws the random numbers of an update over some rows, in main memory.
    fn draw(&self, rows: i64, with_actor: bool, rng: &mut Random) -> Box<dyn Noise>;

    /// One step of the critics with noise that was [drawn](Self::draw) for it and, if that includes the
    /// actor's, of the actor and its temperature. The metrics stay on the device until they are read.
    fn learn_from(&mut self, batch: &Batch, noise: &dyn Noise) -> Metrics;

    /// The same with noise of its own.
    fn learn(&mut self, batch: &Batch, with_actor: bool, rng: &mut Random) -> Metrics {
        let mut noise = self.draw(batch.len(), with_actor, rng);
        move_together(&mut noise.tensors(), batch.obs.device());
        self.learn_from(batch, noise.as_ref())
    }

    /// Which optional steps the next update includes, such as that of the target networks; the actor's is
    /// [`actor_due`](Self::actor_due).
    fn branches(&self) -> Vec<bool>;

    /// Takes in the running discounted return, G = gamma G + r, of each training environment's
    /// episode after a step: critics with a fixed range of values scale rewards by them.
    fn observe_returns(&mut self, returns: &[f64]);

    /// Whether the next update includes the actor.
    fn actor_due(&self) -> bool;

    /// One update: the critics, and the actor if it is due.
    fn update(&mut self, batch: &Batch, rng: &mut Random) -> Metrics {
        self.learn(batch, self.actor_due(), rng)
    }

    /// Sequential calls of the policy's network for an action. Candidates are rows of one call;
    /// the critics' choice among them is not counted.
    fn calls_per_action(&self) -> u32 {
        1
    }

    /// Whether a deterministic action draws xi too, after z, without using it.
    fn draws_unused_xi(&self) -> bool {
        false
    }

    /// The policy as a graph, from an observation to an action in [-1, 1] of one candidate. With
    /// standard-normal latent z and noise xi it acts as in [`ActMode::Stochastic`], with xi = 0 as
    /// in [`ActMode::Deterministic`] (unless settings make its latent zero), with z = xi = 0 as in
    /// [`ActMode::Mean`].
    fn graph(&self) -> Graph;

    /// Everything that is needed to continue from here, as tensors that share
    /// the agent's storage.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Loads a saved state.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    fn load(&mut self, saved: &[(String, Tensor)]) -> Result<(), StateError> {
        load_state(&self.state(), saved)
    }
}

/// The settings of an algorithm, from which its agent is built.
pub trait AgentConfig {
    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// One line: the key, its value, and what was expected.
    fn validate(&self) -> Result<(), String>;

    /// The keys that change nothing because of the values that other keys have.
    fn idle(&self) -> Vec<Idle>;

    /// Why an update can't be captured as a CUDA graph, if so: a number in the host's memory that changes
    /// from one update to the next enters its operations, such as a schedule.
    fn why_not_captured(&self) -> Option<&'static str> {
        None
    }

    /// Draws the networks for a task's sizes. The configuration must be valid.
    fn build(&self, obs_dim: i64, act_dim: i64, device: Device, rng: &mut Random)
    -> Box<dyn Agent>;
}

/// Keys of a configuration that have no effect, and why.
pub struct Idle {
    /// The keys, as `section.key`.
    pub keys: &'static [&'static str],
    /// The reason, as a clause: another key's value.
    pub because: &'static str,
}

/// The entries of (condition, keys, reason) whose condition holds.
pub fn idle_where(cases: &[(bool, &'static [&'static str], &'static str)]) -> Vec<Idle> {
    let hold = cases.iter().filter(|(condition, ..)| *condition);
    hold.map(|&(_, keys, because)| Idle { keys, because }).collect()
}

/// Checks a number of a configuration.
///
/// # Errors
/// One line that names the key, its value and the range expected.
pub fn in_range(key: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key} is {value}, expected a number from {low} to {high}"))
    }
}
