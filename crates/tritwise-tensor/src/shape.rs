//! Checked arithmetic on shapes, for every encoding.

use crate::TensorError;

pub(crate) const OVERFLOW: &str = "the size overflows";

/// Elements of a matrix, of which there is at least one.
pub(crate) fn elements(encoding: &'static str, rows: usize, cols: usize) -> Result<usize, TensorError> {
    let refuse = |rule| TensorError::Shape { encoding, rows, cols, rule };
    match rows.checked_mul(cols) {
        Some(0) => Err(refuse("a matrix has at least one row and one column")),
        Some(elements) => Ok(elements),
        None => Err(refuse(OVERFLOW)),
    }
}

/// The rule that blocks do not straddle rows, if this shape breaks it.
pub(crate) fn broken_block(cols: usize, block: usize) -> Option<&'static str> {
    match block {
        _ if cols.is_multiple_of(block) => None,
        32 => Some("the number of columns is a multiple of 32"),
        64 => Some("the number of columns is a multiple of 64"),
        128 => Some("the number of columns is a multiple of 128"),
        _ => Some("the number of columns is a multiple of 256"),
    }
}

/// Refuses a byte count that is not the shape's.
pub(crate) fn check_len(
    encoding: &'static str,
    rows: usize,
    cols: usize,
    expected: usize,
    found: usize,
) -> Result<(), TensorError> {
    if found == expected { Ok(()) } else { Err(TensorError::Size { encoding, rows, cols, expected, found }) }
}

/// Refuses a number of values that is not the shape's. The shape is known not to overflow.
pub(crate) fn check_count(rows: usize, cols: usize, found: usize) -> Result<(), TensorError> {
    if found == rows * cols { Ok(()) } else { Err(TensorError::Count { rows, cols, found }) }
}
