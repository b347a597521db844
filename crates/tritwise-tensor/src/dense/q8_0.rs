//! Q8_0, ggml's blocks of 32 bytes with a scale.
//!
//! ```text
//! bytes 0..2    the scale d, f16 little-endian
//! bytes 2..34   32 × i8 q            weight = d · q
//! ```
//!
//! The product has at most 18 significant bits, so it is exact in f32.
//!
//! Source: `block_q8_0`, `quantize_row_q8_0_ref` and `dequantize_row_q8_0` in ggml.

use half::f16;

use crate::TensorError;

/// Weights in a block.
pub(super) const BLOCK: usize = 32;
/// Bytes of a block.
pub(super) const BYTES: usize = 34;

/// Checks the scales. `bytes` is whole blocks.
pub(super) fn validate(bytes: &[u8]) -> Result<(), TensorError> {
    let (blocks, _) = bytes.as_chunks();
    blocks.iter().enumerate().try_for_each(|(i, block)| TensorError::check_scale(i, scale(block)))
}

/// `bytes` is the blocks of one row.
pub(super) fn read_row(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = scale(block);
        for (out, q) in out.iter_mut().zip(&block[2..]) {
            *out = d * f32::from(q.cast_signed());
        }
    }
}

/// Encodes `values`, which are finite; false if their scale is too large for f16.
///
/// The largest magnitude becomes ±127. As in ggml, codes are computed with the scale before it
/// is rounded to f16, and round half away from zero.
pub(super) fn encode(values: &[f32; BLOCK], block: &mut [u8; BYTES]) -> bool {
    let d = values.iter().fold(0.0_f32, |max, v| max.max(v.abs())) / 127.0;
    let stored = f16::from_f32(d);
    // A scale that rounds to zero makes the weights zero whatever the codes; its reciprocal may be infinite.
    let factor = if stored.to_f32() == 0.0 { 0.0 } else { 1.0 / d };
    block[..2].copy_from_slice(&stored.to_le_bytes());
    for (q, v) in block[2..].iter_mut().zip(values) {
        *q = ((v * factor).round() as i8).cast_unsigned();
    }
    stored.is_finite()
}

fn scale(block: &[u8; BYTES]) -> f32 {
    f16::from_le_bytes([block[0], block[1]]).to_f32()
}
