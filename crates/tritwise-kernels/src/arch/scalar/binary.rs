//! Ones counted byte by byte: what the counts mean.
//!
//! The bytes of a line are counted side by side, which compilers turn into the baseline's vector
//! instructions: `cnt` and `add` of NEON, for one, which every 64-bit Arm has.

use super::Scalar;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl BinaryOps for Scalar {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        match op {
            BitOp::Xor => add_each(|w, x| w ^ x, factor, weights, x, out),
            BitOp::And => add_each(|w, x| w & x, factor, weights, x, out),
        }
    }
}

fn add_each(op: impl Fn(u8, u8) -> u8, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    for (r, w) in weights.iter().enumerate() {
        for (t, x) in x.iter().enumerate() {
            let sum = &mut out[t * weights.len() + r];
            *sum = sum.wrapping_add(factor.wrapping_mul(ones(&op, w, x)));
        }
    }
}

/// Lines whose counts fit a byte.
const NARROW_LINES: usize = u8::MAX as usize / 8;

fn ones(op: impl Fn(u8, u8) -> u8, w: &[Line], x: &[Line]) -> i32 {
    let mut ones = 0i32;
    for (w, x) in w.chunks(NARROW_LINES).zip(x.chunks(NARROW_LINES)) {
        let mut narrow = [0u8; 64];
        for (w, x) in w.iter().zip(x) {
            for ((narrow, w), x) in narrow.iter_mut().zip(w.0).zip(x.0) {
                *narrow += op(w, x).count_ones() as u8;
            }
        }
        ones = ones.wrapping_add(narrow.into_iter().map(i32::from).sum());
    }
    ones
}
