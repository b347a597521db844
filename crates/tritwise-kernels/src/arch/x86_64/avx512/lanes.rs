//! Sixteen lanes as one 512-bit register.

use std::arch::x86_64::*;

use super::super::{LEAST_NORMAL, TO_UNITS, stream};
use super::Avx512;
use crate::arch::generic::{LANES, Lanes, lanes_ops};

type V = __m512;

/// Round to nearest even, and raise no exception flags.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl<const VNNI: bool> Lanes for Avx512<VNNI>
where
    Self: MultiplyAdd,
{
    type F32 = V;
    type I32 = __m512i;
    type Pairs = __m512i;

    const WIDE: bool = true;

    lanes_ops! { "avx512f,avx512bw,avx512vl,avx2,fma,f16c":
        fn splat(x: f32) -> V { _mm512_set1_ps(x) }
        fn load(x: &[f32; LANES]) -> V {
            // SAFETY: `x` is sixteen readable floats, and the load has no alignment needs.
            unsafe { _mm512_loadu_ps(x.as_ptr()) }
        }
        fn store(x: V, out: &mut [f32; LANES]) {
            // SAFETY: `out` is sixteen writable floats, and the store has no alignment needs.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
        }

        fn add(a: V, b: V) -> V { _mm512_add_ps(a, b) }
        fn sub(a: V, b: V) -> V { _mm512_sub_ps(a, b) }
        fn mul(a: V, b: V) -> V { _mm512_mul_ps(a, b) }
        fn div(a: V, b: V) -> V { _mm512_div_ps(a, b) }
        fn fma(a: V, b: V, c: V) -> V { _mm512_fmadd_ps(a, b, c) }
        fn max(a: V, b: V) -> V { _mm512_max_ps(a, b) }
        fn min(a: V, b: V) -> V { _mm512_min_ps(a, b) }
        fn round(x: V) -> V { _mm512_roundscale_ps::<NEAREST>(x) }
        fn scale(x: V, n: V) -> V {
            let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(n, _mm512_set1_ps(LEAST_NORMAL as f32));
            let n = _mm512_mask_add_ps(n, tiny, n, _mm512_set1_ps(TO_UNITS as f32));
            let y = _mm512_scalef_ps(x, n);
            _mm512_castsi512_ps(_mm512_mask_cvtps_epi32(_mm512_castps_si512(y), tiny, y))
        }
        fn max_magnitude(max: V, x: V) -> V {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
            _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(max), magnitude))
        }
        fn swap_pairs(x: V) -> V { _mm512_permute_ps::<0b10_11_00_01>(x) }
        fn sum(x: V) -> f32 {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), high);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }

        fn store_i8(x: V, out: &mut [i8; LANES]) {
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x));
            // SAFETY: `out` is sixteen writable bytes, and the store has no alignment needs.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
        }
        fn load_i8(x: &[u8; LANES]) -> V {
            // SAFETY: `x` is sixteen readable bytes, and the load has no alignment needs.
            let x = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))
        }
        fn store_i16(x: V, out: &mut [i16; LANES]) {
            let words = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x));
            // SAFETY: `out` is sixteen writable words, and the store has no alignment needs.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) }
        }
        fn zero_i32() -> __m512i { _mm512_setzero_si512() }
        fn load_pairs(x: &[u8; 2 * LANES]) -> __m512i { _mm512_cvtepi8_epi16(load_si256(x)) }
        fn i32_to_f32(x: __m512i) -> V { _mm512_cvtepi32_ps(x) }
        fn load_f32(x: &[u8; 4 * LANES]) -> V {
            // SAFETY: `x` is 64 readable bytes, and the load has no alignment needs.
            unsafe { _mm512_loadu_ps(x.as_ptr().cast()) }
        }
        fn load_f16(x: &[u8; 2 * LANES]) -> V { _mm512_cvtph_ps(load_si256(x)) }
        fn store_f16(x: V, out: &mut [u8; 2 * LANES]) {
            let halves = _mm512_cvtps_ph::<NEAREST>(x);
            // SAFETY: `out` is 32 writable bytes, and the store has no alignment needs.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), halves) }
        }
        fn load_bf16(x: &[u8; 2 * LANES]) -> V {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_si256(x))))
        }
        fn load_trits(line: &[u8; 4 * LANES], shift: u32) -> V {
            // The lowest two bits of a lane choose one of four floats; the others are not looked at.
            let trits = _mm512_set4_ps(2.0, 1.0, 0.0, -1.0);
            _mm512_permutevar_ps(trits, _mm512_srl_epi32(load_si512(line), _mm_cvtsi32_si128(shift.cast_signed())))
        }
        fn half(x: &[u8; 2]) -> f32 {
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*x)))))
        }

        fn prefetch(x: &[u8], ahead: usize) { stream::prefetch(x, ahead) }
        fn is_amd() -> bool { stream::is_amd() }
        fn prefetch_far(x: &[u8]) { stream::prefetch_far(x) }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, a: __m512i, b: [i16; 2]) -> __m512i {
        self.multiply_add(sum, a, b)
    }

    #[inline(always)]
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
        let [a, b, c, d] = self.quarters(self.six_bit_codes(low, self.high_bits(high, part), part));
        [self.widened(a), self.widened(b), self.widened(c), self.widened(d)]
    }
}

/// [`Lanes::dot_pairs`], which is one instruction with VNNI and two without.
pub(super) trait MultiplyAdd: Copy {
    fn multiply_add(self, sum: __m512i, a: __m512i, b: [i16; 2]) -> __m512i;
}

impl MultiplyAdd for Avx512<true> {
    lanes_ops! { "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c":
        fn multiply_add(sum: __m512i, a: __m512i, b: [i16; 2]) -> __m512i {
            _mm512_dpwssd_epi32(sum, a, _mm512_set1_epi32(bytemuck::cast(b)))
        }
    }
}

impl MultiplyAdd for Avx512<false> {
    lanes_ops! { "avx512f,avx512bw,avx512vl,avx2,fma,f16c":
        fn multiply_add(sum: __m512i, a: __m512i, b: [i16; 2]) -> __m512i {
            _mm512_add_epi32(sum, _mm512_madd_epi16(a, _mm512_set1_epi32(bytemuck::cast(b))))
        }
    }
}

/// The steps of [`Lanes::load_six_bit`].
impl<const VNNI: bool> Avx512<VNNI> {
    lanes_ops! { "avx512f,avx512bw,avx512vl,avx2,fma,f16c":
        /// Bits 5..4 of 64 codes; shifts work on 16 bits, and the mask drops what came from the neighbour.
        fn high_bits(high: &[u8; 32], part: usize) -> __m512i {
            let high = _mm256_srl_epi16(load_si256(high), _mm_cvtsi64_si128(4 * part as i64));
            let (first, second) = (_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high));
            _mm512_and_si512(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second), _mm512_set1_epi8(0x30))
        }
        /// 64 codes, less 32.
        fn six_bit_codes(low: &[u8; 64], high: __m512i, part: usize) -> __m512i {
            let low = _mm512_srl_epi16(load_si512(low), _mm_cvtsi64_si128(4 * part as i64));
            let codes = _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi8(0x0f)), high);
            _mm512_sub_epi8(codes, _mm512_set1_epi8(32))
        }
        fn quarters(x: __m512i) -> [__m128i; 4] {
            let (low, high) = (_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
            let quarters = [_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low)];
            [quarters[0], quarters[1], _mm256_castsi256_si128(high), _mm256_extracti128_si256::<1>(high)]
        }
        fn widened(x: __m128i) -> V { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)) }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_si256(x: &[u8; 32]) -> __m256i {
    // SAFETY: `x` is 32 readable bytes, and the load has no alignment needs.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_si512(x: &[u8; 64]) -> __m512i {
    // SAFETY: `x` is 64 readable bytes, and the load has no alignment needs.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}
