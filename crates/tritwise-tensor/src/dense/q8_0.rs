//! Q8_0, ggml's blocks of 32 bytes with a scale.
//!
//! ```text
//! bytes 0..2    the scale d, f16 little-endian
//! bytes 2..34   32 × i8 q            weight = d · q
//! ```
//!
//! Source: `block_q8_0`, `quantize_row_q8_0_ref` and `dequantize_row_q8_0` in ggml.

use half::f16;

use crate::blocks::Blocks;

pub(super) const Q8_0: Blocks = Blocks { weights: 32, bytes: 34, scale: 0, unpack };

fn unpack(codes: &[u8], out: &mut [i8]) {
    for (out, q) in out.iter_mut().zip(codes) {
        *out = q.cast_signed();
    }
}

/// Encodes `values`, which are finite; false if their scale is too large for f16.
///
/// The largest magnitude becomes ±127. As in ggml, codes are computed with the scale before it
/// is rounded to f16, and round half away from zero.
#[expect(clippy::cast_possible_truncation, reason = "at most 127 in magnitude, and the cast saturates")]
pub(super) fn encode(values: &[f32; 32], block: &mut [u8; 34]) -> bool {
    let d = values.iter().fold(0.0_f32, |max, v| max.max(v.abs())) / 127.0;
    let stored = f16::from_f32(d);
    // A scale that rounds to zero makes the weights zero whatever the codes; its reciprocal may be infinite.
    let factor = if stored.to_f32() == 0.0 { 0.0 } else { 1.0 / d };
    for (q, v) in Q8_0.start(block, stored).iter_mut().zip(values) {
        *q = ((v * factor).round() as i8).cast_unsigned();
    }
    stored.is_finite()
}
