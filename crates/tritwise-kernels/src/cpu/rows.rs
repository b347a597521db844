//! Batches of activations: `f32` rows and rows rounded to `i8`.

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

/// Activations rounded to `i8`, one row per token.
///
/// Row `t` stands for `values(t)[c] / scale(t)`. Rows are padded with zeros to whole lines of
/// every [`Layout`](crate::arch::Layout), and each knows the sum of its values, which turns sums of codes into sums of
/// trits (see [`IntegerOps`](crate::arch::IntegerOps)).
#[derive(Debug, Clone)]
pub struct Quantized {
    width: usize,
    padded: usize,
    tokens: usize,
    values: Buffer<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// One row of a [`Quantized`], being written.
///
/// The writer fills `values` (`width` of them; the padding behind is not shown), and sets
/// `scale` and `sum`.
#[derive(Debug)]
pub struct QuantizedRow<'a> {
    /// The rounded activations.
    pub values: &'a mut [i8],
    /// What the activations were multiplied by before rounding.
    pub scale: &'a mut f32,
    /// `Σ values`.
    pub sum: &'a mut i32,
}

impl Quantized {
    /// No rows yet, of `width` features each.
    pub fn new(width: usize) -> Self {
        // A line at least, like the panels of a matrix without columns.
        let padded = width.next_multiple_of(PADDING).max(PADDING);
        Self { width, padded, tokens: 0, values: Buffer::default(), scales: Vec::new(), sums: Vec::new() }
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
    pub fn set_tokens(&mut self, tokens: usize) {
        self.tokens = tokens;
        if self.scales.len() < tokens {
            self.values = Buffer::zeroed(tokens * self.padded);
            self.scales.resize(tokens, 1.0);
            self.sums.resize(tokens, 0);
        }
    }

    /// All rows for writing; the padding stays what it is, zero.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = QuantizedRow<'_>> + Send {
        let width = self.width;
        self.values
            .chunks_exact_mut(self.padded)
            .zip(&mut self.scales)
            .zip(&mut self.sums)
            .take(self.tokens)
            .map(move |((values, scale), sum)| QuantizedRow { values: &mut values[..width], scale, sum })
    }

    /// Columns per row in memory, a multiple of 16.
    pub fn padded_width(&self) -> usize {
        self.padded
    }

    /// All rows with their padding, one after the other: `tokens` × `padded_width`.
    pub fn values(&self) -> &[i8] {
        &self.values[..self.tokens * self.padded]
    }

    /// What each row was multiplied by before rounding: an activation is `value / scale`.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.tokens]
    }

    /// `Σ values` of each row.
    pub fn sums(&self) -> &[i32] {
        &self.sums[..self.tokens]
    }
}
