//! The scales of a ternary matrix.

use std::iter::repeat_n;

use crate::TensorError;
use crate::float::FloatKind;

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

impl Scales {
    /// The simplest form of `values`, one per block of `block` columns, `per_row` to the row: one for the
    /// matrix, else one per row, else one per group of as many blocks as agree everywhere.
    ///
    /// A block whose scale is 0 has no weights but 0 whatever its scale, so it agrees with any.
    pub(super) fn of_blocks(values: Vec<f32>, per_row: usize, block: usize) -> Self {
        if let Some(scale) = common(&values) {
            return Self::Tensor(scale);
        }
        let joined = |blocks: usize| values.chunks_exact(blocks).map(common).collect();
        if let Some(rows) = joined(per_row) {
            return Self::Rows(rows);
        }
        let sizes = (2..=per_row / 2).rev().filter(|&blocks| per_row.is_multiple_of(blocks));
        let group = sizes.into_iter().find_map(|blocks| Some((block * blocks, joined(blocks)?)));
        let (cols, values) = group.unwrap_or((block, values));
        Self::Groups { cols, values }
    }

    /// The scale of every block of `block` columns of a rows × cols matrix, in storage order, as `kind` holds it.
    ///
    /// The scales are known to [fit](Self::check) the matrix.
    pub(super) fn to_blocks(
        &self,
        name: &'static str,
        kind: FloatKind,
        rows: usize,
        cols: usize,
        block: usize,
    ) -> Result<Vec<f32>, TensorError> {
        let (values, weights_each) = self.runs(rows, cols);
        if !weights_each.is_multiple_of(block) {
            let rule = if block == cols {
                "there is place for one scale per row"
            } else {
                "a group is a multiple of the block"
            };
            return Err(TensorError::Scales { encoding: name, rule });
        }
        let mut blocks = Vec::with_capacity(rows * cols / block);
        for (index, &value) in values.iter().enumerate() {
            check_range(name, kind, index, value)?;
            blocks.extend(repeat_n(kind.round(value), weights_each / block));
        }
        Ok(blocks)
    }

    /// The scales, and for how many weights in storage order each of them is.
    pub(super) fn runs(&self, rows: usize, cols: usize) -> (&[f32], usize) {
        match self {
            Self::Tensor(value) => (std::slice::from_ref(value), rows * cols),
            Self::Rows(values) => (values, cols),
            Self::Groups { cols: group, values } => (values, *group),
        }
    }

    /// Whether the scales are finite and as many as a rows × cols matrix has.
    pub(super) fn check(&self, name: &'static str, rows: usize, cols: usize) -> Result<(), TensorError> {
        let refuse = |rule| Err(TensorError::Scales { encoding: name, rule });
        let values = match self {
            Self::Tensor(value) => std::slice::from_ref(value),
            Self::Rows(values) if values.len() != rows => return refuse("there is one scale per row"),
            Self::Rows(values) => values,
            Self::Groups { cols: group, .. } if *group == 0 || !cols.is_multiple_of(*group) => {
                return refuse("a group divides the columns");
            }
            Self::Groups { cols: group, values } if values.len() != rows * (cols / group) => {
                return refuse("there is one scale per group of each row");
            }
            Self::Groups { values, .. } => values,
        };
        values.iter().enumerate().try_for_each(|(index, &value)| TensorError::check_scale(index, value))
    }

    /// The one scale, or a refusal in the name of an encoding that has place for one.
    pub(super) fn single(&self, name: &'static str) -> Result<f32, TensorError> {
        match self {
            Self::Tensor(value) => Ok(*value),
            _ => Err(TensorError::Scales { encoding: name, rule: "there is place for one scale" }),
        }
    }
}

/// Collects scales that are all finite.
pub(super) fn checked(scales: impl Iterator<Item = f32>) -> Result<Vec<f32>, TensorError> {
    scales.enumerate().map(|(index, value)| TensorError::check_scale(index, value).map(|()| value)).collect()
}

/// Refuses a scale that rounding to `kind` makes infinite or zero.
pub(super) fn check_range(name: &'static str, kind: FloatKind, index: usize, value: f32) -> Result<(), TensorError> {
    let stored = kind.round(value);
    if stored.is_infinite() || (stored == 0.0 && value != 0.0) {
        let encoding = name;
        return Err(TensorError::ScaleRange { encoding, index, value });
    }
    Ok(())
}

/// The value of all that are not zero; 0 if all are.
fn common(values: &[f32]) -> Option<f32> {
    let first = values.iter().copied().find(|&value| value != 0.0).unwrap_or(0.0);
    values.iter().all(|&value| value == first || value == 0.0).then_some(first)
}
