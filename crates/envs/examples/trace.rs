//! Replays actions in one task, like `runner trace`, without the runner.
//!
//! `cargo run -p envs --example trace -- trace --env ID --seed N --actions A.npy --out T.npz`

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use envs::{Env, trace};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).ok_or(format!("{name} is missing"))
    };
    let seed = value("--seed")?.parse().map_err(|cause| format!("--seed: {cause}"))?;
    let mut env = Env::make(value("--env")?).map_err(|cause| cause.to_string())?;
    let actions =
        trace::read_npy(Path::new(value("--actions")?)).map_err(|cause| cause.to_string())?;
    let replayed =
        trace::replay(&mut env, seed, actions.view()).map_err(|cause| cause.to_string())?;
    let file = File::create(value("--out")?).map_err(|cause| cause.to_string())?;
    trace::write_npz(file, &replayed).map_err(|cause| cause.to_string())
}
