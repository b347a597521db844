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

use super::two_bit;
use crate::blocks::Blocks;

pub(crate) const TQ2_0: Blocks = Blocks { weights: 256, bytes: 66, scale: 64, unpack };

const PLANE: usize = 32;
const SHIFTS: [u32; 4] = [0, 2, 4, 6];

fn unpack(codes: &[u8], out: &mut [i8]) {
    let (codes, _) = codes.as_chunks::<PLANE>();
    let (planes, _) = out.as_chunks_mut::<PLANE>();
    let (halves, _) = planes.as_chunks_mut::<4>();
    for (codes, half) in codes.iter().zip(halves) {
        two_bit::unpack_block(codes, SHIFTS, half);
    }
}

pub(super) fn pack(trits: &[i8], codes: &mut [u8]) {
    two_bit::pack_planes::<PLANE>(trits, SHIFTS, codes);
}
