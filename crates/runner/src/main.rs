//! The experiment runner.
fn main() {}
