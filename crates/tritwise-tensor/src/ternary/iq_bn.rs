//! IQ1_BN, IQ2_BN and IQ2_BN_R4 of ik_llama.cpp, whose rows begin with their scale.
//!
//! ```text
//! IQ1_BN      f16 scale │ 13 bytes for every 64 columns │ …
//! IQ2_BN      f32 scale │ 16 bytes for every 64 columns │ …
//! IQ2_BN_R4   four rows: 4 × f32 scales │ 64 bytes for every 64 columns │ …
//!
//! IQ1_BN      byte 3q + k, k < 3     weights 16q + 5k .. 16q + 5k + 5      five digits, q < 4
//!             byte 12                weights 15, 31, 47, 63                four digits
//!
//! IQ2_BN      byte j < 16            bits 7..6     5..4     3..2   1..0
//!                                       j + 48   j + 32   j + 16      j
//!
//! IQ2_BN_R4   byte 16l + 4k + i      bits 7..6     5..4     3..2   1..0
//!             l, k, i < 4               w + 12    w + 8    w + 4      w     of row k, w = 16l + i
//! ```
//!
//! IQ1_BN's bytes are fractions of 256 as in TQ1_0, but with the first weight in the least
//! significant digit; byte 12 has a most significant digit of 0. Two-bit codes are a trit plus one.
//!
//! Source: `quantize_row_iq1_bn_ref`, `quantize_row_iq2_bn_ref`, `quantize_iq2_bn_r4` and the
//! corresponding `dequantize` functions in ik_llama.cpp, `ggml/src/iqk/iqk_quantize.cpp`.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use half::f16;

use super::{Scales, tq1_0, two_bit};
use crate::TensorError;
use crate::float::FloatKind;

/// Columns of a block.
pub(super) const BLOCK: usize = 64;

/// Which of the three.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Bn {
    One,
    Two,
    TwoR4,
}

impl Bn {
    /// Bytes of `BLOCK` columns of a row.
    fn block_bytes(self) -> usize {
        match self {
            Self::One => 13,
            Self::Two | Self::TwoR4 => 16,
        }
    }

    /// The type of the rows' scales.
    pub(super) fn scale_kind(self) -> FloatKind {
        match self {
            Self::One => FloatKind::F16,
            Self::Two | Self::TwoR4 => FloatKind::F32,
        }
    }

    /// Rows that lie together.
    fn rows(self) -> usize {
        match self {
            Self::One | Self::Two => 1,
            Self::TwoR4 => 4,
        }
    }

    /// Bytes of that many rows before their first block.
    fn header(self) -> usize {
        self.rows() * self.scale_kind().size()
    }

    /// Bytes of that many rows.
    fn bundle(self, cols: usize) -> usize {
        self.header() + self.rows() * (cols / BLOCK) * self.block_bytes()
    }

    pub(super) fn broken_rule(self, rows: usize) -> Option<&'static str> {
        (!rows.is_multiple_of(self.rows())).then_some("the number of rows is a multiple of 4")
    }

    pub(super) fn len(self, rows: usize, cols: usize) -> Option<usize> {
        (rows / self.rows()).checked_mul(self.bundle(cols))
    }

    /// Checks every code and returns the rows' scales. `bytes` has the right length.
    pub(super) fn validate(self, cols: usize, bytes: &[u8]) -> Result<Scales, TensorError> {
        let mut scales = Vec::with_capacity(bytes.len() / self.bundle(cols) * self.rows());
        for (bundle, bytes) in bytes.chunks_exact(self.bundle(cols)).enumerate() {
            let (header, codes) = bytes.split_at(self.header());
            if self != Self::One
                && let Some((byte, _)) = two_bit::first_three(codes)
            {
                let row = if self == Self::TwoR4 { byte % 16 / 4 } else { 0 };
                return Err(TensorError::code_three(bundle * self.rows() + row));
            }
            for row in 0..self.rows() {
                let scale = self.scale(header, row);
                TensorError::check_scale(scales.len(), scale)?;
                scales.push(scale);
            }
        }
        Ok(Scales::of_blocks(scales, 1, cols))
    }

    pub(super) fn read_row(self, bytes: &[u8], row: usize, out: &mut [i8]) {
        let bytes = &bytes[row / self.rows() * self.bundle(out.len())..][..self.bundle(out.len())];
        let (header, codes) = bytes.split_at(self.header());
        let row = row % self.rows();
        if self.scale(header, row) == 0.0 {
            out.fill(0);
            return;
        }
        let blocks = codes.chunks_exact(self.rows() * self.block_bytes());
        for (codes, out) in blocks.zip(out.as_chunks_mut::<BLOCK>().0) {
            match self {
                Self::One => unpack_one(codes, out),
                Self::Two => {
                    for (shift, out) in [0, 2, 4, 6].into_iter().zip(out.chunks_exact_mut(16)) {
                        two_bit::unpack(codes, shift, out);
                    }
                }
                Self::TwoR4 => {
                    for (codes, out) in codes.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
                        for (shift, out) in [0, 2, 4, 6].into_iter().zip(out.chunks_exact_mut(4)) {
                            two_bit::unpack(&codes[4 * row..][..4], shift, out);
                        }
                    }
                }
            }
        }
    }

    /// `scales` has one value per row.
    pub(super) fn encode(self, trits: &[i8], cols: usize, scales: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; scales.len() / self.rows() * self.bundle(cols)];
        let bundles = bytes.chunks_exact_mut(self.bundle(cols));
        for ((bytes, scales), trits) in
            bundles.zip(scales.chunks_exact(self.rows())).zip(trits.chunks_exact(self.rows() * cols))
        {
            let (header, codes) = bytes.split_at_mut(self.header());
            self.scale_kind().write(scales, header);
            for (row, trits) in trits.chunks_exact(cols).enumerate() {
                let blocks = codes.chunks_exact_mut(self.rows() * self.block_bytes());
                for (codes, trits) in blocks.zip(trits.as_chunks::<BLOCK>().0) {
                    match self {
                        Self::One => pack_one(trits, codes),
                        Self::Two => two_bit::pack_planes::<16>(trits, [0, 2, 4, 6], codes),
                        Self::TwoR4 => {
                            for (codes, trits) in codes.chunks_exact_mut(16).zip(trits.chunks_exact(16)) {
                                two_bit::pack_planes::<4>(trits, [0, 2, 4, 6], &mut codes[4 * row..][..4]);
                            }
                        }
                    }
                }
            }
        }
        bytes
    }

    fn scale(self, header: &[u8], row: usize) -> f32 {
        match self {
            Self::One => f16::from_le_bytes([header[0], header[1]]).to_f32(),
            Self::Two | Self::TwoR4 => f32::from_le_bytes(header.as_chunks().0[row]),
        }
    }
}

fn unpack_one(codes: &[u8], out: &mut [i8; BLOCK]) {
    for (quarter, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (byte, out) in codes[3 * quarter..][..3].iter().zip(out.as_chunks_mut::<5>().0) {
            *out = DIGITS[usize::from(*byte)];
        }
        out[15] = DIGITS[usize::from(codes[12])][quarter];
    }
}

fn pack_one(trits: &[i8; BLOCK], codes: &mut [u8]) {
    let number = |trits: &[i8]| trits.iter().rev().fold(0, |v, trit| v * 3 + u32::from((trit + 1).cast_unsigned()));
    for (quarter, trits) in trits.as_chunks::<16>().0.iter().enumerate() {
        for (byte, trits) in codes[3 * quarter..][..3].iter_mut().zip(trits.as_chunks::<5>().0) {
            *byte = tq1_0::fraction(number(trits));
        }
    }
    codes[12] = tq1_0::fraction(number(&[trits[15], trits[31], trits[47], trits[63]]));
}

/// The trits of each byte, those of the least significant digit first.
#[expect(clippy::cast_possible_truncation, reason = "a digit is below 3")]
static DIGITS: [[i8; 5]; 256] = {
    let mut digits = [[0; 5]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut fraction, mut n) = (byte, 5);
        while n > 0 {
            n -= 1;
            digits[byte][n] = ((3 * fraction) >> 8) as i8 - 1;
            fraction = (3 * fraction) & 255;
        }
        byte += 1;
    }
    digits
};
