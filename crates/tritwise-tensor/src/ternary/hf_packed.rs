//! The packed `uint8` weights of Hugging Face checkpoints.
//!
//! A matrix of `rows` × `cols` is a tensor of `rows / 4` × `cols` bytes. A byte holds the weights of
//! one column in four rows that lie a quarter of the matrix apart; the first quarter is in the
//! lowest bits:
//!
//! ```text
//! byte p · cols + col:    bits 7..6     5..4     3..2     1..0
//! row, q = rows / 4:         p + 3q   p + 2q    p + q        p
//! ```
//!
//! The scale is a tensor of its own, and it depends on the checkpoint's configuration whether
//! weights are multiplied or divided by it, so it comes from the caller.
//!
//! Source: `pack_weights` and `unpack_weights` in transformers, `integrations/bitnet.py`. (The example
//! in the latter's documentation shows another order than its code has; files follow the code.)
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::two_bit;
use crate::TensorError;

pub(super) fn broken_rule(rows: usize) -> Option<&'static str> {
    (!rows.is_multiple_of(4)).then_some("the number of rows is a multiple of 4")
}

/// Checks every code. `bytes` has the right length.
pub(super) fn validate(rows: usize, cols: usize, bytes: &[u8]) -> Result<(), TensorError> {
    match two_bit::first_three(bytes) {
        Some((byte, shift)) => Err(TensorError::code_three(shift as usize / 2 * (rows / 4) + byte / cols)),
        None => Ok(()),
    }
}

pub(super) fn read_row(rows: usize, bytes: &[u8], row: usize, out: &mut [i8]) {
    let (cols, quarter) = (out.len(), rows / 4);
    #[expect(clippy::cast_possible_truncation, reason = "the quarter of the rows is below 4")]
    two_bit::unpack(&bytes[row % quarter * cols..][..cols], (row / quarter) as u32 * 2, out);
}

pub(super) fn encode(trits: &[i8]) -> Vec<u8> {
    let mut bytes = vec![0; trits.len() / 4];
    for (trits, shift) in trits.chunks_exact(bytes.len()).zip([0, 2, 4, 6]) {
        two_bit::pack(trits, shift, &mut bytes);
    }
    bytes
}
