//! CPU kernels for ternary models, behind two seams.
//!
//! [`Backend`] is what a model sees: rows of activations, packed matrices, a
//! dozen operations. [`arch::Isa`] is what the CPU backend sees: one
//! instruction set's kernels over slices. [`binary`] stands beside them: products for
//! layers whose activations are one bit, which no backend calls.
#![allow(unexpected_cfgs, reason = "`loom` is no feature: RUSTFLAGS sets it when the model checker runs")]

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
