//! I2_S, the two-bit encoding of bitnet.cpp (GGUF type 36).
//!
//! ```text
//! bytes 0 .. n/4           codes of the n = rows · cols weights
//! bytes n/4 .. n/4 + 4     the scale, f32 little-endian; weight = scale · trit
//! bytes n/4 + 4 .. + 28    padding: anything when read, zeros when written
//! ```
//!
//! Four orders of the codes have been written under this one type number, and nothing in the file
//! says which ([`I2sLayout`]). Three are plane packings of the flat sequence, rows running into each
//! other, and differ in the width of a plane: 32 bytes (A), 16 (B) and 1 (D). The fourth (C) keeps
//! columns apart and puts four neighbouring rows in a byte:
//!
//! ```text
//! C, byte (row / 4) · cols + col:   bits 7..6     5..4     3..2     1..0
//!                                 row 4k + 0   4k + 1   4k + 2   4k + 3
//! ```
//!
//! As the planes are flat, a row need not begin with a block: where `cols` is no multiple of 128,
//! as in the 8,640 columns of a published 3B model, layout A's rows begin in the middle of one.
//!
//! Sources: `quantize_i2_s` and `dequantize_row_i2_s` of microsoft/BitNet (`src/ggml-bitnet-mad.cpp`)
//! and its forks of llama.cpp, `transform_to_i2` of its converters.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::{Scales, two_bit};
use crate::TensorError;

/// The byte orders that have been written under the name I2_S.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum I2sLayout {
    /// Blocks of 128 in four planes of 32: every published file.
    #[default]
    A,
    /// Blocks of 64 in four planes of 16 (Arm builds since January 2026).
    B,
    /// Four rows per byte (x86 builds without `ACT_PARALLEL`).
    C,
    /// Sequential (scalar builds since July 2026).
    D,
}

/// The scale and its padding.
const TAIL: usize = 32;
const SHIFTS: [u32; 4] = [6, 4, 2, 0];

/// What the layout asks of the shape, if this shape breaks it.
pub(super) fn broken_rule(layout: I2sLayout, rows: usize, elements: usize) -> Option<&'static str> {
    match layout {
        I2sLayout::A => (!elements.is_multiple_of(128)).then_some("layout A holds a multiple of 128 weights"),
        I2sLayout::B => (!elements.is_multiple_of(64)).then_some("layout B holds a multiple of 64 weights"),
        I2sLayout::C => (!rows.is_multiple_of(4)).then_some("layout C holds a multiple of 4 rows"),
        I2sLayout::D => (!elements.is_multiple_of(4)).then_some("layout D holds a multiple of 4 weights"),
    }
}

pub(super) fn len(elements: usize) -> Option<usize> {
    (elements / 4).checked_add(TAIL)
}

/// Checks every code and returns the scale. `bytes` has the right length.
pub(super) fn validate(layout: I2sLayout, cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
    let (codes, tail) = bytes.split_at(bytes.len() - TAIL);
    if let Some((byte, shift)) = two_bit::first_three(codes) {
        let field = (6 - shift as usize) / 2;
        let flat = |plane: usize| (byte / plane) * 4 * plane + field * plane + byte % plane;
        let row = match layout {
            I2sLayout::A => flat(32) / cols,
            I2sLayout::B => flat(16) / cols,
            I2sLayout::C => byte / cols * 4 + field,
            I2sLayout::D => flat(1) / cols,
        };
        return Err(TensorError::code_three(row));
    }
    let scale = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    TensorError::check_scale(0, scale)?;
    Ok(Scales::Tensor(scale))
}

pub(super) fn read_row(layout: I2sLayout, bytes: &[u8], row: usize, out: &mut [i8]) {
    let cols = out.len();
    match layout {
        I2sLayout::A => two_bit::unpack_planes::<32>(bytes, row * cols, out),
        I2sLayout::B => two_bit::unpack_planes::<16>(bytes, row * cols, out),
        I2sLayout::C => two_bit::unpack(&bytes[row / 4 * cols..][..cols], SHIFTS[row % 4], out),
        I2sLayout::D => two_bit::unpack_planes::<1>(bytes, row * cols, out),
    }
}

pub(super) fn encode(layout: I2sLayout, trits: &[i8], cols: usize, scale: f32) -> Vec<u8> {
    let mut bytes = vec![0; trits.len() / 4 + TAIL];
    let (codes, tail) = bytes.split_at_mut(trits.len() / 4);
    match layout {
        I2sLayout::A => two_bit::pack_planes::<32>(trits, SHIFTS, codes),
        I2sLayout::B => two_bit::pack_planes::<16>(trits, SHIFTS, codes),
        I2sLayout::C => {
            for (rows, codes) in trits.chunks_exact(4 * cols).zip(codes.chunks_exact_mut(cols)) {
                for (row, shift) in rows.chunks_exact(cols).zip(SHIFTS) {
                    two_bit::pack(row, shift, codes);
                }
            }
        }
        I2sLayout::D => two_bit::pack_planes::<1>(trits, SHIFTS, codes),
    }
    tail[..4].copy_from_slice(&scale.to_le_bytes());
    bytes
}
