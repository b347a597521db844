//! Batches of activations: `f32` rows, and rows as products take them.

use std::ops::Range;

use crate::memory::Buffer;

/// `f32` activations, one row of `width` per token, row-major and without padding.
///
/// Room once made is kept: a batch that shrinks and grows again allocates nothing.
#[derive(Debug, Clone)]
pub struct Rows {
    width: usize,
    tokens: usize,
    values: Buffer<f32>,
}

impl Rows {
    /// No rows yet, of `width` features each.
    pub fn new(width: usize) -> Self {
        Self { width, tokens: 0, values: Buffer::default() }
    }

    /// Features per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes it `tokens` rows. What they hold is unspecified: rows of an earlier batch, or zeros.
    pub fn set_tokens(&mut self, tokens: usize) {
        self.tokens = tokens;
        if self.values.len() < tokens * self.width {
            self.values = Buffer::zeroed(tokens * self.width);
        }
    }

    /// Row `token`.
    pub fn row(&self, token: usize) -> &[f32] {
        &self.as_slice()[token * self.width..][..self.width]
    }

    /// Row `token`.
    pub fn row_mut(&mut self, token: usize) -> &mut [f32] {
        let width = self.width;
        &mut self.as_mut_slice()[token * width..][..width]
    }

    /// All rows, one after the other.
    pub fn as_slice(&self) -> &[f32] {
        &self.values[..self.tokens * self.width]
    }

    /// All rows, one after the other.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values[..self.tokens * self.width]
    }
}

/// Columns to which a row is padded: the widest line's, which the other's divide.
const PADDING: usize = 16;

/// What became of the activations of a [`Quantized`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Rounded to `i8`, as BitNet does: a row is one plane of codes.
    Int8,
    /// Rounded to 16 bits: a row is a plane of high bytes and a plane of low ones, both signed, and a code is
    /// `256 · high + low`.
    Int16,
    /// Left as they are.
    Float,
}

/// Activations as products take them, one row per token.
///
/// A code of row `t` stands for the activation `code / scales()[t]`. Rows are padded with zeros to whole lines of
/// every [`Layout`](crate::arch::Layout), and each knows sums of its codes, which turn sums of (code of a weight) ×
/// activation into sums of trit × activation (see [`IntegerOps`](crate::arch::IntegerOps)).
#[derive(Debug, Clone)]
pub struct Quantized {
    rounding: Rounding,
    width: usize,
    padded: usize,
    tokens: usize,
    /// A row after the other, each as many bytes per column as its rounding leaves.
    bytes: Buffer<i8>,
    scales: Vec<f32>,
    /// Of each row `i8`s, their sum; of 16-bit codes, the sums of the first 16, of the first 32, ….
    sums: Vec<i32>,
}

/// One row of a [`Quantized`], being written.
#[derive(Debug)]
pub(super) struct QuantizedRow<'a> {
    /// `i8` codes, planes of them, or the bytes of `f32`s: `padded_width` in each plane, zeros in the padding.
    pub(super) bytes: &'a mut [i8],
    /// What the activations were multiplied by before rounding.
    pub(super) scale: &'a mut f32,
    /// The sums of codes.
    pub(super) sums: &'a mut [i32],
}

impl Quantized {
    /// No rows yet, of `width` features each.
    pub fn new(width: usize, rounding: Rounding) -> Self {
        // A line at least, like the panels of a matrix without columns.
        let padded = width.next_multiple_of(PADDING).max(PADDING);
        let (bytes, scales, sums) = (Buffer::default(), Vec::new(), Vec::new());
        Self { rounding, width, padded, tokens: 0, bytes, scales, sums }
    }

    /// What became of the activations.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// Features per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes it `tokens` rows, whose values, scales and sums are the writer's to set.
    pub(super) fn set_tokens(&mut self, tokens: usize) {
        self.tokens = tokens;
        if self.scales.len() < tokens {
            self.bytes = Buffer::zeroed(tokens * self.row_bytes());
            self.scales.resize(tokens, 1.0);
            self.sums.resize(tokens * self.row_sums(), 0);
        }
    }

    /// All rows for writing.
    pub(super) fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = QuantizedRow<'_>> + Send {
        let (row_bytes, row_sums) = (self.row_bytes(), self.row_sums());
        let rows = self.bytes.chunks_exact_mut(row_bytes).zip(self.sums.chunks_exact_mut(row_sums));
        let rows = rows.zip(&mut self.scales).take(self.tokens);
        rows.map(|((bytes, sums), scale)| QuantizedRow { bytes, scale, sums })
    }

    /// Columns per row in memory, a multiple of 16.
    pub fn padded_width(&self) -> usize {
        self.padded
    }

    /// Rows of `i8` codes that make a row of activations; none where they are floats.
    pub fn planes(&self) -> usize {
        match self.rounding {
            Rounding::Int8 => 1,
            Rounding::Int16 => 2,
            Rounding::Float => 0,
        }
    }

    /// The codes of all rows with their padding, one after the other: `tokens` × `planes` × `padded_width`.
    pub fn codes(&self) -> &[i8] {
        &self.bytes[..self.tokens * self.planes() * self.padded]
    }

    /// All rows with their padding, where they are floats: `tokens` × `padded_width`.
    ///
    /// # Panics
    /// They are codes.
    pub fn floats(&self) -> &[f32] {
        assert_eq!(self.rounding, Rounding::Float, "activations as they are");
        &bytemuck::cast_slice(&self.bytes)[..self.tokens * self.padded]
    }

    /// What each row was multiplied by before rounding: an activation is `code / scale`.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.tokens]
    }

    /// The sum of the codes of columns `cols` of row `token`, which begin at a multiple of 16 and end at one
    /// or at the end of the row; 0 where activations are floats.
    #[inline]
    pub fn sum(&self, token: usize, cols: Range<usize>) -> i32 {
        let blocks = cols.start / PADDING..cols.end.div_ceil(PADDING);
        match self.rounding {
            Rounding::Int8 if blocks == (0..self.padded / PADDING) => self.sums[token],
            Rounding::Int8 => self.codes()[token * self.padded..][cols].iter().map(|q| i32::from(*q)).sum(),
            Rounding::Int16 => {
                let sums = &self.sums[token * self.row_sums()..][..self.row_sums()];
                let up_to = |block: usize| if block == 0 { 0 } else { sums[block - 1] };
                up_to(blocks.end) - up_to(blocks.start)
            }
            Rounding::Float => 0,
        }
    }

    fn row_bytes(&self) -> usize {
        match self.rounding {
            Rounding::Int8 => self.padded,
            Rounding::Int16 => 2 * self.padded,
            Rounding::Float => size_of::<f32>() * self.padded,
        }
    }

    fn row_sums(&self) -> usize {
        if self.rounding == Rounding::Int16 { self.padded / PADDING } else { 1 }
    }
}
