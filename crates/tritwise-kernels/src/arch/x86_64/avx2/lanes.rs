//! Sixteen lanes as two 256-bit registers.

use std::arch::x86_64::*;

use super::super::{LEAST_NORMAL, TO_UNITS, stream};
use super::Avx2;
use crate::arch::generic::{LANES, Lanes, lanes_ops};

type V = [__m256; 2];

impl Lanes for Avx2 {
    type F32 = V;
    type I32 = [__m256i; 2];
    type Pairs = [__m256i; 2];

    const WIDE: bool = false;

    lanes_ops! { "avx2,fma,f16c":
        fn splat(x: f32) -> V { [_mm256_set1_ps(x); 2] }
        fn load(x: &[f32; LANES]) -> V {
            let (halves, _) = x.as_chunks::<8>();
            [load_ps(&halves[0]), load_ps(&halves[1])]
        }
        fn store(x: V, out: &mut [f32; LANES]) {
            let (halves, _) = out.as_chunks_mut::<8>();
            store_ps(x[0], &mut halves[0]);
            store_ps(x[1], &mut halves[1]);
        }

        fn add(a: V, b: V) -> V { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        fn sub(a: V, b: V) -> V { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        fn mul(a: V, b: V) -> V { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        fn div(a: V, b: V) -> V { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
        fn fma(a: V, b: V, c: V) -> V { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        fn max(a: V, b: V) -> V { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
        fn min(a: V, b: V) -> V { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
        fn round(x: V) -> V { [round_ps(x[0]), round_ps(x[1])] }
        fn scale(x: V, n: V) -> V { [scale_ps(x[0], n[0]), scale_ps(x[1], n[1])] }
        fn max_magnitude(max: V, x: V) -> V { [max_magnitude_ps(max[0], x[0]), max_magnitude_ps(max[1], x[1])] }
        fn swap_pairs(x: V) -> V { [_mm256_permute_ps::<0b10_11_00_01>(x[0]), _mm256_permute_ps::<0b10_11_00_01>(x[1])] }
        fn sum(x: V) -> f32 {
            let x = _mm256_add_ps(x[0], x[1]);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }

        fn store_i8(x: V, out: &mut [i8; LANES]) {
            // Packing saturates, and works within 128-bit halves: 0..4, 8..12, 4..8, 12..16.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            // SAFETY: `out` is sixteen writable bytes, and the store has no alignment needs.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
        }
        fn load_i8(x: &[u8; LANES]) -> V { from_i8(load_bytes(x)) }
        fn store_i16(x: V, out: &mut [i16; LANES]) {
            // Packing saturates, and works within 128-bit halves: 0..4, 8..12, 4..8, 12..16.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            // SAFETY: `out` is sixteen writable words, and the store has no alignment needs.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) }
        }
        fn zero_i32() -> [__m256i; 2] { [_mm256_setzero_si256(); 2] }
        fn load_pairs(x: &[u8; 2 * LANES]) -> [__m256i; 2] {
            let (halves, _) = x.as_chunks::<16>();
            [_mm256_cvtepi8_epi16(load_bytes(&halves[0])), _mm256_cvtepi8_epi16(load_bytes(&halves[1]))]
        }
        fn dot_pairs(sum: [__m256i; 2], a: [__m256i; 2], b: [i16; 2]) -> [__m256i; 2] {
            let b = _mm256_set1_epi32(bytemuck::cast(b));
            [_mm256_add_epi32(sum[0], _mm256_madd_epi16(a[0], b)), _mm256_add_epi32(sum[1], _mm256_madd_epi16(a[1], b))]
        }
        fn i32_to_f32(x: [__m256i; 2]) -> V { [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])] }
        fn load_f32(x: &[u8; 4 * LANES]) -> V {
            let (halves, _) = x.as_chunks::<32>();
            [_mm256_castsi256_ps(load_si256(&halves[0])), _mm256_castsi256_ps(load_si256(&halves[1]))]
        }
        fn load_f16(x: &[u8; 2 * LANES]) -> V {
            let (halves, _) = x.as_chunks::<16>();
            [_mm256_cvtph_ps(load_bytes(&halves[0])), _mm256_cvtph_ps(load_bytes(&halves[1]))]
        }
        fn store_f16(x: V, out: &mut [u8; 2 * LANES]) {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]);
            let halves = _mm256_set_m128i(high, low);
            // SAFETY: `out` is 32 writable bytes, and the store has no alignment needs.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), halves) }
        }
        fn load_bf16(x: &[u8; 2 * LANES]) -> V {
            let (halves, _) = x.as_chunks::<16>();
            [from_bf16(load_bytes(&halves[0])), from_bf16(load_bytes(&halves[1]))]
        }
        fn load_trits(line: &[u8; 4 * LANES], shift: u32) -> V {
            // The lowest two bits of a lane choose one of four floats; the others are not looked at.
            let trits = _mm256_setr_ps(-1.0, 0.0, 1.0, 2.0, -1.0, 0.0, 1.0, 2.0);
            let shift = _mm_cvtsi32_si128(shift.cast_signed());
            let (halves, _) = line.as_chunks::<32>();
            [
                _mm256_permutevar_ps(trits, _mm256_srl_epi32(load_si256(&halves[0]), shift)),
                _mm256_permutevar_ps(trits, _mm256_srl_epi32(load_si256(&halves[1]), shift)),
            ]
        }
        fn half(x: &[u8; 2]) -> f32 {
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*x)))))
        }

        fn prefetch(x: &[u8], ahead: usize) { stream::prefetch(x, ahead) }
    }

    #[inline(always)]
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
        let (low, _) = low.as_chunks::<32>();
        let [first, second] = self.high_bits(high, part);
        let first = self.six_bit_codes(&low[0], first, part);
        let second = self.six_bit_codes(&low[1], second, part);
        [
            self.low_half_from_i8(first),
            self.high_half_from_i8(first),
            self.low_half_from_i8(second),
            self.high_half_from_i8(second),
        ]
    }
}

/// The steps of [`Lanes::load_six_bit`].
impl Avx2 {
    lanes_ops! { "avx2,fma,f16c":
        /// Bits 5..4 of two times 32 codes; shifts work on 16 bits, and the mask drops what came from the neighbour.
        fn high_bits(high: &[u8; 32], part: usize) -> [__m256i; 2] {
            let high = _mm256_srl_epi16(load_si256(high), _mm_cvtsi64_si128(4 * part as i64));
            let mask = _mm256_set1_epi8(0x30);
            [
                _mm256_and_si256(_mm256_slli_epi16::<4>(high), mask),
                _mm256_and_si256(_mm256_slli_epi16::<2>(high), mask),
            ]
        }
        /// 32 codes, less 32.
        fn six_bit_codes(low: &[u8; 32], high: __m256i, part: usize) -> __m256i {
            let low = _mm256_srl_epi16(load_si256(low), _mm_cvtsi64_si128(4 * part as i64));
            let codes = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(0x0f)), high);
            _mm256_sub_epi8(codes, _mm256_set1_epi8(32))
        }
        fn low_half_from_i8(x: __m256i) -> V { from_i8(_mm256_castsi256_si128(x)) }
        fn high_half_from_i8(x: __m256i) -> V { from_i8(_mm256_extracti128_si256::<1>(x)) }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_ps(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` is eight readable floats, and the load has no alignment needs.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_ps(x: __m256, out: &mut [f32; 8]) {
    // SAFETY: `out` is eight writable floats, and the store has no alignment needs.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_si256(x: &[u8; 32]) -> __m256i {
    // SAFETY: `x` is 32 readable bytes, and the load has no alignment needs.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_bytes(x: &[u8; 16]) -> __m128i {
    // SAFETY: `x` is 16 readable bytes, and the load has no alignment needs.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn round_ps(x: __m256) -> __m256 {
    _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// `x · 2ⁿ` in two steps, since 2ⁿ itself may be no `f32`; the first is exact. See [`LEAST_NORMAL`].
#[target_feature(enable = "avx2")]
#[inline]
fn scale_ps(x: __m256, n: __m256) -> __m256 {
    // Not of a NaN, which stays one.
    let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(n, _mm256_set1_ps(LEAST_NORMAL as f32));
    let n = _mm256_cvtps_epi32(_mm256_add_ps(n, _mm256_and_ps(tiny, _mm256_set1_ps(TO_UNITS as f32))));
    let half = _mm256_srai_epi32::<1>(n);
    let y = _mm256_mul_ps(_mm256_mul_ps(x, power_of_two(half)), power_of_two(_mm256_sub_epi32(n, half)));
    _mm256_blendv_ps(y, _mm256_castsi256_ps(_mm256_cvtps_epi32(y)), tiny)
}

#[target_feature(enable = "avx2")]
#[inline]
fn power_of_two(n: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
}

#[target_feature(enable = "avx2")]
#[inline]
fn max_magnitude_ps(max: __m256, x: __m256) -> __m256 {
    let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
    _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(max), magnitude))
}

#[target_feature(enable = "avx2")]
#[inline]
fn from_i8(x: __m128i) -> V {
    [_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x)))]
}

#[target_feature(enable = "avx2")]
#[inline]
fn from_bf16(x: __m128i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))
}
