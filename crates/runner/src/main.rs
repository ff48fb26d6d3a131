//! The program. `runner --help` says what it does; data goes to stdout,
//! progress and messages to stderr.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::main()
}
