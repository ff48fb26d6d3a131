//! `runner bench`: how fast things are.

pub mod agent;
pub mod env;
