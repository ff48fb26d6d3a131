//! `runner bench`: the speed of environments and of algorithms.

mod agent;
mod env;

pub use agent::{BenchActArgs, BenchAgentArgs, act, update};
pub use env::{BenchEnvArgs, env};
