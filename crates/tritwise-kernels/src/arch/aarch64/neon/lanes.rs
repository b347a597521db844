//! Sixteen lanes as four 128-bit registers.

use std::arch::aarch64::*;
use std::arch::asm;

use bytemuck::cast;

use super::Neon;
use crate::arch::generic::{LANES, Lanes, lanes_ops};

type V = [float32x4_t; 4];
type I = [int32x4_t; 4];

/// Sixteen numbers of 16 bits.
type Words = [int16x8_t; 2];

impl Lanes for Neon {
    type F32 = V;
    type I32 = I;
    /// The first of each pair, and the second.
    type Pairs = [Words; 2];

    const WIDE: bool = false;

    lanes_ops! { "neon":
        fn splat(x: f32) -> V { [vdupq_n_f32(x); 4] }
        fn load(x: &[f32; LANES]) -> V { cast(*x) }
        fn store(x: V, out: &mut [f32; LANES]) { *out = cast(x) }

        fn add(a: V, b: V) -> V {
            [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1]), vaddq_f32(a[2], b[2]), vaddq_f32(a[3], b[3])]
        }
        fn sub(a: V, b: V) -> V {
            [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1]), vsubq_f32(a[2], b[2]), vsubq_f32(a[3], b[3])]
        }
        fn mul(a: V, b: V) -> V {
            [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]), vmulq_f32(a[2], b[2]), vmulq_f32(a[3], b[3])]
        }
        fn div(a: V, b: V) -> V {
            [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1]), vdivq_f32(a[2], b[2]), vdivq_f32(a[3], b[3])]
        }
        fn fma(a: V, b: V, c: V) -> V {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
        fn max(a: V, b: V) -> V {
            [max_f32(a[0], b[0]), max_f32(a[1], b[1]), max_f32(a[2], b[2]), max_f32(a[3], b[3])]
        }
        fn min(a: V, b: V) -> V {
            [min_f32(a[0], b[0]), min_f32(a[1], b[1]), min_f32(a[2], b[2]), min_f32(a[3], b[3])]
        }
        fn round(x: V) -> V { [vrndnq_f32(x[0]), vrndnq_f32(x[1]), vrndnq_f32(x[2]), vrndnq_f32(x[3])] }
        fn scale(x: V, n: V) -> V {
            [scale_f32(x[0], n[0]), scale_f32(x[1], n[1]), scale_f32(x[2], n[2]), scale_f32(x[3], n[3])]
        }
        fn max_magnitude(max: V, x: V) -> V {
            [
                max_magnitude_f32(max[0], x[0]),
                max_magnitude_f32(max[1], x[1]),
                max_magnitude_f32(max[2], x[2]),
                max_magnitude_f32(max[3], x[3]),
            ]
        }
        fn swap_pairs(x: V) -> V {
            [vrev64q_f32(x[0]), vrev64q_f32(x[1]), vrev64q_f32(x[2]), vrev64q_f32(x[3])]
        }
        fn sum(x: V) -> f32 {
            let x = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)))
        }

        fn store_i8(x: V, out: &mut [i8; LANES]) {
            let [low, high] = to_i16(x);
            *out = cast(vqmovn_high_s16(vqmovn_s16(low), high));
        }
        fn load_i8(x: &[u8; LANES]) -> V { from_i8(cast(*x)) }
        fn store_i16(x: V, out: &mut [i16; LANES]) { *out = cast(to_i16(x)) }

        fn zero_i32() -> I { [vdupq_n_s32(0); 4] }
        fn load_pairs(x: &[u8; 2 * LANES]) -> [Words; 2] {
            let [low, high]: [int8x16_t; 2] = cast(*x);
            let (first, second) = (vuzp1q_s8(low, high), vuzp2q_s8(low, high));
            [
                [vmovl_s8(vget_low_s8(first)), vmovl_high_s8(first)],
                [vmovl_s8(vget_low_s8(second)), vmovl_high_s8(second)],
            ]
        }
        fn dot_pairs(sum: I, a: [Words; 2], b: [i16; 2]) -> I { add_products(add_products(sum, a[0], b[0]), a[1], b[1]) }
        fn i32_to_f32(x: I) -> V { to_f32(x) }

        fn load_f32(x: &[u8; 4 * LANES]) -> V { cast(*x) }
        fn load_f16(x: &[u8; 2 * LANES]) -> V {
            let halves: [uint16x8_t; 2] = cast(*x);
            [
                from_f16(vget_low_u16(halves[0])),
                from_f16_high(halves[0]),
                from_f16(vget_low_u16(halves[1])),
                from_f16_high(halves[1]),
            ]
        }
        fn store_f16(x: V, out: &mut [u8; 2 * LANES]) { *out = cast([to_f16(x[0], x[1]), to_f16(x[2], x[3])]) }
        fn load_bf16(x: &[u8; 2 * LANES]) -> V {
            // Above sixteen zero bits.
            let ([low, high], zero): ([uint16x8_t; 2], _) = (cast(*x), vdupq_n_u16(0));
            cast([vzip1q_u16(zero, low), vzip2q_u16(zero, low), vzip1q_u16(zero, high), vzip2q_u16(zero, high)])
        }
        fn load_trits(line: &[u8; 4 * LANES], shift: u32) -> V {
            let (words, shift): ([uint32x4_t; 4], _) = (cast(*line), vdupq_n_s32(-shift.cast_signed()));
            [
                trits(vshlq_u32(words[0], shift)),
                trits(vshlq_u32(words[1], shift)),
                trits(vshlq_u32(words[2], shift)),
                trits(vshlq_u32(words[3], shift)),
            ]
        }
        fn half(x: &[u8; 2]) -> f32 { vgetq_lane_f32::<0>(from_f16(vdup_n_u16(u16::from_le_bytes(*x)))) }

        fn prefetch(x: &[u8], ahead: usize) {
            // SAFETY: a prefetch of any address has no effect but on time.
            unsafe {
                asm!(
                    "prfm pldl1keep, [{}]",
                    in(reg) x.as_ptr().wrapping_add(ahead),
                    options(readonly, nostack, preserves_flags)
                )
            }
        }
    }

    #[inline(always)]
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
        let (low, _) = low.as_chunks::<LANES>();
        let (high, _) = high.as_chunks::<LANES>();
        [
            self.lanes_of(self.six_bit_codes(&low[0], &high[0], part, 2 * part)),
            self.lanes_of(self.six_bit_codes(&low[1], &high[1], part, 2 * part)),
            self.lanes_of(self.six_bit_codes(&low[2], &high[0], part, 2 * part + 1)),
            self.lanes_of(self.six_bit_codes(&low[3], &high[1], part, 2 * part + 1)),
        ]
    }
}

/// The steps of [`Lanes::load_six_bit`].
impl Neon {
    lanes_ops! { "neon":
        /// Sixteen codes, less 32: half `part` of each low byte, and pair `pair` of bits of each high one.
        fn six_bit_codes(low: &[u8; LANES], high: &[u8; LANES], part: usize, pair: usize) -> int8x16_t {
            let low = vandq_u8(vshlq_u8(cast(*low), vdupq_n_s8(-4 * part as i8)), vdupq_n_u8(15));
            let high = vandq_u8(vshlq_u8(cast(*high), vdupq_n_s8(-2 * pair as i8)), vdupq_n_u8(3));
            vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(low, vshlq_n_u8::<4>(high))), vdupq_n_s8(32))
        }
        fn lanes_of(x: int8x16_t) -> V { from_i8(x) }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn max_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // `fmax` would prefer NaN, and 0 to -0.
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn min_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

/// `x · 2ⁿ` in two steps, since 2ⁿ itself may be no `f32`; the first is exact.
#[target_feature(enable = "neon")]
#[inline]
fn scale_f32(x: float32x4_t, n: float32x4_t) -> float32x4_t {
    let n = vcvtnq_s32_f32(n);
    let half = vshrq_n_s32::<1>(n);
    let x = vmulq_f32(x, power_of_two(half));
    vmulq_f32(x, power_of_two(vsubq_s32(n, half)))
}

#[target_feature(enable = "neon")]
#[inline]
fn power_of_two(n: int32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))))
}

#[target_feature(enable = "neon")]
#[inline]
fn max_magnitude_f32(max: float32x4_t, x: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(max), vreinterpretq_s32_f32(vabsq_f32(x))))
}

/// Rounded to nearest even and saturated.
#[target_feature(enable = "neon")]
#[inline]
fn to_i16(x: V) -> Words {
    [
        vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(x[0])), vcvtnq_s32_f32(x[1])),
        vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(x[2])), vcvtnq_s32_f32(x[3])),
    ]
}

#[target_feature(enable = "neon")]
#[inline]
fn from_i8(x: int8x16_t) -> V {
    let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
    to_f32([vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)])
}

#[target_feature(enable = "neon")]
#[inline]
fn to_f32(x: I) -> V {
    [vcvtq_f32_s32(x[0]), vcvtq_f32_s32(x[1]), vcvtq_f32_s32(x[2]), vcvtq_f32_s32(x[3])]
}

/// `sum + a · b` in every lane, modulo 2³².
#[target_feature(enable = "neon")]
#[inline]
fn add_products(sum: I, a: Words, b: i16) -> I {
    [
        vmlal_n_s16(sum[0], vget_low_s16(a[0]), b),
        vmlal_high_n_s16(sum[1], a[0], b),
        vmlal_n_s16(sum[2], vget_low_s16(a[1]), b),
        vmlal_high_n_s16(sum[3], a[1], b),
    ]
}

/// The lowest two bits of each word, less 1.
#[target_feature(enable = "neon")]
#[inline]
fn trits(words: uint32x4_t) -> float32x4_t {
    let codes = vreinterpretq_s32_u32(vandq_u32(words, vdupq_n_u32(3)));
    vcvtq_f32_s32(vsubq_s32(codes, vdupq_n_s32(1)))
}

#[target_feature(enable = "neon")]
#[inline]
fn from_f16(x: uint16x4_t) -> float32x4_t {
    let out;
    // SAFETY: an instruction of NEON, on registers alone.
    unsafe {
        asm!("fcvtl {out:v}.4s, {x:v}.4h", out = lateout(vreg) out, x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// The last four.
#[target_feature(enable = "neon")]
#[inline]
fn from_f16_high(x: uint16x8_t) -> float32x4_t {
    let out;
    // SAFETY: an instruction of NEON, on registers alone.
    unsafe {
        asm!("fcvtl2 {out:v}.4s, {x:v}.8h", out = lateout(vreg) out, x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Rounded to nearest even.
#[target_feature(enable = "neon")]
#[inline]
fn to_f16(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    let out;
    // SAFETY: two instructions of NEON, on registers alone; the second keeps what the first wrote.
    unsafe {
        asm!(
            "fcvtn {out:v}.4h, {low:v}.4s",
            "fcvtn2 {out:v}.8h, {high:v}.4s",
            out = out(vreg) out,
            low = in(vreg) low,
            high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}
