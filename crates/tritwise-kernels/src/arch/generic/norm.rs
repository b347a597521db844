//! RMSNorm, and the rounding of activations with the norm before it: BitNet's to `i8`, and a finer one.

use crate::arch::NormWeight;

use super::{LANES, Lanes, largest, load_at, store_at};

/// The largest code that two signed bytes hold with either sign.
const MAX_CODE: usize = 127 * 256 + 127;

/// `out = (x · r) · g` with `r = 1 / √(Σx² / len + ε)`.
#[inline(always)]
pub(in crate::arch) fn normalize<L: Lanes>(isa: L, x: &[f32], norm: NormWeight<'_>, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "one output per feature");
    let norm = inverse(isa, x, Some(norm));
    for start in (0..x.len()).step_by(LANES) {
        let y = normalized(isa, x, norm, start);
        store_at(isa, y, out, start);
    }
}

/// Rounds `x`, or its norm, to `i8`; returns the factor and the sum of the codes.
///
/// The normalised row is not stored: both passes compute it anew from a row
/// that lies in the first-level cache, which costs two multiplications and saves
/// the memory.
#[inline(always)]
pub(in crate::arch) fn quantize<L: Lanes>(
    isa: L,
    x: &[f32],
    norm: Option<NormWeight<'_>>,
    out: &mut [i8],
) -> (f32, i32) {
    assert_eq!(x.len(), out.len(), "one code per feature");
    // Two functions, so that no loop asks in every turn whether there is a norm.
    match inverse(isa, x, norm) {
        Some((weight, r)) => round_to_i8::<L, true>(isa, x, weight, r, out),
        None => round_to_i8::<L, false>(isa, x, x, isa.splat(1.0), out),
    }
}

/// [`quantize`] of `(x · r) · weight` if it `IS_NORMED`, else of `x`.
#[inline(always)]
fn round_to_i8<L: Lanes, const IS_NORMED: bool>(
    isa: L,
    x: &[f32],
    weight: &[f32],
    r: L::F32,
    out: &mut [i8],
) -> (f32, i32) {
    let (blocks, weights) = (x.as_chunks::<LANES>().0, weight.as_chunks::<LANES>().0);
    let whole = blocks.len() * LANES;
    let rest = match whole < x.len() {
        true => normed::<L, IS_NORMED>(isa, load_at(isa, x, whole), load_at(isa, weight, whole), r),
        false => isa.splat(0.0),
    };
    let mut max = isa.max_magnitude(isa.splat(0.0), rest);
    for (x, weight) in blocks.iter().zip(weights) {
        max = isa.max_magnitude(max, normed::<L, IS_NORMED>(isa, isa.load(x), isa.load(weight), r));
    }
    let absmax = largest(isa, max);
    if !absmax.is_finite() {
        out.fill(0);
        return (f32::NAN, 0);
    }
    let factor = 127.0 / absmax.max(1e-5);
    let (codes, last) = out.split_at_mut(whole);
    for ((x, weight), codes) in blocks.iter().zip(weights).zip(codes.as_chunks_mut::<LANES>().0) {
        let y = normed::<L, IS_NORMED>(isa, isa.load(x), isa.load(weight), r);
        isa.store_i8(isa.mul(y, isa.splat(factor)), codes);
    }
    let mut codes = [0; LANES];
    isa.store_i8(isa.mul(rest, isa.splat(factor)), &mut codes);
    last.copy_from_slice(&codes[..last.len()]);
    // Exact in any order, so the compiler may vectorise it as it likes.
    let mut sum = 0;
    for code in out {
        sum += i32::from(*code);
    }
    (factor, sum)
}

/// `(x · r) · weight` if it `IS_NORMED`, else `x`.
#[inline(always)]
fn normed<L: Lanes, const IS_NORMED: bool>(isa: L, x: L::F32, weight: L::F32, r: L::F32) -> L::F32 {
    if IS_NORMED { isa.mul(isa.mul(x, r), weight) } else { x }
}

/// Rounds `x`, or its norm, to 16 bits in two planes of bytes; returns the factor, and running sums in `sums`.
#[inline(always)]
pub(in crate::arch) fn quantize16<L: Lanes>(
    isa: L,
    x: &[f32],
    norm: Option<NormWeight<'_>>,
    high: &mut [i8],
    low: &mut [i8],
    sums: &mut [i32],
) -> f32 {
    assert_eq!((x.len(), x.len()), (high.len(), low.len()), "two codes per feature");
    assert_eq!(sums.len(), x.len().div_ceil(LANES).max(1), "one sum per sixteen features");
    let norm = inverse(isa, x, norm);
    let absmax = absmax(isa, x, norm);
    // What is not written below belongs to a row that is not finite, or has no features.
    sums.fill(0);
    if !absmax.is_finite() {
        high.fill(0);
        low.fill(0);
        return f32::NAN;
    }
    let most = MAX_CODE.min(i32::MAX as usize / x.len().max(1));
    let factor = most as f32 / absmax.max(1e-30);
    let mut sum = 0;
    for start in (0..x.len()).step_by(LANES) {
        let y = isa.mul(normalized(isa, x, norm, start), isa.splat(factor));
        let mut codes = [0; LANES];
        isa.store_i16(y, &mut codes);
        for code in codes {
            sum += i32::from(code);
        }
        sums[start / LANES] = sum;
        let (mut highs, mut lows) = ([0; LANES], [0; LANES]);
        for i in 0..LANES {
            lows[i] = codes[i] as i8;
            highs[i] = ((codes[i] - i16::from(lows[i])) >> 8) as i8;
        }
        let len = LANES.min(x.len() - start);
        high[start..][..len].copy_from_slice(&highs[..len]);
        low[start..][..len].copy_from_slice(&lows[..len]);
    }
    factor
}

/// A norm's weight, and `r` of `x`.
#[inline(always)]
fn inverse<'a, L: Lanes>(isa: L, x: &[f32], norm: Option<NormWeight<'a>>) -> Option<(&'a [f32], L::F32)> {
    match norm {
        Some(norm) => {
            assert_eq!(x.len(), norm.weight.len(), "one norm weight per feature");
            Some((norm.weight, isa.splat(inverse_rms(isa, x, norm.eps))))
        }
        None => None,
    }
}

/// The largest magnitude of `x`, or of its norm; NaN above all.
#[inline(always)]
fn absmax<L: Lanes>(isa: L, x: &[f32], norm: Option<(&[f32], L::F32)>) -> f32 {
    let mut max = isa.splat(0.0);
    for start in (0..x.len()).step_by(LANES) {
        max = isa.max_magnitude(max, normalized(isa, x, norm, start));
    }
    largest(isa, max)
}

/// Lanes `start..` of `x`, times `r`, times the norm's weight.
#[inline(always)]
fn normalized<L: Lanes>(isa: L, x: &[f32], norm: Option<(&[f32], L::F32)>, start: usize) -> L::F32 {
    let x = load_at(isa, x, start);
    match norm {
        Some((weight, r)) => normed::<L, true>(isa, x, load_at(isa, weight, start), r),
        None => x,
    }
}

/// `1 / √(Σx² / len + ε)`.
#[inline(always)]
fn inverse_rms<L: Lanes>(isa: L, x: &[f32], eps: f32) -> f32 {
    let mut squares = isa.splat(0.0);
    let (blocks, rest) = x.as_chunks();
    for block in blocks {
        let x = isa.load(block);
        squares = isa.fma(x, x, squares);
    }
    if !rest.is_empty() {
        let x = load_at(isa, rest, 0);
        squares = isa.fma(x, x, squares);
    }
    1.0 / (isa.sum(squares) / x.len() as f32 + eps).sqrt()
}
