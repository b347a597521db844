//! Q4_0 and IQ4_NL, ggml's blocks of 32 four-bit codes with a scale.
//!
//! ```text
//! bytes 0..2    the scale d, f16 little-endian
//! bytes 2..18   byte j:   bits 7..4   bits 3..0
//!               weight      j + 16           j
//!
//! Q4_0     weight = d · (code - 8)
//! IQ4_NL   weight = d · VALUES[code], sixteen steps that are finer about zero
//! ```
//!
//! Sources: `block_q4_0`, `quantize_row_q4_0_ref`, `dequantize_row_q4_0`; `block_iq4_nl` and
//! `kvalues_iq4nl` in ggml.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use half::f16;

use crate::blocks::Blocks;

pub(super) const Q4_0: Blocks = Blocks { weights: 32, bytes: 18, scale: 0, unpack: unpack_q4_0 };
pub(super) const IQ4_NL: Blocks = Blocks { weights: 32, bytes: 18, scale: 0, unpack: unpack_iq4_nl };

const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn unpack_q4_0(codes: &[u8], out: &mut [i8]) {
    unpack(codes, out, |code| code.cast_signed() - 8);
}

fn unpack_iq4_nl(codes: &[u8], out: &mut [i8]) {
    unpack(codes, out, |code| VALUES[usize::from(code)]);
}

#[inline(always)]
fn unpack(codes: &[u8], out: &mut [i8], value: impl Fn(u8) -> i8) {
    let (low, high) = out.split_at_mut(16);
    for ((byte, low), high) in codes.iter().zip(low).zip(high) {
        (*low, *high) = (value(byte & 15), value(byte >> 4));
    }
}

/// Encodes `values`, which are finite, as Q4_0; false if their scale is too large for f16.
///
/// The value of largest magnitude, the first of them, becomes code 0. As in ggml, codes are computed
/// with the scale before it is rounded to f16, and round half up.
pub(super) fn encode(values: &[f32; 32], block: &mut [u8; 18]) -> bool {
    let extreme = values.iter().fold(0.0_f32, |most, v| if v.abs() > most.abs() { *v } else { most });
    let d = extreme / -8.0;
    let stored = f16::from_f32(d);
    // A scale that rounds to zero makes the weights zero whatever the codes; its reciprocal may be infinite.
    let factor = if stored.to_f32() == 0.0 { 0.0 } else { 1.0 / d };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let code = |v: &f32| ((v * factor + 8.5) as u8).min(15);
    let (low, high) = values.split_at(16);
    for ((byte, low), high) in Q4_0.start(block, stored).iter_mut().zip(low).zip(high) {
        *byte = code(low) | code(high) << 4;
    }
    stored.is_finite()
}
