//! Sixteen `f32` lanes and the operations the algorithms are made of.

/// Lanes of a vector, on every instruction set.
pub(in crate::arch) const LANES: usize = 16;

/// An instruction set's operations on sixteen `f32` lanes, each defined to the bit.
///
/// Arithmetic is IEEE 754 binary32, rounded to nearest even, with subnormal
/// numbers. Only a NaN's sign and payload are left open: hardware differs in
/// which operand's it keeps.
///
/// `self` is the proof that the CPU has the features, so all methods are safe.
pub(in crate::arch) trait Lanes: Copy {
    /// Sixteen `f32`.
    type F32: Copy;
    /// Sixteen `i32`.
    type I32: Copy;
    /// Sixteen pairs of `i16`.
    type Pairs: Copy;

    /// Whether registers hold 32 vectors of sixteen lanes, rather than eight or fewer.
    const WIDE: bool;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// The elements of an array.
    fn load(self, x: &[f32; LANES]) -> Self::F32;
    /// Stores to an array.
    fn store(self, x: Self::F32, out: &mut [f32; LANES]);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: `b` where either is NaN or both are zero.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: `b` where either is NaN or both are zero.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The nearest integer, ties to even.
    fn round(self, x: Self::F32) -> Self::F32;
    /// `x · 2ⁿ` rounded once, for integral `n` in -252..=254 and `x` in ½..2 (or NaN).
    fn scale(self, x: Self::F32, n: Self::F32) -> Self::F32;
    /// The larger of `max` (not negative) and `|x|`, compared as integers, so
    /// that NaN is above infinity and the order of several does not matter.
    fn max_magnitude(self, max: Self::F32, x: Self::F32) -> Self::F32;
    /// Exchanges lanes `2i` and `2i + 1`.
    fn swap_pairs(self, x: Self::F32) -> Self::F32;
    /// The sum of all lanes, `p`, by the tree `p[i] += p[i + 8]`, then `+ 4`, `+ 2`, `+ 1`.
    fn sum(self, x: Self::F32) -> f32;

    /// Sixteen `i8`: `x` rounded to nearest even and saturated, for finite `|x| < 2³¹`.
    fn store_i8(self, x: Self::F32, out: &mut [i8; LANES]);
    /// Sixteen `i8`, given as bytes.
    fn load_i8(self, x: &[u8; LANES]) -> Self::F32;
    /// Sixteen `i16`: `x` rounded to nearest even and saturated, for finite `|x| < 2³¹`.
    fn store_i16(self, x: Self::F32, out: &mut [i16; LANES]);

    /// Sixteen zeros.
    fn zero_i32(self) -> Self::I32;
    /// Sixteen pairs of `i8`, given as bytes.
    fn load_pairs(self, x: &[u8; 2 * LANES]) -> Self::Pairs;
    /// `sum + a[0] · b[0] + a[1] · b[1]` in every lane, modulo 2³².
    fn dot_pairs(self, sum: Self::I32, a: Self::Pairs, b: [i16; 2]) -> Self::I32;
    /// The nearest `f32`, ties to even.
    fn i32_to_f32(self, x: Self::I32) -> Self::F32;

    /// Sixteen little-endian binary32.
    fn load_f32(self, x: &[u8; 4 * LANES]) -> Self::F32;
    /// Sixteen little-endian binary16.
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F32;
    /// Sixteen little-endian binary16, rounded to nearest even; what is too large becomes infinite.
    fn store_f16(self, x: Self::F32, out: &mut [u8; 2 * LANES]);
    /// Sixteen little-endian bfloat16.
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> Self::F32;
    /// 64 codes of half a Q6_K super-block, less 32: the first 64 for `part` 0, the others for 1.
    ///
    /// ```text
    /// code 32k + l, l < 32:   low bits    k = 0, 1: bits 3..0 of low[32k + l]
    ///                                     k = 2, 3: bits 7..4 of low[32(k - 2) + l]
    ///                         high bits   bits 2k + 1..2k of high[l]
    /// ```
    fn load_six_bit(self, low: &[u8; 64], high: &[u8; 32], part: usize) -> [Self::F32; 4];
    /// Sixteen trits, of one column of a line of two bits a code: bits `shift + 1..=shift` of each
    /// little-endian 32-bit word, less 1.
    fn load_trits(self, line: &[u8; 4 * LANES], shift: u32) -> Self::F32;
    /// One little-endian binary16.
    fn half(self, x: &[u8; 2]) -> f32;

    /// Asks for the cache line `ahead` bytes behind the start of `x`, which need not be there.
    fn prefetch(self, x: &[u8], ahead: usize);

    /// Whether loops over keys and values are to be those for AMD's CPUs: with numbers that operations take from memory
    /// to all lanes, and [`prefetch_far`](Self::prefetch_far).
    fn is_amd(self) -> bool {
        false
    }

    /// Asks for what is read after `x` in the same stream, as far ahead as AMD's want it.
    fn prefetch_far(self, _x: &[u8]) {}
}

/// Writes operations of [`Lanes`] whose bodies are compiled with `$features`, so
/// that intrinsics need no `unsafe` in them.
///
/// Keep a body to a dozen instructions. An attribute cannot force it inline (Rust has
/// no `inline(always)` beside `target_feature` yet), and one of fifty was left out of
/// line, at a third of the speed; longer operations are `#[inline(always)]` methods
/// that call such short ones.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! lanes_ops {
    ($features:literal: $($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) $(-> $ret)? {
            #[target_feature(enable = $features)]
            #[inline]
            fn op($($arg: $ty),*) $(-> $ret)? $body
            // SAFETY: `self` exists only where its `detect` saw these features.
            unsafe { op($($arg),*) }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::arch) use lanes_ops;
