//! The commands: a file for each, with its flags, under the command line that names them.
//!
//! A command turns its flags into the plain structs of the modules below it; no module
//! below knows the command line.

mod bench;
mod cli;
mod doctor;
mod eval;
mod export;
mod flags;
mod plan;
mod report;
mod run;
mod show;
mod slurm;
mod status;
mod sweep;
mod task;
mod toy;
mod trace;
mod train;
mod video;
mod watch;

use crate::base::failure::{Failure, Outcome};
use crate::base::{console, device};
use clap::Parser;
use cli::{BenchCommand, Cli, Command, TaskCommand};
use std::error::Error;
use std::num::{IntErrorKind, ParseIntError};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Once;

/// The program: reads the command line, runs the command, prints what went wrong on stderr.
///
/// The exit codes are those of `docs/protocol.md`.
pub fn main() -> ExitCode {
    print_panics_as_one_line();
    // Any thread's panic arrives here: the networks' pool passes those of its workers on.
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            let kind = if matches!(failure, Failure::Stopped(_)) { "stopped" } else { "error" };
            console::message(format!("{kind}: {}", failure.message()));
            ExitCode::from(failure.code())
        }
        Err(_panic) => ExitCode::FAILURE,
    }
}

/// Makes a panic (a bug of ours, or LibTorch out of memory) one line on stderr, like any
/// other error. `RUST_BACKTRACE=full` adds the backtrace.
fn print_panics_as_one_line() {
    static FIRST: Once = Once::new();
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full") {
            default_hook(info);
        }
        let message = info.payload_as_str().unwrap_or("unknown").lines().next().unwrap_or_default();
        let place = info.location().map(|at| format!(" ({at})")).unwrap_or_default();
        // Threads that work together tend to fail together.
        FIRST.call_once(|| {
            console::message(format!(
                "error: internal failure: {message}{place}; RUST_BACKTRACE=full shows more"
            ));
        });
    }));
}

fn run() -> Outcome<()> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(usage_line(&error))),
        Err(help_or_version) => return help_or_version.print().map_err(console::unwritable),
    };
    device::choose_instructions(std::env::var_os("SMFP_INSTRUCTIONS").as_deref())?;
    match (cli.command, cli.train) {
        (Some(Command::Train(args)), _) | (None, Some(args)) => train::train(&args),
        (Some(Command::Eval(args)), _) => eval::eval(&args),
        (Some(Command::Export(args)), _) => export::export(&args),
        (Some(Command::Show(args)), _) => show::show(&args),
        (Some(Command::Video(args)), _) => video::video(&args),
        (Some(Command::Task(TaskCommand::Check(args))), _) => task::check(&args),
        (Some(Command::Task(TaskCommand::New(args))), _) => task::new(&args),
        (Some(Command::Trace(args)), _) => trace::trace(&args),
        (Some(Command::Plan(args)), _) => plan::plan(&args),
        (Some(Command::Run(args)), _) => run::run(&args),
        (Some(Command::Sweep(args)), _) => sweep::sweep(&args),
        (Some(Command::Status(args)), _) => status::status(&args),
        (Some(Command::Watch(args)), _) => watch::watch(&args),
        (Some(Command::Slurm(args)), _) => slurm::slurm(args),
        (Some(Command::Bench(BenchCommand::Env(args))), _) => bench::env(&args),
        (Some(Command::Bench(BenchCommand::Update(args))), _) => bench::update(&args),
        (Some(Command::Bench(BenchCommand::Act(args))), _) => bench::act(&args),
        (Some(Command::Toy(args)), _) => toy::toy(args),
        (Some(Command::Report(args)), _) => report::report(&args),
        (Some(Command::Doctor), _) => doctor::doctor(),
        (None, None) => Err(Failure::Usage(
            "no task given: `runner --env Ant-v4 --seed 3` trains, `runner --help` shows more"
                .into(),
        )),
    }
}

/// clap's error as one line: the message and its tip, without the usage text.
fn usage_line(error: &clap::Error) -> String {
    let mut text = error.render().to_string();
    // The standard library says what is wrong with a number, but not what was expected.
    let number = error.source().and_then(|cause| cause.downcast_ref::<ParseIntError>());
    if let Some(cause) = number {
        let expected = match cause.kind() {
            IntErrorKind::PosOverflow => "the number is too large",
            _ => "expected a whole number in digits, 0 or more",
        };
        text = text.replace(&cause.to_string(), expected);
    }
    let first = text.split("\n\n").next().unwrap_or(&text);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let words: Vec<&str> = first.split_whitespace().collect();
    let hint = tip.map(|tip| format!("; {tip}")).unwrap_or_default();
    format!("{}{hint}; see `runner --help`", words.join(" "))
}
