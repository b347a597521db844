//! Packed ternary weights as the integer kernels read them: layouts, lines, panels.

/// How codes (trit + 1: 0, 1 or 2) lie in a [`Line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Two bits a code; a line is 16 rows × 16 columns.
    ///
    /// ```text
    /// byte 4r + j:   bits 7..6    5..4    3..2    1..0
    /// column (row r):    12 + j   8 + j   4 + j      j
    /// ```
    ///
    /// As 32-bit lanes: lane r belongs to row r, and the 2-bit field p of its four
    /// bytes holds columns 4p .. 4p + 3, which is what a dot-product instruction
    /// with a broadcast word of four activations wants.
    TwoBit,
    /// Five codes a byte, 1.6 bits each; a line is 80 rows × 4 columns.
    ///
    /// ```text
    /// byte 4r + j  =  d₀ + 3 d₁ + 9 d₂ + 27 d₃ + 81 d₄   (at most 242)
    ///                 dₖ: the code of row 16k + r, column j
    /// ```
    ///
    /// The five codes of a byte are in one column, so they meet the same
    /// activation. A kernel may then multiply the *byte*, or any function of it,
    /// and take the five rows' sums apart at the end.
    Base3,
    /// Two bits a code, row after row, as I2_S has them in files (its layout A): a line is
    /// 1 row × 256 columns.
    ///
    /// ```text
    /// byte 32b + j:   bits 7..6          5..4            3..2            1..0
    /// column          128b + j   128b + 32 + j   128b + 64 + j   128b + 96 + j
    /// ```
    ///
    /// Weights are not packed to this layout, but computed with in it where they lie.
    Rows,
}

impl Layout {
    /// The layouts that weights are packed to.
    pub const ALL: [Self; 2] = [Self::TwoBit, Self::Base3];

    /// The name by which it is forced and reported.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoBit => "2bit",
            Self::Base3 => "base3",
            Self::Rows => "rows",
        }
    }

    /// Rows of a matrix that are laid out, and computed, together: those of a panel.
    #[inline]
    pub const fn rows(self) -> usize {
        match self {
            Self::TwoBit => 16,
            Self::Base3 => 80,
            Self::Rows => 1,
        }
    }

    /// Columns that one [`Line`] covers.
    #[inline]
    pub const fn cols(self) -> usize {
        match self {
            Self::TwoBit => 16,
            Self::Base3 => 4,
            Self::Rows => 256,
        }
    }

    /// Columns up to which kernels promise exact sums, whatever the codes and activations.
    ///
    /// In two bits, a sum of code 3 (which never occurs, but is allowed for)
    /// times activation -128 must fit `i32`. In base 3, sixteen times a sum
    /// of code 2 must, because a kernel takes five sums apart by shifts.
    pub const fn max_cols(self) -> usize {
        match self {
            Self::TwoBit | Self::Rows => i32::MAX as usize / (3 * 128),
            Self::Base3 => i32::MAX as usize / (16 * 2 * 128),
        }
    }
}

/// 64 bytes of codes, the unit of every [`Layout`].
///
/// Packed lines begin where a cache line does. Those of a file may begin half way, because
/// GGUF files align tensors to 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// The code of row `row` and column `col` of a line laid out as `layout`.
    ///
    /// # Panics
    /// `row` or `col` is outside the line.
    #[inline]
    pub fn code(&self, layout: Layout, row: usize, col: usize) -> u8 {
        match layout {
            Layout::TwoBit => (self.0[4 * row + col % 4] >> (2 * (col / 4))) & 3,
            Layout::Base3 => self.0[4 * (row % 16) + col] / [1, 3, 9, 27, 81][row / 16] % 3,
            Layout::Rows => {
                assert_eq!(row, 0, "a line of one row");
                (self.0[col / 128 * 32 + col % 32] >> (6 - 2 * (col % 128 / 32))) & 3
            }
        }
    }
}

/// Consecutive panels of [`Layout::rows`] rows, each of `lines_per_panel` lines
/// that run along the columns.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    layout: Layout,
    lines: &'a [Line],
    lines_per_panel: usize,
}

impl<'a> Panels<'a> {
    /// `lines` as panels of `lines_per_panel` lines.
    ///
    /// # Panics
    /// `lines_per_panel` is zero or does not divide the number of lines.
    pub fn new(layout: Layout, lines: &'a [Line], lines_per_panel: usize) -> Self {
        assert!(lines_per_panel > 0 && lines.len().is_multiple_of(lines_per_panel), "whole panels");
        Self { layout, lines, lines_per_panel }
    }

    /// How the lines hold their codes.
    #[inline]
    pub fn layout(&self) -> Layout {
        self.layout
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

    /// Rows of all panels.
    #[inline]
    pub fn rows(&self) -> usize {
        self.len() * self.layout.rows()
    }

    /// Columns of the panels, a multiple of [`Layout::cols`].
    pub fn cols(&self) -> usize {
        self.lines_per_panel * self.layout.cols()
    }

    /// The lines of all panels.
    pub fn lines(&self) -> &'a [Line] {
        self.lines
    }

    /// The panels in groups of `len`, of which the last may have fewer.
    pub fn groups(&self, len: usize) -> impl Iterator<Item = Self> + use<'a> {
        let Self { layout, lines, lines_per_panel } = *self;
        lines.chunks(len * lines_per_panel).map(move |lines| Self { layout, lines, lines_per_panel })
    }

    /// The panels, one after the other.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, Line> {
        self.lines.chunks_exact(self.lines_per_panel)
    }
}
