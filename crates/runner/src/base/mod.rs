//! What every other module uses: errors, devices, checksums, versions, signals, text.

pub mod device;
pub mod digest;
pub mod failure;
pub mod stop;
pub mod text;
pub mod versions;
