//! `runner bench update` and `runner bench act`: what an algorithm costs.

use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use crate::base::{device, versions};
use crate::train;
use crate::train::registry::ALGORITHMS;
use crate::train::settings::{self, Settings, Sources};
use agent::{ActMode, Agent, Batch, Random, stream};
use clap::Args;
use networks::{Instructions, multiplications, normal, uniform};
use report::statistics::{median, quantile};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};

#[derive(Args)]
pub struct BenchAgentArgs {
    /// Task whose sizes are used.
    #[arg(long, value_name = "ID", default_value = "HalfCheetah-v4")]
    env: String,
    /// Algorithm, or all.
    #[arg(long, default_value = "all")]
    algo: String,
    /// Preset of hyperparameters.
    #[arg(long, value_name = "NAME", default_value = "default")]
    preset: String,
    /// Set one key, such as train.batch_size=64; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Device of the networks: cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Rounds, of which the median is printed.
    #[arg(long, value_name = "R", default_value_t = 5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct BenchActArgs {
    #[command(flatten)]
    of: BenchAgentArgs,
    /// Mode of LibTorch's actions: deterministic, mean, stochastic or best-of-K (default: as the
    /// algorithm explores, which may choose among several candidates).
    #[arg(long)]
    mode: Option<ActMode>,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Report<Row> {
    processor: String,
    instructions: String,
    commit: &'static str,
    libtorch: String,
    env: String,
    threads: u16,
    rows: Vec<Row>,
}

/// Cost of an update. Medians over the rounds.
#[derive(Serialize)]
struct UpdateRow {
    algo: String,
    batch: usize,
    us_per_update: f64,
    updates_per_s: f64,
    calls_per_action: u32,
    parameters: i64,
    /// Multiplications in the matrix products of an update, in millions (CPU).
    products_m: f64,
    /// Time that these alone would take, over the time of an update: LibTorch's
    /// 256 x 256 products on all threads, measured between the updates.
    of_libtorch_products: f64,
}

/// Cost of an action at batch size 1, by LibTorch, and of one candidate of the exported policy by
/// the runtime of `crates/policy`, on one thread.
#[derive(Serialize)]
struct ActRow {
    algo: String,
    us_p50: f64,
    us_p99: f64,
    runtime_us_p50: f64,
    runtime_us_p99: f64,
    calls_per_action: u32,
    parameters: i64,
}

/// Updates in a measurement: a multiple of every preset's actor delay.
const UPDATES: u32 = 60;
/// Actions in a measurement.
const ACTIONS: usize = 2000;
/// Actions by the one before those by the other, so that both meet the same other load.
const BLOCK: usize = 100;

/// The command `bench update`.
///
/// # Errors
/// An unknown task, algorithm or device, or invalid settings.
pub fn update(args: &BenchAgentArgs) -> Outcome<()> {
    let mut rows = Vec::new();
    for subject in subjects(args)? {
        let Subject { algo, settings, mut agent, obs_dim, act_dim, device } = subject;
        let rows_in_batch = settings.train.batch_size as i64;
        let precision = settings.train.precision;
        device::check_precision(precision, device)?;
        let mut rng = stream(0, "benchmark");
        let batch = random_batch(rows_in_batch, obs_dim, act_dim, device, &mut rng);
        let mut graphs = train::graphs(&settings, device);
        let mut measure = || -> Outcome<[f64; 3]> {
            let speed = speed_of_products(args.threads.into(), device);
            let (begun, before) = (Instant::now(), multiplications());
            for _ in 0..UPDATES {
                let metrics = match &mut graphs {
                    Some(graphs) => graphs
                        .update(agent.as_mut(), &batch, &mut rng)
                        .map_err(train::without_graphs)?,
                    None => precision.during(|| agent.update(&batch, &mut rng)),
                };
                if device == Device::Cpu {
                    // As the training loop does.
                    metrics.read().map_err(|e| Failure::Failed(e.to_string()))?;
                }
            }
            synchronise(device);
            let seconds = begun.elapsed().as_secs_f64() / f64::from(UPDATES);
            let products = (multiplications() - before) as f64 / f64::from(UPDATES);
            Ok([seconds * 1e6, products / 1e6, products / speed / seconds])
        };
        measure()?;
        let rounds = (0..args.rounds).map(|_| measure()).collect::<Outcome<Vec<_>>>()?;
        let of = |i: usize| median(&rounds.iter().map(|round| round[i]).collect::<Vec<_>>());
        let us = of(0);
        rows.push(UpdateRow {
            algo,
            batch: settings.train.batch_size,
            us_per_update: us,
            updates_per_s: 1e6 / us,
            calls_per_action: agent.calls_per_action(),
            parameters: parameters(agent.as_ref()),
            products_m: of(1),
            of_libtorch_products: of(2),
        });
    }
    print(args, rows, |row| {
        format!("{:>10.0} us/update {:>8.1} updates/s", row.us_per_update, row.updates_per_s)
            + &format!(
                " {:>6.1} % of the speed of LibTorch's products",
                100.0 * row.of_libtorch_products
            )
            + &network(row.calls_per_action, row.parameters, &row.algo)
    })
}

/// The command `bench act`.
///
/// # Errors
/// An unknown task, algorithm or device, or invalid settings.
pub fn act(BenchActArgs { of: args, mode }: &BenchActArgs) -> Outcome<()> {
    let mode = mode.unwrap_or(ActMode::Explore);
    let mut rows = Vec::new();
    for Subject { algo, agent, obs_dim, device, .. } in subjects(args)? {
        let mut rng = stream(0, "benchmark");
        let obs = normal(&mut rng, &[1, obs_dim], device);
        let mut measure = || {
            let begun = Instant::now();
            let action = agent.act(&obs, mode, &mut rng);
            // As a caller would: the action has to arrive.
            let _ = action.double_value(&[0, 0]);
            begun.elapsed().as_secs_f64() * 1e6
        };
        let policy = policy::Policy::new(agent.graph());
        let mut policy = policy.map_err(|error| Failure::Failed(format!("{algo}: {error}")))?;
        let [seen, z, xi, mut actions] = policy.sizes().map(|n| vec![0.5; n]);
        let mut measure_runtime = || {
            let begun = Instant::now();
            let done = policy.act(black_box(&seen), Some(&z), Some(&xi), &mut actions);
            done.expect("the lengths are the policy's");
            black_box(&actions);
            begun.elapsed().as_secs_f64() * 1e6
        };
        for _ in 0..ACTIONS / 4 {
            measure();
            measure_runtime();
        }
        let (mut times, mut runtime_times) = (Vec::new(), Vec::new());
        for _ in 0..ACTIONS * usize::from(args.rounds) / BLOCK {
            times.extend((0..BLOCK).map(|_| measure()));
            runtime_times.extend((0..BLOCK).map(|_| measure_runtime()));
        }
        times.sort_by(f64::total_cmp);
        runtime_times.sort_by(f64::total_cmp);
        rows.push(ActRow {
            algo,
            us_p50: quantile(&times, 0.5),
            us_p99: quantile(&times, 0.99),
            runtime_us_p50: quantile(&runtime_times, 0.5),
            runtime_us_p99: quantile(&runtime_times, 0.99),
            calls_per_action: agent.calls_per_action(),
            parameters: parameters(agent.as_ref()),
        });
    }
    print(args, rows, |row| {
        format!("{:>8.1} us p50 {:>8.1} us p99", row.us_p50, row.us_p99)
            + &format!(" runtime {:>7.1} p50 {:>7.1} p99", row.runtime_us_p50, row.runtime_us_p99)
            + &network(row.calls_per_action, row.parameters, &row.algo)
    })
}

/// The second half of a printed line.
fn network(calls: u32, parameters: i64, algo: &str) -> String {
    format!(" {calls:>3} calls/action {parameters:>9} parameters  {algo}")
}

/// An algorithm to be measured.
struct Subject {
    algo: String,
    settings: Settings,
    agent: Box<dyn Agent>,
    obs_dim: i64,
    act_dim: i64,
    device: Device,
}

fn subjects(args: &BenchAgentArgs) -> Outcome<Vec<Subject>> {
    let env = envs::Env::make(&args.env)?;
    let device = device::available(&args.device)?;
    device::use_threads(usize::from(args.threads));
    let algos: Vec<&str> = match args.algo.as_str() {
        "all" => ALGORITHMS.iter().map(|algorithm| algorithm.name).collect(),
        algo => vec![algo],
    };
    algos
        .into_iter()
        .map(|algo| {
            let settings = settings::resolve(&Sources {
                algo,
                env: &args.env,
                preset: &args.preset,
                set: &args.set,
                ..Sources::default()
            })?;
            train::memory::check_agent(algo, &settings, env.spec())?;
            let agent = train::make_agent(settings.algorithm.as_ref(), env.spec(), 0, device);
            let (obs_dim, act_dim) = (env.spec().obs_dim as i64, env.spec().act_dim as i64);
            Ok(Subject { algo: algo.into(), settings, agent, obs_dim, act_dim, device })
        })
        .collect()
}

fn random_batch(rows: i64, obs: i64, act: i64, device: Device, rng: &mut Random) -> Batch {
    Batch {
        obs: normal(rng, &[rows, obs], device),
        action: uniform(rng, &[rows, act], device) * 2.0 - 1.0,
        reward: normal(rng, &[rows], device),
        next_obs: normal(rng, &[rows, obs], device),
        terminated: Tensor::zeros([rows], (Kind::Float, device)),
    }
}

/// The number of trained parameters, without target networks and the optimiser's moments.
fn parameters(agent: &dyn Agent) -> i64 {
    let learns = |name: &str| name.starts_with("actor.") || name.starts_with("critic.");
    agent.state().iter().filter(|(name, _)| learns(name)).map(|(_, t)| t.numel() as i64).sum()
}

/// Multiplications per second of LibTorch's matrix products, 256 x 256 by
/// 256 x 256, on `threads` threads in parallel.
fn speed_of_products(threads: usize, device: Device) -> f64 {
    const SIZE: i64 = 256;
    const PRODUCTS: usize = 60;
    let matrix = || Tensor::ones([SIZE, SIZE], (Kind::Float, device));
    let work = || {
        tch::set_num_threads(1);
        let (a, b, out) = (matrix(), matrix(), matrix());
        (0..PRODUCTS).for_each(|_| drop(a.matmul_out(&out, &b)));
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
    synchronise(device);
    (threads * PRODUCTS) as f64 * (SIZE as f64).powi(3) / begun.elapsed().as_secs_f64()
}

fn synchronise(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

fn print<Row: Serialize>(
    args: &BenchAgentArgs,
    rows: Vec<Row>,
    line: impl Fn(&Row) -> String,
) -> Outcome<()> {
    if !args.json {
        let machine = format!("{}, instructions {}", versions::processor(), Instructions::in_use());
        console::data(format!("{machine}\n"))?;
        return rows.iter().try_for_each(|row| console::data(format!("{}\n", line(row))));
    }
    let report = Report {
        processor: versions::processor(),
        instructions: Instructions::in_use().to_string(),
        commit: env!("SMFP_COMMIT"),
        libtorch: versions::libtorch_version(),
        env: args.env.clone(),
        threads: args.threads,
        rows,
    };
    let text = serde_json::to_string_pretty(&report);
    console::data(text.map_err(|error| Failure::Failed(error.to_string()))? + "\n")
}
