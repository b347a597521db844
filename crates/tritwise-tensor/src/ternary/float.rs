//! Float weights made ternary: the master weights of training, or ternary values spelled as floats.
//!
//! The absmean rule of BitNet b1.58 (arXiv 2402.17764, equations 1 to 3), as transformers computes it
//! (`WeightQuant` in `integrations/bitnet.py`), all in f32 except the sum:
//!
//! ```text
//! m = max(mean |W|, 1e-5)      trit = clamp(round(w · (1 / m)), -1, 1)      weight = m · trit
//! ```
//!
//! Rounding is half to even, so ±0.5 goes to 0, and everything beyond goes to ±1: two comparisons.
//! The reciprocal is a rounded f32 and the product is a multiplication; dividing by `m` would move
//! weights that lie at the threshold. The mean is summed in f64 because an f32 sum over millions of
//! weights is off by more than the threshold forgives. The scale is `m` itself, as bitnet.cpp's
//! converters store it; transformers' `1 / (1 / m)` differs from it by at most one unit in the last
//! place.

use super::{Ternarize, scales::check_range};
use crate::TensorError;
use crate::float::{FloatKind, not_finite};

/// The smallest mean that the absmean rule divides by.
const MEAN_FLOOR: f32 = 1e-5;
/// Weights converted at a time, in a buffer on the stack.
const PIECE: usize = 256;
/// Lanes of the sum: enough for vector code, and a fixed order of additions.
const LANES: usize = 8;

/// Checks that the weights are finite, and ternary if they must be; returns the scale.
pub(super) fn validate(kind: FloatKind, rule: Ternarize, cols: usize, bytes: &[u8]) -> Result<f32, TensorError> {
    match rule {
        Ternarize::Absmean => absmean(kind, cols, bytes),
        Ternarize::Exact => magnitude(kind, cols, bytes),
    }
}

pub(super) fn read_row(kind: FloatKind, rule: Ternarize, scale: f32, bytes: &[u8], row: usize, out: &mut [i8]) {
    let len = out.len() * kind.size();
    let (factor, threshold) = match rule {
        Ternarize::Absmean => (1.0 / scale, 0.5),
        Ternarize::Exact => (1.0, 0.0),
    };
    let mut values = [0.0; PIECE];
    let bytes = bytes[row * len..][..len].chunks(PIECE * kind.size());
    for (out, bytes) in out.chunks_mut(PIECE).zip(bytes) {
        let values = &mut values[..out.len()];
        kind.read(bytes, values);
        for (out, value) in out.iter_mut().zip(values) {
            let x = *value * factor;
            *out = i8::from(x > threshold) - i8::from(x < -threshold);
        }
    }
}

pub(super) fn encode(kind: FloatKind, trits: &[i8], scale: f32) -> Result<Vec<u8>, TensorError> {
    check_range(kind.name(), kind, 0, scale)?;
    let mut bytes = vec![0; trits.len() * kind.size()];
    let mut weights = [0.0; PIECE];
    for (trits, bytes) in trits.chunks(PIECE).zip(bytes.chunks_mut(PIECE * kind.size())) {
        let weights = &mut weights[..trits.len()];
        for (weight, trit) in weights.iter_mut().zip(trits) {
            *weight = f32::from(*trit) * scale;
        }
        kind.write(weights, bytes);
    }
    Ok(bytes)
}

fn absmean(kind: FloatKind, cols: usize, bytes: &[u8]) -> Result<f32, TensorError> {
    let mut sums = [0.0_f64; LANES];
    let found = kind.search(bytes, |start, values| {
        for values in values.chunks(LANES) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from(value.abs());
            }
        }
        not_finite(values).map(|i| (start + i, values[i]))
    });
    if let Some((index, value)) = found {
        return Err(TensorError::not_finite(index, cols, value));
    }
    let mean = sums.iter().sum::<f64>() / (bytes.len() / kind.size()) as f64;
    Ok((mean as f32).max(MEAN_FLOOR))
}

/// The one magnitude of the weights that are not zero; 0 if all are.
fn magnitude(kind: FloatKind, cols: usize, bytes: &[u8]) -> Result<f32, TensorError> {
    let first = kind
        .search(bytes, |start, values| values.iter().position(|&value| value != 0.0).map(|i| (start + i, values[i])));
    let Some((index, value)) = first else { return Ok(0.0) };
    if !value.is_finite() {
        return Err(TensorError::not_finite(index, cols, value));
    }
    let scale = value.abs();
    let differs = |value: f32| (value != 0.0) & (value.abs() != scale);
    let found = kind.search(bytes, |start, values| {
        let any = values.iter().fold(false, |any, &value| any | differs(value));
        let i = any.then(|| values.iter().position(|&value| differs(value)))??;
        Some((start + i, values[i]))
    });
    match found {
        None => Ok(scale),
        Some((index, value)) if !value.is_finite() => Err(TensorError::not_finite(index, cols, value)),
        Some((index, value)) => Err(TensorError::Weight {
            row: index / cols,
            what: format!("{value} in a matrix with ±{scale}; these weights are not ternary with one scale"),
        }),
    }
}
