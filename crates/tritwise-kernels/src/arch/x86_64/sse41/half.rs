//! Binary16 on CPUs that cannot convert it.
//!
//! ```text
//! binary16   s eeeee mmmmmmmmmm                      ±2^(e − 15)  · 1.m,  or ±2⁻¹⁴  · 0.m for e = 0
//! binary32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm      ±2^(e − 127) · 1.m,  or ±2⁻¹²⁶ · 0.m for e = 0
//! ```
//!
//! With the fields moved to their new places, exponents are still off by 112. Multiplying by 2¹¹² sets that right, also
//! where binary16 is subnormal, and is exact. (On the way back it would round, but not where binary16 does.)

use std::arch::x86_64::*;

/// Bits by which the mantissas differ.
const SHIFT: i32 = 13;

/// By how much the exponents differ.
const EXPONENT: i32 = 127 - 15;

/// The bits of infinity in binary32.
const INFINITY: i32 = 0xff << 23;

/// Four numbers in binary16, each in the low half of a lane whose high half is zero.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
pub(super) fn decode(x: __m128i) -> __m128 {
    let magnitude = _mm_and_si128(x, _mm_set1_epi32(0x7fff));
    let sign = _mm_slli_epi32::<16>(_mm_xor_si128(x, magnitude));
    let moved = _mm_castsi128_ps(_mm_slli_epi32::<SHIFT>(magnitude));
    let scale = _mm_castsi128_ps(_mm_set1_epi32((127 + EXPONENT) << 23));
    let finite = _mm_castps_si128(_mm_mul_ps(moved, scale));
    // An exponent of all ones has become 2¹⁶; infinity and NaN get all ones back.
    let special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(INFINITY));
    _mm_castsi128_ps(_mm_or_si128(_mm_or_si128(finite, special), sign))
}

/// Binary16 rounded to nearest even, in the low half of each lane; the high half is zero.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
pub(super) fn encode(x: __m128) -> __m128i {
    let bits = _mm_castps_si128(x);
    let magnitude = _mm_and_si128(bits, _mm_set1_epi32(i32::MAX));
    let sign = _mm_srli_epi32::<16>(_mm_xor_si128(bits, magnitude));
    let nan = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(INFINITY));
    let small = _mm_cmplt_epi32(magnitude, _mm_set1_epi32((127 - 14) << 23));
    let code = _mm_blendv_epi8(encode_normal(magnitude), encode_subnormal(magnitude), small);
    let code = _mm_blendv_epi8(code, _mm_set1_epi32(0x7e00), nan);
    _mm_or_si128(code, sign)
}

/// Magnitudes of 2⁻¹⁴ and more: half of the last place that stays, less one if that place is even, is
/// added to what goes. A carry runs on into the exponent, and at 65,520 into infinity, where 65,536 already is.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn encode_normal(magnitude: __m128i) -> __m128i {
    let magnitude = _mm_min_epi32(magnitude, _mm_set1_epi32((127 + 16) << 23));
    let odd = _mm_and_si128(_mm_srli_epi32::<SHIFT>(magnitude), _mm_set1_epi32(1));
    let almost_half = _mm_set1_epi32((1 << (SHIFT - 1)) - 1 - (EXPONENT << 23));
    _mm_srli_epi32::<SHIFT>(_mm_add_epi32(_mm_add_epi32(magnitude, almost_half), odd))
}

/// Magnitudes below 2⁻¹⁴: the last place of 0.5 in binary32 is 2⁻²⁴, that of subnormal binary16, so an addition to it rounds.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn encode_subnormal(magnitude: __m128i) -> __m128i {
    let half = _mm_set1_ps(0.5);
    let sum = _mm_add_ps(_mm_castsi128_ps(magnitude), half);
    _mm_sub_epi32(_mm_castps_si128(sum), _mm_castps_si128(half))
}
