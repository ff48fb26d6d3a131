//! The training loop: one environment, one replay, one agent.

use crate::cli::TrainArgs;
use crate::evaluate::{ActionScale, Evaluator, make_envs, mode_name, to_rows};
use crate::failure::{Failure, Outcome};
use crate::folder::RunFolder;
use crate::progress::Progress;
use crate::request::TrainRequest;
use crate::settings::{AlgorithmConfig, Settings};
use crate::{checkpoint, device, doctor};
use agent::{ActMode, Agent, Batch, DeviceReplay, Diverged, Measured, stream};
use envs::{Batch as Envs, BatchStep, Spec};
use ndarray::aview1;
use networks::tensor_from;
use rand::RngExt;
use replay::{Replay, Sample};
use report::{EvalRow, Log, TrainRow};
use std::time::Instant;
use tch::Device;
use toml_edit::{DocumentMut, Item, Table, value};

/// Draws the networks of an algorithm for a task.
pub fn make_agent(
    config: &AlgorithmConfig,
    spec: &Spec,
    seed: u64,
    device: Device,
) -> Box<dyn Agent> {
    let mut rng = stream(seed, "network initialisation");
    let (obs_dim, act_dim) = (spec.obs_dim as i64, spec.act_dim as i64);
    macro_rules! agent {
        ($kind:path, $config:expr) => {
            Box::new(<$kind>::new($config, obs_dim, act_dim, device, &mut rng))
        };
    }
    match config {
        AlgorithmConfig::Smfp(config) => agent!(smfp::Smfp, config),
        AlgorithmConfig::Sac(config) => agent!(baselines::sac::Sac, config),
        AlgorithmConfig::Td3(config) => agent!(baselines::td3::Td3, config),
        AlgorithmConfig::Mdpo(config) => agent!(baselines::mdpo::Mdpo, config),
        AlgorithmConfig::MeanFlow(config) => agent!(baselines::meanflow::MeanFlow, config),
        AlgorithmConfig::Qvpo(config) => agent!(baselines::qvpo::Qvpo, config),
        AlgorithmConfig::Dpmd(config) => agent!(baselines::dpmd::Dpmd, config),
    }
}

/// The command `train`.
///
/// # Errors
/// Wrong input, a folder that can't be used, a diverged run.
pub fn train(args: &TrainArgs) -> Outcome<()> {
    train_request(&TrainRequest::resolve(args)?)
}

/// Trains as a request says, which everything has been checked of that does not
/// depend on the machine.
///
/// # Errors
/// A device that isn't there, a folder that can't be used, a diverged run.
pub fn train_request(request: &TrainRequest) -> Outcome<()> {
    let settings = &request.settings;
    let threads = request.threads.map_or_else(device::processors, usize::from);
    let model = request.model.as_deref();
    let envs = make_envs(&request.env, model, settings.train.envs, threads)?;
    let device = device::parse(&request.device)?;
    // Hours may hang on these files: a third of a second to read them is little.
    doctor::check_libraries().map_err(Failure::Failed)?;
    device::use_threads(threads);
    let folder = RunFolder::begin(request.folder(), request.restart)?;
    folder.write("config.toml", &record(request, threads, device)?.to_string())?;
    Run::new(request, envs, threads, device, &folder)?.all()?;
    folder.done()
}

/// `config.toml`: how the run was asked for, on what, and every setting.
fn record(request: &TrainRequest, threads: usize, device: Device) -> Outcome<DocumentMut> {
    let mut run = Table::new();
    let command: Vec<String> = std::env::args().collect();
    run["algo"] = value(&request.algo);
    run["env"] = value(&request.env);
    run["seed"] = value(request.seed as i64);
    if let Some(model) = &request.model {
        let fail = |error| Failure::file(model, "read", error);
        let absolute = model.canonicalize().map_err(fail)?;
        run["model_sha256"] = value(doctor::sha256(&absolute).map_err(fail)?);
        run["model"] = value(absolute.display().to_string());
    }
    run["preset"] = value(&request.preset);
    run["device"] = value(&request.device);
    run["threads"] = value(threads as i64);
    run["command"] = value(command.join(" "));
    run["commit"] = value(env!("SMFP_COMMIT"));
    run["processor"] = value(doctor::processor());
    run["gpu"] = value(if matches!(device, Device::Cpu) { "none" } else { &request.device });
    let mut versions = Table::new();
    for (name, version) in doctor::versions() {
        versions[name] = value(version);
    }
    let mut document = DocumentMut::new();
    document.insert("run", Item::Table(run));
    document.insert("versions", Item::Table(versions));
    for (section, item) in request.settings.document.iter() {
        document.insert(section, item.clone());
    }
    Ok(document)
}

/// Updates on a GPU whose measurements may wait to be read.
const UNREAD_UPDATES: usize = 1000;

/// A run under way.
struct Run<'a> {
    settings: &'a Settings,
    folder: &'a RunFolder,
    envs: Envs,
    evaluator: Evaluator,
    agent: Box<dyn Agent>,
    replay: Replay,
    /// Its copy on the device, where that is asked for.
    device_replay: Option<DeviceReplay>,
    device: Device,
    exploration: agent::Random,
    sampling: agent::Random,
    learning: agent::Random,
    seed: u64,
    train_log: Log<TrainRow>,
    eval_log: Log<EvalRow>,
    progress: Progress,
    begun: Instant,
}

/// Where the environments of a run are: a row, or an entry, for each.
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

impl<'a> Run<'a> {
    fn new(
        request: &'a TrainRequest,
        envs: Envs,
        threads: usize,
        device: Device,
        folder: &'a RunFolder,
    ) -> Outcome<Self> {
        let settings = &request.settings;
        let train = &settings.train;
        let log = |name: &str| folder.path().join(name);
        let fail = |name: &str, error| Failure::file(&log(name), "write", error);
        let spec = envs.spec();
        // A run of fewer steps than the capacity needs room for its own steps
        // only: every step may end an episode, which takes a second slot.
        let needed = train.steps.saturating_mul(2).saturating_add(2 * train.envs as u64);
        let capacity = train.replay_capacity.min(usize::try_from(needed).unwrap_or(usize::MAX));
        let replay = Replay::new(capacity, train.envs, spec.obs_dim, spec.act_dim);
        let agent = make_agent(&settings.algorithm, spec, request.seed, device);
        Ok(Self {
            settings,
            folder,
            evaluator: Evaluator::new(
                &request.env,
                request.model.as_deref(),
                train.eval_episodes,
                threads,
                request.seed,
                device,
            )?,
            agent,
            device_replay: train
                .replay_on_device
                .then(|| DeviceReplay::new(&replay, spec.obs_dim, spec.act_dim, device)),
            replay,
            envs,
            device,
            exploration: stream(request.seed, "exploration"),
            sampling: stream(request.seed, "replay"),
            learning: stream(request.seed, "learning"),
            seed: request.seed,
            train_log: Log::create(&log("train.csv")).map_err(|error| fail("train.csv", error))?,
            eval_log: Log::create(&log("eval.csv")).map_err(|error| fail("eval.csv", error))?,
            progress: Progress::new(&request.label(), train.steps),
            begun: Instant::now(),
        })
    }

    fn all(mut self) -> Outcome<()> {
        let train = self.settings.train.clone();
        let spec = self.envs.spec().clone();
        let n = train.envs as u64;
        let mut sample = Sample::new(train.batch_size, spec.obs_dim, spec.act_dim);
        let mut interval = Interval::default();
        let (mut step, mut updates, mut episodes) = (0, 0, 0);
        let mut due = 0.0;
        let mut rollout = self.begin()?;
        while step < train.steps {
            let before = step;
            step += n;
            let warm = step > train.warmup_steps;
            episodes += self.step(&mut rollout, step, warm, &mut interval)?;
            if warm {
                due += n as f64 * train.updates_per_step;
            }
            while due >= 1.0 {
                due -= 1.0;
                updates += 1;
                interval.pending.push(self.update(&mut sample));
                // A read waits for the device; on the CPU there is nothing to wait for.
                if self.device == Device::Cpu || interval.pending.len() >= UNREAD_UPDATES {
                    self.read(&mut interval, step)?;
                }
            }
            self.progress.at(step);
            // With several environments a step may pass over a multiple.
            let reached = |every: u64| step / every > before / every || step >= train.steps;
            if reached(train.log_interval) {
                self.read(&mut interval, step)?;
                let wall_s = self.begun.elapsed().as_secs_f64();
                let row = interval.row(step, updates, episodes, wall_s);
                self.progress.measured(row.return_mean, row.steps_per_s);
                let file = self.folder.path().join("train.csv");
                self.train_log
                    .append(&row)
                    .map_err(|error| Failure::file(&file, "write", error))?;
            }
            if reached(train.eval_interval) {
                self.evaluate(step)?;
                checkpoint::save(self.folder.path(), step, self.agent.as_ref())?;
            }
        }
        self.progress.finish();
        Ok(())
    }

    /// Resets all environments: environment i from the master seed plus i, as
    /// Gymnasium's vector environments do.
    fn begin(&mut self) -> Outcome<Rollout> {
        let (n, width) = (self.envs.len(), self.envs.spec().obs_dim);
        let mut rollout = Rollout {
            obs: vec![0.0; n * width],
            obs_f32: vec![0.0; n * width],
            episodes: vec![(0.0, 0); n],
            steps: vec![BatchStep::default(); n],
        };
        let seeds: Vec<u64> = (0..n as u64).map(|i| self.seed.wrapping_add(i)).collect();
        self.envs.reset(Some(&seeds), &mut rollout.obs)?;
        round(&rollout.obs, &mut rollout.obs_f32);
        for (i, row) in rollout.obs_f32.chunks_exact(width).enumerate() {
            self.replay.begin(i, aview1(row));
        }
        Ok(rollout)
    }

    /// One step of every environment into the replay; those whose episode
    /// ends begin another at once. Answers how many ended.
    fn step(
        &mut self,
        rollout: &mut Rollout,
        step: u64,
        warm: bool,
        interval: &mut Interval,
    ) -> Outcome<u64> {
        let (width, act_dim) = (self.envs.spec().obs_dim, self.envs.spec().act_dim);
        let actions = self.explore(&rollout.obs_f32, warm);
        let mut controls = actions.clone();
        ActionScale::of(self.envs.spec()).apply(&mut controls);
        self.envs.step(&controls, &mut rollout.steps, &mut rollout.obs)?;
        round(&rollout.obs, &mut rollout.obs_f32);
        let mut over = vec![false; self.envs.len()];
        for (i, outcome) in rollout.steps.iter().enumerate() {
            let at_step = |error| Failure::Failed(format!("training step {step}: {error}"));
            self.envs.check(i).map_err(at_step)?;
            let action = aview1(&actions[i * act_dim..][..act_dim]);
            let next = aview1(&rollout.obs_f32[i * width..][..width]);
            self.replay.push(i, action, outcome.reward as f32, next, outcome.terminated);
            let (total, length) = &mut rollout.episodes[i];
            *total += outcome.reward;
            *length += 1;
            over[i] = outcome.terminated || outcome.truncated;
            if over[i] {
                interval.episode(*total, *length);
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
        Ok(over.iter().filter(|over| **over).count() as u64)
    }

    /// One update from the replay.
    fn update(&mut self, sample: &mut Sample) -> Measured {
        let batch = match &mut self.device_replay {
            Some(copy) => {
                copy.follow(&mut self.replay);
                copy.sample(&self.replay, self.settings.train.batch_size, &mut self.sampling)
            }
            None => {
                self.replay.sample(&mut self.sampling, sample);
                Batch::from_sample(sample, self.device)
            }
        };
        self.agent.update(&batch, &mut self.learning)
    }

    /// Reads what updates measured, up to the one at `step`.
    fn read(&self, interval: &mut Interval, step: u64) -> Outcome<()> {
        interval.read().map_err(|error| {
            let by = if self.device == Device::Cpu { "at" } else { "by" };
            Failure::Failed(format!(
                "training diverged {by} step {step}: {error}; rows up to then are in {}; smaller \
                 learning rates are the usual mend",
                self.folder.path().display()
            ))
        })
    }

    /// Actions in [-1, 1], a row for each environment: uniform until the
    /// warm-up is over.
    fn explore(&mut self, obs: &[f32], warm: bool) -> Vec<f32> {
        let (n, spec) = (self.envs.len(), self.envs.spec());
        if !warm {
            let count = n * spec.act_dim;
            return (0..count).map(|_| self.exploration.random::<f32>() * 2.0 - 1.0).collect();
        }
        let obs = tensor_from(obs, &[n as i64, spec.obs_dim as i64], self.device);
        to_rows(&self.agent.act(&obs, ActMode::Explore, &mut self.exploration))
    }

    fn evaluate(&mut self, step: u64) -> Outcome<()> {
        let mut shown = Vec::new();
        for mode in self.settings.train.modes().map_err(Failure::Usage)? {
            let episodes = self.evaluator.run(self.agent.as_ref(), mode)?;
            let wall_s = self.begun.elapsed().as_secs_f64();
            let row = EvalRow::summarise(step, mode_name(mode), &episodes, wall_s);
            shown.push(format!("{} {:.1}", row.mode, row.return_mean));
            let file = self.folder.path().join("eval.csv");
            self.eval_log.append(&row).map_err(|error| Failure::file(&file, "write", error))?;
        }
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        self.progress.note(step, &format!("return {} ({minutes:.1} min)", shown.join(", ")));
        Ok(())
    }
}

/// Observations are `f64` from the simulator and `f32` everywhere else.
fn round(from: &[f64], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from as f32;
    }
}

/// What is gathered between two rows of `train.csv`.
#[derive(Default)]
struct Interval {
    /// What updates measured and nobody has read yet.
    pending: Vec<Measured>,
    returns: Vec<(f64, u32)>,
    /// Sum and count of each metric, in the order of `Metrics::named`.
    metrics: [(f64, u64); 7],
    /// Step and time of the row before.
    since: (u64, f64),
}

impl Interval {
    fn episode(&mut self, total: f64, length: u32) {
        self.returns.push((total, length));
    }

    /// Reads what is pending.
    fn read(&mut self) -> Result<(), Diverged> {
        for measured in self.pending.drain(..) {
            let metrics = measured.read()?;
            for ((sum, count), (_, value)) in self.metrics.iter_mut().zip(metrics.named()) {
                if let Some(value) = value {
                    *sum += value;
                    *count += 1;
                }
            }
        }
        Ok(())
    }

    /// The row of what was gathered; the next interval begins empty.
    fn row(&mut self, step: u64, updates: u64, episodes: u64, wall_s: f64) -> TrainRow {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let ended = self.returns.len() as u64;
        let lengths = self.returns.iter().map(|(_, length)| f64::from(*length));
        let [critic_loss, actor_loss, mirror_loss, entropy, alpha, q_mean, grad_norm] =
            self.metrics.map(|(sum, count)| mean(sum, count));
        let (step_before, wall_before) = self.since;
        let row = TrainRow {
            step,
            updates,
            episodes,
            return_mean: mean(self.returns.iter().map(|(total, _)| total).sum(), ended),
            length_mean: mean(lengths.sum(), ended),
            critic_loss,
            actor_loss,
            mirror_loss,
            entropy,
            alpha,
            q_mean,
            grad_norm,
            steps_per_s: (step - step_before) as f64 / (wall_s - wall_before).max(1e-9),
            wall_s,
        };
        *self = Self { since: (step, wall_s), ..Self::default() };
        row
    }
}
