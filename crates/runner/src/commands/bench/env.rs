//! `runner bench env`: how fast environments step, and the limit that MuJoCo sets.
//!
//! The same seeds and random actions are played in four ways: by MuJoCo alone (the limit), by one
//! environment after the other, and by a batch on one thread and on several. All four make the same
//! calls of `mj_step` with the same numbers, so the difference is the cost of our own code. They
//! take turns for several rounds, because a machine's speed drifts.

use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use crate::base::versions;
use clap::Args;
use envs::numpy::Generator;
use envs::{Batch, BatchStep, Env, Limit, Spec};
use networks::Instructions;
use report::statistics::median;
use serde::Serialize;
use std::time::Instant;

#[derive(Args)]
pub struct BenchEnvArgs {
    /// Task, such as Ant-v4 or path/to/task.toml, or all.
    #[arg(long, value_name = "ID", default_value = "all")]
    env: String,
    /// Environments of the batch.
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    envs: u16,
    /// Threads of the second batch (default: one per processor); the first has a single thread.
    #[arg(long, value_name = "T", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Steps per measurement, summed over all environments.
    #[arg(long, value_name = "S", default_value_t = 4000, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    steps: u32,
    /// Rounds; each measures everything once, and the medians are printed.
    #[arg(long, value_name = "R", default_value_t = 5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    /// Environments in a batch.
    envs: usize,
    /// Threads of the second batch.
    threads: usize,
    rounds: u16,
    tasks: Vec<Row>,
}

/// The machine, and versions.
#[derive(Serialize)]
struct Machine {
    processor: String,
    instructions: String,
    logical_processors: usize,
    /// The load average over the minute before the measurement.
    load: Option<f64>,
    commit: &'static str,
    mujoco: String,
}

/// Medians over the rounds. Speeds are environment steps per second.
#[derive(Serialize)]
struct Row {
    env: String,
    /// Steps in a measurement. Resets take time, but do not count as steps.
    steps: u64,
    limit: f64,
    step: f64,
    batch_1: f64,
    batch: f64,
    /// `step` over `limit` of the same round.
    step_share: f64,
    /// `batch_1` over `limit` of the same round.
    batch_1_share: f64,
    /// `batch` over `batch_1` of the same round.
    scaling: f64,
}

/// The command.
///
/// # Errors
/// An unknown task, or a missing model.
pub fn env(args: &BenchEnvArgs) -> Outcome<()> {
    const SEVEN: [&str; 7] =
        ["Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "Swimmer", "Walker2d"];
    let tasks: Vec<String> = match args.env.as_str() {
        "all" => SEVEN.iter().map(|robot| format!("{robot}-v4")).collect(),
        one => vec![one.to_owned()],
    };
    let logical_processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = args.threads.map_or(logical_processors, usize::from);
    let mut report = Report {
        machine: Machine {
            processor: versions::processor(),
            instructions: Instructions::in_use().to_string(),
            logical_processors,
            load: load(),
            commit: env!("SMFP_COMMIT"),
            mujoco: envs::mujoco_version(),
        },
        envs: usize::from(args.envs),
        threads: threads.min(usize::from(args.envs)),
        rounds: args.rounds,
        tasks: Vec::new(),
    };
    for task in &tasks {
        let row = measure(task, args, report.threads)?;
        if !args.json {
            if report.tasks.is_empty() {
                console::data(head(&report))?;
            }
            console::data(line(&row))?;
        }
        report.tasks.push(row);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report).expect("numbers and words");
        console::data(text + "\n")?;
    }
    Ok(())
}

/// The lines above the table.
fn head(Report { machine, envs, threads, rounds, .. }: &Report) -> String {
    let load = machine.load.map_or("unknown".into(), |load| format!("{load:.2}"));
    let columns = |words: [&str; 8]| {
        let [task, rest @ ..] = words;
        let widths = [9, 9, 7, 9, 7, 9, 8];
        let rest = rest.iter().zip(widths).map(|(word, width)| format!(" {word:>width$}"));
        format!("{task:26}{}\n", rest.collect::<String>())
    };
    let threads = format!("{threads} thr.");
    [
        format!(
            "{}, instructions {}, {} logical processors, load {load}, MuJoCo {}\n",
            machine.processor, machine.instructions, machine.logical_processors, machine.mujoco
        ),
        format!("environment steps per second, medians of {rounds} rounds; batches of {envs}\n"),
        columns(["", "MuJoCo", "step", "", "batch", "", "batch", ""]),
        columns(["task", "alone", "", "share", "1 thread", "share", &threads, "scaling"]),
    ]
    .concat()
}

/// A row of the table.
fn line(row: &Row) -> String {
    format!(
        "{:26} {:>9.0} {:>9.0} {:>6.1}% {:>9.0} {:>6.1}% {:>9.0} {:>7.2}x\n",
        row.env,
        row.limit,
        row.step,
        100.0 * row.step_share,
        row.batch_1,
        100.0 * row.batch_1_share,
        row.batch,
        row.scaling
    )
}

fn measure(id: &str, args: &BenchEnvArgs, threads: usize) -> Outcome<Row> {
    let envs = usize::from(args.envs);
    let mut env = Env::make(id)?;
    let ticks = (args.steps as usize).div_ceil(envs);
    let runs: Vec<(u64, Vec<f32>)> =
        (0..envs as u64).map(|seed| (seed, random_actions(env.spec(), seed, ticks))).collect();

    let mut limit = Limit::record(id, &runs)?;
    let mut batches = [Player::make(id, &runs, 1)?, Player::make(id, &runs, threads)?];
    let mut obs = vec![0.0; env.spec().obs_dim];
    let mut steps = 0;
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    // The first round warms up.
    for round in 0..=args.rounds {
        let alone = seconds(|| limit.run());
        let mut outcome = Ok(0);
        let single = seconds(|| {
            outcome = runs.iter().try_fold(0, |sum, (seed, actions)| {
                Ok(sum + envs::play(&mut env, *seed, actions, &mut obs)?)
            });
        });
        steps = outcome.map_err(|error: envs::Error| Failure::from(error))?;
        let [one, several] = &mut batches;
        let (one, several) = (one.play()?, several.play()?);
        if round > 0 {
            rounds.push([alone, single, one, several].map(|time| steps as f64 / time));
        }
    }
    // The comparison needs the same work in all four ways.
    let last = batches.iter().all(|batch| batch.last_observation() == obs);
    if !limit.ended_like(&env) || !last || batches.iter().any(|batch| batch.made != steps) {
        return Err(Failure::Failed(format!("{id}: the four ways to step do not agree")));
    }
    let median_of =
        |value: fn(&[f64; 4]) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    Ok(Row {
        env: env.spec().id.clone(),
        steps,
        limit: median_of(|round| round[0]),
        step: median_of(|round| round[1]),
        batch_1: median_of(|round| round[2]),
        batch: median_of(|round| round[3]),
        step_share: median_of(|round| round[1] / round[0]),
        batch_1_share: median_of(|round| round[2] / round[0]),
        scaling: median_of(|round| round[3] / round[2]),
    })
}

/// Rows of uniform actions within the task's bounds.
fn random_actions(spec: &Spec, seed: u64, rows: usize) -> Vec<f32> {
    // Not the stream that the same seed gives the environment.
    let mut random = Generator::new(u64::MAX - seed);
    let mut action = |i: usize| {
        let (low, high) = (spec.act_low[i], spec.act_high[i]);
        random.uniform(f64::from(low), f64::from(high)) as f32
    };
    (0..rows * spec.act_dim).map(|at| action(at % spec.act_dim)).collect()
}

/// A batch with what it is to play.
struct Player {
    batch: Batch,
    seeds: Vec<u64>,
    /// Actions of all environments for one point of time, for every such point.
    actions: Vec<Vec<f32>>,
    steps: Vec<BatchStep>,
    obs: Vec<f64>,
    /// Steps made in the last play.
    made: u64,
}

impl Player {
    fn make(id: &str, runs: &[(u64, Vec<f32>)], threads: usize) -> Outcome<Self> {
        let batch = Batch::make(id, runs.len(), threads)?;
        let width = batch.spec().act_dim;
        let rows = runs[0].1.len() / width;
        let at = |t: usize| runs.iter().flat_map(move |run| &run.1[t * width..][..width]);
        Ok(Self {
            seeds: runs.iter().map(|run| run.0).collect(),
            actions: (0..rows).map(|t| at(t).copied().collect()).collect(),
            steps: vec![BatchStep::default(); runs.len()],
            obs: vec![0.0; runs.len() * batch.spec().obs_dim],
            made: 0,
            batch,
        })
    }

    /// Plays everything; the seconds that it took.
    fn play(&mut self) -> Outcome<f64> {
        self.made = 0;
        let begun = Instant::now();
        self.batch.reset(Some(&self.seeds), &mut self.obs)?;
        for actions in &self.actions {
            self.batch.step(actions, &mut self.steps, &mut self.obs)?;
            self.made += self.steps.iter().filter(|step| !step.reset).count() as u64;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// What the last environment showed last.
    fn last_observation(&self) -> &[f64] {
        &self.obs[self.obs.len() - self.batch.spec().obs_dim..]
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
