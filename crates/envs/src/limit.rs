//! The speed limit: the time that MuJoCo alone needs for given steps.

use std::sync::Arc;

use crate::env::Env;
use crate::episode::Rules;
use crate::error::Error;
use crate::physics::{Simulation, World};
use crate::registry::open;
use crate::state::INTEGRATION;

/// A bare loop of `mj_step` and `mj_rnePostConstraint`, without observations, rewards, random
/// numbers or checks: an upper bound on the speed of any environment that uses MuJoCo.
///
/// It repeats the steps and resets of [`play`] and ends in the same state, so that an environment
/// and its limit can be timed on the same work.
pub struct Limit {
    simulation: Simulation,
    rules: Rules,
    notes: Vec<f64>,
    ticks: Vec<Tick>,
}

/// A recorded reset or step.
enum Tick {
    /// An episode started in this state, `mjSTATE_INTEGRATION`.
    Reset { state: Vec<f64> },
    /// A step with this action.
    Step { action: Vec<f32> },
}

/// Applies the rows of `actions` over consecutive episodes as a [`Batch`](crate::Batch) does: when
/// an episode is over, the next action is ignored and another episode starts. Returns the number
/// of steps.
///
/// # Errors
/// Those of [`Env::step`].
pub fn play(env: &mut Env, seed: u64, actions: &[f32], obs: &mut [f64]) -> Result<u64, Error> {
    play_noting(env, seed, actions, obs, |_, _| ())
}

/// [`play`], calling `note` for every step, with its action, and for every reset, without.
fn play_noting(
    env: &mut Env,
    seed: u64,
    actions: &[f32],
    obs: &mut [f64],
    mut note: impl FnMut(&Env, Option<&[f32]>),
) -> Result<u64, Error> {
    env.reset(Some(seed), obs);
    note(env, None);
    let (mut steps, mut over) = (0, false);
    for action in actions.chunks_exact(env.spec().act_dim) {
        if over {
            env.reset(None, obs);
            note(env, None);
            over = false;
        } else {
            let step = env.step(action, obs)?;
            note(env, Some(action));
            over = step.terminated || step.truncated;
            steps += 1;
        }
    }
    Ok(steps)
}

impl Limit {
    /// Records `runs` of the task, each a seed and actions, one after the other.
    ///
    /// # Errors
    /// Those of [`Env::make`] and [`Env::step`].
    pub fn record(id: &str, runs: &[(u64, Vec<f32>)]) -> Result<Self, Error> {
        let mut env = Env::make(id)?;
        let mut obs = vec![0.0; env.spec().obs_dim];
        let mut ticks = Vec::new();
        for (seed, actions) in runs {
            play_noting(&mut env, *seed, actions, &mut obs, |env, action| {
                ticks.push(match action {
                    Some(action) => Tick::Step { action: action.to_vec() },
                    None => Tick::Reset { state: env.simulation.state(INTEGRATION).to_vec() },
                });
            })?;
        }
        let (rules, model) = open(id, None)?;
        let simulation = Simulation::new(Arc::new(model));
        let notes = rules.task.notes();
        Ok(Self { simulation, rules, notes, ticks })
    }

    /// Repeats all recorded resets and steps.
    pub fn run(&mut self) {
        let Rules { spec, task } = &self.rules;
        for tick in &self.ticks {
            match tick {
                Tick::Step { action } => {
                    let mut world = World::of(&mut self.simulation);
                    task.advance(&mut world, spec.frame_skip, action, &mut self.notes);
                }
                Tick::Reset { state } => {
                    self.simulation.reset();
                    let set = |simulation: &mut Simulation| {
                        simulation.set_state(state, INTEGRATION).expect("the size is the model's");
                    };
                    set(&mut self.simulation);
                    self.simulation.forward();
                    set(&mut self.simulation); // `forward` may change the solver's warm start
                }
            }
        }
    }

    /// Whether MuJoCo's state is bit-identical to that of `env`.
    pub fn ended_like(&self, env: &Env) -> bool {
        let bits = |simulation: &Simulation| -> Vec<u64> {
            simulation.state(INTEGRATION).iter().map(|x| x.to_bits()).collect()
        };
        bits(&self.simulation) == bits(&env.simulation)
    }
}
