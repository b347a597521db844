//! Sixteen lanes as an array: what each operation means.

use half::f16;

use super::Scalar;
use crate::arch::generic::{LANES, Lanes};

type V = [f32; LANES];

impl Lanes for Scalar {
    type F32 = V;
    type I32 = [i32; LANES];
    type Pairs = [[i16; 2]; LANES];

    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        *x
    }

    #[inline(always)]
    fn store(self, x: V, out: &mut [f32; LANES]) {
        *out = x;
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn round(self, x: V) -> V {
        x.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn scale(self, x: V, n: V) -> V {
        // In two steps, since 2ⁿ itself may be no `f32`; the first is exact.
        std::array::from_fn(|i| {
            let n = n[i] as i32;
            x[i] * power_of_two(n >> 1) * power_of_two(n - (n >> 1))
        })
    }

    #[inline(always)]
    fn max_magnitude(self, max: V, x: V) -> V {
        std::array::from_fn(|i| f32::from_bits(max[i].to_bits().max(x[i].abs().to_bits())))
    }

    #[inline(always)]
    fn swap_pairs(self, x: V) -> V {
        std::array::from_fn(|i| x[i ^ 1])
    }

    #[inline(always)]
    fn sum(self, mut x: V) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    #[inline(always)]
    fn store_i8(self, x: V, out: &mut [i8; LANES]) {
        // `as` saturates.
        *out = x.map(|x| x.round_ties_even() as i8);
    }

    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> V {
        x.map(|x| f32::from(x.cast_signed()))
    }

    #[inline(always)]
    fn store_i16(self, x: V, out: &mut [i16; LANES]) {
        *out = x.map(|x| x.round_ties_even() as i16);
    }

    #[inline(always)]
    fn zero_i32(self) -> [i32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn load_pairs(self, x: &[u8; 2 * LANES]) -> [[i16; 2]; LANES] {
        let (pairs, _) = x.as_chunks::<2>();
        std::array::from_fn(|i| pairs[i].map(|x| i16::from(x.cast_signed())))
    }

    #[inline(always)]
    fn dot_pairs(self, sum: [i32; LANES], a: [[i16; 2]; LANES], b: [i16; 2]) -> [i32; LANES] {
        let product = |a: i16, b: i16| i32::from(a) * i32::from(b);
        std::array::from_fn(|i| sum[i].wrapping_add(product(a[i][0], b[0])).wrapping_add(product(a[i][1], b[1])))
    }

    #[inline(always)]
    fn i32_to_f32(self, x: [i32; LANES]) -> V {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 4 * LANES]) -> V {
        let (words, _) = x.as_chunks::<4>();
        std::array::from_fn(|i| f32::from_le_bytes(words[i]))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> V {
        let (words, _) = x.as_chunks::<2>();
        std::array::from_fn(|i| f16::from_le_bytes(words[i]).to_f32_const())
    }

    #[inline(always)]
    fn store_f16(self, x: V, out: &mut [u8; 2 * LANES]) {
        let (words, _) = out.as_chunks_mut::<2>();
        for (word, x) in words.iter_mut().zip(x) {
            *word = f16::from_f32_const(x).to_le_bytes();
        }
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> V {
        let (words, _) = x.as_chunks::<2>();
        std::array::from_fn(|i| f32::from_bits(u32::from(u16::from_le_bytes(words[i])) << 16))
    }

    #[inline(always)]
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [V; 4] {
        let mut out = [[0.0; LANES]; 4];
        for (i, out) in out.as_flattened_mut().iter_mut().enumerate() {
            let (k, l) = (2 * part + i / 32, i % 32);
            let low = low[i] >> (4 * part) & 15;
            let high = high[l] >> (2 * k) & 3;
            *out = f32::from(i16::from(low | high << 4) - 32);
        }
        out
    }

    #[inline(always)]
    fn load_trits(self, line: &[u8; 4 * LANES], shift: u32) -> V {
        let (words, _) = line.as_chunks::<4>();
        std::array::from_fn(|i| (u32::from_le_bytes(words[i]) >> shift & 3) as f32 - 1.0)
    }

    #[inline(always)]
    fn half(self, x: &[u8; 2]) -> f32 {
        f16::from_le_bytes(*x).to_f32_const()
    }

    #[inline(always)]
    fn prefetch(self, _x: &[u8], _ahead: usize) {}
}

/// `2ⁿ` for `n` in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23).cast_unsigned())
}
