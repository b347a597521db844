//! What can be wrong with the bytes of one tensor.

/// Why bytes could not be understood as a matrix.
///
/// The text says what was found and what was expected; the caller, who knows
/// the file and the tensor's name, puts those in front.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The byte count does not fit the shape.
    #[error("{encoding} {rows}×{cols} takes {expected} bytes, found {found}")]
    Size {
        /// The encoding's name.
        encoding: &'static str,
        /// Rows of the matrix (output features).
        rows: usize,
        /// Columns of the matrix (input features).
        cols: usize,
        /// Bytes the shape takes.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The shape cannot be stored in this encoding.
    #[error("{encoding} cannot hold {rows}×{cols}: {rule}")]
    Shape {
        /// The encoding's name.
        encoding: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// The rule that the shape breaks.
        rule: &'static str,
    },
    /// A scale is NaN or infinite.
    #[error("scale {index} is {value}, which is not a finite number")]
    Scale {
        /// Which scale, counted in storage order.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A weight is a code or value that the encoding never writes.
    #[error("row {row}: {what}")]
    Weight {
        /// The row it stands in.
        row: usize,
        /// What was found there.
        what: String,
    },
    /// The encoding keeps its scale elsewhere, and the caller gave none.
    #[error("{encoding} does not contain its scale, and none was given")]
    MissingScale {
        /// The encoding's name.
        encoding: &'static str,
    },
    /// The encoding contains its scale, and the caller gave one all the same.
    #[error("{encoding} contains its scale, and another one was given")]
    SurplusScale {
        /// The encoding's name.
        encoding: &'static str,
    },
    /// The scales cannot be stored in this encoding.
    #[error("{encoding} cannot hold these scales: {rule}")]
    Scales {
        /// The encoding's name.
        encoding: &'static str,
        /// The rule that the scales break.
        rule: &'static str,
    },
    /// A scale becomes infinite or zero in the float type that the encoding stores.
    #[error("{encoding} cannot hold scale {index}: {value} is beyond the range of its float type")]
    ScaleRange {
        /// The encoding's name.
        encoding: &'static str,
        /// Which scale, counted in storage order.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The encoding is one that is only read.
    #[error("{encoding} tables are read, not written; F32, F16, BF16, Q8_0, Q6_K, Q4_K and Q4_0 are written")]
    ReadOnly {
        /// The encoding's name.
        encoding: &'static str,
    },
    /// There are more or fewer values to write than the shape has.
    #[error("{rows}×{cols} has {expected} values, found {found}", expected = .rows.saturating_mul(*.cols))]
    Count {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Values there are.
        found: usize,
    },
}

impl TensorError {
    /// The refusal of a two-bit code that no encoder writes.
    pub(crate) fn code_three(row: usize) -> Self {
        Self::Weight { row, what: "a weight has code 3, which stands for no trit; is the file damaged?".into() }
    }

    /// Refuses a scale that is NaN or infinite.
    pub(crate) fn check_scale(index: usize, value: f32) -> Result<(), Self> {
        if value.is_finite() { Ok(()) } else { Err(Self::Scale { index, value }) }
    }

    /// The refusal of element `index` of a matrix of `cols` columns, which is NaN or infinite.
    pub(crate) fn not_finite(index: usize, cols: usize, value: f32) -> Self {
        Self::Weight {
            row: index / cols,
            what: format!("column {} is {value}, which is not a finite number", index % cols),
        }
    }
}
