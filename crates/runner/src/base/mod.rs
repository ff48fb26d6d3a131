//! What every other module uses: errors, printing, devices, checksums, versions, signals, text.

pub mod console;
pub mod device;
pub mod digest;
pub mod failure;
pub mod stop;
pub mod text;
pub mod versions;
