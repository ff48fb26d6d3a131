//! Many copies of one task, stepped together on MuJoCo's own pool of threads (`mjbatch.h`).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use mujoco_rs::mujoco_c::{mjData, mjModel, mjWarningStat};
use mujoco_rs::wrappers::mj_data::MjtWarning;
use mujoco_rs::wrappers::mj_model::MjModel;
use mujoco_sys::{
    mjBatch, mjBatchConfig, mjb_apply, mjb_deleteBatch, mjb_error, mjb_makeBatch, mjb_nstate,
    mjb_nthread, mjb_state, mjb_status, mjb_warning,
};

use crate::episode::{Memory, Rules, Step};
use crate::error::Error;
use crate::physics::{Simulation, World, instability};
use crate::poses::Recorder;
use crate::registry::{Spec, open};
use crate::scene::Scene;
use crate::state::{INTEGRATION, read, write};

/// Many copies of one of Gymnasium's MuJoCo tasks, stepped together on several threads.
///
/// The results of each copy are bit-identical to those of an [`Env`](crate::Env) with the same seed
/// and actions, for any number of threads. Arrays have one row per environment.
///
/// Finished environments are reset automatically as in Gymnasium's vector environments (`AutoresetMode
/// .NEXT_STEP`, their default): the step after an episode's last one ignores the environment's
/// action, resets it without a seed and returns the first observation of the new episode, with
/// reward 0, not terminated and not truncated. Such a step is not part of any episode:
/// [`BatchStep::reset`] marks it, so that it is not used for training.
///
/// [`reset`](Self::reset) and the steps do not allocate memory.
pub struct Batch {
    rules: Rules,
    memories: Vec<Memory>,
    pool: Pool,
    /// Used to check saved states.
    model: Arc<MjModel>,
}

/// Result of a step of one environment of a batch, besides the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchStep {
    /// The reward, with NumPy's rounding; 0 if the environment was reset.
    pub reward: f64,
    /// The episode ended in a terminal state, such as a fall, whose value is 0.
    pub terminated: bool,
    /// The time limit was reached; the state is not terminal.
    pub truncated: bool,
    /// The environment was reset instead of stepped, because its episode was over; the
    /// observation is the first of a new episode.
    pub reset: bool,
}

impl Batch {
    /// Makes `envs` copies of the task with its pinned model, stepped on `threads` threads
    /// including the caller's (0: the number of processors; at most the number of copies).
    ///
    /// # Errors
    /// Those of [`Env::make`](crate::Env::make), and [`Error::BatchSize`].
    pub fn make(id: &str, envs: usize, threads: usize) -> Result<Self, Error> {
        Self::build(id, None, envs, threads)
    }

    /// Makes the copies with the user's own MJCF file.
    ///
    /// # Errors
    /// Those of [`Env::make_with_model`](crate::Env::make_with_model), and [`Error::BatchSize`].
    pub fn make_with_model(
        id: &str,
        model: &Path,
        envs: usize,
        threads: usize,
    ) -> Result<Self, Error> {
        Self::build(id, Some(model), envs, threads)
    }

    fn build(id: &str, model: Option<&Path>, envs: usize, threads: usize) -> Result<Self, Error> {
        let (rules, model) = open(id, model)?;
        let refuse = |reason: String| Error::BatchSize { task: rules.spec.id.clone(), reason };
        if envs == 0 || threads > MOST_THREADS {
            let sizes = format!("{envs} environments on {threads} threads");
            return Err(refuse(format!("{sizes}: at least 1, and at most {MOST_THREADS}")));
        }
        let pool = Pool::make(&model, envs, threads).map_err(refuse)?;
        let memories = vec![Memory::new(rules.task.as_ref()); envs];
        Ok(Self { rules, memories, pool, model: Arc::new(model) })
    }

    /// Sizes, bounds and limits of the task.
    pub fn spec(&self) -> &Spec {
        &self.rules.spec
    }

    /// The number of environments.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.memories.len()
    }

    /// The number of threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Starts an episode in every environment and writes the first observations, one row of
    /// `obs_dim` numbers each.
    ///
    /// With seeds, one per environment, the random streams are re-seeded; without, they
    /// continue. The seeds of Gymnasium's `reset(seed=s)` are `s`, `s + 1`, `s + 2` and
    /// so on; a first reset without seeds uses `s = 0`.
    ///
    /// # Errors
    /// [`Error::InBatch`] with an [`Error::Simulation`]; that environment is not reset, the
    /// others are.
    ///
    /// # Panics
    /// If the number of seeds is not that of environments, or `observations` has the wrong size.
    pub fn reset(&mut self, seeds: Option<&[u64]>, observations: &mut [f64]) -> Result<(), Error> {
        let rules = &self.rules;
        let envs = self.memories.len();
        assert!(seeds.is_none_or(|seeds| seeds.len() == envs), "a seed for each environment");
        assert_eq!(observations.len(), envs * rules.spec.obs_dim, "size of `observations`");

        self.pool.select(0..envs);
        let memories = Rows::of(&mut self.memories, 1);
        let observations = Rows::of(observations, rules.spec.obs_dim);
        self.pool.run(&rules.spec.id, |i, world| {
            // SAFETY: there is a row for every environment, and `run` gives each to one thread.
            let (memory, observation) = unsafe { (&mut memories.get(i)[0], observations.get(i)) };
            let first = memory.random.is_none().then_some(i as u64);
            let seed = seeds.map(|seeds| seeds[i]).or(first);
            rules.reset(memory, world, seed, observation);
        })
    }

    /// Steps every environment with its row of `actions` and writes the new observations;
    /// environments whose episode is over are reset instead.
    ///
    /// Actions are treated as by [`Env::step`](crate::Env::step).
    ///
    /// # Errors
    /// [`Error::ActionLength`] (of all rows together), [`Error::NotReset`], or [`Error::InBatch`]
    /// with an [`Error::NonFiniteAction`] (ignored actions are not checked); the batch is then
    /// unchanged. [`Error::InBatch`] with an [`Error::Simulation`]; that environment is
    /// unchanged, the others were stepped.
    ///
    /// # Panics
    /// If `steps` or `observations` has the wrong size.
    pub fn step(
        &mut self,
        actions: &[f32],
        steps: &mut [BatchStep],
        observations: &mut [f64],
    ) -> Result<(), Error> {
        self.step_where(|_| true, actions, steps, observations)
    }

    /// [`step`](Self::step) for the environments with `active` true. The others and their rows
    /// are unchanged; their actions are ignored.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    ///
    /// # Panics
    /// If `active`, `steps` or `observations` has the wrong size.
    pub fn step_active(
        &mut self,
        active: &[bool],
        actions: &[f32],
        steps: &mut [BatchStep],
        observations: &mut [f64],
    ) -> Result<(), Error> {
        assert_eq!(active.len(), self.len(), "size of `active`");
        self.step_where(|i| active[i], actions, steps, observations)
    }

    fn step_where(
        &mut self,
        active: impl Fn(usize) -> bool,
        actions: &[f32],
        steps: &mut [BatchStep],
        observations: &mut [f64],
    ) -> Result<(), Error> {
        let rules = &self.rules;
        let Spec { id: task, act_dim, obs_dim, .. } = &rules.spec;
        let (act_dim, obs_dim) = (*act_dim, *obs_dim);
        let envs = self.memories.len();
        assert_eq!(steps.len(), envs, "size of `steps`");
        assert_eq!(observations.len(), envs * obs_dim, "size of `observations`");
        if actions.len() != envs * act_dim {
            let (found, expected) = (actions.len(), envs * act_dim);
            return Err(Error::ActionLength { task: task.clone(), found, expected });
        }
        let action = |i: usize| &actions[i * act_dim..][..act_dim];
        for i in (0..envs).filter(|&i| active(i)) {
            if !self.memories[i].begun(&rules.spec)?.over {
                rules.spec.check_action(action(i)).map_err(|cause| cause.of_environment(i))?;
            }
        }

        self.pool.select((0..envs).filter(|&i| active(i)));
        let memories = Rows::of(&mut self.memories, 1);
        let steps = Rows::of(steps, 1);
        let observations = Rows::of(observations, obs_dim);
        self.pool.run(task, |i, world| {
            // SAFETY: there is a row for every environment, and `run` gives each to one thread.
            let (memory, answer, observation) =
                unsafe { (&mut memories.get(i)[0], &mut steps.get(i)[0], observations.get(i)) };
            *answer = match memory.episode {
                Some(episode) if !episode.over => {
                    let step = rules.step(memory, world, action(i), observation);
                    let Step { reward, terminated, truncated } = step;
                    BatchStep { reward, terminated, truncated, reset: false }
                }
                _ => {
                    rules.reset(memory, world, None, observation);
                    BatchStep { reset: true, ..BatchStep::default() }
                }
            };
        })
    }

    /// [`Env::terms`](crate::Env::terms) of environment `index`.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn terms(&self, index: usize) -> impl Iterator<Item = f64> {
        self.rules.terms(&self.memories[index])
    }

    /// [`Env::check`](crate::Env::check) of environment `index`.
    ///
    /// # Errors
    /// [`Error::Diverged`] until its next reset.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn check(&self, index: usize) -> Result<(), Error> {
        match instability(self.pool.warnings(index)) {
            None => Ok(()),
            Some(warning) => Err(self.memories[index].diverged(&self.rules.spec, warning)),
        }
    }

    /// Ends the episode of environment `index`, for example because it diverged: its next step
    /// resets it.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn end_episode(&mut self, index: usize) {
        if let Some(episode) = &mut self.memories[index].episode {
            episode.over = true;
        }
    }

    /// [`Env::save_state`](crate::Env::save_state) of environment `index`. An
    /// [`Env`](crate::Env) can load it, and the other way round.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn save_state(&self, index: usize) -> Vec<u8> {
        let memory = &self.memories[index];
        write(&self.rules, memory, self.pool.warnings(index), self.pool.state(index))
    }

    /// [`Env::load_state`](crate::Env::load_state) of environment `index`.
    ///
    /// # Errors
    /// [`Error::State`] if the bytes are of another task, too short or too long; the environment
    /// is then unchanged.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn load_state(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let mut simulation = Simulation::new(Arc::clone(&self.model));
        self.memories[index] = read(&self.rules, bytes, &mut simulation)?;
        self.pool.state_mut(index).copy_from_slice(&simulation.state(INTEGRATION));
        self.pool.warnings_mut(index).clone_from_slice(simulation.warning());
        Ok(())
    }
}

/// To be seen: what the robot looks like and where its parts are.
impl Batch {
    /// The shapes of the model.
    pub fn scene(&self) -> Scene {
        Scene::of(&self.model)
    }

    /// What [`look`](Self::look) needs.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.model))
    }

    /// Computes the poses and contacts of environment `index` into the recorder. They are of the
    /// state after the last step, and the batch does not change: results are the same to the bit
    /// whether it is looked at or not.
    ///
    /// # Panics
    /// If there is no such environment, or the recorder is of another batch's model.
    pub fn look(&self, index: usize, recorder: &mut Recorder) {
        recorder.take(self.pool.state(index));
    }

    /// MuJoCo's state of environment `index` after the last step.
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn state(&self, index: usize) -> &[f64] {
        self.pool.state(index)
    }

    /// The model.
    #[cfg(feature = "render")]
    pub(crate) fn model(&self) -> &MjModel {
        &self.model
    }
}

/// A larger number is a mistake, and failing to start threads would end the program.
const MOST_THREADS: usize = 1024;

/// MuJoCo's batch: states of simulations, and threads to step them.
///
/// It has one `mjData` per thread, not per simulation: a step needs only the state, and its results
/// are read before the thread steps another simulation. So the working set stays in the processor's
/// cache for any number of simulations.
struct Pool {
    batch: NonNull<mjBatch>,
    /// The simulations that [`run`](Self::run) works on, in order.
    selected: Vec<c_int>,
    simulations: usize,
}

// SAFETY: MuJoCo allows a batch to be used by one thread after another; only its own threads share
// it, under its own locks and during a call.
unsafe impl Send for Pool {}

impl Pool {
    fn make(model: &MjModel, simulations: usize, threads: usize) -> Result<Self, String> {
        let nsim =
            c_int::try_from(simulations).map_err(|_| format!("{simulations} are too many"))?;
        let config = mjBatchConfig { nthread: threads as c_int, persistent: false };
        let mut message: [c_char; 1000] = [0; 1000];
        let size = message.len() as c_int;
        // SAFETY: the model is valid, and copied; `message` has the given length, and MuJoCo
        // terminates it with a zero.
        unsafe {
            let batch = mjb_makeBatch(model.ffi(), nsim, &config, message.as_mut_ptr(), size);
            let batch = NonNull::new(batch)
                .ok_or_else(|| CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned())?;
            Ok(Self { batch, selected: Vec::with_capacity(simulations), simulations })
        }
    }

    fn threads(&self) -> usize {
        // SAFETY: the batch is valid until `drop`, here and in the functions that follow.
        unsafe { mjb_nthread(self.batch.as_ptr()) as usize }
    }

    /// Selects the simulations that [`run`](Self::run) works on, in ascending order.
    fn select(&mut self, simulations: impl Iterator<Item = usize>) {
        self.selected.clear();
        self.selected.extend(simulations.map(|i| i as c_int));
    }

    /// Calls `work` once for each selected simulation, with its index, on any thread.
    ///
    /// An error within MuJoCo ends `work` for that simulation only: MuJoCo unwinds its frames with
    /// `longjmp` and leaves the state unchanged. Therefore `work` must have nothing to drop while
    /// it calls MuJoCo; Rust allows the jump in that case (RFC 2945, "plain old frames").
    fn run<F>(&mut self, task: &str, work: F) -> Result<(), Error>
    where
        F: Fn(usize, &mut World) + Sync,
    {
        unsafe extern "C" fn call<F>(
            model: *const mjModel,
            data: *mut mjData,
            simulation: c_int,
            work: *mut c_void,
        ) where
            F: Fn(usize, &mut World) + Sync,
        {
            // SAFETY: `work` is the `F` below, shared by the threads while `mjb_apply` runs; model
            // and data belong to this thread until `call` returns.
            let (work, mut world) = unsafe { (&*work.cast::<F>(), World::new(model, data)) };
            work(simulation as usize, &mut world);
        }

        let work: *const F = &raw const work;
        // SAFETY: the indices are sorted, unique and in range, as `select`'s callers ensure; `call`
        // gets the `F` that it expects, alive during the call.
        let failed = unsafe {
            let (ids, count) = (self.selected.as_ptr(), self.selected.len() as c_int);
            mjb_apply(self.batch.as_ptr(), ids, count, Some(call::<F>), work.cast_mut().cast(), 1)
        };
        if failed == 0 { Ok(()) } else { Err(self.failure(task)) }
    }

    /// The first error of the last call, which must have had one.
    fn failure(&self, task: &str) -> Error {
        // SAFETY: `mjb_status` has a number for every simulation; `mjb_error` returns a C string that
        // is valid until the next call.
        unsafe {
            let status = mjb_status(self.batch.as_ptr());
            let status = slice::from_raw_parts(status, self.simulations);
            let failed = self.selected.iter().find(|&&i| status[i as usize] != 0);
            let failed = *failed.expect("a simulation failed");
            let message = CStr::from_ptr(mjb_error(self.batch.as_ptr(), failed));
            let message = crate::messages::one_line(&message.to_string_lossy());
            Error::Simulation { task: task.to_owned(), message }.of_environment(failed as usize)
        }
    }

    /// The state of a simulation, `mjSTATE_INTEGRATION`.
    fn state(&self, simulation: usize) -> &[f64] {
        let row = self.state_row(simulation);
        // SAFETY: `row` is valid, and nothing writes while `self` is borrowed.
        unsafe { &*row }
    }

    fn state_mut(&mut self, simulation: usize) -> &mut [f64] {
        let row = self.state_row(simulation);
        // SAFETY: `row` is valid, and nothing else uses it while `self` is borrowed.
        unsafe { &mut *row }
    }

    fn state_row(&self, simulation: usize) -> *mut [f64] {
        assert!(simulation < self.simulations, "no environment {simulation}");
        // SAFETY: there are `simulations` rows of `mjb_nstate` numbers.
        unsafe {
            let width = mjb_nstate(self.batch.as_ptr()) as usize;
            let row = mjb_state(self.batch.as_ptr()).add(simulation * width);
            ptr::slice_from_raw_parts_mut(row, width)
        }
    }

    /// MuJoCo's counts of warnings of a simulation.
    fn warnings(&self, simulation: usize) -> &[mjWarningStat] {
        let row = self.warnings_row(simulation);
        // SAFETY: `row` is valid, and nothing writes while `self` is borrowed.
        unsafe { &*row }
    }

    fn warnings_mut(&mut self, simulation: usize) -> &mut [mjWarningStat] {
        let row = self.warnings_row(simulation);
        // SAFETY: `row` is valid, and nothing else uses it while `self` is borrowed.
        unsafe { &mut *row }
    }

    fn warnings_row(&self, simulation: usize) -> *mut [mjWarningStat] {
        const KINDS: usize = MjtWarning::mjNWARNING as usize;
        assert!(simulation < self.simulations, "no environment {simulation}");
        // SAFETY: there are `simulations` rows of `mjNWARNING` counts.
        unsafe {
            let row = mjb_warning(self.batch.as_ptr()).add(simulation * KINDS);
            ptr::slice_from_raw_parts_mut(row, KINDS)
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: this is the batch's last use.
        unsafe { mjb_deleteBatch(self.batch.as_ptr()) }
    }
}

/// The rows of a slice, for threads that each use different rows.
struct Rows<'a, T> {
    first: *mut T,
    rows: usize,
    width: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: threads access the slice only through `get`, whose callers use different rows.
unsafe impl<T: Send> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    fn of(slice: &'a mut [T], width: usize) -> Self {
        let rows = slice.len() / width;
        Self { first: slice.as_mut_ptr(), rows, width, slice: PhantomData }
    }

    /// # Safety
    /// A row must not be in use twice at the same time.
    unsafe fn get(&self, row: usize) -> &'a mut [T] {
        assert!(row < self.rows);
        // SAFETY: the row is within the slice, and the caller ensures exclusive use.
        unsafe { slice::from_raw_parts_mut(self.first.add(row * self.width), self.width) }
    }
}
