//! The floating-point half of an instruction set.

use super::sealed::Sealed;

/// Floating-point operations, the same bits on every instruction set.
pub trait FloatOps: Sealed {}
