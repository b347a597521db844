//! Dense matrices: embeddings, heads and norms.

use std::fmt;

use crate::float::{FloatKind, not_finite};
use crate::{Bytes, TensorError, shape};

mod q6_k;
mod q8_0;

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

impl DenseEncoding {
    /// The encoding's usual name, such as `F16` or `Q6_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
        }
    }

    /// Bytes of a `rows` × `cols` matrix.
    ///
    /// # Errors
    /// The shape is empty, `cols` is not a multiple of the block length, or the size overflows.
    pub fn encoded_len(self, rows: usize, cols: usize) -> Result<usize, TensorError> {
        let encoding = self.name();
        let (block, bytes) = self.block();
        let elements = shape::elements(encoding, rows, cols)?;
        if let Some(rule) = shape::broken_block(cols, block) {
            return Err(TensorError::Shape { encoding, rows, cols, rule });
        }
        (elements / block).checked_mul(bytes).ok_or(TensorError::Shape { encoding, rows, cols, rule: shape::OVERFLOW })
    }

    /// Writes `values`, row after row, rounded to what the encoding can hold.
    ///
    /// F32 is exact, F16 and BF16 round to nearest, Q8_0 is ggml's quantiser, Q6_K searches for the
    /// scales with the least squared error.
    ///
    /// # Errors
    /// The encoding cannot hold the shape, there are more or fewer values than it has, a value is not
    /// finite or would not be in F16.
    pub fn encode(self, values: &[f32], rows: usize, cols: usize) -> Result<Vec<u8>, TensorError> {
        let len = self.encoded_len(rows, cols)?;
        shape::check_count(rows, cols, values.len())?;
        if let Some(index) = not_finite(values) {
            return Err(TensorError::not_finite(index, cols, values[index]));
        }
        let mut bytes = vec![0; len];
        let refused = match self.layout() {
            Layout::Plain(kind) => {
                kind.write(values, &mut bytes);
                // A finite value becomes infinite where the type's range is smaller.
                kind.first_not_finite(&bytes).map(|(index, _)| index)
            }
            Layout::Q8_0 => first_refused(values, &mut bytes, q8_0::encode),
            Layout::Q6K => first_refused(values, &mut bytes, q6_k::encode),
        };
        match refused {
            None => Ok(bytes),
            Some(index) => Err(TensorError::Weight {
                row: index / cols,
                what: format!("values from column {} on are too large for {self}", index % cols),
            }),
        }
    }

    /// Weights and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self.layout() {
            Layout::Plain(kind) => (1, kind.size()),
            Layout::Q8_0 => (q8_0::BLOCK, q8_0::BYTES),
            Layout::Q6K => (q6_k::BLOCK, q6_k::BYTES),
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::Plain(FloatKind::F32),
            Self::F16 => Layout::Plain(FloatKind::F16),
            Self::Bf16 => Layout::Plain(FloatKind::Bf16),
            Self::Q8_0 => Layout::Q8_0,
            Self::Q6K => Layout::Q6K,
        }
    }
}

impl fmt::Display for DenseEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Encodes block after block; returns the index of the first value of the block that `encode` refuses.
fn first_refused<const BLOCK: usize, const BYTES: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(&[f32; BLOCK], &mut [u8; BYTES]) -> bool,
) -> Option<usize> {
    let blocks = values.as_chunks().0.iter().zip(bytes.as_chunks_mut().0);
    blocks.map(|(values, bytes)| encode(values, bytes)).position(|held| !held).map(|block| block * BLOCK)
}

/// [`DenseEncoding`] with the three floats taken together.
enum Layout {
    Plain(FloatKind),
    Q8_0,
    Q6K,
}

/// A rows × cols matrix of reals, still in the bytes of its file.
///
/// ```
/// use tritwise_tensor::{DenseEncoding, DenseMatrix};
///
/// let values: Vec<f32> = (0..64).map(|i| i as f32 - 31.5).collect();
/// let bytes = DenseEncoding::Q8_0.encode(&values, 2, 32)?;
/// let matrix = DenseMatrix::new(DenseEncoding::Q8_0, 2, 32, bytes)?;
/// let mut row = [0.0; 32];
/// matrix.read_row(1, &mut row);
/// assert!(row.iter().zip(&values[32..]).all(|(a, b)| (a - b).abs() < 0.15));
/// # Ok::<(), tritwise_tensor::TensorError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct DenseMatrix<'a> {
    encoding: DenseEncoding,
    rows: usize,
    cols: usize,
    bytes: Bytes<'a>,
}

impl<'a> DenseMatrix<'a> {
    /// Takes `bytes` as `rows` × `cols` in `encoding`.
    ///
    /// # Errors
    /// The byte count does not fit, `cols` is not a multiple of the block length, or a
    /// block's scale is not finite.
    pub fn new(
        encoding: DenseEncoding,
        rows: usize,
        cols: usize,
        bytes: impl Into<Bytes<'a>>,
    ) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        shape::check_len(encoding.name(), rows, cols, encoding.encoded_len(rows, cols)?, bytes.len())?;
        match encoding.layout() {
            // Reading a gigabyte of embeddings once more at load only to look for NaN is left to those who want it.
            Layout::Plain(_) => {}
            Layout::Q8_0 => q8_0::validate(&bytes)?,
            Layout::Q6K => q6_k::validate(&bytes)?,
        }
        Ok(Self { encoding, rows, cols, bytes })
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
    pub fn bytes(&self) -> &Bytes<'a> {
        &self.bytes
    }

    /// Writes row `row` as `f32` into `out`, which has `cols` elements.
    ///
    /// The values are exactly those stored: no encoding needs more than the 24 bits of an `f32`.
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        let len = self.bytes.len() / self.rows;
        let bytes = &self.bytes[row * len..][..len];
        match self.encoding.layout() {
            Layout::Plain(kind) => kind.read(bytes, out),
            Layout::Q8_0 => q8_0::read_row(bytes, out),
            Layout::Q6K => q6_k::read_row(bytes, out),
        }
    }

    /// Refuses NaN and infinity, reading every value once.
    ///
    /// [`new`](Self::new) does not do this for F32, F16 and BF16, as embeddings are
    /// large; quantised matrices are finite from the start.
    ///
    /// # Errors
    /// Names the first value that is not finite.
    pub fn check_finite(&self) -> Result<(), TensorError> {
        let Layout::Plain(kind) = self.encoding.layout() else {
            return Ok(());
        };
        match kind.first_not_finite(&self.bytes) {
            None => Ok(()),
            Some((index, value)) => Err(TensorError::not_finite(index, self.cols, value)),
        }
    }
}

/// Shape and encoding; the bytes would fill screens.
impl fmt::Debug for DenseMatrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DenseMatrix({} {}×{}, {} bytes)", self.encoding, self.rows, self.cols, self.bytes.len())
    }
}
