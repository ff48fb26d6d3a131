//! `runner toy`: learns a toy with a known Q (`docs/toys.md`).

use super::flags::{NumberList, number_list};
use crate::base::device;
use crate::base::failure::Outcome;
use crate::toy::{self, Choice, Study};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct ToyArgs {
    /// Toy: three-modes or two-bumps.
    #[arg(value_name = "NAME")]
    toy: String,
    /// Seeds: a list of numbers and ranges, such as 0-2,7.
    #[arg(long, value_name = "LIST", default_value = "0-2", value_parser = number_list)]
    seeds: NumberList,
    /// Actor updates of every variant (default: those of crates/runner/toys.toml).
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    updates: Option<u64>,
    /// Pictures, separated by commas, each with its variants (default: all of
    /// crates/runner/toys.toml).
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "variants")]
    pictures: Vec<String>,
    /// Variants, separated by commas (default: all of crates/runner/toys.toml).
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Folder for the tables and the pictures.
    #[arg(long, value_name = "DIR", default_value = "results/toy")]
    out: PathBuf,
    /// Threads. They change the speed, never the results.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
}

/// The command.
///
/// # Errors
/// An unknown toy, picture or variant; an actor that diverged; files that can't be written.
pub fn toy(args: ToyArgs) -> Outcome<()> {
    let ToyArgs { updates, pictures, variants, .. } = args;
    let toy = toy::named(&args.toy)?;
    let groups = toy::groups(toy, &Choice { updates, pictures, variants })?;
    device::use_threads(usize::from(args.threads));
    toy::run(&Study { toy, groups, seeds: args.seeds.0, out: args.out })
}
