//! The training environments, and where each of them is in its episode.

use crate::base::failure::{Failure, Outcome};
use crate::train::checkpoint::EnvironmentState;
use crate::train::evaluator::{ActionScale, divergence, wrong_number};
use envs::{Batch, BatchStep, Spec};
use ndarray::aview1;
use replay::{Cursor, Replay};
use report::TERMS;

/// Environments that step together, each with its own episode.
pub struct Rollout {
    envs: Batch,
    scale: ActionScale,
    /// Observations (n, obs_dim), as the simulator gives them.
    obs: Vec<f64>,
    /// The same in the precision of the replay and the networks.
    obs_f32: Vec<f32>,
    /// Return and length so far of each episode.
    episodes: Vec<(f64, u32)>,
    /// Running discounted return of each episode, G = gamma G + r.
    discounted: Vec<f64>,
    gamma: f64,
    /// Whether training goes on without an episode that diverged.
    end_diverged: bool,
    /// Results of the last step.
    steps: Vec<BatchStep>,
    term_metrics: Vec<String>,
}

/// What a step of all environments gave, other than transitions.
#[derive(Default)]
pub struct Stepped {
    /// Return and length of each episode that ended.
    pub ended: Vec<(f64, u32)>,
    /// What diverged, for each episode that ended by it. They are not among `ended`.
    pub diverged: Vec<String>,
    /// The largest absolute value of a reward.
    pub largest_reward: f64,
    /// The running discounted return of each environment's episode that did not diverge.
    pub returns: Vec<f64>,
    /// Sum and count of each named term of the reward, over the steps that did not diverge.
    pub terms: Vec<(f64, u64)>,
}

/// The metrics of the named terms of a task's reward, in their order.
pub fn term_metrics(spec: &Spec) -> Vec<String> {
    spec.terms.iter().map(|name| format!("{TERMS}{name}")).collect()
}

impl Rollout {
    /// Environments that are still to be reset or loaded, the discount of their returns, and
    /// whether an episode that diverges only ends, instead of being an error.
    pub fn new(envs: Batch, gamma: f64, end_diverged: bool) -> Self {
        let (n, obs_dim) = (envs.len(), envs.spec().obs_dim);
        Self {
            obs: vec![0.0; n * obs_dim],
            obs_f32: vec![0.0; n * obs_dim],
            episodes: vec![(0.0, 0); n],
            discounted: vec![0.0; n],
            gamma,
            end_diverged,
            scale: ActionScale::of(envs.spec()),
            steps: vec![BatchStep::default(); n],
            term_metrics: term_metrics(envs.spec()),
            envs,
        }
    }

    /// The task.
    pub fn spec(&self) -> &Spec {
        self.envs.spec()
    }

    /// The number of environments.
    pub fn count(&self) -> usize {
        self.envs.len()
    }

    /// The metrics of the terms of the reward; see [`Stepped::terms`].
    pub fn term_metrics(&self) -> &[String] {
        &self.term_metrics
    }

    /// The current observations (n, obs_dim).
    pub fn observations(&self) -> &[f32] {
        &self.obs_f32
    }

    /// Resets all environments: environment i from the master seed plus i, as
    /// Gymnasium's vector environments do.
    ///
    /// # Errors
    /// The simulation fails, or an observation is not finite.
    pub fn reset(&mut self, seed: u64, replay: &mut Replay) -> Outcome<()> {
        let seeds: Vec<u64> = (0..self.count() as u64).map(|i| seed.wrapping_add(i)).collect();
        self.envs.reset(Some(&seeds), &mut self.obs)?;
        self.round();
        for i in 0..self.count() {
            self.begin(i, replay)?;
        }
        Ok(())
    }

    /// The first observation of an episode into the replay.
    fn begin(&self, i: usize, replay: &mut Replay) -> Outcome<()> {
        let (spec, entries) = (self.spec(), i * self.spec().obs_dim..(i + 1) * self.spec().obs_dim);
        if let Some(number) = wrong_number(spec, &self.obs[entries.clone()]) {
            return Err(Failure::Failed(format!(
                "{}: at the start of an episode {number}: the task, or its model, is to be mended",
                spec.id
            )));
        }
        replay.begin(i, aview1(&self.obs_f32[entries]));
        Ok(())
    }

    /// One step of every environment into the replay, with actions (n, act_dim) in [-1, 1].
    /// Environments whose episode ends are reset at once. The transition of a step that diverged
    /// is not part of the replay, nor of any statistic.
    ///
    /// # Errors
    /// A simulation diverged and that is not only to end its episode, or MuJoCo failed; the
    /// message names the training step `at`.
    pub fn step(&mut self, at: u64, actions: &[f32], replay: &mut Replay) -> Outcome<Stepped> {
        let (obs_dim, act_dim) = (self.spec().obs_dim, self.spec().act_dim);
        let mut controls = actions.to_vec();
        self.scale.apply(&mut controls);
        let at_step = |what: String| Failure::Failed(format!("training step {at}: {what}"));
        let stepping = self.envs.step(&controls, &mut self.steps, &mut self.obs);
        stepping.map_err(|error| at_step(error.to_string()))?;
        self.round();
        let mut stepped =
            Stepped { terms: vec![(0.0, 0); self.term_metrics.len()], ..Stepped::default() };
        let mut over = vec![false; self.count()];
        for i in 0..self.count() {
            let step = self.steps[i];
            if let Some(found) = divergence(&self.envs, i, step.reward, &self.obs) {
                let what = found.what;
                if !self.end_diverged {
                    return Err(at_step(match found.simulation {
                        true => format!(
                            "{what}; a resumed run gets here again: `--set \
                             train.end_diverged_episodes=true` with the same command ends such \
                             episodes and trains on"
                        ),
                        false => format!("{what}: the task's formula is to be mended"),
                    }));
                }
                stepped.diverged.push(what);
                self.envs.end_episode(i);
                self.episodes[i] = (0.0, 0);
                self.discounted[i] = 0.0;
                over[i] = true;
                continue;
            }
            let action = aview1(&actions[i * act_dim..][..act_dim]);
            let next = aview1(&self.obs_f32[i * obs_dim..][..obs_dim]);
            replay.push(i, action, step.reward as f32, next, step.terminated);
            // A term that the reward does not use may be infinite, which no mean and no checkpoint holds.
            let terms = stepped.terms.iter_mut().zip(self.envs.terms(i));
            for ((sum, count), value) in terms.filter(|(_, value)| value.is_finite()) {
                *sum += value;
                *count += 1;
            }
            stepped.largest_reward = stepped.largest_reward.max(step.reward.abs());
            let (total, length) = &mut self.episodes[i];
            *total += step.reward;
            *length += 1;
            let discounted = &mut self.discounted[i];
            *discounted = self.gamma * *discounted + step.reward;
            stepped.returns.push(*discounted);
            over[i] = step.terminated || step.truncated;
            if over[i] {
                *discounted = 0.0;
                stepped.ended.push(std::mem::take(&mut self.episodes[i]));
            }
        }
        if over.contains(&true) {
            // Stepping an environment whose episode is over resets it.
            self.envs.step_active(&over, &controls, &mut self.steps, &mut self.obs)?;
            self.round();
            for i in (0..over.len()).filter(|i| over[*i]) {
                self.begin(i, replay)?;
            }
        }
        Ok(stepped)
    }

    /// The state of every environment for a checkpoint, with its cursor of the replay.
    pub fn save(&self, cursors: &[Cursor]) -> Vec<EnvironmentState> {
        let state = |(i, cursor): (usize, &Cursor)| EnvironmentState {
            simulator: self.envs.save_state(i),
            written: cursor.written,
            obs: cursor.obs.iter().map(|x| f64::from(*x)).collect(),
            episode: self.episodes[i],
            discounted: self.discounted[i],
        };
        cursors.iter().enumerate().map(state).collect()
    }

    /// Takes over the states of a checkpoint.
    ///
    /// # Errors
    /// States of another number or size, or damaged ones. Some may be taken over then.
    pub fn load(&mut self, states: &[EnvironmentState]) -> Result<(), String> {
        let obs_dim = self.spec().obs_dim;
        if states.len() != self.count() || states.iter().any(|state| state.obs.len() != obs_dim) {
            return Err("damaged: environments of another number or size".into());
        }
        for (i, state) in states.iter().enumerate() {
            self.envs.load_state(i, &state.simulator).map_err(|error| error.to_string())?;
            self.obs[i * obs_dim..][..obs_dim].copy_from_slice(&state.obs);
            self.episodes[i] = state.episode;
            self.discounted[i] = state.discounted;
        }
        self.round();
        Ok(())
    }

    /// Observations are `f64` in the simulator and `f32` everywhere else.
    fn round(&mut self) {
        for (to, from) in self.obs_f32.iter_mut().zip(&self.obs) {
            *to = *from as f32;
        }
    }
}
