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
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::Ternarize;
use super::scales::{Scales, check_range};
use crate::TensorError;
use crate::float::{FloatKind, not_finite};

/// The smallest mean that the absmean rule divides by.
const MEAN_FLOOR: f32 = 1e-5;
/// Weights converted at a time, in a buffer on the stack.
const PIECE: usize = 256;
/// Lanes of the sum: enough for vector code, and a fixed order of additions.
const LANES: usize = 8;
/// What groups of columns with a scale each are multiples of.
const GROUP: usize = 32;

/// Checks that the weights are finite, and ternary if they must be; returns the scales.
pub(super) fn validate(kind: FloatKind, rule: Ternarize, cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
    match rule {
        Ternarize::Absmean => absmean(kind, cols, bytes).map(Scales::Tensor),
        Ternarize::Exact => match one_magnitude(kind, cols, bytes)? {
            Some(scale) => Ok(Scales::Tensor(scale)),
            None => magnitudes(kind, cols, bytes),
        },
    }
}

pub(super) fn read_row(kind: FloatKind, rule: Ternarize, scales: &Scales, bytes: &[u8], row: usize, out: &mut [i8]) {
    let len = out.len() * kind.size();
    let (factor, threshold) = match (rule, scales) {
        (Ternarize::Absmean, Scales::Tensor(scale)) => (1.0 / scale, 0.5),
        // What the sign says, whatever the scale.
        _ => (1.0, 0.0),
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

/// `scales` are for `weights_each` weights each.
pub(super) fn encode(
    kind: FloatKind,
    trits: &[i8],
    (scales, weights_each): (&[f32], usize),
) -> Result<Vec<u8>, TensorError> {
    let mut bytes = vec![0; trits.len() * kind.size()];
    let mut weights = [0.0; PIECE];
    let runs = trits.chunks_exact(weights_each).zip(bytes.chunks_exact_mut(weights_each * kind.size()));
    for ((index, scale), (trits, bytes)) in scales.iter().enumerate().zip(runs) {
        check_range(kind.name(), kind, index, *scale)?;
        for (trits, bytes) in trits.chunks(PIECE).zip(bytes.chunks_mut(PIECE * kind.size())) {
            let weights = &mut weights[..trits.len()];
            for (weight, trit) in weights.iter_mut().zip(trits) {
                *weight = f32::from(*trit) * scale;
            }
            kind.write(weights, bytes);
        }
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
        not_finite(values).map(|(i, value)| (start + i, value))
    });
    if let Some((index, value)) = found {
        return Err(TensorError::not_finite(index, cols, value));
    }
    #[expect(clippy::cast_precision_loss, reason = "no matrix has 2⁵³ weights")]
    let mean = sums.iter().sum::<f64>() / (bytes.len() / kind.size()) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the mean of f32 is within their range")]
    Ok((mean as f32).max(MEAN_FLOOR))
}

/// The magnitude of all weights that are not zero, 0 if all are; `None` if there are several.
///
/// Almost every matrix has one, or is not ternary at all, which its first weights show.
fn one_magnitude(kind: FloatKind, cols: usize, bytes: &[u8]) -> Result<Option<f32>, TensorError> {
    let not_zero = |values: &[f32]| values.iter().copied().enumerate().find(|(_, value)| *value != 0.0);
    let first = kind.search(bytes, |start, values| not_zero(values).map(|(i, value)| (start + i, value)));
    let Some((index, value)) = first else { return Ok(Some(0.0)) };
    if !value.is_finite() {
        return Err(TensorError::not_finite(index, cols, value));
    }
    let scale = value.abs();
    match kind.search(bytes, |start, values| other_magnitude(values, scale).map(|(i, value)| (start + i, value))) {
        None => Ok(Some(scale)),
        Some((_, value)) if value.is_finite() => Ok(None),
        Some((index, value)) => Err(TensorError::not_finite(index, cols, value)),
    }
}

/// The simplest scales of a matrix with several magnitudes: one per row, or per group of columns in each row.
fn magnitudes(kind: FloatKind, cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
    let block = if cols.is_multiple_of(GROUP) { GROUP } else { cols };
    let mut values = vec![0.0; block];
    let mut scales = Vec::with_capacity(bytes.len() / (block * kind.size()));
    for (i, bytes) in bytes.chunks_exact(block * kind.size()).enumerate() {
        kind.read(bytes, &mut values);
        if let Some((at, value)) = not_finite(&values) {
            return Err(TensorError::not_finite(i * block + at, cols, value));
        }
        let scale = values.iter().find(|value| **value != 0.0).map_or(0.0, |value| value.abs());
        if let Some((at, value)) = other_magnitude(&values, scale) {
            return Err(TensorError::Weight {
                row: (i * block + at) / cols,
                what: format!(
                    "{value} beside ±{scale}; these weights are not ternary with one scale for the matrix, a row, or a group \
                     of {GROUP} columns or a multiple of it"
                ),
            });
        }
        scales.push(scale);
    }
    Ok(Scales::of_blocks(scales, cols / block, block))
}

/// The first of `values` that is not `scale`, its negative, or zero.
fn other_magnitude(values: &[f32], scale: f32) -> Option<(usize, f32)> {
    let differs = |value: f32| (value != 0.0) & (value.abs() != scale);
    // Without the early exit the common case, nothing found, is a plain vector loop.
    let any = values.iter().fold(false, |any, &value| any | differs(value));
    if any { values.iter().copied().enumerate().find(|(_, value)| differs(*value)) } else { None }
}
