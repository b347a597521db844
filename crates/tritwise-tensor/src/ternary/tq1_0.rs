//! TQ1_0, ggml's blocks of 256 weights, five to the byte, with a scale each (1.6875 bits per weight),
//! and PTQ1_0, PrismML's, which are half as long (1.75 bits).
//!
//! ```text
//! TQ1_0                                                  PTQ1_0
//! bytes 0..32    weights   0..160, in planes of 32       bytes 0..16    weights   0..80,  in planes of 16
//! bytes 32..48   weights 160..240, in planes of 16       bytes 16..24   weights  80..120, in planes of 8
//! bytes 48..52   weights 240..256, in planes of 4        bytes 24..26   weights 120..128, in planes of 2
//! bytes 52..54   the scale, f16 little-endian            bytes 26..28   the scale, f16 little-endian
//!
//! planes of P from weight w:    byte j has the weights w + j, w + j + P, w + j + 2P, …
//! ```
//!
//! Five ternary digits t₀…t₄ (a trit plus one, the first most significant) make a number v below
//! 3⁵ = 243. It is stored as a fraction of 256, ⌈256 v / 243⌉, so that digits come out by
//! multiplication: three times the byte has the first digit above its lowest eight bits, and what
//! remains in those eight bits is the fraction with that digit taken off. The last planes are four,
//! and the fifth digit of their bytes is 0.
//!
//! ```text
//! repeat:  digit = (3 · byte) >> 8,  byte = (3 · byte) & 255
//! ```
//!
//! Of the 256 bytes an encoder writes 243 (81 in the last planes). The others are not refused: the
//! formula gives each of them digits, the same that ggml gives.
//!
//! Sources: `block_tq1_0`, `quantize_row_tq1_0_ref` and `dequantize_row_tq1_0` in ggml; `block_ptq1_0`
//! in PrismML's fork of llama.cpp.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use crate::blocks::Blocks;

pub(crate) const TQ1_0: Blocks = Blocks { weights: 256, bytes: 54, scale: 52, unpack: unpack_tq1_0 };
pub(crate) const PTQ1_0: Blocks = Blocks { weights: 128, bytes: 28, scale: 26, unpack: unpack_ptq1_0 };

fn unpack_tq1_0(codes: &[u8], out: &mut [i8]) {
    unpack::<32>(&codes[..32], &mut out[..160]);
    unpack::<16>(&codes[32..48], &mut out[160..240]);
    unpack::<4>(&codes[48..], &mut out[240..]);
}

fn unpack_ptq1_0(codes: &[u8], out: &mut [i8]) {
    unpack::<16>(&codes[..16], &mut out[..80]);
    unpack::<8>(&codes[16..24], &mut out[80..120]);
    unpack::<2>(&codes[24..], &mut out[120..]);
}

pub(super) fn pack_tq1_0(trits: &[i8], codes: &mut [u8]) {
    pack::<32>(&trits[..160], &mut codes[..32]);
    pack::<16>(&trits[160..240], &mut codes[32..48]);
    pack::<4>(&trits[240..], &mut codes[48..]);
}

pub(super) fn pack_ptq1_0(trits: &[i8], codes: &mut [u8]) {
    pack::<16>(&trits[..80], &mut codes[..16]);
    pack::<8>(&trits[80..120], &mut codes[16..24]);
    pack::<2>(&trits[120..], &mut codes[24..]);
}

/// Writes the digits of `P` bytes to as many runs of `P` as `out` has.
#[inline(always)]
fn unpack<const P: usize>(bytes: &[u8], out: &mut [i8]) {
    let mut fractions = [0; P];
    fractions.copy_from_slice(bytes);
    for run in out.as_chunks_mut::<P>().0 {
        for (out, fraction) in run.iter_mut().zip(&mut fractions) {
            // (3 · fraction) >> 8 as two comparisons, which stay in byte lanes.
            let digit = u8::from(*fraction >= 86) + u8::from(*fraction >= 171);
            *out = digit.wrapping_sub(1).cast_signed();
            *fraction = fraction.wrapping_mul(3);
        }
    }
}

/// Writes `P` bytes that hold runs of `P` weights, at most five.
fn pack<const P: usize>(trits: &[i8], bytes: &mut [u8]) {
    let mut values = [0; P];
    for run in 0..5 {
        for (j, value) in values.iter_mut().enumerate() {
            let digit = trits.get(run * P + j).map_or(0, |trit| (trit + 1).cast_unsigned());
            *value = *value * 3 + u32::from(digit);
        }
    }
    for (byte, value) in bytes.iter_mut().zip(values) {
        *byte = fraction(value);
    }
}

/// The number `v`, of five ternary digits, as a fraction of 256.
#[expect(clippy::cast_possible_truncation, reason = "v is below 243")]
pub(super) fn fraction(v: u32) -> u8 {
    (256 * v).div_ceil(243) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_decodes_by_the_formula() {
        for byte in 0..=255_u8 {
            let mut out = [0; 5];
            unpack::<1>(&[byte], &mut out);
            for (n, &trit) in out.iter().enumerate() {
                let shifted = u32::from(byte) * 3_u32.pow(n as u32) % 256;
                assert_eq!(i32::from(trit) + 1, ((shifted * 3) >> 8) as i32, "byte {byte} digit {n}");
            }
        }
    }

    #[test]
    fn every_number_has_a_byte() {
        for v in 0..243_u32 {
            let trits: [i8; 5] = std::array::from_fn(|n| (v / 3_u32.pow(4 - n as u32) % 3) as i8 - 1);
            let mut byte = [0];
            pack::<1>(&trits, &mut byte);
            let mut back = [9; 5];
            unpack::<1>(&byte, &mut back);
            assert_eq!(back, trits, "v = {v}");
        }
    }
}
