//! The commands: a file each, below the command line that names them.

mod bench;
pub mod cli;
mod doctor;
mod eval;
mod plan;
mod report;
mod run;
mod status;
mod trace;
mod train;

use crate::base::failure::{Failure, Outcome};
use crate::{sweep, toy, watch};
use clap::Parser;
use cli::{BenchCommand, Cli, Command};
use std::process::ExitCode;

/// The program: reads the command line, does what it says, prints what went wrong.
pub fn main() -> ExitCode {
    // A defect of ours (or LibTorch out of memory) is one line too; a
    // backtrace is there for who asks for it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full") {
            report(info);
        }
        let message = info.payload_as_str().unwrap_or("unknown").lines().next().unwrap_or_default();
        let place = info.location().map(|at| format!(" ({at})")).unwrap_or_default();
        eprintln!("error: internal failure: {message}{place}; RUST_BACKTRACE=full shows more");
        std::process::exit(1);
    }));
    let outcome = match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) if error.use_stderr() => Err(Failure::Usage(usage_line(&error))),
        Err(help_or_version) => help_or_version.exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let kind = if matches!(failure, Failure::Stopped(_)) { "stopped" } else { "error" };
            eprintln!("{kind}: {}", failure.message());
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: Cli) -> Outcome<()> {
    match (cli.command, cli.train) {
        (Some(Command::Train(args)), _) | (None, Some(args)) => train::train(&args),
        (Some(Command::Eval(args)), _) => eval::eval(&args),
        (Some(Command::Trace(args)), _) => trace::trace(&args),
        (Some(Command::Plan(args)), _) => plan::plan(&args),
        (Some(Command::Run(args)), _) => run::run(&args),
        (Some(Command::Sweep(args)), _) => sweep::local::sweep(&args),
        (Some(Command::Status(args)), _) => status::status(&args),
        (Some(Command::Watch(args)), _) => watch::watch(&args),
        (Some(Command::Slurm(args)), _) => sweep::slurm::slurm(&args),
        (Some(Command::Bench(BenchCommand::Env(args))), _) => bench::env::bench(&args),
        (Some(Command::Bench(BenchCommand::Update(args))), _) => bench::agent::update(&args),
        (Some(Command::Bench(BenchCommand::Act(args))), _) => bench::agent::act(&args),
        (Some(Command::Toy(args)), _) => toy::toy(&args),
        (Some(Command::Report(args)), _) => report::report(&args),
        (Some(Command::Doctor), _) => doctor::doctor(),
        (None, None) => Err(Failure::Usage(
            "no task given: `runner --env Ant-v4 --seed 3` trains, `runner --help` shows more"
                .into(),
        )),
    }
}

/// clap's message without the usage text: what is wrong, and its hint.
fn usage_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let words: Vec<&str> = first.split_whitespace().collect();
    let hint = tip.map(|tip| format!("; {tip}")).unwrap_or_default();
    format!("{}{hint}; see `runner --help`", words.join(" "))
}
