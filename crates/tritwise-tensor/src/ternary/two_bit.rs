//! Two-bit codes, four to the byte.
//!
//! ```text
//! byte:  7 6 | 5 4 | 3 2 | 1 0      code:  0 → -1   1 → 0   2 → +1   3 → never written
//! shift:   6     4     2     0
//! ```
//!
//! The encodings differ only in which four weights share a byte, and in all of them consecutive
//! columns lie in the same field of consecutive bytes. Such a *run* is the unit here: a shift, a
//! mask and a subtraction per weight with nothing that depends on the data, which compilers turn
//! into vector code. (A table of 256 × 4 trits was the alternative; it is slower for runs, as the
//! four trits of a byte go to four places.)
//!
//! A *plane* packing with planes of `P` bytes cuts the flat sequence of weights into blocks of
//! `4 P`; the four quarters of a block are runs in the four fields of the same `P` bytes:
//!
//! ```text
//! byte j of block b:   bits 7..6    5..4     3..2     1..0
//! weight 4Pb + …           j       j + P    j + 2P   j + 3P
//! ```
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

/// `out[i]` becomes the trit in the field at bit `shift` of `bytes[i]`.
#[inline(always)]
pub(super) fn unpack(bytes: &[u8], shift: u32, out: &mut [i8]) {
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = ((byte >> shift) & 3).wrapping_sub(1).cast_signed();
    }
}

/// Puts `trits[i]` in the field at bit `shift` of `bytes[i]`, which was zero there.
#[inline(always)]
pub(super) fn pack(trits: &[i8], shift: u32, bytes: &mut [u8]) {
    for (byte, trit) in bytes.iter_mut().zip(trits) {
        *byte |= (trit + 1).cast_unsigned() << shift;
    }
}

/// Reads `out.len()` weights of a plane packing, from flat index `start` on.
#[inline(always)]
pub(super) fn unpack_planes<const P: usize>(bytes: &[u8], start: usize, mut out: &mut [i8]) {
    let mut index = start;
    while !out.is_empty() {
        let (block, within) = (index / (4 * P), index % (4 * P));
        let taken = if within == 0 && out.len() >= 4 * P {
            // Whole blocks, which is all there is where a row is a multiple of the block.
            let (outs, _) = out.as_chunks_mut::<P>();
            let (outs, _) = outs.as_chunks_mut::<4>();
            let (blocks, _) = bytes[block * P..].as_chunks::<P>();
            for (outs, bytes) in outs.iter_mut().zip(blocks) {
                unpack_block(bytes, [6, 4, 2, 0], outs);
            }
            4 * P * outs.len()
        } else {
            // A row that starts or ends inside a block: one run.
            let (plane, j) = (within / P, within % P);
            let len = (P - j).min(out.len());
            #[expect(clippy::cast_possible_truncation, reason = "there are four planes")]
            unpack(&bytes[block * P + j..][..len], 6 - 2 * plane as u32, &mut out[..len]);
            len
        };
        out = &mut out[taken..];
        index += taken;
    }
}

/// One block of a plane packing; `shifts` are the fields of its four runs.
#[inline(always)]
pub(super) fn unpack_block<const P: usize>(bytes: &[u8; P], shifts: [u32; 4], out: &mut [[i8; P]; 4]) {
    for (out, shift) in out.iter_mut().zip(shifts) {
        unpack(bytes, shift, out);
    }
}

/// Packs whole blocks: a quarter of `trits.len()` bytes.
pub(super) fn pack_planes<const P: usize>(trits: &[i8], shifts: [u32; 4], bytes: &mut [u8]) {
    for (trits, bytes) in trits.chunks_exact(4 * P).zip(bytes.chunks_exact_mut(P)) {
        for (trits, shift) in trits.chunks_exact(P).zip(shifts) {
            pack(trits, shift, bytes);
        }
    }
}

/// The first byte that holds the code 3, and the shift of the highest such field.
pub(super) fn first_three(bytes: &[u8]) -> Option<(usize, u32)> {
    const PIECE: usize = 4096;
    let piece = bytes.chunks(PIECE).position(any_three)?;
    let byte = piece * PIECE + bytes[piece * PIECE..].iter().position(|&byte| any_three(&[byte]))?;
    let shift = [6, 4, 2, 0].into_iter().find(|shift| (bytes[byte] >> shift) & 3 == 3)?;
    Some((byte, shift))
}

/// Whether any field of `bytes` is 3: both bits set, found for 32 fields at a time.
#[inline(always)]
pub(super) fn any_three(bytes: &[u8]) -> bool {
    const LOW_BITS: u64 = 0x5555_5555_5555_5555;
    let (words, rest) = bytes.as_chunks();
    let mut both = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        both |= word & (word >> 1);
    }
    for byte in rest {
        both |= u64::from(byte & (byte >> 1));
    }
    both & LOW_BITS != 0
}
