//! The one-bit part of an instruction set: how many ones there are where two rows of bits meet.
//!
//! With a bit for each column, and zeros in the padding of both rows, products of rows whose
//! elements have two or three values are counts of ones ([`crate::binary`]):
//!
//! ```text
//! ±1 weights w,   ±1 activations x      Σ w·x  =  columns − 2·ones(w XOR x)
//! ±1 weights w,   0/1 activations x     Σ w·x  =  2·ones(w AND x) − ones(x)
//! −1, 0, +1 as two planes, P and M      Σ t·x  =  ones(P AND x) − ones(M AND x)
//! ```
//!
//! So an instruction set needs to count for two operations, and to add a multiple of what it
//! counted to what is already there.

use super::Line;
use super::sealed::Sealed;

/// Columns of a [`Line`] of bits.
pub const BIT_COLS: usize = 512;

/// Rows of bits, each padded to whole lines.
///
/// ```text
/// row 0    line 0: columns 0 .. 512 │ line 1: columns 512 .. 1024 │ …
/// row 1    line 0 │ …
///
/// line, byte b       bit 7 … bit 0:  column 8b + 7 … column 8b
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BitRows<'a> {
    lines: &'a [Line],
    lines_per_row: usize,
}

impl<'a> BitRows<'a> {
    /// `lines` as rows of `lines_per_row` lines.
    ///
    /// # Panics
    /// `lines_per_row` is zero or does not divide the number of lines.
    pub fn new(lines: &'a [Line], lines_per_row: usize) -> Self {
        assert!(lines_per_row > 0 && lines.len().is_multiple_of(lines_per_row), "whole rows");
        Self { lines, lines_per_row }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.lines.len() / self.lines_per_row
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines of row `row`.
    ///
    /// # Panics
    /// There is no such row.
    #[inline]
    pub fn row(&self, row: usize) -> &'a [Line] {
        &self.lines[row * self.lines_per_row..][..self.lines_per_row]
    }

    /// The rows, one after the other.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, Line> {
        self.lines.chunks_exact(self.lines_per_row)
    }
}

/// What is done to two rows of bits before ones are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitOp {
    /// A one where the rows differ.
    Xor,
    /// A one where both have one.
    And,
}

/// Counts of ones, exact and so the same everywhere.
pub trait BinaryOps: Sealed {
    /// `out[t * weights.len() + r] += factor · ones(weights[r] op x[t])`, modulo 2³², for every
    /// row `r` of weights and `t` of `x`, padding included.
    ///
    /// Rows of weights are read once for all of `x`.
    ///
    /// # Panics
    /// Rows of `weights` and `x` differ in length, or `out.len() != x.len() * weights.len()`.
    fn add_ones(&self, op: BitOp, factor: i32, weights: BitRows<'_>, x: BitRows<'_>, out: &mut [i32]);
}

/// What [`BinaryOps::add_ones`] demands of its operands.
pub(in crate::arch) fn check_rows(weights: BitRows<'_>, x: BitRows<'_>, out: &[i32]) {
    assert_eq!(weights.lines_per_row, x.lines_per_row, "rows of one length");
    assert_eq!(out.len(), x.len() * weights.len(), "one count per pair of rows");
}
