//! The three float types of files, read and written in pieces of a few kilobytes.
//!
//! Everything goes through `f32`, which holds all three exactly. Bytes are little-endian and need
//! no alignment: a window of a memory-mapped file starts where the file says.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// The float type of weights in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatKind {
    /// IEEE 754 binary32, little-endian.
    F32,
    /// IEEE 754 binary16, little-endian.
    F16,
    /// The upper half of binary32, little-endian.
    Bf16,
}

/// Values converted at a time; the buffer lives on the stack and in the first-level cache.
const PIECE: usize = 512;

impl FloatKind {
    /// The type's usual name: `F32`, `F16` or `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Bytes per value.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Reads `out.len()` values from as many times [`size`](Self::size) bytes.
    pub(crate) fn read(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * self.size());
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            Self::F16 => {
                // The slice conversion uses the CPU's instruction where there is one; value by value it does not.
                let mut bits = [0; PIECE];
                #[expect(clippy::indexing_slicing, reason = "chunks are of PIECE at most")]
                for (out, bytes) in out.chunks_mut(PIECE).zip(bytes.chunks(2 * PIECE)) {
                    let bits = &mut bits[..out.len()];
                    for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks().0) {
                        *bits = u16::from_le_bytes(*bytes);
                    }
                    bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
                }
            }
        }
    }

    /// Writes `values`, rounded to the nearest value of the type (ties to even), to as many times
    /// [`size`](Self::size) bytes.
    pub(crate) fn write(self, values: &[f32], bytes: &mut [u8]) {
        assert_eq!(bytes.len(), values.len() * self.size());
        match self {
            Self::F32 => {
                for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = value.to_le_bytes();
                }
            }
            Self::F16 => {
                for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = f16::from_f32(*value).to_le_bytes();
                }
            }
            Self::Bf16 => {
                for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = bf16::from_f32(*value).to_le_bytes();
                }
            }
        }
    }

    /// `value` as the type can hold it.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Calls `visit` with the index of the first value of a piece and the piece, in order, until
    /// it returns something.
    #[expect(clippy::indexing_slicing, reason = "chunks are of PIECE at most")]
    pub(crate) fn search<T>(self, bytes: &[u8], mut visit: impl FnMut(usize, &[f32]) -> Option<T>) -> Option<T> {
        let mut values = [0.0; PIECE];
        bytes.chunks(PIECE * self.size()).enumerate().find_map(|(i, bytes)| {
            let values = &mut values[..bytes.len() / self.size()];
            self.read(bytes, values);
            visit(i * PIECE, values)
        })
    }

    /// The first value that is NaN or infinite, with its index.
    pub(crate) fn first_not_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        self.search(bytes, |start, values| not_finite(values).map(|(i, value)| (start + i, value)))
    }
}

/// The first value that is NaN or infinite, with its index.
pub(crate) fn not_finite(values: &[f32]) -> Option<(usize, f32)> {
    // Without the early exit the common case, nothing found, is a plain vector loop.
    let any = values.iter().fold(false, |any, v| any | !v.is_finite());
    if any { values.iter().copied().enumerate().find(|(_, v)| !v.is_finite()) } else { None }
}
