//! Ones counted with `vpopcntq`, where this CPU has it, else as on AVX2.

use std::arch::x86_64::*;

use super::super::avx2::binary as avx2;
use super::Avx512;
use crate::arch::binary::check_rows;
use crate::arch::{BinaryOps, BitOp, BitRows, Line};

impl<const VNNI: bool> BinaryOps for Avx512<VNNI> {
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
        check_rows(weights, x, out);
        if !self.vpopcntdq {
            // SAFETY: AVX2 is among these features.
            return unsafe { avx2::add_ones(op, factor, weights, x, out) };
        }
        match op {
            // SAFETY: `self` exists only where `detect` found AVX-512 F, and `vpopcntdq` tells that it found that too.
            BitOp::Xor => unsafe { add_each::<true>(factor, weights, x, out) },
            // SAFETY: as above.
            BitOp::And => unsafe { add_each::<false>(factor, weights, x, out) },
        }
    }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn add_each<const XOR: bool>(factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]) {
    for (r, w) in weights.iter().enumerate() {
        for (t, x) in x.iter().enumerate() {
            let sum = &mut out[t * weights.len() + r];
            *sum = sum.wrapping_add(factor.wrapping_mul(ones::<XOR>(w, x)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512vpopcntdq")]
#[inline]
fn ones<const XOR: bool>(w: &[Line], x: &[Line]) -> i32 {
    let mut ones = _mm512_setzero_si512();
    for (w, x) in w.iter().zip(x) {
        let (w, x): (__m512i, __m512i) = (bytemuck::cast(w.0), bytemuck::cast(x.0));
        let met = if XOR { _mm512_xor_si512(w, x) } else { _mm512_and_si512(w, x) };
        ones = _mm512_add_epi64(ones, _mm512_popcnt_epi64(met));
    }
    _mm512_reduce_add_epi64(ones) as i32
}
