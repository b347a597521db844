//! Ones counted by `i8x16.popcnt`.

use std::arch::wasm32::*;

use super::Simd128;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl BinaryOps for Simd128 {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        match op {
            BitOp::Xor => add_each(|w, x| v128_xor(w, x), factor, weights, x, out),
            BitOp::And => add_each(|w, x| v128_and(w, x), factor, weights, x, out),
        }
    }
}

fn add_each(op: impl Fn(v128, v128) -> v128, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    for (r, w) in weights.iter().enumerate() {
        for (t, x) in x.iter().enumerate() {
            let sum = &mut out[t * weights.len() + r];
            *sum = sum.wrapping_add(factor.wrapping_mul(ones(&op, w, x)));
        }
    }
}

/// Lines whose counts fit a byte: each adds at most eight ones to a byte from each quarter.
const NARROW_LINES: usize = u8::MAX as usize / 32;

#[inline(always)]
fn ones(op: impl Fn(v128, v128) -> v128, w: &[Line], x: &[Line]) -> i32 {
    let mut wide = i32x4_splat(0);
    for (w, x) in w.chunks(NARROW_LINES).zip(x.chunks(NARROW_LINES)) {
        let mut narrow = u8x16_splat(0);
        for (w, x) in w.iter().zip(x) {
            let (w, x): ([v128; 4], [v128; 4]) = (bytemuck::cast(w.0), bytemuck::cast(x.0));
            for quarter in 0..4 {
                narrow = u8x16_add(narrow, u8x16_popcnt(op(w[quarter], x[quarter])));
            }
        }
        wide = i32x4_add(wide, u32x4_extadd_pairwise_u16x8(u16x8_extadd_pairwise_u8x16(narrow)));
    }
    let wide: [i32; 4] = bytemuck::cast(wide);
    wide.into_iter().fold(0, i32::wrapping_add)
}
