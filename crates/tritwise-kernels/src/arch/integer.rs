//! The integer half of an instruction set: sums of trit × int8.

use super::sealed::Sealed;

/// Rows of a matrix that are laid out, and computed, together.
pub const PANEL_ROWS: usize = 16;

/// Columns that one [`Line`] covers.
pub const LINE_COLS: usize = 16;

/// 16 rows × 16 columns of 2-bit codes (trit + 1), the unit of the packed layout.
///
/// ```text
/// byte 4r + j:   bits 7..6    5..4    3..2    1..0
/// column (row r):    12 + j   8 + j   4 + j      j
/// ```
///
/// As 32-bit lanes: lane r belongs to row r, and the 2-bit field p of its four
/// bytes holds columns 4p .. 4p + 3, which is what a dot-product instruction
/// with a broadcast word of four activations wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// The code of row `row` and column `col`, both below 16.
    #[inline]
    pub fn code(&self, row: usize, col: usize) -> u8 {
        (self.0[4 * row + col % 4] >> (2 * (col / 4))) & 3
    }
}

/// Consecutive panels of [`PANEL_ROWS`] rows, each of `lines_per_panel` lines
/// that run along the columns.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    lines: &'a [Line],
    lines_per_panel: usize,
}

impl<'a> Panels<'a> {
    /// `lines` as panels of `lines_per_panel` lines.
    ///
    /// # Panics
    /// `lines_per_panel` is zero or does not divide the number of lines.
    pub fn new(lines: &'a [Line], lines_per_panel: usize) -> Self {
        assert!(lines_per_panel > 0 && lines.len().is_multiple_of(lines_per_panel), "whole panels");
        Self { lines, lines_per_panel }
    }

    /// Number of panels.
    #[inline]
    pub fn len(&self) -> usize {
        self.lines.len() / self.lines_per_panel
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Columns of the panels, a multiple of [`LINE_COLS`].
    pub fn cols(&self) -> usize {
        self.lines_per_panel * LINE_COLS
    }

    /// The lines of all panels.
    pub fn lines(&self) -> &'a [Line] {
        self.lines
    }

    /// The panels, one after the other.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, Line> {
        self.lines.chunks_exact(self.lines_per_panel)
    }
}

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
}

/// Sums of code × activation over packed panels.
///
/// The packed operand is unsigned (codes 0, 1, 2), so these are sums of
/// *codes*; `Σ trit·q = Σ code·q − Σ q`, and the caller subtracts `Σ q`, which
/// it knows once per token.
///
/// Results are exact, in any order of addition, while a sum fits `i32`: for any
/// codes and activations up to [`MAX_COLS`] columns. (Wider matrices give sums
/// modulo 2³², the same on every instruction set.)
pub trait IntegerOps: Sealed {
    /// `out[r] = Σ_c code[r][c] · x[c]` for every row of every panel.
    ///
    /// # Panics
    /// `x.len() != panels.cols()` or `out.len() != panels.len() * PANEL_ROWS`.
    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]);

    /// The same for several tokens: `out[t * rows + r]`, with `rows = panels.len() * PANEL_ROWS`.
    ///
    /// # Panics
    /// A row of `x` is shorter than `panels.cols()`, or `out.len() != x.tokens() * rows`.
    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]);

    /// Does nothing but this instruction set's multiply-adds, on registers alone,
    /// `rounds` times over, and returns how many: timed, it is the ceiling that a
    /// product's speed can be compared with.
    fn peak_macs(&self, rounds: usize) -> u64;
}

/// Columns up to which every sum is exact: code 3 times activation -128, in each.
pub const MAX_COLS: usize = (i32::MAX / (3 * 128)) as usize;
