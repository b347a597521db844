//! TQ1_0, ggml's blocks of 256 weights, five to the byte, with a scale each (1.6875 bits per weight).
//!
//! ```text
//! bytes 0..32    weights   0..160   weight e: byte e % 32,              digit e / 32
//! bytes 32..48   weights 160..240   weight e: byte 32 + (e - 160) % 16, digit (e - 160) / 16
//! bytes 48..52   weights 240..256   weight e: byte 48 + (e - 240) % 4,  digit (e - 240) / 4
//! bytes 52..54   the scale, f16 little-endian
//! ```
//!
//! Five ternary digits t₀…t₄ (a trit plus one, the first most significant) make a number v below
//! 3⁵ = 243. It is stored as a fraction of 256, ⌈256 v / 243⌉, so that digits come out by
//! multiplication: three times the byte has the first digit above its lowest eight bits, and what
//! remains in those eight bits is the fraction with that digit taken off. In the last four bytes the
//! fifth digit is 0.
//!
//! ```text
//! repeat:  digit = (3 · byte) >> 8,  byte = (3 · byte) & 255
//! ```
//!
//! Of the 256 bytes an encoder writes 243 (81 in the last four). The others are not refused: the
//! formula gives each of them digits, the same that ggml gives.
//!
//! Source: `block_tq1_0`, `quantize_row_tq1_0_ref` and `dequantize_row_tq1_0` in ggml.

use half::f16;

use super::scales;
use crate::TensorError;

/// Weights in a block.
pub(super) const BLOCK: usize = 256;
/// Bytes of a block.
pub(super) const BYTES: usize = 54;

/// First byte of the scale.
const SCALE: usize = 52;

/// Returns the blocks' scales. `bytes` is whole blocks.
pub(super) fn validate(bytes: &[u8]) -> Result<Vec<f32>, TensorError> {
    scales::checked(bytes.as_chunks().0.iter().map(scale))
}

pub(super) fn read_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let (outs, _) = out.as_chunks_mut::<BLOCK>();
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    for (block, out) in blocks[row * outs.len()..].iter().zip(outs) {
        if scale(block) == 0.0 {
            out.fill(0);
            continue;
        }
        unpack::<32>(&block[..32], &mut out[..160]);
        unpack::<16>(&block[32..48], &mut out[160..240]);
        unpack::<4>(&block[48..52], &mut out[240..]);
    }
}

/// `scales` has one value per block.
pub(super) fn encode(trits: &[i8], scales: Vec<f16>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(trits.len() / BLOCK * BYTES);
    for (trits, scale) in trits.as_chunks::<BLOCK>().0.iter().zip(scales) {
        pack::<32>(&trits[..160], &mut bytes);
        pack::<16>(&trits[160..240], &mut bytes);
        pack::<4>(&trits[240..], &mut bytes);
        bytes.extend(scale.to_le_bytes());
    }
    bytes
}

fn scale(block: &[u8; BYTES]) -> f32 {
    f16::from_le_bytes([block[SCALE], block[SCALE + 1]]).to_f32()
}

/// Writes the digits of `P` bytes to as many runs of `P` as `out` has.
#[inline(always)]
fn unpack<const P: usize>(bytes: &[u8], out: &mut [i8]) {
    let mut fractions: [u8; P] = bytes.try_into().expect("the caller cuts P bytes");
    for run in out.as_chunks_mut::<P>().0 {
        for (out, fraction) in run.iter_mut().zip(&mut fractions) {
            // (3 · fraction) >> 8 as two comparisons, which stay in byte lanes.
            let digit = u8::from(*fraction >= 86) + u8::from(*fraction >= 171);
            *out = digit.wrapping_sub(1) as i8;
            *fraction = fraction.wrapping_mul(3);
        }
    }
}

/// Appends `P` bytes that hold runs of `P` weights, at most five.
fn pack<const P: usize>(trits: &[i8], bytes: &mut Vec<u8>) {
    let mut values = [0_u32; P];
    for run in 0..5 {
        for (j, value) in values.iter_mut().enumerate() {
            let digit = trits.get(run * P + j).map_or(0, |trit| (trit + 1).cast_unsigned());
            *value = *value * 3 + u32::from(digit);
        }
    }
    bytes.extend(values.map(|v| (256 * v).div_ceil(243) as u8));
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
            let mut bytes = Vec::new();
            pack::<1>(&trits, &mut bytes);
            let mut back = [9; 5];
            unpack::<1>(&bytes, &mut back);
            assert_eq!(back, trits, "v = {v}");
        }
    }
}
