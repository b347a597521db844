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
//!    -32, -31.5, … down to -29 in turn (a little above the range, the error at the extreme is
//!    paid back by finer steps, a little below, by clamping less), round the others, refit
//!    the scale to the codes by least squares, and keep the best.
//! 2. `d` is the largest of these divided by 127, as f16. With the real `d`, try the
//!    integer sub-block scales around each ideal one and keep the best.
//!
//! Source of the format: `block_q6_K` and `dequantize_row_q6_K` in ggml.

use half::f16;

use crate::TensorError;

/// Weights in a super-block.
pub(super) const BLOCK: usize = 256;
/// Bytes of a super-block.
pub(super) const BYTES: usize = 210;

const SUB: usize = 16;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// Checks the scales. `bytes` is whole blocks.
pub(super) fn validate(bytes: &[u8]) -> Result<(), TensorError> {
    let (blocks, _) = bytes.as_chunks();
    blocks
        .iter()
        .enumerate()
        .try_for_each(|(i, block)| TensorError::check_scale(i, scale(block)))
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

/// Appends the block that holds `values`, which are finite; `None` if the scale is too large for f16.
pub(super) fn encode(values: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Option<()> {
    let (subs, _) = values.as_chunks::<SUB>();
    let mut ideal = [0.0_f32; BLOCK / SUB];
    for (ideal, sub) in ideal.iter_mut().zip(subs) {
        *ideal = fit(sub);
    }
    let stored = f16::from_f32(ideal.iter().fold(0.0_f32, |max, s| max.max(s.abs())) / 127.0);
    if stored.is_infinite() {
        return None;
    }
    let d = stored.to_f32();
    let mut block = [0; BYTES];
    block[D..].copy_from_slice(&stored.to_le_bytes());
    for (i, (sub, ideal)) in subs.iter().zip(ideal).enumerate() {
        let (scale, codes) = nearest(sub, ideal, d);
        block[SCALES + i] = scale.cast_unsigned();
        let (run, start) = (i / 2, i % 2 * SUB);
        let (half, quarter) = (run / 4, run % 4);
        for (l, code) in (start..).zip(codes) {
            block[64 * half + 32 * (quarter % 2) + l] |= (code & 15) << (quarter / 2 * 4);
            block[HIGH + 32 * half + l] |= (code >> 4) << (quarter * 2);
        }
    }
    bytes.extend(block);
    Some(())
}

fn scale(block: &[u8; BYTES]) -> f32 {
    f16::from_le_bytes([block[D], block[D + 1]]).to_f32()
}

/// The real scale that fits a sub-block best, of those tried; its sign makes the extreme negative.
fn fit(sub: &[f32; SUB]) -> f32 {
    let extreme = sub
        .iter()
        .fold(0.0_f32, |max, &v| if v.abs() > max.abs() { v } else { max });
    let mut best = (f32::INFINITY, 0.0);
    for step in 0..=12 {
        let code = -33.0 + 0.5 * step as f32;
        let first = extreme / code;
        let codes = quantize(sub, first);
        // Least squares: the s that minimises Σ (v - s q)² is Σ v q / Σ q².
        let (vq, qq) = sub
            .iter()
            .zip(codes)
            .fold((0.0, 0.0), |(vq, qq), (v, q)| (vq + v * q, qq + q * q));
        let scale = if qq > 0.0 { vq / qq } else { 0.0 };
        let error = squared_error(sub, scale, codes);
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// The integer scale near `ideal / d` with the least error, and its codes (0 to 63).
fn nearest(sub: &[f32; SUB], ideal: f32, d: f32) -> (i8, [u8; SUB]) {
    if d == 0.0 {
        return (0, [32; SUB]);
    }
    let centre = (ideal / d).round() as i32;
    let mut best = (f32::INFINITY, 0, [0.0; SUB]);
    for candidate in centre - 1..=centre + 1 {
        let candidate = candidate.clamp(-128, 127);
        let scale = d * candidate as f32;
        let codes = quantize(sub, scale);
        let error = squared_error(sub, scale, codes);
        if error < best.0 {
            best = (error, candidate as i8, codes);
        }
    }
    (best.1, best.2.map(|q| (q + 32.0) as u8))
}

/// `round(v / scale)` within -32..=31; zeros for a scale of 0.
fn quantize(sub: &[f32; SUB], scale: f32) -> [f32; SUB] {
    let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    sub.map(|v| (v * factor).round_ties_even().clamp(-32.0, 31.0))
}

fn squared_error(sub: &[f32; SUB], scale: f32, codes: [f32; SUB]) -> f32 {
    sub.iter()
        .zip(codes)
        .map(|(v, q)| (v - scale * q) * (v - scale * q))
        .sum()
}
