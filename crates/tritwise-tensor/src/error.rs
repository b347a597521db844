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
}
