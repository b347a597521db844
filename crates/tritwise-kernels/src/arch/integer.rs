//! The integer half of an instruction set: sums of trit × int8.

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use super::sealed::Sealed;
use super::{Layout, Panels};

/// Rows of activations, one per token, `stride` apart.
///
/// The stride lets a kernel work on a range of columns without a copy.
#[derive(Debug, Clone, Copy)]
pub struct Activations<'a> {
    values: &'a [i8],
    stride: usize,
    tokens: usize,
}

impl<'a> Activations<'a> {
    /// Row `t` begins at `values[t * stride]`, for `t` below `tokens`.
    pub fn new(values: &'a [i8], stride: usize, tokens: usize) -> Self {
        Self { values, stride, tokens }
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The first `cols` activations of row `token`.
    ///
    /// # Panics
    /// They are not all there.
    #[inline]
    pub fn row(&self, token: usize, cols: usize) -> &'a [i8] {
        assert!(token < self.tokens, "token {token} of {}", self.tokens);
        &self.values[token * self.stride..][..cols]
    }

    /// The rows in runs of at most `most`, all of about the same length: with at most four,
    /// five rows are 2 and 3, not 4 and 1.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(in crate::arch) fn tiles(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let (tokens, tiles) = (self.tokens, self.tokens.div_ceil(most));
        (0..tiles).map(move |tile| tile * tokens / tiles..(tile + 1) * tokens / tiles)
    }
}

/// Sums of code × activation over packed panels.
///
/// The packed operand is unsigned (codes 0, 1, 2), so these are sums of
/// *codes*; `Σ trit·q = Σ code·q − Σ q`, and the caller subtracts `Σ q`, which
/// it knows once per token.
///
/// Results are exact, in any order of addition, up to [`Layout::max_cols`]
/// columns.
pub trait IntegerOps: Sealed {
    /// The layouts that weights are packed to for this instruction set, its fastest first. It has
    /// kernels for these and for [`Layout::Rows`].
    fn layouts(&self) -> &'static [Layout];

    /// `out[r] = Σ_c code[r][c] · x[c]` for every row of every panel.
    ///
    /// # Panics
    /// `x.len() != panels.cols()`, `out.len() != panels.rows()`, or there is no kernel for the layout.
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]);

    /// The same for several tokens: `out[t * panels.rows() + r]`.
    ///
    /// # Panics
    /// A row of `x` is shorter than `panels.cols()`, `out.len() != x.tokens() * panels.rows()`,
    /// or there is no kernel for the layout.
    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]);

    /// Does nothing but this instruction set's multiply-adds, on registers alone,
    /// `rounds` times over, and returns how many: timed, it is the ceiling that a
    /// product's speed can be compared with.
    fn peak_macs(&self, rounds: usize) -> u64;
}
