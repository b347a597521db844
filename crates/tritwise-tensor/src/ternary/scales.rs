//! The scales of a ternary matrix.

use std::iter::repeat_n;

use half::f16;

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
    /// The simplest form of `values`, one per block of `block` columns, `per_row` to the row.
    ///
    /// A block whose scale is 0 has no weights but 0 whatever its scale, so it agrees with any.
    pub(super) fn of_blocks(values: Vec<f32>, per_row: usize, block: usize) -> Self {
        if let Some(scale) = common(&values) {
            return Self::Tensor(scale);
        }
        match values.chunks_exact(per_row).map(common).collect() {
            Some(rows) => Self::Rows(rows),
            None => Self::Groups { cols: block, values },
        }
    }

    /// The scale of every block of `block` columns of a rows × cols matrix, in storage order, as f16.
    ///
    /// The scales are known to [fit](Self::check) the matrix.
    pub(super) fn to_blocks(
        &self,
        name: &'static str,
        rows: usize,
        cols: usize,
        block: usize,
    ) -> Result<Vec<f16>, TensorError> {
        let (values, weights_each) = match self {
            Self::Tensor(value) => (std::slice::from_ref(value), rows * cols),
            Self::Rows(values) => (&values[..], cols),
            Self::Groups { cols: group, values } if group.is_multiple_of(block) => (&values[..], *group),
            Self::Groups { .. } => {
                let rule = "a group is a multiple of the block";
                return Err(TensorError::Scales { encoding: name, rule });
            }
        };
        let mut blocks = Vec::with_capacity(rows * cols / block);
        for (index, &value) in values.iter().enumerate() {
            check_range(name, FloatKind::F16, index, value)?;
            blocks.extend(repeat_n(f16::from_f32(value), weights_each / block));
        }
        Ok(blocks)
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
