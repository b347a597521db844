//! Q1_0 and Q2_0, the one- and two-bit encodings of 2026, with a scale per group of weights.
//!
//! ```text
//! bytes 0..2   the scale d, f16 little-endian
//! after it     codes, the first weight in the lowest bits
//!
//! Q1_0   byte j:   bits 7       …       1        0        1 → +d, 0 → -d
//!                  weights 8j + 7   …   8j + 1   8j
//! Q2_0   byte j:   bits 7..6      5..4     3..2   1..0    weight d · (code - 1)
//!                  weights 4j + 3   4j + 2   4j + 1   4j
//! ```
//!
//! ggml has groups of 128 for Q1_0 and of 64 for Q2_0. PrismML's first files had groups of 32 and of
//! 128 under the same names, and numbers with other meanings; it now calls Q2_0 in groups of 128 PQ2_0.
//!
//! The code 3 of Q2_0, which is +2d, is no trit. In a table of reals it is a value like any other.
//!
//! Sources: `block_q1_0`, `block_q2_0` and their functions in ggml; `block_pq2_0` in PrismML's fork of
//! llama.cpp.

use super::two_bit;
use crate::blocks::Blocks;

/// Weights that share a scale in Q1_0 and Q2_0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// 32 weights.
    Of32,
    /// 64 weights.
    Of64,
    /// 128 weights.
    Of128,
}

impl Group {
    /// How many weights.
    pub fn weights(self) -> usize {
        match self {
            Self::Of32 => 32,
            Self::Of64 => 64,
            Self::Of128 => 128,
        }
    }

    pub(crate) fn q1_0(self) -> Blocks {
        Blocks { weights: self.weights(), bytes: 2 + self.weights() / 8, scale: 0, unpack: unpack_q1_0 }
    }

    pub(crate) fn q1_0_name(self) -> &'static str {
        match self {
            Self::Of32 => "Q1_0 in groups of 32",
            Self::Of64 => "Q1_0 in groups of 64",
            Self::Of128 => "Q1_0",
        }
    }

    pub(crate) fn q2_0(self) -> Blocks {
        Blocks { weights: self.weights(), bytes: 2 + self.weights() / 4, scale: 0, unpack: unpack_q2_0 }
    }

    pub(crate) fn q2_0_name(self) -> &'static str {
        match self {
            Self::Of32 => "Q2_0 in groups of 32",
            Self::Of64 => "Q2_0",
            Self::Of128 => "PQ2_0",
        }
    }
}

fn unpack_q1_0(codes: &[u8], out: &mut [i8]) {
    for (out, byte) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
        for (bit, out) in out.iter_mut().enumerate() {
            *out = (byte >> bit & 1).cast_signed() * 2 - 1;
        }
    }
}

/// A trit of 0, which has no code, becomes -1.
pub(super) fn pack_q1_0(trits: &[i8], codes: &mut [u8]) {
    for (trits, byte) in trits.as_chunks::<8>().0.iter().zip(codes) {
        *byte = trits.iter().rev().fold(0, |byte, trit| byte << 1 | u8::from(*trit == 1));
    }
}

fn unpack_q2_0(codes: &[u8], out: &mut [i8]) {
    for (out, byte) in out.as_chunks_mut::<4>().0.iter_mut().zip(codes) {
        for (field, out) in out.iter_mut().enumerate() {
            *out = (byte >> (2 * field) & 3).cast_signed() - 1;
        }
    }
}

pub(super) fn pack_q2_0(trits: &[i8], codes: &mut [u8]) {
    two_bit::pack_planes::<1>(trits, [0, 2, 4, 6], codes);
}
