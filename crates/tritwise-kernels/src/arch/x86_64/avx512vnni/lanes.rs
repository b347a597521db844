//! Sixteen lanes as one 512-bit register.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::Avx512Vnni;
use crate::arch::generic::{LANES, Lanes, lanes_ops};

type V = __m512;

/// Round to nearest even, and raise no exception flags.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// Bitwise `if c { a } else { b }`, as the truth table of `(a, b, c)` in binary from 111 down to 000.
const SELECT: i32 = 0b1110_0100;

/// Bitwise `a & b | c`.
const AND_OR: i32 = 0b1110_1010;

impl Lanes for Avx512Vnni {
    type F32 = V;

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
        fn scale(x: V, n: V) -> V { _mm512_scalef_ps(x, n) }
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
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_si128(x)))
        }
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
        fn load_six_bit(low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
            // A code's byte becomes 0x80 | 2c, which with 0x3f above it is the upper half of 1 + c / 64.
            // Rotations work on 32 bits; the masks drop what came from the neighbour.
            let part = _mm512_set1_epi32(4 * part as i32);
            let low = _mm512_rolv_epi32(load_si512(low), _mm512_sub_epi32(_mm512_set1_epi32(1), part));
            let places = _mm512_inserti64x4::<1>(_mm512_set1_epi32(5), _mm256_set1_epi32(3));
            let high = _mm512_rolv_epi32(_mm512_broadcast_i64x4(load_si256(high)), _mm512_sub_epi32(places, part));
            let bits = _mm512_ternarylogic_epi32::<SELECT>(low, high, _mm512_set1_epi8(0x1e));
            let bytes = _mm512_ternarylogic_epi32::<AND_OR>(bits, _mm512_set1_epi8(0x7e), _mm512_set1_epi8(i8::MIN));
            let mut codes = [0; 64];
            store_si512(bytes, &mut codes);
            // Through memory, where a broadcast is part of the load: see `Q6K::scales`.
            let codes = black_box(codes);
            let (codes, _) = codes.as_chunks::<16>();
            [from_fractions(&codes[0]), from_fractions(&codes[1]), from_fractions(&codes[2]), from_fractions(&codes[3])]
        }
        fn half(x: &[u8; 2]) -> f32 {
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*x)))))
        }

        fn prefetch(x: &[u8], ahead: usize) {
            #[allow(unused_unsafe, reason = "an unsafe function up to Rust 1.89")]
            // SAFETY: a prefetch of any address has no effect but on time.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(ahead).cast()) }
        }
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

#[target_feature(enable = "avx512f")]
#[inline]
fn store_si512(x: __m512i, out: &mut [u8; 64]) {
    // SAFETY: `out` is 64 writable bytes, and the store has no alignment needs.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_si128(x: &[u8; 16]) -> __m128i {
    // SAFETY: `x` is 16 readable bytes, and the load has no alignment needs.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

/// Sixteen numbers whose bits 31..24 are 0x3f, bits 23..16 as given, and the others zero.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn from_fractions(x: &[u8; 16]) -> V {
    // Byte 2 of lane g takes byte g of the 128 bits that the lane belongs to; all hold the same.
    let third_bytes = 0x4444_4444_4444_4444;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let places = _mm512_slli_epi32::<16>(lanes);
    let bytes = _mm512_broadcast_i32x4(load_si128(x));
    _mm512_castsi512_ps(_mm512_mask_shuffle_epi8(_mm512_set1_epi32(0x3f00_0000), third_bytes, bytes, places))
}
