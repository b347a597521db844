//! RMSNorm, and BitNet's rounding of activations to `i8` with the norm before it.

use crate::arch::NormWeight;

use super::{LANES, Lanes, largest, load_at, store_at};

/// `out = (x · r) · g` with `r = 1 / √(Σx² / len + ε)`.
#[inline(always)]
pub(in crate::arch) fn normalize<L: Lanes>(isa: L, x: &[f32], norm: NormWeight<'_>, out: &mut [f32]) {
    assert_eq!(x.len(), norm.weight.len(), "one norm weight per feature");
    assert_eq!(x.len(), out.len(), "one output per feature");
    let norm = Some((norm.weight, isa.splat(inverse_rms(isa, x, norm.eps))));
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
    let norm = match norm {
        Some(norm) => {
            assert_eq!(x.len(), norm.weight.len(), "one norm weight per feature");
            Some((norm.weight, isa.splat(inverse_rms(isa, x, norm.eps))))
        }
        None => None,
    };
    let mut max = isa.splat(0.0);
    for start in (0..x.len()).step_by(LANES) {
        max = isa.max_magnitude(max, normalized(isa, x, norm, start));
    }
    let absmax = largest(isa, max);
    if !absmax.is_finite() {
        out.fill(0);
        return (f32::NAN, 0);
    }
    let factor = 127.0 / absmax.max(1e-5);
    for start in (0..x.len()).step_by(LANES) {
        let y = isa.mul(normalized(isa, x, norm, start), isa.splat(factor));
        let rest = &mut out[start..];
        match rest.first_chunk_mut() {
            Some(codes) => isa.store_i8(y, codes),
            None => {
                let mut codes = [0; LANES];
                isa.store_i8(y, &mut codes);
                rest.copy_from_slice(&codes[..rest.len()]);
            }
        }
    }
    // Exact in any order, so the compiler may vectorise it as it likes.
    let mut sum = 0;
    for code in out {
        sum += i32::from(*code);
    }
    (factor, sum)
}

/// Lanes `start..` of `x`, times `r`, times the norm's weight.
#[inline(always)]
fn normalized<L: Lanes>(isa: L, x: &[f32], norm: Option<(&[f32], L::F32)>, start: usize) -> L::F32 {
    let x = load_at(isa, x, start);
    match norm {
        Some((weight, r)) => isa.mul(isa.mul(x, r), load_at(isa, weight, start)),
        None => x,
    }
}

/// `1 / √(Σx² / len + ε)`.
#[inline(always)]
fn inverse_rms<L: Lanes>(isa: L, x: &[f32], eps: f32) -> f32 {
    let mut squares = isa.splat(0.0);
    for start in (0..x.len()).step_by(LANES) {
        let x = load_at(isa, x, start);
        squares = isa.fma(x, x, squares);
    }
    1.0 / (isa.sum(squares) / x.len() as f32 + eps).sqrt()
}
