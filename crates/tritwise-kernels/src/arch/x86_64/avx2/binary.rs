//! Ones counted by looking up nibbles with `vpshufb` (Muła, Kurz and Lemire, arXiv 1611.07612).

use std::arch::x86_64::*;

use super::Avx2;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl BinaryOps for Avx2 {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { add_ones(op, factor, weights, x, out) }
    }
}

/// [`BinaryOps::add_ones`], for every x86-64 with AVX2.
#[target_feature(enable = "avx2")]
pub(in crate::arch::x86_64) fn add_ones(op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    match op {
        BitOp::Xor => add_each::<true>(factor, weights, x, out),
        BitOp::And => add_each::<false>(factor, weights, x, out),
    }
}

#[target_feature(enable = "avx2")]
fn add_each<const XOR: bool>(factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    for (r, w) in weights.iter().enumerate() {
        for (t, x) in x.iter().enumerate() {
            let sum = &mut out[t * weights.len() + r];
            *sum = sum.wrapping_add(factor.wrapping_mul(ones::<XOR>(w, x)));
        }
    }
}

/// Lines whose counts fit a byte: each adds at most eight ones to a byte from either half.
const NARROW_LINES: usize = u8::MAX as usize / 16;

#[target_feature(enable = "avx2")]
#[inline]
fn ones<const XOR: bool>(w: &[Line], x: &[Line]) -> i32 {
    let (zero, mask) = (_mm256_setzero_si256(), _mm256_set1_epi8(0x0f));
    // Entry n of either half is the number of ones in n.
    let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let mut wide = zero;
    for (w, x) in w.chunks(NARROW_LINES).zip(x.chunks(NARROW_LINES)) {
        let mut narrow = zero;
        for (w, x) in w.iter().zip(x) {
            let (w, x): ([__m256i; 2], [__m256i; 2]) = (bytemuck::cast(w.0), bytemuck::cast(x.0));
            for half in 0..2 {
                let met = if XOR { _mm256_xor_si256(w[half], x[half]) } else { _mm256_and_si256(w[half], x[half]) };
                let low = _mm256_shuffle_epi8(table, _mm256_and_si256(met, mask));
                let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(met), mask));
                narrow = _mm256_add_epi8(narrow, _mm256_add_epi8(low, high));
            }
        }
        wide = _mm256_add_epi64(wide, _mm256_sad_epu8(narrow, zero));
    }
    let wide: [i64; 4] = bytemuck::cast(wide);
    wide.into_iter().sum::<i64>() as i32
}
