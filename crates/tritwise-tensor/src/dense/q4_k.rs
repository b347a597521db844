//! Q4_K, ggml's super-blocks of 256 four-bit weights in 8 sub-blocks of 32 with a scale and an offset each.
//!
//! ```text
//! bytes 0..2    d, f16 little-endian          bytes 2..4   e, f16 little-endian
//! bytes 4..16   eight pairs of six bits: scale s, offset m
//! bytes 16..144 codes
//!
//! byte 4 + j, j < 4      bits 7..6   s of sub-block j + 4, high bits    bits 5..0   s of sub-block j
//! byte 8 + j             bits 7..6   m of sub-block j + 4, high bits    bits 5..0   m of sub-block j
//! byte 12 + j            bits 7..4   m of sub-block j + 4, low bits     bits 3..0   s of sub-block j + 4, low bits
//!
//! byte 16 + 32k + l      bits 7..4   weight 64k + 32 + l                bits 3..0   weight 64k + l
//!
//! weight = d · s · code - e · m
//! ```
//!
//! The products have at most 11 + 6 + 4 and 11 + 6 bits, so they are exact in f32; the difference is
//! rounded once.
//!
//! # The quantiser
//!
//! The format leaves the choice of scales to the writer. Ours minimises the squared error in two
//! steps, as that of Q6_K does.
//!
//! 1. For each sub-block by itself, find a real scale and offset: divide the range from the smallest
//!    value (or 0) to the largest into 13½ to 16½ steps, round, refit scale and offset to the codes by
//!    least squares, and keep the best.
//! 2. `d` and `e` are the largest of these divided by 63, as the next f16 above. With them, try the
//!    three integer scales and offsets around each ideal one, nine pairs, and keep the best.
//!
//! On normally distributed weights the error is 7.05 % of their root mean square. With the one
//! candidate of 15 steps it is 7.17 %, with 24 candidates from 13 to 17.6 steps 7.01 %.
//!
//! Source of the format: `block_q4_K`, `get_scale_min_k4` and `dequantize_row_q4_K` in ggml.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use half::f16;

use super::round_up;
use crate::TensorError;

/// Weights in a super-block.
pub(super) const BLOCK: usize = 256;
/// Bytes of a super-block.
pub(super) const BYTES: usize = 144;

const SUB: usize = 32;
const SUBS: usize = BLOCK / SUB;
const SCALES: usize = 4;
const CODES: usize = 16;
/// The largest scale or offset, and the largest code.
const MOST_SCALE: f32 = 63.0;
const MOST_CODE: f32 = 15.0;
/// Steps that the quantiser tries to divide a sub-block's range into.
const STEPS: [f32; 7] = [13.5, 14.0, 14.5, 15.0, 15.5, 16.0, 16.5];

/// Checks the scales, in storage order: two for each super-block. `bytes` is whole blocks.
pub(super) fn validate(bytes: &[u8]) -> Result<(), TensorError> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let scales = blocks.iter().flat_map(|block| [half_at(block, 0), half_at(block, 2)]);
    scales.enumerate().try_for_each(|(i, scale)| TensorError::check_scale(i, scale))
}

/// `bytes` is the blocks of one row.
pub(super) fn read_row(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (d, e) = (half_at(block, 0), half_at(block, 2));
        for (j, out) in out.as_chunks_mut::<SUB>().0.iter_mut().enumerate() {
            let (scale, offset) = scale_and_offset(block, j);
            let (scale, offset) = (d * f32::from(scale), e * f32::from(offset));
            for (out, byte) in out.iter_mut().zip(&block[CODES + j / 2 * SUB..]) {
                let code = byte >> (j % 2 * 4) & 15;
                *out = scale * f32::from(code) - offset;
            }
        }
    }
}

/// Encodes `values`, which are finite; false if a scale is too large for f16.
pub(super) fn encode(values: &[f32; BLOCK], block: &mut [u8; BYTES]) -> bool {
    // Beyond this no scale is an f16; below it no squared error overflows.
    if values.iter().any(|v| v.abs() > MOST_SCALE * MOST_CODE * f16::MAX.to_f32()) {
        return false;
    }
    let (subs, _) = values.as_chunks::<SUB>();
    let mut ideal = [(0.0_f32, 0.0_f32); SUBS];
    for (ideal, sub) in ideal.iter_mut().zip(subs) {
        *ideal = fit(sub);
    }
    let largest = ideal.iter().fold((0.0_f32, 0.0_f32), |most, ideal| (most.0.max(ideal.0), most.1.max(ideal.1)));
    let (d, e) = (round_up(largest.0 / MOST_SCALE), round_up(largest.1 / MOST_SCALE));
    block.fill(0);
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..4].copy_from_slice(&e.to_le_bytes());
    for (j, (sub, ideal)) in subs.iter().zip(ideal).enumerate() {
        let (scale, offset, codes) = nearest(sub, ideal, d.to_f32(), e.to_f32());
        let k = j % 4;
        if j < 4 {
            block[SCALES + k] |= scale;
            block[SCALES + 4 + k] |= offset;
        } else {
            block[SCALES + k] |= scale >> 4 << 6;
            block[SCALES + 4 + k] |= offset >> 4 << 6;
            block[SCALES + 8 + k] = scale & 15 | offset << 4;
        }
        for (byte, code) in block[CODES + j / 2 * SUB..].iter_mut().zip(codes) {
            *byte |= code << (j % 2 * 4);
        }
    }
    d.is_finite() && e.is_finite()
}

fn half_at(block: &[u8; BYTES], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn scale_and_offset(block: &[u8; BYTES], j: usize) -> (u8, u8) {
    let (scales, k) = (&block[SCALES..CODES], j % 4);
    match j {
        0..4 => (scales[k] & 63, scales[4 + k] & 63),
        _ => (scales[8 + k] & 15 | scales[k] >> 6 << 4, scales[8 + k] >> 4 | scales[4 + k] >> 6 << 4),
    }
}

/// The real scale and offset, neither negative, that fit a sub-block best, of those tried.
fn fit(sub: &[f32; SUB]) -> (f32, f32) {
    let (low, high) = sub.iter().fold((0.0_f32, 0.0_f32), |(low, high), &v| (low.min(v), high.max(v)));
    let mut best = (f32::INFINITY, (0.0, 0.0));
    for steps in STEPS {
        let codes = quantize(sub, (high - low) / steps, -low);
        let fitted = least_squares(sub, &codes);
        let error = squared_error(sub, fitted, &codes);
        if error < best.0 {
            best = (error, fitted);
        }
    }
    best.1
}

/// The integer scale and offset near the ideal ones with the least error, and their codes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are whole numbers, and clamped")]
fn nearest(sub: &[f32; SUB], ideal: (f32, f32), d: f32, e: f32) -> (u8, u8, [u8; SUB]) {
    let around = |ideal: f32, unit: f32| {
        // An f16 that is zero leaves the choice without meaning.
        let centre = if unit == 0.0 { 0.0 } else { (ideal / unit).round() };
        [centre, centre - 1.0, centre + 1.0].map(|value| value.clamp(0.0, MOST_SCALE))
    };
    let mut best = (f32::INFINITY, (0, 0, [0; SUB]));
    for scale in around(ideal.0, d) {
        for offset in around(ideal.1, e) {
            let weights = (d * scale, e * offset);
            let codes = quantize(sub, weights.0, weights.1);
            let error = squared_error(sub, weights, &codes);
            if error < best.0 {
                best = (error, (scale as u8, offset as u8, codes.map(|q| q as u8)));
            }
        }
    }
    best.1
}

/// `round((v + offset) / scale)` within 0..=15, half to even.
fn quantize(sub: &[f32; SUB], scale: f32, offset: f32) -> [f32; SUB] {
    // Adding 1.5 · 2²³ leaves no bits for a fraction, so the addition rounds; taking it off again is exact.
    const ROUND: f32 = 12_582_912.0;
    let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    sub.map(|v| (((v + offset) * factor).clamp(0.0, MOST_CODE) + ROUND) - ROUND)
}

/// The scale and offset that minimise Σ (scale · q - offset - v)², with an offset that is not negative.
fn least_squares(sub: &[f32; SUB], codes: &[f32; SUB]) -> (f32, f32) {
    #[expect(clippy::cast_precision_loss, reason = "it is 32")]
    let n = SUB as f32;
    let (q, v) = (sum(codes.iter().copied()), sum(sub.iter().copied()));
    let qq = sum(codes.iter().map(|q| q * q));
    let qv = sum(codes.iter().zip(sub).map(|(q, v)| q * v));
    let determinant = n * qq - q * q;
    if determinant > 0.0 {
        let (scale, offset) = ((n * qv - q * v) / determinant, (q * qv - qq * v) / determinant);
        if scale >= 0.0 && offset >= 0.0 {
            return (scale, offset);
        }
    }
    // Without an offset: Σ q v / Σ q².
    if qq > 0.0 { ((qv / qq).max(0.0), 0.0) } else { (0.0, (-v / n).max(0.0)) }
}

fn squared_error(sub: &[f32; SUB], (scale, offset): (f32, f32), codes: &[f32; SUB]) -> f32 {
    sum(sub.iter().zip(codes).map(|(v, q)| (scale * q - offset - v) * (scale * q - offset - v)))
}

/// The sum in four strided sums.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut sums = [0.0; 4];
    for (i, value) in values.enumerate() {
        sums[i % 4] += value;
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
