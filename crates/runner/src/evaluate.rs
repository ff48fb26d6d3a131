//! Evaluation: whole episodes on environments of their own.

use crate::checkpoint::{self, Identity};
use crate::cli::EvalArgs;
use crate::failure::{Failure, Outcome};
use crate::stop::Stop;
use crate::{device, settings, train};
use agent::{ActMode, Agent, Random, stream};
use envs::{Batch, BatchStep};
use networks::tensor_from;
use rand::RngExt;
use report::EvalRow;
use std::path::Path;
use tch::{Device, Tensor};
use toml_edit::DocumentMut;

/// The environments of an evaluation, and the seeds that they always start from.
pub struct Evaluator {
    envs: Batch,
    seeds: Vec<u64>,
    seed: u64,
    device: Device,
}

impl Evaluator {
    /// `episodes` environments of a task. Their seeds, and the policy's noise
    /// in every evaluation, are a function of the master seed alone, so that
    /// evaluations of one run differ by the policy only.
    ///
    /// # Errors
    /// The task can't be made.
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
    pub fn spec(&self) -> &envs::Spec {
        self.envs.spec()
    }

    /// Plays one episode on every environment: (return, length) of each, or
    /// nothing if somebody asked to stop before they were over.
    ///
    /// # Errors
    /// A simulation that diverged.
    pub fn run(
        &mut self,
        agent: &dyn Agent,
        mode: ActMode,
        stop: &Stop,
    ) -> Outcome<Option<Vec<(f64, u32)>>> {
        let mut rng: Random = stream(self.seed, "evaluation noise");
        let (n, spec) = (self.envs.len(), self.envs.spec().clone());
        let scale = ActionScale::of(&spec);
        let mut obs = vec![0.0f64; n * spec.obs_dim];
        let mut actions = vec![0.0f32; n * spec.act_dim];
        let mut steps = vec![BatchStep::default(); n];
        let mut totals = vec![(0.0f64, 0u32); n];
        let mut alive = vec![true; n];
        self.envs.reset(Some(&self.seeds), &mut obs)?;
        // Environments step side by side, so that one network call serves all
        // whose episode is not over.
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
            let shape = [rows.len() as i64, spec.obs_dim as i64];
            let chosen = agent.act(&tensor_from(&seen, &shape, self.device), mode, &mut rng);
            let mut chosen = to_rows(&chosen);
            scale.apply(&mut chosen);
            for (i, action) in rows.iter().zip(chosen.chunks_exact(spec.act_dim)) {
                actions[i * spec.act_dim..][..spec.act_dim].copy_from_slice(action);
            }
            self.envs.step_active(&alive, &actions, &mut steps, &mut obs)?;
            for i in rows {
                self.envs.check(i)?;
                totals[i].0 += steps[i].reward;
                totals[i].1 += 1;
                alive[i] = !(steps[i].terminated || steps[i].truncated);
            }
        }
        Ok(Some(totals))
    }
}

/// Environments of a task with its own model or the user's.
///
/// # Errors
/// An unknown task, a model that can't be used.
pub fn make_envs(env: &str, model: Option<&Path>, count: usize, threads: usize) -> Outcome<Batch> {
    Ok(match model {
        Some(model) => Batch::make_with_model(env, model, count, threads)?,
        None => Batch::make(env, count, threads)?,
    })
}

/// From [-1, 1] to a task's bounds.
#[derive(Clone, Copy)]
pub struct ActionScale {
    low: f32,
    high: f32,
}

impl ActionScale {
    /// The bounds of a task.
    pub fn of(spec: &envs::Spec) -> Self {
        Self { low: spec.act_low, high: spec.act_high }
    }

    /// Scales an action in place.
    pub fn apply(self, action: &mut [f32]) {
        for a in action {
            *a = self.low + 0.5 * (*a + 1.0) * (self.high - self.low);
        }
    }
}

/// A tensor's numbers, row-major.
pub fn to_rows(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(Device::Cpu).contiguous().view([-1]);
    Vec::<f32>::try_from(flat).expect("actions are f32")
}

/// The mode's name in `eval.csv`.
pub fn mode_name(mode: ActMode) -> String {
    match mode {
        ActMode::Explore => "explore".into(),
        ActMode::Deterministic => "deterministic".into(),
        ActMode::Stochastic => "stochastic".into(),
        ActMode::BestOf(k) => format!("best-of-{k}"),
    }
}

/// The command `eval`: prints a header and a row of `eval.csv`'s schema.
///
/// # Errors
/// The folder holds no run, or its checkpoint can't be used.
pub fn eval(args: &EvalArgs) -> Outcome<()> {
    let path = args.run.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::Usage(format!("{}: {error}; --run wants the folder of a run", path.display()))
    })?;
    let origin = path.display().to_string();
    let damaged = |what: &str| Failure::Usage(format!("{origin}: {what}"));
    let record: DocumentMut = text.parse().map_err(|_| damaged("not valid TOML"))?;
    let word = |key: &str| {
        let item = record.get("run").and_then(|run| run.get(key));
        item.and_then(|item| item.as_str()).ok_or_else(|| damaged(&format!("run.{key} is missing")))
    };
    let (algo, env) = (word("algo")?, word("env")?);
    let model = record.get("run").and_then(|run| run.get("model")?.as_str()).map(Path::new);
    let number = |table: &str, key: &str| record.get(table)?.get(key)?.as_integer();
    let run_seed = number("run", "seed").ok_or_else(|| damaged("run.seed is missing"))? as u64;
    let settings = settings::of_run(algo, &record, &origin)?;

    let device = device::parse(&args.device)?;
    device::use_threads(1);
    let seed = args.seed.unwrap_or(run_seed);
    let mut evaluator = Evaluator::new(env, model, args.episodes as usize, 1, seed, device)?;
    let spec = evaluator.spec().clone();
    let mut agent = train::make_agent(&settings.algorithm, &spec, run_seed, device);
    let identity = Identity::new(algo, env, run_seed);
    let step = checkpoint::load_agent(&args.run, &identity, agent.as_mut())?;
    let mode = match args.candidates {
        Some(k) => ActMode::BestOf(k as usize),
        None if args.stochastic => ActMode::Stochastic,
        None => ActMode::Deterministic,
    };
    let begun = std::time::Instant::now();
    let never = Stop::default();
    let episodes = evaluator.run(agent.as_ref(), mode, &never)?.expect("nobody stops it");
    let row = EvalRow::summarise(step, mode_name(mode), &episodes, begun.elapsed().as_secs_f64());
    report::write(std::io::stdout(), &[row])
        .map_err(|error| Failure::Failed(format!("stdout: {error}")))
}
