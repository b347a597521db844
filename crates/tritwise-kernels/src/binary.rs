//! Binary activations: products of one-bit and ternary weights with one-bit activations.
//!
//! Where an activation has two values, a product with it is no multiplication at all: 512 columns
//! of a row meet their activations in one bitwise operation, and counting ones sums them up. The first
//! BitNet (arXiv 2310.11453) has weights `Sign(W − mean(W))`; XNOR-Net (arXiv 1603.05279) has signs
//! on both sides. No checkpoint with binary activations has been published, so no loader leads here and
//! no [`Backend`](crate::Backend) calls this: it is for a program that brings such weights itself.
//!
//! With `N` columns, and bits that say "is +1" ([`BitRows`] draws how they lie), the sums are
//!
//! ```text
//!                           activations ±1                                  activations 0, 1
//! weights ±1                N − 2·ones(w XOR x)                             2·ones(w AND x) − ones(x)
//! weights −1, 0, +1         2·(ones(P AND x) − ones(M AND x)) − Σ weights   ones(P AND x) − ones(M AND x)
//! as two planes P and M
//! ```
//!
//! They are exact, on every instruction set. What they are multiplied by is left to the caller:
//! `mean|W|` for the weights, and `mean|x|` for the signs of `x`, in the papers.
//!
//! ```
//! use tritwise_kernels::arch::available;
//! use tritwise_kernels::binary::{Binarize, BinaryMatrix, BinaryRows};
//! use tritwise_kernels::cpu::Rows;
//!
//! // A layer of 2 × 4 weights, as BitNet binarises them.
//! let weights = [0.5, -0.2, 0.1, -0.4, -0.3, 0.2, 0.6, -0.1f32];
//! let mean = weights.iter().sum::<f32>() / 8.0;
//! let magnitude = weights.iter().map(|w| w.abs()).sum::<f32>() / 8.0;
//! let matrix = BinaryMatrix::from_rows(2, 4, |row, signs| {
//!     for (sign, w) in signs.iter_mut().zip(&weights[4 * row..]) {
//!         *sign = if w - mean > 0.0 { 1 } else { -1 };
//!     }
//! })?;
//!
//! let mut x = Rows::new(4);
//! x.set_tokens(1);
//! x.row_mut(0).copy_from_slice(&[1.5, 0.5, -2.0, 0.0]);
//! let mut signs = BinaryRows::new(4, Binarize::Sign);
//! signs.set(&x);
//!
//! let mut sums = [0; 2];
//! matrix.multiply(available()[0], &signs, &mut sums);
//! assert_eq!(sums, [1 - 1 - 1 + 1, -1 + 1 - 1 + 1]);
//! let y = sums.map(|sum| sum as f32 * magnitude * x.row(0).iter().map(|x| x.abs()).sum::<f32>() / 4.0);
//! # assert_eq!(y, [0.0; 2]);
//! # Ok::<(), tritwise_kernels::PackError>(())
//! ```

use crate::PackError;
use crate::arch::{BIT_COLS, BitOp, BitRows, Isa, Line};
use crate::cpu::Rows;
use crate::memory::Buffer;

/// What becomes of an activation.
///
/// Both are one bit, `x > 0`. Zero and NaN are not: BitNet (equation 2) maps zero to −1 (XNOR-Net to +1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binarize {
    /// +1 where `x > 0`, else −1.
    Sign,
    /// 1 where `x > 0`, else 0.
    Step,
}

/// Binary activations, one row per token.
///
/// Room once made is kept, as in [`Rows`].
#[derive(Debug, Clone)]
pub struct BinaryRows {
    binarize: Binarize,
    tokens: usize,
    bits: Bits,
    /// Ones of each row.
    ones: Vec<i32>,
}

impl BinaryRows {
    /// No rows yet, of `width` features each.
    ///
    /// # Panics
    /// `width` is more than `i32::MAX`.
    pub fn new(width: usize, binarize: Binarize) -> Self {
        Self { binarize, tokens: 0, bits: Bits::zeroed(0, width), ones: Vec::new() }
    }

    /// Features per row.
    pub fn width(&self) -> usize {
        self.bits.cols
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes it the rows of `x`, binarised.
    ///
    /// # Panics
    /// `x` has another width.
    pub fn set(&mut self, x: &Rows) {
        assert_eq!(x.width(), self.width(), "rows of one width");
        self.tokens = x.tokens();
        if self.ones.len() < self.tokens {
            self.bits = Bits::zeroed(self.tokens, self.width());
            self.ones.resize(self.tokens, 0);
        }
        for (token, ones) in self.ones[..self.tokens].iter_mut().enumerate() {
            *ones = self.bits.set_row(token, x.row(token), |x| x > 0.0);
        }
    }

    fn bit_rows(&self) -> BitRows<'_> {
        self.bits.rows(self.tokens)
    }
}

/// A matrix of weights −1 and +1, a bit each.
#[derive(Debug, Clone)]
pub struct BinaryMatrix {
    rows: usize,
    /// +1 where there is a one.
    plus: Bits,
}

impl BinaryMatrix {
    /// Packs `rows` rows of `cols` weights, which `read_row` writes: row by row, −1 or 1 each.
    ///
    /// # Errors
    /// A weight is neither.
    ///
    /// # Panics
    /// `cols` is more than `i32::MAX`.
    pub fn from_rows(rows: usize, cols: usize, read_row: impl FnMut(usize, &mut [i8])) -> Result<Self, PackError> {
        let mut plus = Bits::zeroed(rows, cols);
        for_each_row(rows, cols, read_row, |row, weights| {
            if let Some(col) = weights.iter().position(|w| w.abs_diff(0) != 1) {
                return Err(PackError(format!(
                    "row {row} has the weight {} in column {col}, and a binary matrix has only -1 and 1; ternary planes \
                     hold 0 too",
                    weights[col]
                )));
            }
            plus.set_row(row, weights, |w| w > 0);
            Ok(())
        })?;
        Ok(Self { rows, plus })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.plus.cols
    }

    /// Bytes that a product with this matrix reads.
    pub fn bytes(&self) -> usize {
        self.plus.bytes()
    }

    /// `out[t * rows + r] = Σ_c weight[r][c] · x[t][c]`, exactly, on this thread.
    ///
    /// One row of `x` makes a matrix-vector product. Of several, each meets a row of weights while it is in
    /// the nearest cache.
    ///
    /// # Panics
    /// `x` is not of this matrix's columns, or `out.len() != x.tokens() * rows`.
    pub fn multiply(&self, isa: &dyn Isa, x: &BinaryRows, out: &mut [i32]) {
        check(self.rows, self.cols(), x, out);
        let (op, factor) = match x.binarize {
            Binarize::Sign => (BitOp::Xor, -2),
            Binarize::Step => (BitOp::And, 2),
        };
        for (token, ones) in x.ones[..x.tokens].iter().enumerate() {
            out[token * self.rows..][..self.rows].fill(match x.binarize {
                Binarize::Sign => self.cols() as i32,
                Binarize::Step => -ones,
            });
        }
        isa.add_ones(op, factor, self.plus.rows(self.rows), x.bit_rows(), out);
    }
}

/// A matrix of weights −1, 0 and +1 as two planes of bits.
#[derive(Debug, Clone)]
pub struct TernaryPlanes {
    /// Of each row.
    sums: Vec<i32>,
    /// +1 where there is a one.
    plus: Bits,
    /// −1 where there is a one.
    minus: Bits,
}

impl TernaryPlanes {
    /// Packs `rows` rows of `cols` weights, which `read_row` writes: row by row, −1, 0 or 1 each.
    ///
    /// # Errors
    /// A weight is none of these.
    ///
    /// # Panics
    /// `cols` is more than `i32::MAX`.
    pub fn from_rows(rows: usize, cols: usize, read_row: impl FnMut(usize, &mut [i8])) -> Result<Self, PackError> {
        let (mut plus, mut minus, mut sums) = (Bits::zeroed(rows, cols), Bits::zeroed(rows, cols), vec![0; rows]);
        for_each_row(rows, cols, read_row, |row, weights| {
            if let Some(col) = weights.iter().position(|w| w.abs_diff(0) > 1) {
                return Err(PackError(format!(
                    "row {row} has the weight {} in column {col}, and ternary planes have only -1, 0 and 1; divide the \
                     weights by their scale",
                    weights[col]
                )));
            }
            sums[row] = plus.set_row(row, weights, |w| w > 0) - minus.set_row(row, weights, |w| w < 0);
            Ok(())
        })?;
        Ok(Self { sums, plus, minus })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.sums.len()
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.plus.cols
    }

    /// Bytes that a product with this matrix reads.
    pub fn bytes(&self) -> usize {
        self.plus.bytes() + self.minus.bytes() + size_of_val(&*self.sums)
    }

    /// As [`BinaryMatrix::multiply`].
    ///
    /// # Panics
    /// `x` is not of this matrix's columns, or `out.len() != x.tokens() * rows`.
    pub fn multiply(&self, isa: &dyn Isa, x: &BinaryRows, out: &mut [i32]) {
        let rows = self.rows();
        check(rows, self.cols(), x, out);
        let factor = match x.binarize {
            Binarize::Sign => 2,
            Binarize::Step => 1,
        };
        for token in 0..x.tokens {
            for (out, sum) in out[token * rows..][..rows].iter_mut().zip(&self.sums) {
                *out = if x.binarize == Binarize::Sign { -sum } else { 0 };
            }
        }
        isa.add_ones(BitOp::And, factor, self.plus.rows(rows), x.bit_rows(), out);
        isa.add_ones(BitOp::And, -factor, self.minus.rows(rows), x.bit_rows(), out);
    }
}

/// Rows of bits in memory, padded with zeros to whole lines.
#[derive(Debug, Clone)]
struct Bits {
    cols: usize,
    lines_per_row: usize,
    lines: Buffer<Line>,
}

impl Bits {
    fn zeroed(rows: usize, cols: usize) -> Self {
        assert!(i32::try_from(cols).is_ok(), "{cols} columns, whose sums do not fit 32 bits");
        // Never zero, so that an empty matrix still is whole rows.
        let lines_per_row = cols.div_ceil(BIT_COLS).max(1);
        Self { cols, lines_per_row, lines: Buffer::zeroed(rows * lines_per_row) }
    }

    /// The first `rows` rows.
    fn rows(&self, rows: usize) -> BitRows<'_> {
        BitRows::new(&self.lines[..rows * self.lines_per_row], self.lines_per_row)
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Writes row `row`, a one for each value that `is_one`, and returns how many there are.
    fn set_row<T: Copy>(&mut self, row: usize, values: &[T], is_one: impl Fn(T) -> bool) -> i32 {
        debug_assert_eq!(values.len(), self.cols);
        let lines = &mut self.lines[row * self.lines_per_row..][..self.lines_per_row];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
        let pack = |values: &[T]| values.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(is_one(*value)));
        // Eight at a time, a number that the compiler knows, takes a third of the time.
        let (whole, rest) = values.as_chunks::<8>();
        for (byte, values) in bytes.iter_mut().zip(whole) {
            *byte = pack(values);
        }
        if !rest.is_empty() {
            bytes[whole.len()] = pack(rest);
        }
        bytes.iter().map(|byte| byte.count_ones()).sum::<u32>() as i32
    }
}

/// Hands each row, as `read_row` writes it, to `pack`.
fn for_each_row(
    rows: usize,
    cols: usize,
    mut read_row: impl FnMut(usize, &mut [i8]),
    mut pack: impl FnMut(usize, &[i8]) -> Result<(), PackError>,
) -> Result<(), PackError> {
    let mut weights = vec![0; cols];
    (0..rows).try_for_each(|row| {
        read_row(row, &mut weights);
        pack(row, &weights)
    })
}

/// What products demand of their operands.
fn check(rows: usize, cols: usize, x: &BinaryRows, out: &[i32]) {
    assert_eq!(x.width(), cols, "input features");
    assert_eq!(out.len(), x.tokens * rows, "one sum per token and row");
}
