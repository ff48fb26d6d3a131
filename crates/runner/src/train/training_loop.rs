//! A run under way: one replay, one agent, and environments that step together.

use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use crate::train::checkpoint::{
    self, Checkpoints, Counters, EnvironmentState, Identity, RunState, Streams,
};
use crate::train::evaluator::{ActionScale, Evaluator, mode_name, to_rows};
use crate::train::interval::Interval;
use crate::train::logs::{EVAL, Logs, TRAIN, is_empty, log};
use crate::train::memory;
use crate::train::progress::Progress;
use crate::train::settings::TrainConfig;
use agent::{Agent, Batch, DeviceReplay, Metrics, stream};
use envs::{Batch as Envs, BatchStep};
use ndarray::aview1;
use networks::tensor_from;
use rand::RngExt;
use replay::{Replay, Sample, Shape};
use report::EvalRow;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Updates after which every buffer has been used.
const FIRST_UPDATES: u64 = 100;
/// No value is further from 0 than the largest reward / (1 - gamma), but for an
/// entropy bonus and errors; so many times as far, it is garbage.
const EXPLODED: f64 = 100.0;
/// Updates on a GPU whose measurements may wait to be read.
const UNREAD_UPDATES: usize = 1000;

/// What a run is made of.
pub struct Parts<'a> {
    pub identity: Identity,
    pub train: &'a TrainConfig,
    pub folder: &'a Path,
    pub envs: Envs,
    pub evaluator: Evaluator,
    pub agent: Box<dyn Agent>,
    /// Names of what its updates measure.
    pub metrics: Vec<&'static str>,
    /// The critics' discount: with the rewards, it bounds what values can be.
    pub gamma: f64,
    pub device: Device,
    pub stop: Stop,
}

/// Where a run is, and all that it works with.
pub struct Run<'a> {
    identity: Identity,
    train: &'a TrainConfig,
    folder: &'a Path,
    envs: Envs,
    evaluator: Evaluator,
    agent: Box<dyn Agent>,
    gamma: f64,
    device: Device,
    stop: Stop,

    replay: Replay,
    /// Its copy on the device, where that is asked for.
    device_replay: Option<DeviceReplay>,
    streams: Streams,
    counters: Counters,
    interval: Interval,
    /// What updates measured and nobody has read yet.
    unread: Vec<Metrics>,
    rollout: Rollout,
    sample: Sample,

    logs: Logs,
    checkpoints: Checkpoints,
    progress: Progress,
    clock: Clock,
    /// Memory of the process once every buffer has been used: from here on it should not grow.
    settled: Option<u64>,
}

/// Where the environments are: a row, or an entry, for each.
struct Rollout {
    /// Observations as the simulator gives them.
    obs: Vec<f64>,
    /// The same in the precision of replay and networks.
    obs_f32: Vec<f32>,
    /// Return and length of each episode so far.
    episodes: Vec<(f64, u32)>,
    /// What the last step gave.
    steps: Vec<BatchStep>,
}

impl Rollout {
    fn new(envs: &Envs) -> Self {
        let (n, width) = (envs.len(), envs.spec().obs_dim);
        Self {
            obs: vec![0.0; n * width],
            obs_f32: vec![0.0; n * width],
            episodes: vec![(0.0, 0); n],
            steps: vec![BatchStep::default(); n],
        }
    }
}

/// Time, on a clock that only goes forward.
struct Clock {
    begun: Instant,
    /// Seconds of work before the last stop.
    before: f64,
    /// When and at which step the last checkpoint was made.
    saved: (Instant, u64),
    /// Checkpoints made by this process, and the time that they took.
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
    /// Begins: every environment is reset, and there is a first checkpoint.
    ///
    /// # Errors
    /// The machine has too little room, or a file can't be written.
    pub fn begin(parts: Parts<'a>) -> Outcome<Self> {
        let shape = shape(parts.train, parts.envs.spec());
        let checkpoints = Checkpoints::open(parts.folder)?;
        let needs = memory::check(parts.folder, &shape)?;
        let path = checkpoints.replay();
        let replay = Replay::create(&path, shape)
            .map_err(|error| Failure::file(&path, "reserve the replay's space", error))?;
        let seed = parts.identity.seed;
        let streams = Streams {
            exploration: stream(seed, "exploration"),
            replay: stream(seed, "replay"),
            learning: stream(seed, "learning"),
        };
        let logs = Logs::create(parts.folder, parts.train.tensorboard)?;
        let mut run = Self::assemble(parts, replay, streams, checkpoints, logs, 0.0);
        run.progress.note(0, &needs);
        run.reset()?;
        run.save()?;
        Ok(run)
    }

    /// Goes on from the newest checkpoint that is good. One that is damaged is
    /// named on stderr, and the one before is used.
    ///
    /// # Errors
    /// There is none, or a file can't be used.
    pub fn resume(mut parts: Parts<'a>) -> Outcome<Self> {
        let mut checkpoints = Checkpoints::open(parts.folder)?;
        let steps = checkpoint::steps(&parts.folder.join("checkpoint"))?;
        let logs = [log(parts.folder, TRAIN), log(parts.folder, EVAL)];
        if steps.is_empty() && logs.iter().all(|log| is_empty(log)) {
            // The process died before its first checkpoint, and has left no result.
            for leftover in [&checkpoints.replay(), &logs[0], &logs[1]] {
                let _ = fs::remove_file(leftover);
            }
            return Self::begin(parts);
        }
        let mut problem = None;
        for step in steps {
            match restore(&mut parts, &checkpoints, step) {
                Ok((state, replay)) => {
                    checkpoints.resumed(step);
                    let logs = Logs::resume(parts.folder, &state, parts.train.tensorboard)?;
                    let (streams, wall_s) = (state.streams.clone(), state.wall_s);
                    let mut run = Self::assemble(parts, replay, streams, checkpoints, logs, wall_s);
                    run.restore(state);
                    return Ok(run);
                }
                Err(error) => {
                    eprintln!("warning: {error}");
                    problem.get_or_insert(error);
                }
            }
        }
        let problem = problem.unwrap_or_else(|| "there is none".into());
        Err(Failure::Usage(format!(
            "{}: no checkpoint to go on from ({problem}); --restart begins anew and keeps this run \
             beside it",
            parts.folder.display()
        )))
    }

    fn assemble(
        parts: Parts<'a>,
        replay: Replay,
        streams: Streams,
        checkpoints: Checkpoints,
        logs: Logs,
        wall_s: f64,
    ) -> Self {
        let Parts { identity, train, folder, envs, evaluator, agent, metrics, gamma, device, stop } =
            parts;
        let spec = envs.spec();
        let label = format!("{} {} seed {}", identity.algo, identity.env, identity.seed);
        let on_device = || DeviceReplay::new(&replay, spec.obs_dim, spec.act_dim, device);
        Self {
            identity,
            train,
            folder,
            device_replay: train.replay_on_device.then(on_device),
            replay,
            streams,
            counters: Counters::default(),
            interval: Interval::new(metrics),
            unread: Vec::new(),
            rollout: Rollout::new(&envs),
            sample: Sample::new(train.batch_size, spec.obs_dim, spec.act_dim),
            logs,
            checkpoints,
            progress: Progress::new(&label, train.steps),
            clock: Clock::new(wall_s, 0),
            settled: None,
            envs,
            evaluator,
            agent,
            gamma,
            device,
            stop,
        }
    }

    /// Takes over the small things of a checkpoint.
    fn restore(&mut self, state: RunState) {
        let width = self.envs.spec().obs_dim;
        for (i, environment) in state.environments.iter().enumerate() {
            self.rollout.obs[i * width..][..width].copy_from_slice(&environment.obs);
            self.rollout.episodes[i] = environment.episode;
        }
        round(&self.rollout.obs, &mut self.rollout.obs_f32);
        self.counters = state.counters;
        self.interval = state.interval;
        self.clock.saved.1 = self.counters.step;
        self.progress.at(self.counters.step);
        self.progress.note(self.counters.step, "goes on from the checkpoint here");
    }

    /// The step that the run is at.
    pub fn step(&self) -> u64 {
        self.counters.step
    }

    /// Trains to the end, or until somebody asks to stop. What only a run that goes
    /// on needs is still there: the caller marks the run as done first.
    ///
    /// # Errors
    /// [`Failure::Stopped`], a run that diverged, or a file that can't be written.
    pub fn all(mut self) -> Outcome<Checkpoints> {
        loop {
            if self.counters.evaluation_due && self.evaluate()? {
                self.counters.evaluation_due = false;
            }
            let step = self.counters.step;
            let finished = step >= self.train.steps && !self.counters.evaluation_due;
            if finished {
                break;
            }
            if self.stop.asked() {
                self.save()?;
                self.progress.finish();
                return Err(Failure::Stopped(format!(
                    "at step {step} with a checkpoint; the same command goes on"
                )));
            }
            if self.checkpoint_due() {
                self.save()?;
            }
            self.advance()?;
        }
        self.save()?;
        self.summarise();
        self.progress.finish();
        Ok(self.checkpoints)
    }

    /// Says what the run cost beside training.
    fn summarise(&self) {
        let text = |bytes: Option<u64>| bytes.map_or("unknown".into(), memory::text);
        let (count, time) = self.clock.saving;
        let seconds = time.as_secs_f64();
        self.progress.note(
            self.counters.step,
            &format!(
                "done in {:.1} min; {count} checkpoints took {:.2} s each, {:.2} % of the time; memory \
                 without the replay was {} after the first updates and is {}",
                self.clock.wall_s() / 60.0,
                seconds / f64::from(count),
                100.0 * seconds / self.clock.begun.elapsed().as_secs_f64(),
                text(self.settled),
                text(memory::resident()),
            ),
        );
    }

    /// A step of every environment, with the updates and the row that are due then.
    fn advance(&mut self) -> Outcome<()> {
        let n = self.envs.len() as u64;
        let before = self.counters.step;
        self.counters.step += n;
        let step = self.counters.step;
        let warm = step > self.train.warmup_steps;
        self.interact(warm)?;
        if warm {
            self.counters.due += n as f64 * self.train.updates_per_step;
        }
        while self.counters.due >= 1.0 {
            self.counters.due -= 1.0;
            self.counters.updates += 1;
            let measured = self.update();
            self.unread.push(measured);
            // A read waits for the device; on the CPU there is nothing to wait for.
            if self.device == Device::Cpu || self.unread.len() >= UNREAD_UPDATES {
                self.read()?;
            }
        }
        if self.settled.is_none() && self.counters.updates >= FIRST_UPDATES {
            self.settled = memory::resident();
        }
        self.progress.at(step);
        // With several environments a step may pass over a multiple.
        let last = step >= self.train.steps;
        let reached = |every: u64| step / every > before / every || last;
        if reached(self.train.log_interval) {
            self.read()?;
            let Counters { updates, episodes, .. } = self.counters;
            let row = self.interval.row(step, updates, episodes, self.clock.wall_s());
            self.progress.measured(row.return_mean, row.steps_per_s);
            self.logs.train(&row)?;
        }
        self.counters.evaluation_due = reached(self.train.eval_interval);
        Ok(())
    }

    /// Resets all environments: environment i from the master seed plus i, as
    /// Gymnasium's vector environments do.
    fn reset(&mut self) -> Outcome<()> {
        let width = self.envs.spec().obs_dim;
        let seed = self.identity.seed;
        let seeds: Vec<u64> = (0..self.envs.len() as u64).map(|i| seed.wrapping_add(i)).collect();
        self.envs.reset(Some(&seeds), &mut self.rollout.obs)?;
        round(&self.rollout.obs, &mut self.rollout.obs_f32);
        for (i, row) in self.rollout.obs_f32.chunks_exact(width).enumerate() {
            self.replay.begin(i, aview1(row));
        }
        Ok(())
    }

    /// One step of every environment into the replay; those whose episode
    /// ends begin another at once.
    fn interact(&mut self, warm: bool) -> Outcome<()> {
        let (width, act_dim) = (self.envs.spec().obs_dim, self.envs.spec().act_dim);
        let step = self.counters.step;
        let actions = self.explore(warm);
        let mut controls = actions.clone();
        ActionScale::of(self.envs.spec()).apply(&mut controls);
        let rollout = &mut self.rollout;
        self.envs.step(&controls, &mut rollout.steps, &mut rollout.obs)?;
        round(&rollout.obs, &mut rollout.obs_f32);
        let mut over = vec![false; self.envs.len()];
        for (i, outcome) in rollout.steps.iter().enumerate() {
            let at_step = |error| Failure::Failed(format!("training step {step}: {error}"));
            self.envs.check(i).map_err(at_step)?;
            let action = aview1(&actions[i * act_dim..][..act_dim]);
            let next = aview1(&rollout.obs_f32[i * width..][..width]);
            self.replay.push(i, action, outcome.reward as f32, next, outcome.terminated);
            self.counters.largest_reward = self.counters.largest_reward.max(outcome.reward.abs());
            let (total, length) = &mut rollout.episodes[i];
            *total += outcome.reward;
            *length += 1;
            over[i] = outcome.terminated || outcome.truncated;
            if over[i] {
                self.counters.episodes += 1;
                self.interval.episode(*total, *length);
                rollout.episodes[i] = (0.0, 0);
            }
        }
        if over.contains(&true) {
            // A step of an environment whose episode is over begins the next.
            self.envs.step_active(&over, &controls, &mut rollout.steps, &mut rollout.obs)?;
            round(&rollout.obs, &mut rollout.obs_f32);
            for i in (0..over.len()).filter(|i| over[*i]) {
                self.replay.begin(i, aview1(&rollout.obs_f32[i * width..][..width]));
            }
        }
        Ok(())
    }

    /// Actions in [-1, 1], a row for each environment: uniform until the
    /// warm-up is over.
    fn explore(&mut self, warm: bool) -> Vec<f32> {
        let (n, spec) = (self.envs.len(), self.envs.spec());
        let rng = &mut self.streams.exploration;
        if !warm {
            let count = n * spec.act_dim;
            return (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
        }
        let shape = [n as i64, spec.obs_dim as i64];
        let obs = tensor_from(&self.rollout.obs_f32, &shape, self.device);
        to_rows(&self.agent.explore(&obs, rng))
    }

    /// One update from the replay.
    fn update(&mut self) -> Metrics {
        let rng = &mut self.streams.replay;
        let batch = match &mut self.device_replay {
            Some(copy) => {
                copy.follow(&mut self.replay);
                copy.sample(&self.replay, self.train.batch_size, rng)
            }
            None => {
                self.replay.sample(rng, &mut self.sample);
                Batch::from_sample(&self.sample, self.device)
            }
        };
        self.agent.update(&batch, &mut self.streams.learning)
    }

    /// Reads what updates measured.
    fn read(&mut self) -> Outcome<()> {
        for measured in self.unread.drain(..).collect::<Vec<_>>() {
            let metrics = measured.read().map_err(|error| self.diverged(&error.to_string()))?;
            let reward = self.counters.largest_reward;
            let bound = reward.max(1.0) / (1.0 - self.gamma).max(1e-6);
            let q_mean = metrics.iter().find(|(name, _)| *name == "q_mean");
            let q_mean = q_mean.map_or(0.0, |(_, value)| *value);
            if q_mean.abs() > EXPLODED * bound {
                return Err(self.diverged(&format!(
                    "q_mean is {q_mean:.3e}, over {EXPLODED} times what the largest reward \
                     ({reward:.3}) allows at gamma {}",
                    self.gamma
                )));
            }
            self.interval.update(&metrics);
        }
        Ok(())
    }

    fn diverged(&self, what: &str) -> Failure {
        let by = if self.device == Device::Cpu { "at" } else { "by" };
        Failure::Failed(format!(
            "training diverged {by} step {}: {what}; rows and the last good checkpoint are in {}; \
             smaller learning rates are the usual mend",
            self.counters.step,
            self.folder.display()
        ))
    }

    /// Evaluates in all modes; answers whether there was time for it.
    fn evaluate(&mut self) -> Outcome<bool> {
        let step = self.counters.step;
        let mut rows = Vec::new();
        for mode in self.train.modes().map_err(Failure::Usage)? {
            let Some(episodes) = self.evaluator.run(self.agent.as_ref(), mode, &self.stop)? else {
                return Ok(false);
            };
            let wall_s = self.clock.wall_s();
            rows.push(EvalRow::summarise(step, mode_name(mode), &episodes, wall_s));
        }
        rows.iter().try_for_each(|row| self.logs.eval(row))?;
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{} {:.1}", row.mode, row.return_mean)).collect();
        let minutes = self.clock.wall_s() / 60.0;
        self.progress.note(step, &format!("return {} ({minutes:.1} min)", shown.join(", ")));
        Ok(true)
    }

    /// Whether steps or time since the last checkpoint ask for one.
    fn checkpoint_due(&self) -> bool {
        let (at, saved) = self.clock.saved;
        let (step, every) = (self.counters.step, self.train.checkpoint_interval);
        let minutes = at.elapsed().as_secs_f64() / 60.0;
        step / every > saved / every || step > saved && minutes >= self.train.checkpoint_minutes
    }

    /// Makes a checkpoint here.
    fn save(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        self.read()?;
        let path = self.checkpoints.replay();
        self.replay.flush().map_err(|error| Failure::file(&path, "write", error))?;
        let [train_csv, eval_csv] = self.logs.marks()?;
        let cursors = self.replay.cursors();
        let environment = |(i, cursor): (usize, &replay::Cursor)| EnvironmentState {
            simulator: self.envs.save_state(i),
            written: cursor.written,
            obs: cursor.obs.iter().map(|x| f64::from(*x)).collect(),
            episode: self.rollout.episodes[i],
        };
        let state = RunState {
            identity: self.identity.clone(),
            counters: self.counters,
            streams: self.streams.clone(),
            environments: cursors.iter().enumerate().map(environment).collect(),
            interval: self.interval.clone(),
            train_csv,
            eval_csv,
            wall_s: self.clock.wall_s(),
        };
        self.checkpoints.save(&state, self.agent.as_ref())?;
        self.clock.saved = (Instant::now(), self.counters.step);
        let (count, time) = self.clock.saving;
        self.clock.saving = (count + 1, time + begun.elapsed());
        Ok(())
    }
}

/// Puts the checkpoint at a step into the parts of a run, all of it checked
/// before a file is changed.
///
/// # Errors
/// One line: what is damaged, and how.
fn restore(
    parts: &mut Parts,
    checkpoints: &Checkpoints,
    step: u64,
) -> Result<(RunState, Replay), String> {
    let folder = checkpoints.at(step);
    let (state, tensors): (RunState, Vec<(String, Tensor)>) =
        checkpoint::read(&folder, &parts.identity)?;
    let at = |what: &dyn std::fmt::Display| format!("{}: {what}", folder.display());
    let (n, spec) = (parts.envs.len(), parts.envs.spec().clone());
    let sizes = state.environments.iter().all(|e| e.obs.len() == spec.obs_dim);
    if state.environments.len() != n || !sizes {
        return Err(at(&"damaged: environments of other number or size"));
    }
    if !(0.0..1.0).contains(&state.counters.due) {
        return Err(at(&format!("damaged: {} updates are due", state.counters.due)));
    }
    let names = Interval::new(parts.metrics.iter().copied());
    if state.interval.names() != names.names() {
        return Err(at(&format!(
            "metrics {}, this version has {}: continue with the version that began the run, or \
             begin again with --restart",
            state.interval.names().join(", "),
            names.names().join(", ")
        )));
    }
    for (name, mark) in [(TRAIN, &state.train_csv), (EVAL, &state.eval_csv)] {
        let path = log(parts.folder, name);
        mark.check(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    parts.agent.load(&tensors).map_err(|error| at(&error))?;
    for (i, environment) in state.environments.iter().enumerate() {
        parts.envs.load_state(i, &environment.simulator).map_err(|error| at(&error))?;
    }
    let cursors: Vec<_> = state.environments.iter().map(EnvironmentState::cursor).collect();
    let path = checkpoints.replay();
    let replay = Replay::open(&path, shape(parts.train, &spec), &cursors)
        .map_err(|error| format!("{}: damaged: {error}", path.display()))?;
    Ok((state, replay))
}

/// Sizes of the replay. A run of fewer steps than the capacity needs room for its
/// own steps only: every step may end an episode, which takes a second slot.
fn shape(train: &TrainConfig, spec: &envs::Spec) -> Shape {
    let slots = |steps: u64| steps.div_ceil(train.envs as u64).saturating_add(1).saturating_mul(2);
    let ever = usize::try_from(slots(train.steps)).unwrap_or(usize::MAX / 2);
    let window = (train.replay_capacity / train.envs).min(ever);
    // Two checkpoints are kept: what is written from the older one on must not
    // take what it can see.
    let spare = usize::try_from(slots(train.checkpoint_interval).saturating_mul(2));
    let spare = spare.unwrap_or(usize::MAX).min(ever - window);
    Shape { envs: train.envs, window, spare, obs_dim: spec.obs_dim, act_dim: spec.act_dim }
}

/// Observations are `f64` from the simulator and `f32` everywhere else.
fn round(from: &[f64], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from as f32;
    }
}
