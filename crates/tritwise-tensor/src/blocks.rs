//! Blocks of codes with one F16 scale each, the form of most of ggml's encodings.
//!
//! ```text
//! d, f16 │ codes        or        codes │ d, f16             weight = d · code
//! ```
//!
//! A code is an integer of at most eight bits, so that the product, of at most 11 + 8 bits, is exact
//! in f32. How the codes lie is all that an encoding has to say for itself. The same bytes serve as a
//! table of reals and, where the codes are trits, as a ternary matrix.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use half::f16;

/// How an encoding's blocks are made.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    /// Weights in a block.
    pub(crate) weights: usize,
    /// Bytes of a block.
    pub(crate) bytes: usize,
    /// First byte of the scale: 0, or two less than `bytes`.
    pub(crate) scale: usize,
    /// Writes the codes of a block, given all of its bytes but the scale.
    pub(crate) unpack: fn(&[u8], &mut [i8]),
}

impl Blocks {
    /// The scales of whole blocks.
    pub(crate) fn scales(&self, bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.chunks_exact(self.bytes).map(|block| self.split(block).0)
    }

    /// The codes of the blocks in `bytes`; zeros where the scale is zero.
    pub(crate) fn read_codes(&self, bytes: &[u8], out: &mut [i8]) {
        for (block, out) in bytes.chunks_exact(self.bytes).zip(out.chunks_exact_mut(self.weights)) {
            let (scale, codes) = self.split(block);
            if scale == 0.0 { out.fill(0) } else { (self.unpack)(codes, out) }
        }
    }

    /// The weights of the blocks in `bytes`.
    pub(crate) fn read_weights(&self, bytes: &[u8], out: &mut [f32]) {
        /// As many as the largest block has.
        const MOST: usize = 256;
        let mut codes = [0; MOST];
        let codes = &mut codes[..self.weights];
        for (block, out) in bytes.chunks_exact(self.bytes).zip(out.chunks_exact_mut(self.weights)) {
            let (scale, packed) = self.split(block);
            (self.unpack)(packed, codes);
            for (out, code) in out.iter_mut().zip(&*codes) {
                *out = scale * f32::from(*code);
            }
        }
    }

    /// Writes the scale of a block, and returns the place of its codes.
    pub(crate) fn start<'a>(&self, block: &'a mut [u8], scale: f16) -> &'a mut [u8] {
        block[self.scale..][..2].copy_from_slice(&scale.to_le_bytes());
        let start = if self.scale == 0 { 2 } else { 0 };
        &mut block[start..][..self.bytes - 2]
    }

    /// The scale and the codes of a block.
    pub(crate) fn split<'a>(&self, block: &'a [u8]) -> (f32, &'a [u8]) {
        let (scale, codes) = match self.scale {
            0 => block.split_at(2),
            _ => (&block[self.scale..], &block[..self.scale]),
        };
        (f16::from_le_bytes([scale[0], scale[1]]).to_f32(), codes)
    }
}
