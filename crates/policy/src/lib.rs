//! The runtime of exported policies. It reads a [`Graph`] of a few vector operations from
//! `policy.smfp` and computes actions from it, without dependencies or threads, and, but for
//! detecting AVX2 on x86-64, without the standard library.
//!
//! The same file and input give the same bits on every processor (tested: x86-64 with AVX2 and
//! without, AArch64, WebAssembly): sums have a fixed order, a product and a sum are never fused, and `exp` is the crate's own. Only the payload of a NaN is
//! not promised. A NaN in the input is passed on.

#![no_std]

extern crate alloc;
#[cfg(target_arch = "x86_64")]
extern crate std;

mod error;
mod file;
mod graph;
mod math;
mod runtime;

pub use error::Error;
pub use file::VERSION;
pub use graph::{Graph, Op, Value};
pub use runtime::{Kernel, Policy};
