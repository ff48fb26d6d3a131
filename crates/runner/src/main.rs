//! The experiment runner. `runner --help` says what it does; data goes to
//! stdout, progress and messages to stderr.

mod bench_agent;
mod bench_env;
mod board;
mod checkpoint;
mod cli;
mod device;
mod doctor;
mod evaluate;
mod failure;
mod folder;
mod interval;
mod logs;
mod manifest;
mod needs;
mod plan;
mod progress;
mod report;
mod request;
mod run;
mod settings;
mod slurm;
mod status;
mod stop;
mod sweep;
mod toy;
mod train;
mod watch;
mod worker;

use clap::Parser;
use cli::{BenchCommand, Cli, Command, TraceArgs};
use failure::{Failure, Outcome};
use std::process::ExitCode;

fn main() -> ExitCode {
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
        Ok(cli) => run(cli),
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

fn run(cli: Cli) -> Outcome<()> {
    match (cli.command, cli.train) {
        (Some(Command::Train(args)), _) | (None, Some(args)) => train::train(&args),
        (Some(Command::Eval(args)), _) => evaluate::eval(&args),
        (Some(Command::Trace(args)), _) => trace(&args),
        (Some(Command::Plan(args)), _) => plan::plan(&args),
        (Some(Command::Run(args)), _) => worker::run(&args),
        (Some(Command::Sweep(args)), _) => sweep::sweep(&args),
        (Some(Command::Status(args)), _) => status::status(&args),
        (Some(Command::Watch(args)), _) => watch::watch(&args),
        (Some(Command::Slurm(args)), _) => slurm::slurm(&args),
        (Some(Command::Bench(BenchCommand::Env(args))), _) => bench_env::bench(&args),
        (Some(Command::Bench(BenchCommand::Update(args))), _) => bench_agent::update(&args),
        (Some(Command::Bench(BenchCommand::Act(args))), _) => bench_agent::act(&args),
        (Some(Command::Toy(args)), _) => toy::toy(&args),
        (Some(Command::Report(args)), _) => report::report(&args),
        (Some(Command::Doctor), _) => doctor::doctor(),
        (None, None) => Err(Failure::Usage(
            "no task given: `runner --env Ant-v4 --seed 3` trains, `runner --help` shows more"
                .into(),
        )),
    }
}

fn trace(args: &TraceArgs) -> Outcome<()> {
    let mut env = match &args.model {
        Some(model) => envs::Env::make_with_model(&args.env, model)?,
        None => envs::Env::make(&args.env)?,
    };
    let actions = envs::trace::read_npy(&args.actions)?;
    let trace = envs::trace::replay(&mut env, args.seed, actions.view())?;
    envs::trace::write_npz(&args.out, &trace)?;
    Ok(())
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
