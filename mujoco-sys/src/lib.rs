//! MuJoCo's batch API (`mjbatch.h`), raw, on `mujoco-rs`'s types.
//!
//! `mujoco-rs` wraps the rest of MuJoCo but not these functions, which step many simulations of
//! one model on a pool of threads. They are C functions with C's rules: see the header's comments,
//! repeated here. `envs::Batch` is the safe way to use them.

#[allow(non_camel_case_types, non_snake_case, missing_docs)] // names and comments are C's
#[allow(rustdoc::broken_intra_doc_links)]
mod mjbatch;

pub use mjbatch::*;
