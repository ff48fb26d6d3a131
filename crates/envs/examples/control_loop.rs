//! An exported policy in a control loop of 500 Hz against MuJoCo: each period waits for its time,
//! takes the newest observation, acts, and steps the simulation. Prints a histogram of the time
//! from the beginning of the period to the action.
//!
//! ```sh
//! cargo run --release -p envs --example control_loop -- RUN/export/policy.smfp Hopper-v4 10
//! ```

use envs::Env;
use policy::Policy;
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_micros(2000);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, task, seconds] = &arguments[..] else {
        return Err("expected POLICY.smfp TASK SECONDS".into());
    };
    let mut policy = Policy::from_bytes(&std::fs::read(file)?)?;
    let mut env = Env::make(task)?;
    let [obs_dim, .., act_dim] = policy.sizes();
    if (obs_dim, act_dim) != (env.spec().obs_dim, env.spec().act_dim) {
        return Err(format!("{file} is not a policy for {task}").into());
    }
    let count = (seconds.parse::<f64>()? / PERIOD.as_secs_f64()) as usize;
    let mut seen = vec![0.0; obs_dim];
    let (mut obs, mut actions) = (vec![0.0; obs_dim], vec![0.0; act_dim]);
    env.reset(Some(0), &mut seen);
    let (mut acting, mut late) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut due = Instant::now();
    for _ in 0..count {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        for (to, from) in obs.iter_mut().zip(&seen) {
            *to = *from as f32;
        }
        policy.act(&obs, None, None, &mut actions)?;
        acting.push(begun.elapsed().as_secs_f64() * 1e6);
        late.push(due.elapsed().as_secs_f64() * 1e6);
        let step = env.step(&actions, &mut seen)?;
        if step.terminated || step.truncated {
            env.reset(None, &mut seen);
        }
    }
    let out = &mut std::io::stdout().lock();
    show(out, "observation to action", &mut acting)?;
    show(out, "beginning of the period to action, with the system's delay", &mut late)
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
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let index = ((times.len() - 1) as f64 * q).round() as usize;
        write!(out, "  {name} {:.1}", times[index])?;
    }
    writeln!(out)?;
    Ok(())
}
