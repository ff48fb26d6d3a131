//! Evaluation: whole episodes on environments of its own.

use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use agent::{ActMode, Agent, Random, stream};
use envs::{Batch, BatchStep, Scene, Spec};
use networks::tensor_from;
use rand::RngExt;
use std::path::Path;
use tch::{Device, Tensor};

/// The environments of evaluations, and the seeds that every evaluation resets them with.
pub struct Evaluator {
    envs: Batch,
    seeds: Vec<u64>,
    seed: u64,
    device: Device,
}

/// What an evaluation found.
pub struct Evaluation {
    /// Return and length of each episode.
    pub episodes: Vec<(f64, u32)>,
    /// Why episodes broke off, one reason for each that did; they have the return and length of the step before.
    pub broke_off: Vec<String>,
}

/// A moment of an episode of an evaluation.
pub struct Moment<'a> {
    /// All its environments.
    pub envs: &'a Batch,
    /// The one that was reset or stepped.
    pub index: usize,
    /// The action, in the task's units, and its result; nothing after the reset. A step in which
    /// an episode breaks off is not a moment.
    pub step: Option<(&'a [f32], &'a BatchStep)>,
}

impl Evaluation {
    /// A remark on the episodes that broke off, if any did.
    pub fn remark(&self) -> Option<String> {
        let first = self.broke_off.first()?;
        let (broken, all) = (self.broke_off.len(), self.episodes.len());
        Some(format!(
            "{broken} of {all} episodes of the evaluation broke off and are scored as they stood before; \
             the first: {first}"
        ))
    }

    /// Says what the episodes of `subject` returned.
    pub fn tell(&self, subject: &str) {
        let returns: Vec<String> =
            self.episodes.iter().map(|(total, _)| format!("{total:.1}")).collect();
        console::message(format!("{subject}: returns {}", returns.join(", ")));
        if let Some(remark) = self.remark() {
            console::message(format!("warning: {remark}"));
        }
    }
}

impl Evaluator {
    /// `episodes` environments of a task. Their seeds, and the policy's noise in every
    /// evaluation, depend on the master seed alone: evaluations of one run differ by the
    /// policy only.
    ///
    /// # Errors
    /// An unknown task, or a model that can't be used.
    pub fn new(
        env: &str,
        model: Option<&Path>,
        episodes: usize,
        threads: usize,
        seed: u64,
        device: Device,
    ) -> Outcome<Self> {
        let mut rng = stream(seed, "evaluation environment");
        Ok(Self {
            envs: make_envs(env, model, episodes, threads)?,
            seeds: (0..episodes).map(|_| u64::from(rng.random::<u32>())).collect(),
            seed,
            device,
        })
    }

    /// The task.
    pub fn spec(&self) -> &Spec {
        self.envs.spec()
    }

    /// The environments.
    pub fn envs(&self) -> &Batch {
        &self.envs
    }

    /// What the task's model looks like.
    pub fn scene(&self) -> Scene {
        self.envs.scene()
    }

    /// Plays one episode on every environment with an agent. Returns nothing if a stop was
    /// requested before all were over.
    ///
    /// # Errors
    /// MuJoCo failed, or an action is not finite.
    pub fn run(
        &mut self,
        agent: &dyn Agent,
        mode: ActMode,
        stop: &Stop,
    ) -> Outcome<Option<Evaluation>> {
        self.run_watched(agent, mode, stop, &mut |_| {})
    }

    /// As [`run`](Self::run), with every moment shown to `watch`.
    ///
    /// # Errors
    /// MuJoCo failed.
    pub fn run_watched(
        &mut self,
        agent: &dyn Agent,
        mode: ActMode,
        stop: &Stop,
        watch: &mut dyn FnMut(Moment),
    ) -> Outcome<Option<Evaluation>> {
        let mut rng = self.noise();
        let (obs_dim, device) = (self.spec().obs_dim, self.device);
        let scale = ActionScale::of(self.spec());
        let act = |obs: &[f32]| {
            let shape = [(obs.len() / obs_dim) as i64, obs_dim as i64];
            let actions = agent.act(&tensor_from(obs, &shape, device), mode, &mut rng);
            let mut actions = to_rows(&actions);
            scale.apply(&mut actions);
            actions
        };
        self.play_watched(act, stop, watch)
    }

    /// The stream that a policy draws its noise from in an evaluation.
    pub fn noise(&self) -> Random {
        stream(self.seed, "evaluation noise")
    }

    /// As [`run`](Self::run) with any policy: observations (n, obs_dim) to actions (n, act_dim) in the task's
    /// units, for the n environments whose episode is not over.
    ///
    /// # Errors
    /// MuJoCo failed.
    pub fn play(
        &mut self,
        act: impl FnMut(&[f32]) -> Vec<f32>,
        stop: &Stop,
    ) -> Outcome<Option<Evaluation>> {
        self.play_watched(act, stop, &mut |_| {})
    }

    fn play_watched(
        &mut self,
        mut act: impl FnMut(&[f32]) -> Vec<f32>,
        stop: &Stop,
        watch: &mut dyn FnMut(Moment),
    ) -> Outcome<Option<Evaluation>> {
        let (n, spec) = (self.envs.len(), self.envs.spec().clone());
        let mut obs = vec![0.0f64; n * spec.obs_dim];
        let mut actions = vec![0.0f32; n * spec.act_dim];
        let mut steps = vec![BatchStep::default(); n];
        let mut totals = vec![(0.0f64, 0u32); n];
        let mut alive = vec![true; n];
        let mut broke_off = Vec::new();
        self.envs.reset(Some(&self.seeds), &mut obs)?;
        for index in 0..n {
            watch(Moment { envs: &self.envs, index, step: None });
        }
        // Environments step together: one network call serves all whose episode is not over.
        while alive.contains(&true) {
            if stop.asked() {
                return Ok(None);
            }
            let rows: Vec<usize> = (0..n).filter(|i| alive[*i]).collect();
            let seen: Vec<f32> = rows
                .iter()
                .flat_map(|i| &obs[i * spec.obs_dim..][..spec.obs_dim])
                .map(|x| *x as f32)
                .collect();
            let acted = act(&seen);
            if let Some(what) = wrong_action(&spec, &acted) {
                return Err(Failure::Diverged(what));
            }
            for (i, action) in rows.iter().zip(acted.chunks_exact(spec.act_dim)) {
                actions[i * spec.act_dim..][..spec.act_dim].copy_from_slice(action);
            }
            self.envs.step_active(&alive, &actions, &mut steps, &mut obs)?;
            for i in rows {
                if let Some(found) = divergence(&self.envs, i, steps[i].reward, &obs) {
                    broke_off.push(found.what);
                    alive[i] = false;
                    continue;
                }
                let action = &actions[i * spec.act_dim..][..spec.act_dim];
                watch(Moment { envs: &self.envs, index: i, step: Some((action, &steps[i])) });
                totals[i].0 += steps[i].reward;
                totals[i].1 += 1;
                alive[i] = !(steps[i].terminated || steps[i].truncated);
            }
        }
        Ok(Some(Evaluation { episodes: totals, broke_off }))
    }
}

/// Why the last step of an environment can't be used.
pub struct Divergence {
    /// What is wrong, in words.
    pub what: String,
    /// Whether it is the simulation that diverged; if not, its state is fine, and the task makes a number of
    /// it that is not.
    pub simulation: bool,
}

/// What is wrong with the last step of environment `index`, if anything is. MuJoCo finds that a simulation
/// diverged at the beginning of its next step only, so numbers that `f32` can't hold count too. `obs` are
/// the observations (n, obs_dim).
pub fn divergence(envs: &Batch, index: usize, reward: f64, obs: &[f64]) -> Option<Divergence> {
    let spec = envs.spec();
    if let Err(error) = envs.check(index) {
        return Some(Divergence { what: error.to_string(), simulation: true });
    }
    let number = match fits(reward) {
        false => {
            let mut terms = spec.terms.iter().zip(envs.terms(index));
            let term = terms.find(|(_, value)| !fits(*value));
            let term = term.map(|(name, value)| format!(", its term '{name}' {value}"));
            format!("the reward is {reward}{}", term.unwrap_or_default())
        }
        true => wrong_number(spec, &obs[index * spec.obs_dim..][..spec.obs_dim])?,
    };
    let simulation = !envs.state(index).iter().all(|x| fits(*x));
    let what = match simulation {
        true => format!("{}: the simulation diverged ({number})", spec.id),
        false => format!("{}: {number}, while the simulation is fine", spec.id),
    };
    Some(Divergence { what, simulation })
}

/// The first number of a policy's actions (n, act_dim) that is not finite, in words; none if all are.
pub fn wrong_action(spec: &Spec, actions: &[f32]) -> Option<String> {
    let at = actions.iter().position(|x| !x.is_finite())?;
    let component = at % spec.act_dim;
    Some(format!("{}: component {component} of the policy's action is {}", spec.id, actions[at]))
}

/// The first number of an observation that `f32` can't hold, in words; none if there is none.
pub fn wrong_number(spec: &Spec, obs: &[f64]) -> Option<String> {
    let at = obs.iter().position(|x| !fits(*x))?;
    let terms = spec.observation.iter();
    let term = terms.rev().find(|term| term.start <= at);
    let place = term.map(|term| format!(" ('{}'[{}])", term.name, at - term.start));
    Some(format!("number {at} of the observation{} is {}", place.unwrap_or_default(), obs[at]))
}

fn fits(x: f64) -> bool {
    (x as f32).is_finite()
}

/// `count` environments of a task, with its own model or the user's.
///
/// # Errors
/// An unknown task, a model that can't be used.
pub fn make_envs(env: &str, model: Option<&Path>, count: usize, threads: usize) -> Outcome<Batch> {
    Ok(match model {
        Some(model) => Batch::make_with_model(env, model, count, threads)?,
        None => Batch::make(env, count, threads)?,
    })
}

/// Maps actions from [-1, 1] to the bounds of a task, which each component has its own of.
#[derive(Clone)]
pub struct ActionScale {
    low: Vec<f32>,
    high: Vec<f32>,
}

impl ActionScale {
    /// The map to the bounds of a task.
    pub fn of(spec: &Spec) -> Self {
        Self { low: spec.act_low.clone(), high: spec.act_high.clone() }
    }

    /// Scales actions (n, act_dim) in place.
    pub fn apply(&self, actions: &mut [f32]) {
        for action in actions.chunks_exact_mut(self.low.len()) {
            for ((a, low), high) in action.iter_mut().zip(&self.low).zip(&self.high) {
                *a = low + 0.5 * (*a + 1.0) * (high - low);
            }
        }
    }
}

/// The numbers of a float32 tensor, in row-major order.
pub fn to_rows(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(Device::Cpu).contiguous().view([-1]);
    Vec::<f32>::try_from(flat).expect("actions are f32")
}
