//! Sixteen lanes as four vectors of 128 bits.

use std::arch::wasm32::*;

use super::{Simd128, fma, half};
use crate::arch::generic::{LANES, Lanes};

type V = [v128; 4];

/// An operation on each quarter.
macro_rules! quarters {
    ($op:path; $($x:expr),*) => {
        [$op($($x[0]),*), $op($($x[1]),*), $op($($x[2]),*), $op($($x[3]),*)]
    };
}

/// Operations of [`Lanes`]. They need no `#[target_feature]`: what is compiled here is compiled with it anyway.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) $(-> $ret)? $body
    )*};
}

impl Lanes for Simd128 {
    type F32 = V;
    type I32 = V;
    type Pairs = V;

    const WIDE: bool = false;

    operations! {
        fn splat(x: f32) -> V { [f32x4_splat(x); 4] }
        fn load(x: &[f32; LANES]) -> V { bytemuck::cast(*x) }
        fn store(x: V, out: &mut [f32; LANES]) { *out = bytemuck::cast(x); }

        fn add(a: V, b: V) -> V { quarters!(f32x4_add; a, b) }
        fn sub(a: V, b: V) -> V { quarters!(f32x4_sub; a, b) }
        fn mul(a: V, b: V) -> V { quarters!(f32x4_mul; a, b) }
        fn div(a: V, b: V) -> V { quarters!(f32x4_div; a, b) }
        fn fma(a: V, b: V, c: V) -> V { fma::fma(a, b, c) }
        // `pmax(b, a)` is `if b < a { a } else { b }`.
        fn max(a: V, b: V) -> V { quarters!(f32x4_pmax; b, a) }
        fn min(a: V, b: V) -> V { quarters!(f32x4_pmin; b, a) }
        fn round(x: V) -> V { quarters!(f32x4_nearest; x) }
        fn scale(x: V, n: V) -> V { quarters!(scale_quarter; x, n) }
        fn max_magnitude(max: V, x: V) -> V { quarters!(max_magnitude_quarter; max, x) }
        fn swap_pairs(x: V) -> V { quarters!(swap_pairs_quarter; x) }
        fn sum(x: V) -> f32 {
            let x = f32x4_add(f32x4_add(x[0], x[2]), f32x4_add(x[1], x[3]));
            let x = f32x4_add(x, i64x2_shuffle::<1, 1>(x, x));
            f32x4_extract_lane::<0>(x) + f32x4_extract_lane::<1>(x)
        }

        fn store_i8(x: V, out: &mut [i8; LANES]) { *out = bytemuck::cast(i8x16_narrow_i16x8(words(x)[0], words(x)[1])); }
        fn load_i8(x: &[u8; LANES]) -> V { from_i8(bytemuck::cast(*x)) }
        fn store_i16(x: V, out: &mut [i16; LANES]) { *out = bytemuck::cast(words(x)); }

        fn zero_i32() -> V { [i32x4_splat(0); 4] }
        fn load_pairs(x: &[u8; 2 * LANES]) -> V {
            let [first, second]: [v128; 2] = bytemuck::cast(*x);
            [
                i16x8_extend_low_i8x16(first),
                i16x8_extend_high_i8x16(first),
                i16x8_extend_low_i8x16(second),
                i16x8_extend_high_i8x16(second),
            ]
        }
        fn dot_pairs(sum: V, a: V, b: [i16; 2]) -> V {
            let b = [i32x4_splat(bytemuck::cast(b)); 4];
            let products = quarters!(i32x4_dot_i16x8; a, b);
            quarters!(i32x4_add; sum, products)
        }
        fn i32_to_f32(x: V) -> V { quarters!(f32x4_convert_i32x4; x) }

        fn load_f32(x: &[u8; 4 * LANES]) -> V { bytemuck::cast(*x) }
        fn load_f16(x: &[u8; 2 * LANES]) -> V {
            let x = wide_words(x);
            quarters!(half::decode; x)
        }
        fn store_f16(x: V, out: &mut [u8; 2 * LANES]) {
            let x = quarters!(half::encode; x);
            // Narrowing would saturate, but none is above 16 bits.
            *out = bytemuck::cast([u16x8_narrow_i32x4(x[0], x[1]), u16x8_narrow_i32x4(x[2], x[3])]);
        }
        fn load_bf16(x: &[u8; 2 * LANES]) -> V {
            let x = wide_words(x);
            quarters!(from_bf16; x)
        }
        fn load_six_bit(low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
            let (low, high): (V, [v128; 2]) = (bytemuck::cast(*low), bytemuck::cast(*high));
            // Codes 32 and more take the next two bits of the same bytes.
            let (high, left) = ([high[0], high[1], high[0], high[1]], [4, 4, 2, 2]);
            let shift = [4 * part as u32; 4];
            quarters!(six_bit_codes; low, high, shift, left)
        }
        fn load_trits(line: &[u8; 4 * LANES], shift: u32) -> V {
            let (line, shift): (V, _) = (bytemuck::cast(*line), [shift; 4]);
            quarters!(trits; line, shift)
        }
        fn half(x: &[u8; 2]) -> f32 {
            f32x4_extract_lane::<0>(half::decode(i32x4_splat(i32::from(u16::from_le_bytes(*x)))))
        }

        // There is no such instruction.
        fn prefetch(_x: &[u8], _ahead: usize) {}
    }
}

/// `x · 2ⁿ` in two steps, since 2ⁿ itself may be no `f32`; the first is exact.
#[inline(always)]
fn scale_quarter(x: v128, n: v128) -> v128 {
    let n = i32x4_trunc_sat_f32x4(n);
    let half = i32x4_shr(n, 1);
    f32x4_mul(f32x4_mul(x, power_of_two(half)), power_of_two(i32x4_sub(n, half)))
}

#[inline(always)]
fn power_of_two(n: v128) -> v128 {
    i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23)
}

#[inline(always)]
fn max_magnitude_quarter(max: v128, x: v128) -> v128 {
    i32x4_max(max, f32x4_abs(x))
}

#[inline(always)]
fn swap_pairs_quarter(x: v128) -> v128 {
    i32x4_shuffle::<1, 0, 3, 2>(x, x)
}

/// Rounded to nearest even, and saturated.
#[inline(always)]
fn words(x: V) -> [v128; 2] {
    let x = quarters!(to_i32; x);
    [i16x8_narrow_i32x4(x[0], x[1]), i16x8_narrow_i32x4(x[2], x[3])]
}

#[inline(always)]
fn to_i32(x: v128) -> v128 {
    i32x4_trunc_sat_f32x4(f32x4_nearest(x))
}

#[inline(always)]
fn from_i8(x: v128) -> V {
    let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
    [
        f32x4_convert_i32x4(i32x4_extend_low_i16x8(low)),
        f32x4_convert_i32x4(i32x4_extend_high_i16x8(low)),
        f32x4_convert_i32x4(i32x4_extend_low_i16x8(high)),
        f32x4_convert_i32x4(i32x4_extend_high_i16x8(high)),
    ]
}

/// Sixteen words, each in a lane of its own.
#[inline(always)]
fn wide_words(x: &[u8; 2 * LANES]) -> V {
    let [first, second]: [v128; 2] = bytemuck::cast(*x);
    [
        u32x4_extend_low_u16x8(first),
        u32x4_extend_high_u16x8(first),
        u32x4_extend_low_u16x8(second),
        u32x4_extend_high_u16x8(second),
    ]
}

#[inline(always)]
fn from_bf16(x: v128) -> v128 {
    i32x4_shl(x, 16)
}

/// Sixteen codes, less 32, of four bits and two that lie `left` bits below their place.
#[inline(always)]
fn six_bit_codes(low: v128, high: v128, shift: u32, left: u32) -> V {
    let low = v128_and(u8x16_shr(low, shift), u8x16_splat(0x0f));
    let high = v128_and(i8x16_shl(u8x16_shr(high, shift), left), u8x16_splat(0x30));
    from_i8(i8x16_sub(v128_or(low, high), i8x16_splat(32)))
}

#[inline(always)]
fn trits(line: v128, shift: u32) -> v128 {
    let codes = v128_and(u32x4_shr(line, shift), i32x4_splat(3));
    f32x4_convert_i32x4(i32x4_sub(codes, i32x4_splat(1)))
}
