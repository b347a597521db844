//! Fused multiply-add, which WebAssembly leaves to relaxed SIMD: in binary64, rounded to odd, then to binary32.
//!
//! The algorithm is that of `x86_64/sse41/fma.rs`, where it is argued for.

use std::arch::wasm32::*;

/// `a · b + c` of sixteen lanes, rounded once. Out of line, as there.
#[inline(never)]
pub(super) fn fma(a: [v128; 4], b: [v128; 4], c: [v128; 4]) -> [v128; 4] {
    [
        fma_quarter(a[0], b[0], c[0]),
        fma_quarter(a[1], b[1], c[1]),
        fma_quarter(a[2], b[2], c[2]),
        fma_quarter(a[3], b[3], c[3]),
    ]
}

#[inline(always)]
fn fma_quarter(a: v128, b: v128, c: v128) -> v128 {
    let low = fma_pair(f64x2_promote_low_f32x4(a), f64x2_promote_low_f32x4(b), f64x2_promote_low_f32x4(c));
    let high = fma_pair(promote_high(a), promote_high(b), promote_high(c));
    i32x4_shuffle::<0, 1, 4, 5>(f32x4_demote_f64x2_zero(low), f32x4_demote_f64x2_zero(high))
}

#[inline(always)]
fn promote_high(x: v128) -> v128 {
    f64x2_promote_low_f32x4(i64x2_shuffle::<1, 1>(x, x))
}

/// `a · b + c` of numbers that binary32 has, rounded to odd.
#[inline(always)]
fn fma_pair(a: v128, b: v128, c: v128) -> v128 {
    let product = f64x2_mul(a, b);
    let sum = f64x2_add(product, c);
    let of_c = f64x2_sub(sum, product);
    let of_product = f64x2_sub(sum, of_c);
    let error = f64x2_add(f64x2_sub(product, of_product), f64x2_sub(c, of_c));

    // False for NaN.
    let inexact = f64x2_gt(f64x2_abs(error), f64x2_splat(0.0));
    let one = u64x2_shr(inexact, 63);
    let signs_differ = u64x2_shr(v128_xor(sum, error), 63);
    let toward_zero = i64x2_sub(sum, v128_and(signs_differ, one));
    v128_or(toward_zero, one)
}
