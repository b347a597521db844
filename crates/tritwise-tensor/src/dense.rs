//! Dense matrices: embeddings, heads and norms.

use std::fmt;

use half::f16;

use crate::blocks::Blocks;
use crate::float::{FloatKind, not_finite};
use crate::ternary::{Group, tq1_0, tq2_0};
use crate::{Bytes, TensorError, shape};

mod q4_0;
mod q4_k;
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
    /// Blocks of 32 four-bit weights with one F16 scale (18 bytes).
    Q4_0,
    /// Super-blocks of 256 four-bit weights with scales and offsets (144 bytes).
    Q4K,
    /// Blocks of 32 four-bit indices into sixteen values, with one F16 scale (18 bytes). Only read.
    Iq4Nl,
    /// Groups of sign bits with one F16 scale. Only read.
    Q1_0(Group),
    /// Groups of two-bit weights, -d, 0, d and 2d, with one F16 scale. Only read.
    Q2_0(Group),
    /// Blocks of 256 trits with one F16 scale (54 bytes). Only read.
    Tq1_0,
    /// Blocks of 256 two-bit weights, -d, 0, d and 2d, with one F16 scale (66 bytes). Only read.
    Tq2_0,
    /// Blocks of 128 trits with one F16 scale (28 bytes). Only read.
    Ptq1_0,
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
            Self::Q4_0 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Q1_0(group) => group.q1_0_name(),
            Self::Q2_0(group) => group.q2_0_name(),
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Ptq1_0 => "PTQ1_0",
        }
    }

    /// Weights of a block, of which a row has a whole number, and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self.layout() {
            Layout::Plain(kind) => (1, kind.size()),
            Layout::Blocks(blocks) => (blocks.weights, blocks.bytes),
            Layout::Q6K => (q6_k::BLOCK, q6_k::BYTES),
            Layout::Q4K => (q4_k::BLOCK, q4_k::BYTES),
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
    /// F32 is exact, F16 and BF16 round to nearest, Q8_0 and Q4_0 are ggml's quantisers, Q6_K and Q4_K
    /// search for the scales with the least squared error.
    ///
    /// # Errors
    /// The encoding is one that is only read or cannot hold the shape, there are more or fewer values than
    /// it has, a value is not finite or would not be in F16.
    pub fn encode(self, values: &[f32], rows: usize, cols: usize) -> Result<Vec<u8>, TensorError> {
        let len = self.encoded_len(rows, cols)?;
        shape::check_count(rows, cols, values.len())?;
        if let Some((index, value)) = not_finite(values) {
            return Err(TensorError::not_finite(index, cols, value));
        }
        let mut bytes = vec![0; len];
        let refused = match self.layout() {
            Layout::Plain(kind) => {
                kind.write(values, &mut bytes);
                // A finite value becomes infinite where the type's range is smaller.
                kind.first_not_finite(&bytes).map(|(index, _)| index)
            }
            Layout::Q6K => first_refused(values, &mut bytes, q6_k::encode),
            Layout::Q4K => first_refused(values, &mut bytes, q4_k::encode),
            Layout::Blocks(_) => match self {
                Self::Q8_0 => first_refused(values, &mut bytes, q8_0::encode),
                Self::Q4_0 => first_refused(values, &mut bytes, q4_0::encode),
                _ => return Err(TensorError::ReadOnly { encoding: self.name() }),
            },
        };
        match refused {
            None => Ok(bytes),
            Some(index) => Err(TensorError::Weight {
                row: index / cols,
                what: format!("values from column {} on are too large for {self}", index % cols),
            }),
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::Plain(FloatKind::F32),
            Self::F16 => Layout::Plain(FloatKind::F16),
            Self::Bf16 => Layout::Plain(FloatKind::Bf16),
            Self::Q6K => Layout::Q6K,
            Self::Q4K => Layout::Q4K,
            Self::Q8_0 => Layout::Blocks(q8_0::Q8_0),
            Self::Q4_0 => Layout::Blocks(q4_0::Q4_0),
            Self::Iq4Nl => Layout::Blocks(q4_0::IQ4_NL),
            Self::Q1_0(group) => Layout::Blocks(group.q1_0()),
            Self::Q2_0(group) => Layout::Blocks(group.q2_0()),
            Self::Tq1_0 => Layout::Blocks(tq1_0::TQ1_0),
            Self::Tq2_0 => Layout::Blocks(tq2_0::TQ2_0),
            Self::Ptq1_0 => Layout::Blocks(tq1_0::PTQ1_0),
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

/// The smallest f16 that is not below `d`.
///
/// To the nearest would do but for small weights, where `d` is subnormal with few bits: rounded down,
/// 127 times it may be far less than the scale of the largest sub-block.
fn round_up(d: f32) -> f16 {
    let nearest = f16::from_f32(d);
    if nearest.to_f32() < d { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

/// [`DenseEncoding`] with those of one make taken together.
enum Layout {
    Plain(FloatKind),
    /// A weight is its block's scale times its code.
    Blocks(Blocks),
    Q6K,
    Q4K,
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
            Layout::Blocks(blocks) => {
                blocks.scales(&bytes).enumerate().try_for_each(|(i, scale)| TensorError::check_scale(i, scale))?;
            }
            Layout::Q6K => q6_k::validate(&bytes)?,
            Layout::Q4K => q4_k::validate(&bytes)?,
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
    /// The values are exactly those stored, as they need no more than the 24 bits of an `f32`; only those of Q4_K, a
    /// product less an offset, are rounded once.
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length.
    #[expect(clippy::indexing_slicing, reason = "the length was compared with the shape, and `row` with the rows")]
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        let len = self.bytes.len() / self.rows;
        let bytes = &self.bytes[row * len..][..len];
        match self.encoding.layout() {
            Layout::Plain(kind) => kind.read(bytes, out),
            Layout::Blocks(blocks) => blocks.read_weights(bytes, out),
            Layout::Q6K => q6_k::read_row(bytes, out),
            Layout::Q4K => q4_k::read_row(bytes, out),
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
