//! Ones counted by looking up nibbles with `pshufb` (Muła, Kurz and Lemire, arXiv 1611.07612).

use std::arch::x86_64::*;

use super::Sse41;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl BinaryOps for Sse41 {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { add_ones(op, factor, weights, x, out) }
    }
}

#[target_feature(enable = "ssse3,sse4.1")]
fn add_ones(op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    match op {
        BitOp::Xor => add_each::<true>(factor, weights, x, out),
        BitOp::And => add_each::<false>(factor, weights, x, out),
    }
}

#[target_feature(enable = "ssse3,sse4.1")]
fn add_each<const XOR: bool>(factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    for (r, w) in weights.iter().enumerate() {
        for (t, x) in x.iter().enumerate() {
            let sum = &mut out[t * weights.len() + r];
            *sum = sum.wrapping_add(factor.wrapping_mul(ones::<XOR>(w, x)));
        }
    }
}

/// Lines whose counts fit a byte: each adds at most eight ones to a byte from each quarter.
const NARROW_LINES: usize = u8::MAX as usize / 32;

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn ones<const XOR: bool>(w: &[Line], x: &[Line]) -> i32 {
    let (zero, mask) = (_mm_setzero_si128(), _mm_set1_epi8(0x0f));
    // Entry n is the number of ones in n.
    let table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    let mut wide = zero;
    for (w, x) in w.chunks(NARROW_LINES).zip(x.chunks(NARROW_LINES)) {
        let mut narrow = zero;
        for (w, x) in w.iter().zip(x) {
            let (w, x): ([__m128i; 4], [__m128i; 4]) = (bytemuck::cast(w.0), bytemuck::cast(x.0));
            for quarter in 0..4 {
                let (w, x) = (w[quarter], x[quarter]);
                let met = if XOR { _mm_xor_si128(w, x) } else { _mm_and_si128(w, x) };
                let low = _mm_shuffle_epi8(table, _mm_and_si128(met, mask));
                let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(met), mask));
                narrow = _mm_add_epi8(narrow, _mm_add_epi8(low, high));
            }
        }
        wide = _mm_add_epi64(wide, _mm_sad_epu8(narrow, zero));
    }
    let wide: [i64; 2] = bytemuck::cast(wide);
    wide.into_iter().sum::<i64>() as i32
}
