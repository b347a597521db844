//! Ones counted by the scalar code, which is NEON already.
//!
//! NEON is part of the compiler's baseline here, and from the loops over bytes it makes what one
//! would write by hand: `eor` or `and`, `cnt` and `add` of sixteen bytes at a time.

use super::Neon;
use crate::arch::scalar::Scalar;
use crate::arch::{BinaryOps, BitOp, BitRows};

impl BinaryOps for Neon {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        Scalar::new().add_ones(op, factor, weights, x, out);
    }
}
