//! Raw bindings of MuJoCo's batch API (`mjbatch.h`), with `mujoco-rs`'s types.
//!
//! `mujoco-rs` wraps the rest of MuJoCo but not these functions, which step many simulations of
//! one model on a thread pool. Safety conditions are in the header's comments, which are
//! copied here. `envs::Batch` is a safe wrapper.

#[allow(non_camel_case_types, non_snake_case, missing_docs)] // generated from the C header, with its names and comments
#[allow(rustdoc::broken_intra_doc_links)]
mod mjbatch;

pub use mjbatch::*;
