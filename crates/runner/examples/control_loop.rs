//! A policy in a control loop of 500 Hz against MuJoCo: each period waits for its time, takes the
//! newest observation, acts, and steps the simulation. The exported file and LibTorch with the
//! checkpoint that it was made of take turns of a second. Prints histograms of the time from the
//! observation to the action, and from the beginning of the period.
//!
//! ```sh
//! cargo run -p runner --example control_loop -- results/smfp/Hopper-v4/seed-0 60
//! ```
//!
//! The run must have been exported to its own folder.

use agent::{ActMode, stream};
use envs::Env;
use policy::Policy;
use runner::train::evaluator::{ActionScale, to_rows};
use runner::train::saved_run::SavedRun;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

const PERIOD: Duration = Duration::from_micros(2000);
/// Periods in a turn.
const TURN: usize = 500;

/// Times of the periods of one way to act, in microseconds.
#[derive(Default)]
struct Times {
    acting: Vec<f64>,
    late: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seconds] = &arguments[..] else {
        return Err("expected the folder of an exported run, and seconds".into());
    };
    runner::base::device::use_threads(1);
    let run =
        SavedRun::open(Path::new(folder), None).map_err(|error| error.message().to_string())?;
    let file = Path::new(folder).join("export/policy.smfp");
    let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut policy = Policy::from_bytes(&bytes)?;
    let mut env = Env::make(&run.env)?;
    let spec = env.spec().clone();
    let (agent, _) = run.agent(&spec, Device::Cpu).map_err(|error| error.message().to_string())?;
    let (scale, mut unused) = (ActionScale::of(&spec), stream(0, "unused"));

    let mut seen = vec![0.0; spec.obs_dim];
    let (mut obs, mut actions) = (vec![0.0; spec.obs_dim], vec![0.0; spec.act_dim]);
    env.reset(Some(0), &mut seen);
    let mut found = [Times::default(), Times::default()];
    let mut due = Instant::now();
    for period in 0..(seconds.parse::<f64>()? / PERIOD.as_secs_f64()) as usize {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        for (to, from) in obs.iter_mut().zip(&seen) {
            *to = *from as f32;
        }
        let who = period / TURN % 2;
        if who == 0 {
            policy.act(&obs, None, None, &mut actions)?;
        } else {
            let row = Tensor::from_slice(&obs).unsqueeze(0);
            actions = to_rows(&agent.act(&row, ActMode::Mean, &mut unused));
            scale.apply(&mut actions);
        }
        found[who].acting.push(begun.elapsed().as_secs_f64() * 1e6);
        found[who].late.push(due.elapsed().as_secs_f64() * 1e6);
        let step = env.step(&actions, &mut seen)?;
        if step.terminated || step.truncated {
            env.reset(None, &mut seen);
        }
    }
    let out = &mut std::io::stdout().lock();
    for (who, times) in ["the runtime", "LibTorch"].iter().zip(&mut found) {
        show(out, &format!("{who}, observation to action"), &mut times.acting)?;
        show(out, &format!("{who}, beginning of the period to action"), &mut times.late)?;
    }
    Ok(())
}

/// Writes a histogram over powers of two, and the quantiles, in microseconds.
fn show(out: &mut impl Write, what: &str, times: &mut [f64]) -> Result<(), Box<dyn Error>> {
    times.sort_by(f64::total_cmp);
    writeln!(out, "{what}, us:")?;
    let bin = |time: &f64| time.log2().floor().max(0.0) as i32;
    for part in times.chunk_by(|a, b| bin(a) == bin(b)) {
        let (low, share) =
            (2_u32.pow(bin(&part[0]) as u32), part.len() as f64 / times.len() as f64);
        let bar = "#".repeat((share * 50.0).ceil() as usize);
        writeln!(out, "{low:>8} - {:<8} {:>7} {bar}", 2 * low, part.len())?;
    }
    if times.is_empty() {
        return Ok(());
    }
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let index = ((times.len() - 1) as f64 * q).round() as usize;
        write!(out, "  {name} {:.1}", times[index])?;
    }
    writeln!(out)?;
    Ok(())
}
