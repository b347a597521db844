//! TQ2_0, ggml's two-bit blocks of 256 weights with a scale each (2.0625 bits per weight).
//!
//! ```text
//! bytes 0..32    weights   0..128, as one block of planes of 32
//! bytes 32..64   weights 128..256, likewise
//! bytes 64..66   the scale, f16 little-endian
//!
//! byte j of a half:   bits 7..6     5..4     3..2   1..0
//! weight               j + 96   j + 64   j + 32      j
//! ```
//!
//! Source: `block_tq2_0` and `dequantize_row_tq2_0` in ggml.

use half::f16;

use super::{scales, two_bit};
use crate::TensorError;

/// Weights in a block.
pub(super) const BLOCK: usize = 256;
/// Bytes of a block.
pub(super) const BYTES: usize = 66;

const PLANE: usize = 32;
const CODES: usize = 2 * PLANE;
const SHIFTS: [u32; 4] = [0, 2, 4, 6];

/// Checks every code and returns the blocks' scales. `bytes` is whole rows of whole blocks.
pub(super) fn validate(cols: usize, bytes: &[u8]) -> Result<Vec<f32>, TensorError> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    if let Some(block) = blocks.iter().position(|block| two_bit::any_three(&block[..CODES])) {
        return Err(TensorError::code_three(block * BLOCK / cols));
    }
    scales::checked(blocks.iter().map(scale))
}

pub(super) fn read_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let (outs, _) = out.as_chunks_mut::<BLOCK>();
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    for (block, out) in blocks[row * outs.len()..].iter().zip(outs) {
        if scale(block) == 0.0 {
            out.fill(0);
            continue;
        }
        let (codes, _) = block.as_chunks::<PLANE>();
        let (planes, _) = out.as_chunks_mut::<PLANE>();
        let (halves, _) = planes.as_chunks_mut::<4>();
        for (codes, half) in codes.iter().zip(halves) {
            two_bit::unpack_block(codes, SHIFTS, half);
        }
    }
}

/// `scales` has one value per block.
pub(super) fn encode(trits: &[i8], scales: Vec<f16>) -> Vec<u8> {
    let mut bytes = vec![0; trits.len() / BLOCK * BYTES];
    for ((trits, block), scale) in trits.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BYTES)).zip(scales) {
        let (codes, d) = block.split_at_mut(CODES);
        two_bit::pack_planes::<PLANE>(trits, SHIFTS, codes);
        d.copy_from_slice(&scale.to_le_bytes());
    }
    bytes
}

fn scale(block: &[u8; BYTES]) -> f32 {
    f16::from_le_bytes([block[CODES], block[CODES + 1]]).to_f32()
}
