//! Q6_K, ggml's super-blocks of 256 six-bit weights in 16 sub-blocks of 16.
//!
//! ```text
//! bytes   0..128   low 4 bits      bytes 192..208   16 × i8 sub-block scale s
//! bytes 128..192   high 2 bits     bytes 208..210   the scale d, f16 little-endian
//!
//! half h, byte l < 32      bits 7..4              bits 3..0
//! low  byte 64h + l        weight l + 64          weight l
//! low  byte 64h + 32 + l   weight l + 96          weight l + 32
//!                          7..6     5..4     3..2     1..0
//! high byte 32h + l        l + 96   l + 64   l + 32   l        (all + 128h)
//!
//! weight = d · s · (code - 32)
//! ```
//!
//! The product has at most 11 + 7 + 5 significant bits, so it is exact in f32 in any order.
//!
//! # The quantiser
//!
//! The format leaves the choice of scales to the writer. Ours minimises the squared error in two steps.
//!
//! 1. For each sub-block by itself, find a real scale: let the weight of largest magnitude be code
//!    -33, -32, … -29 in turn (-33 is clamped, but makes the steps of the fifteen others finer),
//!    round the others, refit the scale to the codes by least squares, and keep the best.
//! 2. `d` is the largest of these divided by 127, as the next f16 above. With that `d`, try the
//!    three integer sub-block scales around each ideal one and keep the best.
//!
//! On normally distributed weights the error is 1.67 % of their root mean square. With the one
//! candidate -32 it is 1.79 %, with thirteen half steps from -34 to -28 1.66 %.
//!
//! Source of the format: `block_q6_K` and `dequantize_row_q6_K` in ggml.
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
pub(super) const BYTES: usize = 210;

const SUB: usize = 16;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;
/// Codes that the quantiser tries for a sub-block's largest magnitude.
const EXTREME_CODES: [f32; 5] = [-33.0, -32.0, -31.0, -30.0, -29.0];

/// Checks the scales. `bytes` is whole blocks.
pub(super) fn validate(bytes: &[u8]) -> Result<(), TensorError> {
    let (blocks, _) = bytes.as_chunks();
    blocks.iter().enumerate().try_for_each(|(i, block)| TensorError::check_scale(i, scale(block)))
}

/// `bytes` is the blocks of one row.
pub(super) fn read_row(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = scale(block);
        for (run, out) in out.chunks_exact_mut(32).enumerate() {
            let (half, quarter) = (run / 4, run % 4);
            let low = &block[64 * half + 32 * (quarter % 2)..][..32];
            let high = &block[HIGH + 32 * half..][..32];
            let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
            let scales = &block[SCALES + 2 * run..][..2];
            for (l, out) in out.iter_mut().enumerate() {
                let code = (low[l] >> low_shift) & 15 | ((high[l] >> high_shift) & 3) << 4;
                *out = d * f32::from(scales[l / SUB].cast_signed()) * (f32::from(code) - 32.0);
            }
        }
    }
}

/// Encodes `values`, which are finite; false if their scale is too large for f16.
pub(super) fn encode(values: &[f32; BLOCK], block: &mut [u8; BYTES]) -> bool {
    // Beyond this no scale is an f16; below it no squared error overflows.
    if values.iter().any(|v| v.abs() > 127.0 * 32.0 * f16::MAX.to_f32()) {
        return false;
    }
    let (subs, _) = values.as_chunks::<SUB>();
    let mut ideal = [0.0_f32; BLOCK / SUB];
    for (ideal, sub) in ideal.iter_mut().zip(subs) {
        *ideal = fit(sub);
    }
    let stored = round_up(ideal.iter().fold(0.0_f32, |max, s| max.max(s.abs())) / 127.0);
    block.fill(0);
    block[D..].copy_from_slice(&stored.to_le_bytes());
    for (i, (sub, ideal)) in subs.iter().zip(ideal).enumerate() {
        let (scale, codes) = nearest(sub, ideal, stored.to_f32());
        block[SCALES + i] = scale.cast_unsigned();
        let (run, start) = (i / 2, i % 2 * SUB);
        let (half, quarter) = (run / 4, run % 4);
        for (l, code) in (start..).zip(codes) {
            block[64 * half + 32 * (quarter % 2) + l] |= (code & 15) << (quarter / 2 * 4);
            block[HIGH + 32 * half + l] |= (code >> 4) << (quarter * 2);
        }
    }
    stored.is_finite()
}

fn scale(block: &[u8; BYTES]) -> f32 {
    f16::from_le_bytes([block[D], block[D + 1]]).to_f32()
}

/// The real scale that fits a sub-block best, of those tried.
fn fit(sub: &[f32; SUB]) -> f32 {
    let extreme = sub.iter().fold(0.0_f32, |max, &v| if v.abs() > max.abs() { v } else { max });
    let mut best = (f32::INFINITY, 0.0);
    for code in EXTREME_CODES {
        let codes = quantize(sub, extreme / code);
        // Least squares: the s that minimises Σ (v - s q)² is Σ v q / Σ q².
        let scale = dot(sub, &codes) / dot(&codes, &codes);
        let error = squared_error(sub, scale, &codes);
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// The integer scale near `ideal / d` with the least error, and its codes (0 to 63).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are whole numbers, and clamped")]
fn nearest(sub: &[f32; SUB], ideal: f32, d: f32) -> (i8, [u8; SUB]) {
    let centre = (ideal / d).round();
    let mut best = (f32::INFINITY, 0.0, [0.0; SUB]);
    for candidate in [centre, centre - 1.0, centre + 1.0] {
        let candidate = candidate.clamp(-128.0, 127.0);
        let codes = quantize(sub, d * candidate);
        let error = squared_error(sub, d * candidate, &codes);
        if error < best.0 {
            best = (error, candidate, codes);
        }
    }
    (best.1 as i8, best.2.map(|q| (q + 32.0) as u8))
}

/// `round(v / scale)` within -32..=31, half to even.
fn quantize(sub: &[f32; SUB], scale: f32) -> [f32; SUB] {
    // Adding 1.5 · 2²³ leaves no bits for a fraction, so the addition rounds; taking it off again is exact.
    // `round_ties_even` is a function call on CPUs without a rounding instruction, and this is the inner loop.
    const ROUND: f32 = 12_582_912.0;
    let factor = 1.0 / scale;
    sub.map(|v| ((v * factor).clamp(-32.0, 31.0) + ROUND) - ROUND)
}

fn squared_error(sub: &[f32; SUB], scale: f32, codes: &[f32; SUB]) -> f32 {
    let errors = std::array::from_fn(|i| sub[i] - scale * codes[i]);
    dot(&errors, &errors)
}

/// Σ a b, in four strided sums.
fn dot(a: &[f32; SUB], b: &[f32; SUB]) -> f32 {
    let mut sums = [0.0; 4];
    for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
