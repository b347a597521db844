//! The integer half of an instruction set: sums of trit × int8.

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
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

    /// Activations from the beginning of a row to that of the next.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(in crate::arch) fn stride(&self) -> usize {
        self.stride
    }

    /// Some of the rows.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(in crate::arch) fn rows(&self, rows: Range<usize>) -> Self {
        Self { values: &self.values[rows.start * self.stride..], tokens: rows.len(), ..*self }
    }

    /// The same rows from column `col` on.
    #[inline]
    pub(in crate::arch) fn columns_from(&self, col: usize) -> Self {
        Self { values: &self.values[col..], ..*self }
    }

    /// The rows in runs of at most `most`, all of about the same length: with at most four,
    /// five rows are 2 and 3, not 4 and 1.
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        all(target_arch = "wasm32", target_feature = "simd128")
    ))]
    #[inline]
    pub(in crate::arch) fn tiles(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let tiles = self.tokens.div_ceil(most);
        let (len, longer) = (self.tokens / tiles.max(1), self.tokens % tiles.max(1));
        (0..tiles).map(move |tile| {
            let start = tile * len + tile.min(longer);
            start..start + len + usize::from(tile < longer)
        })
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

    /// The same for one panel, closed after every `lines` lines: `out[(g * x.tokens() + t) * panel.rows() + r]` is
    /// the sum over the columns of group `g`, of which the last may be shorter.
    ///
    /// # Panics
    /// As [`gemm`](Self::gemm), or `panel` is not one panel.
    fn group_sums(&self, panel: Panels<'_>, lines: usize, x: Activations<'_>, out: &mut [i32]) {
        group_by_group(self, panel, lines, x, out);
    }

    /// Does nothing but this instruction set's multiply-adds, on registers alone,
    /// `rounds` times over, and returns how many: timed, it is the ceiling that a
    /// product's speed can be compared with.
    fn peak_macs(&self, rounds: usize) -> u64;
}

/// [`IntegerOps::group_sums`] by a call for each group.
pub(in crate::arch) fn group_by_group<I: IntegerOps + ?Sized>(
    isa: &I,
    panel: Panels<'_>,
    lines: usize,
    x: Activations<'_>,
    out: &mut [i32],
) {
    assert_eq!(panel.len(), 1, "one panel");
    let sums = x.tokens() * panel.rows();
    assert_eq!(out.len(), panel.lines().len().div_ceil(lines) * sums, "one sum per group, token and row");
    for (group, (group_lines, out)) in panel.lines().chunks(lines).zip(out.chunks_exact_mut(sums)).enumerate() {
        let columns = Panels::new(panel.layout(), group_lines, group_lines.len());
        isa.gemm(columns, x.columns_from(group * lines * panel.layout().cols()), out);
    }
}
