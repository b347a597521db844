//! Binary16, which WebAssembly cannot convert. The algorithms are those of `x86_64/sse41/half.rs`, where they are drawn.

use std::arch::wasm32::*;

/// Bits by which the mantissas differ.
const SHIFT: u32 = 13;

/// By how much the exponents differ.
const EXPONENT: i32 = 127 - 15;

/// The bits of infinity in binary32.
const INFINITY: i32 = 0xff << 23;

/// Four numbers in binary16, each in the low half of a lane whose high half is zero.
#[inline(always)]
pub(super) fn decode(x: v128) -> v128 {
    let magnitude = v128_and(x, i32x4_splat(0x7fff));
    let sign = i32x4_shl(v128_xor(x, magnitude), 16);
    let finite = f32x4_mul(i32x4_shl(magnitude, SHIFT), i32x4_splat((127 + EXPONENT) << 23));
    // An exponent of all ones has become 2¹⁶; infinity and NaN get all ones back.
    let special = v128_and(i32x4_gt(magnitude, i32x4_splat(0x7bff)), i32x4_splat(INFINITY));
    v128_or(v128_or(finite, special), sign)
}

/// Binary16 rounded to nearest even, in the low half of each lane; the high half is zero.
#[inline(always)]
pub(super) fn encode(x: v128) -> v128 {
    let magnitude = v128_and(x, i32x4_splat(i32::MAX));
    let sign = u32x4_shr(v128_xor(x, magnitude), 16);
    let nan = i32x4_gt(magnitude, i32x4_splat(INFINITY));
    let small = i32x4_lt(magnitude, i32x4_splat((127 - 14) << 23));
    let code = v128_bitselect(encode_subnormal(magnitude), encode_normal(magnitude), small);
    v128_or(v128_bitselect(i32x4_splat(0x7e00), code, nan), sign)
}

/// Magnitudes of 2⁻¹⁴ and more.
#[inline(always)]
fn encode_normal(magnitude: v128) -> v128 {
    let magnitude = i32x4_min(magnitude, i32x4_splat((127 + 16) << 23));
    let odd = v128_and(u32x4_shr(magnitude, SHIFT), i32x4_splat(1));
    let almost_half = i32x4_splat((1 << (SHIFT - 1)) - 1 - (EXPONENT << 23));
    u32x4_shr(i32x4_add(i32x4_add(magnitude, almost_half), odd), SHIFT)
}

/// Magnitudes below 2⁻¹⁴.
#[inline(always)]
fn encode_subnormal(magnitude: v128) -> v128 {
    let half = f32x4_splat(0.5);
    i32x4_sub(f32x4_add(magnitude, half), half)
}
