//! The training loop: one agent, one replay, and environments that step together.

use crate::base::console::message;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use crate::base::text::bytes;
use crate::train::checkpoint::{
    self, Checkpoints, Counters, EnvironmentState, Identity, RunState, Streams,
};
use crate::train::evaluator::{Evaluator, to_rows, wrong_action};
use crate::train::history;
use crate::train::interval::Interval;
use crate::train::logs::{EVAL, Logs, TRAIN, is_empty, log};
use crate::train::memory;
use crate::train::progress::Progress;
use crate::train::rollout::Rollout;
use crate::train::run_folder::RunFolder;
use crate::train::settings::TrainConfig;
use agent::{ActMode, Agent, Batch, CapturedUpdates, DeviceReplay, Metrics, stream};
use networks::tensor_from;
use rand::RngExt;
use replay::{Replay, Sample, Shape};
use report::EvalRow;
use std::fs;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Updates after which all buffers are allocated.
const FIRST_UPDATES: u64 = 100;
/// Values are bounded by the largest reward / (1 - gamma), apart from an entropy bonus
/// and errors of the critics. Beyond 100 times that bound, training has diverged.
const EXPLODED: f64 = 100.0;
/// Most updates on a GPU before their metrics are read.
const UNREAD_UPDATES: usize = 1000;

/// The parts of a run that do not depend on whether it begins or is resumed.
pub struct Parts<'a> {
    pub identity: Identity,
    /// The run's name for people.
    pub label: String,
    pub config: &'a TrainConfig,
    pub folder: &'a RunFolder,
    pub rollout: Rollout,
    pub evaluator: Evaluator,
    pub agent: Box<dyn Agent>,
    /// Names of the metrics of the agent's updates, then of the terms of the task's reward.
    pub metrics: Vec<String>,
    /// The critics' discount, which with the rewards bounds the values.
    pub gamma: f64,
    /// The updates as CUDA graphs; None where they are none.
    pub graphs: Option<CapturedUpdates>,
    pub device: Device,
    pub stop: Stop,
}

/// A run in progress.
pub struct Run<'a> {
    parts: Parts<'a>,
    replay: Replay,
    /// A copy of the replay on the device, if the settings ask for it.
    device_replay: Option<DeviceReplay>,
    streams: Streams,
    counters: Counters,
    interval: Interval,
    /// Metrics of updates that are still on the device.
    unread: Vec<Metrics>,
    sample: Sample,
    logs: Logs,
    checkpoints: Checkpoints,
    progress: Progress,
    clock: Clock,
    /// Memory of the process after the first updates; it should not grow from there.
    settled_memory: Option<u64>,
}

/// The time that a run takes, from a monotonic clock.
struct Clock {
    begun: Instant,
    /// Seconds of work before the run was resumed.
    before: f64,
    /// Time and step of the last checkpoint.
    saved: (Instant, u64),
    /// Number of checkpoints made by this process, and the time that they took.
    saving: (u32, Duration),
}

impl Clock {
    fn new(before: f64, step: u64) -> Self {
        let now = Instant::now();
        Self { begun: now, before, saved: (now, step), saving: (0, Duration::ZERO) }
    }

    fn wall_s(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}

impl<'a> Run<'a> {
    /// Begins a run: resets the environments and makes a first checkpoint.
    ///
    /// # Errors
    /// Too little disk or memory, or a file that can't be written.
    pub fn begin(parts: Parts<'a>) -> Outcome<Self> {
        let shape = replay_shape(parts.config, parts.rollout.spec());
        let checkpoints = Checkpoints::open(parts.folder.path())?;
        let room = memory::check(parts.folder.path(), &shape)?;
        let path = checkpoints.replay();
        let replay = Replay::create(&path, shape)
            .map_err(|error| Failure::file(&path, "reserve the replay's space", error))?;
        let seed = parts.identity.seed;
        let streams = Streams {
            exploration: stream(seed, "exploration"),
            replay: stream(seed, "replay"),
            learning: stream(seed, "learning"),
        };
        let logs = Logs::create(parts.folder.path(), parts.config.tensorboard)?;
        let mut run = Self::new(parts, replay, streams, checkpoints, logs);
        run.progress.note(0, &room);
        run.parts.rollout.reset(seed, &mut run.replay)?;
        run.save()?;
        Ok(run)
    }

    /// Resumes from the newest checkpoint that is intact. A damaged one is reported on
    /// stderr, and the one before is used.
    ///
    /// # Errors
    /// There is none, or a file that can't be read or written.
    pub fn resume(mut parts: Parts<'a>) -> Outcome<Self> {
        let mut checkpoints = Checkpoints::open(parts.folder.path())?;
        let steps = checkpoint::steps(&parts.folder.path().join(checkpoint::FOLDER))?;
        let logs = [log(parts.folder.path(), TRAIN), log(parts.folder.path(), EVAL)];
        if steps.is_empty() && logs.iter().all(|log| is_empty(log)) {
            // The process died before its first checkpoint and left no results.
            for leftover in [&checkpoints.replay(), &logs[0], &logs[1]] {
                let _ = fs::remove_file(leftover);
            }
            return Self::begin(parts);
        }
        let (path, shape) =
            (checkpoints.replay(), replay_shape(parts.config, parts.rollout.spec()));
        if fs::metadata(&path).is_ok_and(|file| file.len() < shape.bytes()) {
            memory::check(parts.folder.path(), &shape)?; // the run was shorter: its replay will grow
        }
        let mut problem = None;
        for step in steps {
            match load(&mut parts, &checkpoints, step) {
                Ok((state, replay)) => {
                    checkpoints.resumed(step)?;
                    let logs = Logs::resume(parts.folder.path(), &state, parts.config.tensorboard)?;
                    let run = Self::new(parts, replay, state.streams, checkpoints, logs);
                    let step = state.counters.step;
                    run.progress.at(step);
                    run.progress.note(step, "resumed from a checkpoint");
                    let clock = Clock::new(state.wall_s, step);
                    return Ok(Self {
                        counters: state.counters,
                        interval: state.interval,
                        clock,
                        ..run
                    });
                }
                Err(error) => {
                    message(format!("warning: {error}"));
                    problem.get_or_insert(error);
                }
            }
        }
        let problem = problem.unwrap_or_else(|| "there is none".into());
        Err(Failure::Usage(format!(
            "{}: no checkpoint to resume from ({problem}); --restart begins again and keeps this \
             run as seed-N.old-K",
            parts.folder.path().display()
        )))
    }

    /// A run at step 0.
    fn new(
        parts: Parts<'a>,
        replay: Replay,
        streams: Streams,
        checkpoints: Checkpoints,
        logs: Logs,
    ) -> Self {
        let (config, spec) = (parts.config, parts.rollout.spec());
        let on_device = || DeviceReplay::new(&replay, parts.device);
        Self {
            device_replay: config.replay_on_device.then(on_device),
            sample: Sample::new(config.batch_size, spec.obs_dim, spec.act_dim),
            progress: Progress::new(&parts.label, config.steps),
            clock: Clock::new(0.0, 0),
            counters: Counters::default(),
            interval: Interval::new(parts.metrics.iter().map(String::as_str)),
            unread: Vec::new(),
            settled_memory: None,
            parts,
            replay,
            streams,
            checkpoints,
            logs,
        }
    }

    /// The step that the run is at.
    pub fn step(&self) -> u64 {
        self.counters.step
    }

    /// Trains to the end, or until a stop is requested. The files that only a resumed run
    /// needs are kept: the caller marks the run as done before it deletes them.
    ///
    /// # Errors
    /// [`Failure::Stopped`], training that diverged, or a file that can't be written.
    pub fn run_to_end(mut self) -> Outcome<Checkpoints> {
        loop {
            if self.counters.evaluation_due && self.evaluate()? {
                self.counters.evaluation_due = false;
            }
            let step = self.counters.step;
            let finished = step >= self.parts.config.steps && !self.counters.evaluation_due;
            if finished {
                break;
            }
            if self.parts.stop.asked() {
                self.save()?;
                self.progress.finish();
                return Err(Failure::Stopped(format!(
                    "at step {step} with a checkpoint; the same command resumes"
                )));
            }
            let kept_due = history::due(
                self.parts.folder.path(),
                step,
                self.parts.config.show_every,
                self.parts.config.envs as u64,
            );
            if kept_due || self.checkpoint_due() {
                self.save()?;
            }
            if kept_due {
                history::keep(self.parts.folder.path(), step, &self.checkpoints.at(step))?;
            }
            self.advance()?;
        }
        self.save()?;
        self.summarise();
        self.progress.finish();
        Ok(self.checkpoints)
    }

    /// Prints the time of the run, of its checkpoints, and its memory.
    fn summarise(&self) {
        let (count, time) = self.clock.saving;
        let seconds = time.as_secs_f64();
        // Without an update there is no memory after the first.
        let settled = self
            .settled_memory
            .map(|count| format!(" was {} after the first updates and", bytes(count)));
        self.progress.note(
            self.counters.step,
            &format!(
                "done in {:.1} min; {count} checkpoints took {:.2} s each, {:.2} % of the time; memory \
                 without the replay{} is {}",
                self.clock.wall_s() / 60.0,
                seconds / f64::from(count),
                100.0 * seconds / self.clock.begun.elapsed().as_secs_f64(),
                settled.unwrap_or_default(),
                memory::resident().map_or("unknown".into(), bytes),
            ),
        );
    }

    /// One step of every environment, then the updates and the row that are due.
    fn advance(&mut self) -> Outcome<()> {
        let config = self.parts.config;
        let n = self.parts.rollout.count() as u64;
        let before = self.counters.step;
        let step = before + n;
        self.counters.step = step;
        let warm = step > config.warmup_steps;
        self.interact(warm)?;
        if warm {
            self.counters.due += n as f64 * config.updates_per_step;
        }
        if self.counters.due >= 1.0 && self.replay.is_empty() {
            return Err(Failure::Failed(format!(
                "the simulation diverged in every step so far, {step} of them: nothing can be \
                 learned with this model"
            )));
        }
        while self.counters.due >= 1.0 {
            self.counters.due -= 1.0;
            self.counters.updates += 1;
            let measured = self.update()?;
            self.unread.push(measured);
            // Reading waits for the device; on the CPU there is nothing to wait for.
            if self.parts.device == Device::Cpu || self.unread.len() >= UNREAD_UPDATES {
                self.read()?;
            }
        }
        if self.settled_memory.is_none() && self.counters.updates >= FIRST_UPDATES {
            self.settled_memory = memory::resident();
        }
        self.progress.at(step);
        // With several environments, a step may skip the multiple itself.
        let last = step >= config.steps;
        let reached = |every: u64| step / every > before / every || last;
        if reached(config.log_interval) {
            self.read()?;
            let Counters { updates, episodes, .. } = self.counters;
            let row = self.interval.row(step, updates, episodes, self.clock.wall_s());
            self.progress.measured(row.return_mean, row.steps_per_s);
            self.parts.folder.check_still_ours()?;
            self.logs.train(&row)?;
        }
        self.counters.evaluation_due = reached(config.eval_interval);
        Ok(())
    }

    /// One step of every environment into the replay.
    fn interact(&mut self, warm: bool) -> Outcome<()> {
        let actions = self.explore(warm)?;
        let step = self.counters.step;
        let stepped = self.parts.rollout.step(step, &actions, &mut self.replay)?;
        self.parts.agent.observe_returns(&stepped.returns);
        let largest = &mut self.counters.largest_reward;
        *largest = largest.max(stepped.largest_reward);
        let names = self.parts.rollout.term_metrics().iter();
        for (name, (sum, count)) in names.zip(&stepped.terms) {
            self.interval.term(name, *sum, *count);
        }
        for what in stepped.diverged {
            // Further ones are only counted, in train.csv.
            if self.interval.diverged() {
                let ends = "the episode ends without that step";
                self.progress.note(step, &format!("warning: {what}; {ends}"));
            }
        }
        for (total, length) in stepped.ended {
            self.counters.episodes += 1;
            self.interval.episode(total, length);
        }
        Ok(())
    }

    /// Actions (n, act_dim) in [-1, 1]: uniform ones until the warm-up is over.
    fn explore(&mut self, warm: bool) -> Outcome<Vec<f32>> {
        let (rollout, rng) = (&self.parts.rollout, &mut self.streams.exploration);
        let (n, spec) = (rollout.count(), rollout.spec());
        if !warm {
            let count = n * spec.act_dim;
            return Ok((0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect());
        }
        let shape = [n as i64, spec.obs_dim as i64];
        let obs = tensor_from(rollout.observations(), &shape, self.parts.device);
        let actions = to_rows(&self.parts.agent.act(&obs, ActMode::Explore, rng));
        match wrong_action(spec, &actions) {
            Some(what) => Err(self.diverged(&what)),
            None => Ok(actions),
        }
    }

    /// One update from the replay.
    fn update(&mut self) -> Outcome<Metrics> {
        let rng = &mut self.streams.replay;
        let batch = match &mut self.device_replay {
            Some(copy) => {
                copy.follow(&mut self.replay);
                copy.sample(&self.replay, self.parts.config.batch_size, rng)
            }
            None => {
                self.replay.sample(rng, &mut self.sample);
                Batch::from_sample(&self.sample, self.parts.device)
            }
        };
        let Parts { config, agent, graphs, .. } = &mut self.parts;
        let rng = &mut self.streams.learning;
        match graphs {
            Some(graphs) => graphs.update(agent.as_mut(), &batch, rng).map_err(without_graphs),
            None => Ok(config.precision.during(|| agent.update(&batch, rng))),
        }
    }

    /// Reads the metrics of the updates since the last call.
    fn read(&mut self) -> Outcome<()> {
        for measured in self.unread.drain(..).collect::<Vec<_>>() {
            let metrics = measured.read().map_err(|error| self.diverged(&error.to_string()))?;
            let reward = self.counters.largest_reward;
            let gamma = self.parts.gamma;
            let bound = reward.max(1.0) / (1.0 - gamma).max(1e-6);
            let mut values = metrics.iter().filter(|(name, _)| name.ends_with("q_mean"));
            if let Some((name, q)) = values.find(|(_, q)| q.abs() > EXPLODED * bound) {
                return Err(self.diverged(&format!(
                    "{name} is {q:.3e}, over {EXPLODED} times what the largest reward \
                     ({reward:.3}) allows at gamma {gamma}"
                )));
            }
            self.interval.update(&metrics);
        }
        Ok(())
    }

    fn diverged(&self, what: &str) -> Failure {
        let by = if self.parts.device == Device::Cpu { "at" } else { "by" };
        Failure::Failed(format!(
            "training diverged {by} step {}: {what}; rows and the last good checkpoint are in {}; \
             a smaller learning rate usually helps",
            self.counters.step,
            self.parts.folder.path().display()
        ))
    }

    /// Evaluates in all modes; returns false if a stop was requested before the end.
    fn evaluate(&mut self) -> Outcome<bool> {
        let step = self.counters.step;
        let mut rows = Vec::new();
        let Parts { config, evaluator, agent, stop, .. } = &mut self.parts;
        for mode in config.modes().map_err(Failure::Usage)? {
            let found = match evaluator.run(agent.as_ref(), mode, stop) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(false),
                Err(Failure::Diverged(what)) => return Err(self.diverged(&what)),
                Err(failure) => return Err(failure),
            };
            if let Some(remark) = found.remark() {
                self.progress.note(step, &format!("warning: {remark}"));
            }
            let wall_s = self.clock.wall_s();
            rows.push(EvalRow::summarise(step, mode.to_string(), &found.episodes, wall_s));
        }
        self.parts.folder.check_still_ours()?;
        rows.iter().try_for_each(|row| self.logs.eval(row))?;
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{} {:.1}", row.mode, row.return_mean)).collect();
        let minutes = self.clock.wall_s() / 60.0;
        self.progress.note(step, &format!("return {} ({minutes:.1} min)", shown.join(", ")));
        Ok(true)
    }

    /// Whether a checkpoint is due by steps or by time.
    fn checkpoint_due(&self) -> bool {
        let (config, step) = (self.parts.config, self.counters.step);
        let (at, saved) = self.clock.saved;
        let every = config.checkpoint_interval;
        let minutes = at.elapsed().as_secs_f64() / 60.0;
        step / every > saved / every || step > saved && minutes >= config.checkpoint_minutes
    }

    /// Makes a checkpoint of the current step.
    fn save(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        self.read()?;
        self.parts.folder.check_still_ours()?;
        let path = self.checkpoints.replay();
        self.replay.flush().map_err(|error| Failure::file(&path, "write", error))?;
        let [train_csv, eval_csv] = self.logs.marks(self.clock.wall_s())?;
        let state = RunState {
            identity: self.parts.identity.clone(),
            counters: self.counters,
            streams: self.streams.clone(),
            environments: self.parts.rollout.save(&self.replay.cursors()),
            replay_ring: Some(self.replay.shape().ring()),
            interval: self.interval.clone(),
            train_csv,
            eval_csv,
            wall_s: self.clock.wall_s(),
        };
        self.checkpoints.save(&state, self.parts.agent.as_ref())?;
        self.clock.saved = (Instant::now(), self.counters.step);
        let (count, time) = self.clock.saving;
        self.clock.saving = (count + 1, time + begun.elapsed());
        Ok(())
    }
}

/// Loads the checkpoint at a step into the parts of a run. All of it is checked before a
/// file is changed.
///
/// # Errors
/// One line: what is damaged, and how.
fn load(
    parts: &mut Parts,
    checkpoints: &Checkpoints,
    step: u64,
) -> Result<(RunState, Replay), String> {
    let folder = checkpoints.at(step);
    let (state, tensors): (RunState, Vec<(String, Tensor)>) =
        checkpoint::read(&folder, &parts.identity)?;
    let at = |what: &dyn std::fmt::Display| format!("{}: {what}", folder.display());
    if !(0.0..1.0).contains(&state.counters.due) {
        return Err(at(&format!("damaged: {} updates are due", state.counters.due)));
    }
    let names = Interval::new(parts.metrics.iter().map(String::as_str));
    if !names.continues(&state.interval) {
        return Err(at(&format!(
            "metrics {}, this version has {}: continue with the version that began the run, or \
             begin again with --restart",
            state.interval.names().join(", "),
            names.names().join(", ")
        )));
    }
    for (name, mark) in [(TRAIN, &state.train_csv), (EVAL, &state.eval_csv)] {
        let path = log(parts.folder.path(), name);
        mark.check(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    parts.agent.load(&tensors).map_err(|error| at(&error))?;
    parts.rollout.load(&state.environments).map_err(|error| at(&error))?;
    let cursors: Vec<_> = state.environments.iter().map(EnvironmentState::cursor).collect();
    let (path, shape) = (checkpoints.replay(), replay_shape(parts.config, parts.rollout.spec()));
    let damaged = |error| format!("{}: damaged: {error}", path.display());
    // A run that has become longer may need longer rings than it had. (If the process died after they
    // had grown and before a checkpoint, they are longer than in the checkpoint.)
    let length = fs::metadata(&path).map_or(0, |file| file.len());
    let slot = shape.bytes() / shape.ring() as u64; // bytes of one slot of every ring
    let ring = usize::try_from(length / slot).unwrap_or(usize::MAX);
    let whole = length.is_multiple_of(slot) && state.replay_ring.is_some_and(|least| least <= ring);
    if whole && ring < shape.ring() {
        let from = Shape { window: ring, spare: 0, ..shape };
        let written: Vec<u64> = cursors.iter().map(|cursor| cursor.written).collect();
        Replay::grow(&path, from, shape, &written).map_err(damaged)?;
    }
    let replay = Replay::open(&path, shape, &cursors).map_err(damaged)?;
    Ok((state, replay))
}

/// What to do about an update that is wrong as a CUDA graph, or can't be one.
pub fn without_graphs(why: String) -> Failure {
    Failure::Failed(format!(
        "an update as a CUDA graph: {why}; `--set train.cuda_graph=false` trains without, and the same \
         command with it resumes a run"
    ))
}

/// The sizes of the replay. A run with fewer steps than the capacity needs room for its
/// own steps only: two slots each, as a step that ends an episode takes a second one.
pub fn replay_shape(config: &TrainConfig, spec: &envs::Spec) -> Shape {
    let envs = config.envs;
    let slots = |steps: u64| steps.div_ceil(envs as u64).saturating_add(1).saturating_mul(2);
    let ever = usize::try_from(slots(config.steps)).unwrap_or(usize::MAX / 2);
    let window = (config.replay_capacity / envs).min(ever);
    // Two checkpoints are kept: what is written after the older one must not
    // overwrite the slots that it refers to.
    let spare = usize::try_from(slots(config.checkpoint_interval).saturating_mul(2));
    let spare = spare.unwrap_or(usize::MAX).min(ever - window);
    Shape { envs, window, spare, obs_dim: spec.obs_dim, act_dim: spec.act_dim }
}
