//! What every other room uses.

pub mod device;
pub mod digest;
pub mod failure;
pub mod stop;
pub mod text;
pub mod versions;
