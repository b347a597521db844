//! CPU kernels for ternary models, behind two seams.
//!
//! [`Backend`] is what a model sees: rows of activations, packed matrices, a
//! dozen operations. [`arch::Isa`] is what the CPU backend sees: one
//! instruction set's kernels over slices. [`binary`] stands beside them: products for
//! layers whose activations are one bit, which no backend calls.
//!
//! The other crates deny indexing and narrowing casts. Here both are the business: kernels index rows and panels in
//! their innermost loops, and rounding to integers is what they are for. What they rely on is checked where a matrix is
//! packed or a buffer made, and tests meet every kernel with every shape. Contracts between callers and kernels are
//! assertions, documented under "Panics".
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::todo))]
#![allow(unexpected_cfgs, reason = "`loom` is no feature: RUSTFLAGS sets it when the model checker runs")]

#[allow(clippy::expect_used, reason = "slices of whole lines and panels become arrays of their length")]
pub mod arch;
mod arena;
mod backend;
pub mod binary;
pub mod cpu;
mod memory;
mod packed;
mod parallel;

pub use backend::{Backend, HeadReads, Keep, PackError};
pub use cpu::CpuBackend;
pub use packed::PackedMatrix;
