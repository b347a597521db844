//! Sixteen lanes as four 128-bit registers.

use std::arch::x86_64::*;

use super::super::{LEAST_NORMAL, TO_UNITS, stream};
use super::{Sse41, fma, half};
use crate::arch::generic::{LANES, Lanes, lanes_ops};

type V = [__m128; 4];
type I = [__m128i; 4];

/// An operation on each quarter.
macro_rules! quarters {
    ($op:path; $($x:expr),*) => {
        [$op($($x[0]),*), $op($($x[1]),*), $op($($x[2]),*), $op($($x[3]),*)]
    };
}

impl Lanes for Sse41 {
    type F32 = V;
    type I32 = I;
    type Pairs = I;

    const WIDE: bool = false;

    lanes_ops! { "ssse3,sse4.1":
        fn splat(x: f32) -> V { [_mm_set1_ps(x); 4] }
        fn load(x: &[f32; LANES]) -> V { bytemuck::cast(*x) }
        fn store(x: V, out: &mut [f32; LANES]) { *out = bytemuck::cast(x); }

        fn add(a: V, b: V) -> V { quarters!(_mm_add_ps; a, b) }
        fn sub(a: V, b: V) -> V { quarters!(_mm_sub_ps; a, b) }
        fn mul(a: V, b: V) -> V { quarters!(_mm_mul_ps; a, b) }
        fn div(a: V, b: V) -> V { quarters!(_mm_div_ps; a, b) }
        fn fma(a: V, b: V, c: V) -> V { fma::fma(a, b, c) }
        fn max(a: V, b: V) -> V { quarters!(_mm_max_ps; a, b) }
        fn min(a: V, b: V) -> V { quarters!(_mm_min_ps; a, b) }
        fn round(x: V) -> V { quarters!(round_ps; x) }
        fn scale(x: V, n: V) -> V { quarters!(scale_ps; x, n) }
        fn max_magnitude(max: V, x: V) -> V { quarters!(max_magnitude_ps; max, x) }
        fn swap_pairs(x: V) -> V { quarters!(swap_pairs_ps; x) }
        fn sum(x: V) -> f32 {
            let x = _mm_add_ps(_mm_add_ps(x[0], x[2]), _mm_add_ps(x[1], x[3]));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }

        fn store_i8(x: V, out: &mut [i8; LANES]) {
            // Packing saturates.
            let x = quarters!(_mm_cvtps_epi32; x);
            let bytes = _mm_packs_epi16(_mm_packs_epi32(x[0], x[1]), _mm_packs_epi32(x[2], x[3]));
            *out = bytemuck::cast(bytes);
        }
        fn load_i8(x: &[u8; LANES]) -> V { from_i8(bytemuck::cast(*x)) }
        fn store_i16(x: V, out: &mut [i16; LANES]) {
            let x = quarters!(_mm_cvtps_epi32; x);
            *out = bytemuck::cast([_mm_packs_epi32(x[0], x[1]), _mm_packs_epi32(x[2], x[3])]);
        }

        fn zero_i32() -> I { [_mm_setzero_si128(); 4] }
        fn load_pairs(x: &[u8; 2 * LANES]) -> I {
            let eights: [i64; 4] = bytemuck::cast(*x);
            quarters!(pairs_from_i8; eights)
        }
        fn dot_pairs(sum: I, a: I, b: [i16; 2]) -> I {
            let b = [_mm_set1_epi32(bytemuck::cast(b)); 4];
            let products = quarters!(_mm_madd_epi16; a, b);
            quarters!(_mm_add_epi32; sum, products)
        }
        fn i32_to_f32(x: I) -> V { quarters!(_mm_cvtepi32_ps; x) }

        fn load_f32(x: &[u8; 4 * LANES]) -> V { bytemuck::cast(*x) }
        fn load_f16(x: &[u8; 2 * LANES]) -> V {
            let x = words(x);
            quarters!(half::decode; x)
        }
        fn load_bf16(x: &[u8; 2 * LANES]) -> V {
            let x = words(x);
            quarters!(from_bf16; x)
        }
        fn load_trits(line: &[u8; 4 * LANES], shift: u32) -> V {
            let (line, shift): (I, _) = (bytemuck::cast(*line), [_mm_cvtsi32_si128(shift.cast_signed()); 4]);
            quarters!(trits; line, shift)
        }
        fn half(x: &[u8; 2]) -> f32 {
            _mm_cvtss_f32(half::decode(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*x)))))
        }

        fn prefetch(x: &[u8], ahead: usize) { stream::prefetch(x, ahead) }
    }

    #[inline(always)]
    fn store_f16(self, x: V, out: &mut [u8; 2 * LANES]) {
        let (halves, _) = out.as_chunks_mut();
        self.store_f16_half(x[0], x[1], &mut halves[0]);
        self.store_f16_half(x[2], x[3], &mut halves[1]);
    }

    #[inline(always)]
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
        let (low, _) = low.as_chunks();
        let (high, _) = high.as_chunks();
        [
            self.six_bit_codes(&low[0], self.high_bits(&high[0], part, 4), part),
            self.six_bit_codes(&low[1], self.high_bits(&high[1], part, 4), part),
            self.six_bit_codes(&low[2], self.high_bits(&high[0], part, 2), part),
            self.six_bit_codes(&low[3], self.high_bits(&high[1], part, 2), part),
        ]
    }
}

/// The steps of longer operations.
impl Sse41 {
    lanes_ops! { "ssse3,sse4.1":
        fn store_f16_half(low: __m128, high: __m128, out: &mut [u8; LANES]) {
            // Packing would saturate, but none is above 16 bits.
            *out = bytemuck::cast(_mm_packus_epi32(half::encode(low), half::encode(high)));
        }
        /// Bits 5..4 of sixteen codes, moved there by `left`; shifts work on 16 bits, and the mask drops what came
        /// from the neighbour.
        fn high_bits(high: &[u8; LANES], part: usize, left: i32) -> __m128i {
            let high = _mm_srl_epi16(bytemuck::cast(*high), _mm_cvtsi32_si128(4 * part as i32));
            _mm_and_si128(_mm_sll_epi16(high, _mm_cvtsi32_si128(left)), _mm_set1_epi8(0x30))
        }
        /// Sixteen codes, less 32.
        fn six_bit_codes(low: &[u8; LANES], high: __m128i, part: usize) -> V {
            let low = _mm_srl_epi16(bytemuck::cast(*low), _mm_cvtsi32_si128(4 * part as i32));
            let codes = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(0x0f)), high);
            from_i8(_mm_sub_epi8(codes, _mm_set1_epi8(32)))
        }
    }
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn round_ps(x: __m128) -> __m128 {
    _mm_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// `x · 2ⁿ` in two steps, since 2ⁿ itself may be no `f32`; the first is exact. See [`LEAST_NORMAL`].
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn scale_ps(x: __m128, n: __m128) -> __m128 {
    // Not of a NaN, which stays one.
    let tiny = _mm_cmplt_ps(n, _mm_set1_ps(LEAST_NORMAL as f32));
    let n = _mm_cvtps_epi32(_mm_add_ps(n, _mm_and_ps(tiny, _mm_set1_ps(TO_UNITS as f32))));
    let half = _mm_srai_epi32::<1>(n);
    let y = _mm_mul_ps(_mm_mul_ps(x, power_of_two(half)), power_of_two(_mm_sub_epi32(n, half)));
    _mm_blendv_ps(y, _mm_castsi128_ps(_mm_cvtps_epi32(y)), tiny)
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn power_of_two(n: __m128i) -> __m128 {
    _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(n, _mm_set1_epi32(127))))
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn max_magnitude_ps(max: __m128, x: __m128) -> __m128 {
    let magnitude = _mm_and_si128(_mm_castps_si128(x), _mm_set1_epi32(i32::MAX));
    _mm_castsi128_ps(_mm_max_epi32(_mm_castps_si128(max), magnitude))
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn swap_pairs_ps(x: __m128) -> __m128 {
    _mm_shuffle_ps::<0b10_11_00_01>(x, x)
}

/// Eight `i8` as `i16`.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn pairs_from_i8(x: i64) -> __m128i {
    _mm_cvtepi8_epi16(_mm_cvtsi64_si128(x))
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn from_i8(x: __m128i) -> V {
    let fours: [i32; 4] = bytemuck::cast(x);
    quarters!(four_from_i8; fours)
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn four_from_i8(x: i32) -> __m128 {
    _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(x)))
}

/// Sixteen words, each in a lane of its own.
#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn words(x: &[u8; 2 * LANES]) -> I {
    let fours: [i64; 4] = bytemuck::cast(*x);
    quarters!(four_words; fours)
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn four_words(x: i64) -> __m128i {
    _mm_cvtepu16_epi32(_mm_cvtsi64_si128(x))
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn from_bf16(x: __m128i) -> __m128 {
    _mm_castsi128_ps(_mm_slli_epi32::<16>(x))
}

#[target_feature(enable = "ssse3,sse4.1")]
#[inline]
fn trits(line: __m128i, shift: __m128i) -> __m128 {
    let codes = _mm_and_si128(_mm_srl_epi32(line, shift), _mm_set1_epi32(3));
    _mm_cvtepi32_ps(_mm_sub_epi32(codes, _mm_set1_epi32(1)))
}
