//! Ternary matrices in the layout the integer kernels read.

use tritwise_tensor::{Bytes, I2sLayout, Scales, TernaryEncoding, TernaryMatrix};

use crate::PackError;
use crate::arch::{Layout, Line, Panels};
use crate::arena::Arena;
use crate::memory::Buffer;
use crate::parallel::{Pool, for_each_shard};

/// A ternary matrix as panels of codes, with its shape and scales.
///
/// ```text
///            two bits a code                                  base 3
/// panel 0:   rows  0..16   line 0: columns 0..16 | 16..32 …   rows  0..80    line 0: columns 0..4 | 4..8 …
/// panel 1:   rows 16..32   line 0: …                          rows 80..160   line 0: …
/// ```
///
/// Rows are padded to whole panels and columns to whole lines ([`Layout`] draws
/// them) with trits of zero. What the padding holds is never seen: activations
/// are zero beyond the last column, and sums beyond the last row are dropped.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    layout: Layout,
    rows: usize,
    cols: usize,
    lines_per_panel: usize,
    lines: Buffer<Line>,
    scales: PackedScales,
}

/// What sums of trits are multiplied by.
#[derive(Debug, Clone)]
pub(crate) enum PackedScales {
    /// One scale for the matrix.
    Tensor(f32),
    /// One per row and group of columns.
    Groups {
        /// Lines of a panel that share a scale; the last group may be shorter.
        lines: usize,
        /// The scales of a panel's rows for one group, panel after panel and in each group after group.
        values: Vec<f32>,
    },
}

/// Lines that a thread copies at a time: a mebibyte.
const COPY_LINES: usize = 1 << 14;

impl PackedMatrix {
    /// Packs `weights` as `layout` on all threads of `pool`, or in two bits if
    /// it is too wide for `layout`.
    ///
    /// # Panics
    /// Scales come in groups that are no multiple of 16 columns (every published group is
    /// one of 32).
    pub(crate) fn pack(weights: &TernaryMatrix<'_>, layout: Layout, pool: &Pool, arena: &Arena) -> Self {
        let (rows, cols) = (weights.rows(), weights.cols());
        let layout = if cols <= layout.max_cols() { layout } else { Layout::TwoBit };
        let scales = PackedScales::new(weights.scales(), layout, rows, cols);
        if (layout, weights.encoding()) == (Layout::Base3, TernaryEncoding::Base3) {
            return Self::from_lines(layout, rows, cols, scales, pool, arena, weights.bytes());
        }
        Self::from_rows(layout, rows, cols, scales, pool, arena, &|row, trits| weights.read_row(row, trits))
    }

    /// Copies lines that already lie as `layout` has them, from the first of `bytes`.
    fn from_lines(
        layout: Layout,
        rows: usize,
        cols: usize,
        scales: PackedScales,
        pool: &Pool,
        arena: &Arena,
        bytes: &[u8],
    ) -> Self {
        let lines_per_panel = cols.div_ceil(layout.cols());
        let (from, _) = bytes.as_chunks();
        let lines = arena.fill(rows.div_ceil(layout.rows()) * lines_per_panel, |lines| {
            for_each_shard(pool, lines, COPY_LINES, &|i, lines| {
                for (line, from) in lines.iter_mut().zip(&from[i * COPY_LINES..]) {
                    *line = Line(*from);
                }
            });
        });
        Self { layout, rows, cols, lines_per_panel, lines, scales }
    }

    /// Takes `weights` as they lie in their file, without a copy, if one of `layouts` is that of the file.
    ///
    /// # Errors
    /// None is, or the bytes are no file's.
    pub(crate) fn in_place(weights: &TernaryMatrix<'_>, layouts: &[Layout]) -> Result<Self, PackError> {
        let (rows, cols) = (weights.rows(), weights.cols());
        let refuse = |what: String| {
            Err(PackError(format!("{what}; open the file without in-place mode, or convert it to one that can be")))
        };
        let Bytes::Shared(bytes) = weights.bytes() else {
            return refuse(format!("{weights:?} was decoded from its file and cannot be computed with there"));
        };
        let layout = match weights.encoding() {
            TernaryEncoding::Base3 => Layout::Base3,
            TernaryEncoding::I2S(I2sLayout::A) if cols.is_multiple_of(Layout::Rows.cols()) => Layout::Rows,
            other => {
                return refuse(format!(
                    "{other} of {cols} columns cannot be computed with as it lies in a file: BASE3 can, and I2_S (in \
                     layout A) of a multiple of {}",
                    Layout::Rows.cols()
                ));
            }
        };
        let kernels = layout == Layout::Rows || layouts.contains(&layout);
        if !kernels || cols > layout.max_cols() {
            return refuse(format!("this instruction set has no kernels for {} of {cols} columns", weights.encoding()));
        }
        let lines_per_panel = cols.div_ceil(layout.cols());
        let codes = rows.div_ceil(layout.rows()) * lines_per_panel * size_of::<Line>();
        let Some(lines) = Buffer::shared(bytes.slice(0..codes)) else {
            return refuse("its bytes do not begin at a multiple of 32".into());
        };
        let scales = PackedScales::new(weights.scales(), layout, rows, cols);
        Ok(Self { layout, rows, cols, lines_per_panel, lines, scales })
    }

    /// Packs the rows that `read_row` writes as trits.
    pub(crate) fn from_rows(
        layout: Layout,
        rows: usize,
        cols: usize,
        scales: PackedScales,
        pool: &Pool,
        arena: &Arena,
        read_row: &(dyn Fn(usize, &mut [i8]) + Sync),
    ) -> Self {
        // Never zero, so that an empty matrix still is whole panels.
        let lines_per_panel = cols.div_ceil(layout.cols()).max(1);
        let pack_panel = |panel: usize, lines: &mut [Line]| {
            let mut trits = vec![0; lines_per_panel * layout.cols()];
            let first = panel * layout.rows();
            for row in 0..layout.rows() {
                match first + row {
                    inside if inside < rows => read_row(inside, &mut trits[..cols]),
                    _ => trits.fill(0),
                }
                match layout {
                    Layout::TwoBit => add_two_bit(&trits, row, lines),
                    Layout::Base3 => add_base3(&trits, row, lines),
                    Layout::Rows => unreachable!("not a layout that weights are packed to"),
                }
            }
        };
        let lines = arena.fill(rows.div_ceil(layout.rows()) * lines_per_panel, |lines| {
            for_each_shard(pool, lines, lines_per_panel, &pack_panel);
        });
        Self { layout, rows, cols, lines_per_panel, lines, scales }
    }

    /// How codes lie in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that a product with this matrix reads.
    pub fn bytes(&self) -> usize {
        let panels = self.rows.div_ceil(self.layout.rows());
        panels * self.lines_per_panel * size_of::<Line>() + self.scales.bytes()
    }

    /// Lines of each panel.
    pub(crate) fn lines_per_panel(&self) -> usize {
        self.lines_per_panel
    }

    /// `count` panels from panel `first`.
    pub(crate) fn panels_at(&self, first: usize, count: usize) -> Panels<'_> {
        let lines = &self.lines[first * self.lines_per_panel..][..count * self.lines_per_panel];
        Panels::new(self.layout, lines, self.lines_per_panel)
    }

    /// What sums of trits are multiplied by.
    pub(crate) fn scales(&self) -> &PackedScales {
        &self.scales
    }
}

impl PackedScales {
    pub(crate) fn new(scales: &Scales, layout: Layout, rows: usize, cols: usize) -> Self {
        let (group_cols, values) = match scales {
            Scales::Tensor(scale) => return Self::Tensor(*scale),
            Scales::Rows(values) => (cols.max(1), values),
            Scales::Groups { cols: group, values } => (*group, values),
        };
        let groups = cols.div_ceil(group_cols);
        // Whole lines in each layout that is packed, and what sums of inputs are known for.
        assert!(groups <= 1 || group_cols.is_multiple_of(16), "groups of {group_cols} columns are not whole lines");
        assert_eq!(values.len(), rows * groups, "one scale per row and group");
        let panel_rows = layout.rows();
        let mut packed = vec![0.0; rows.div_ceil(panel_rows) * groups * panel_rows];
        for (i, scale) in values.iter().enumerate() {
            let (row, group) = (i / groups, i % groups);
            packed[(row / panel_rows * groups + group) * panel_rows + row % panel_rows] = *scale;
        }
        Self::Groups { lines: group_cols.div_ceil(layout.cols()), values: packed }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Tensor(scale) => size_of_val(scale),
            Self::Groups { values, .. } => size_of_val(&**values),
        }
    }
}

/// Adds a row of trits, as codes, as row `row` of a panel that is zero there.
///
/// Sixteen trits become one 32-bit word with a handful of word operations: the
/// four columns of a 2-bit field lie in four neighbouring bytes on both sides.
fn add_two_bit(trits: &[i8], row: usize, panel: &mut [Line]) {
    let (runs, rest) = trits.as_chunks::<{ Layout::TwoBit.cols() }>();
    debug_assert!(rest.is_empty() && runs.len() == panel.len());
    for (line, trits) in panel.iter_mut().zip(runs) {
        let fields: [u32; 4] = bytemuck::cast(*trits);
        let word = codes(fields[0]) | codes(fields[1]) << 2 | codes(fields[2]) << 4 | codes(fields[3]) << 6;
        line.0[4 * row..][..4].copy_from_slice(&word.to_ne_bytes());
    }
}

/// As [`add_two_bit`], in base 3: four columns are a word, and a digit of all
/// four is added at once, since no byte passes 242.
fn add_base3(trits: &[i8], row: usize, panel: &mut [Line]) {
    let (runs, rest) = trits.as_chunks::<{ Layout::Base3.cols() }>();
    debug_assert!(rest.is_empty() && runs.len() == panel.len());
    let (lane, weight) = (row % 16, [1, 3, 9, 27, 81][row / 16]);
    for (line, trits) in panel.iter_mut().zip(runs) {
        let words: &mut [u32; 16] = bytemuck::cast_mut(&mut line.0);
        words[lane] += codes(bytemuck::cast(*trits)) * weight;
    }
}

/// Adds one to each of four trits: -1, 0, 1 become 0, 1, 2.
fn codes(trits: u32) -> u32 {
    // Two bits tell a trit (3, 0, 1), and make room so that no byte carries into the next.
    ((trits & 0x0303_0303) + 0x0101_0101) & 0x0303_0303
}

#[cfg(test)]
mod tests {
    use tritwise_tensor::TernaryEncoding;

    use super::*;

    /// A trit of an arbitrary but fixed matrix.
    fn trit(row: usize, col: usize) -> i8 {
        ((row * 7 + col * 5 + row * col) % 3) as i8 - 1
    }

    #[test]
    fn every_code_lies_where_the_layout_says() {
        for (layout, threads) in Layout::ALL.into_iter().flat_map(|layout| [(layout, 1), (layout, 3)]) {
            for (rows, cols) in [(1, 1), (16, 16), (17, 33), (40, 300), (80, 4), (161, 65)] {
                let packed = PackedMatrix::from_rows(
                    layout,
                    rows,
                    cols,
                    PackedScales::Tensor(1.0),
                    &Pool::new(threads).unwrap(),
                    &Arena::default(),
                    &|row, out| {
                        for (col, out) in out.iter_mut().enumerate() {
                            *out = trit(row, col);
                        }
                    },
                );
                let panels = packed.panels_at(0, rows.div_ceil(layout.rows()));
                for row in 0..panels.rows() {
                    let panel = panels.iter().nth(row / layout.rows()).unwrap();
                    for col in 0..panels.cols() {
                        let code = panel[col / layout.cols()].code(layout, row % layout.rows(), col % layout.cols());
                        // Padding is trits of zero.
                        let expected = if row < rows && col < cols { trit(row, col) } else { 0 };
                        assert_eq!(code as i8 - 1, expected, "{layout:?}, row {row}, column {col}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_matrix_from_a_file_packs_as_its_rows_read() {
        let (rows, cols) = (33, 512);
        let trits: Vec<i8> = (0..rows * cols).map(|i| trit(i / cols, i % cols)).collect();
        // Blocks of 256 with scales of their own: two groups per row.
        let values = (0..2 * rows).map(|i| (i + 1) as f32 / 2.0).collect();
        for (encoding, scales) in [
            (TernaryEncoding::I2S(Default::default()), Scales::Tensor(0.5)),
            (TernaryEncoding::Base3, Scales::Tensor(0.5)),
            (TernaryEncoding::Tq2_0, Scales::Groups { cols: 256, values }),
        ] {
            let bytes = encoding.encode(&trits, rows, cols, &scales).unwrap();
            let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap();
            for layout in Layout::ALL {
                let packed = PackedMatrix::pack(&matrix, layout, &Pool::new(2).unwrap(), &Arena::default());
                let lines = cols / layout.cols();
                for (i, trit) in trits.iter().enumerate() {
                    let (row, col) = (i / cols, i % cols);
                    let line = packed.lines[row / layout.rows() * lines + col / layout.cols()];
                    let code = line.code(layout, row % layout.rows(), col % layout.cols());
                    assert_eq!(code as i8 - 1, *trit, "{layout:?}, row {row}, column {col}");
                }
                match packed.scales() {
                    PackedScales::Tensor(scale) => assert_eq!(*scale, 0.5),
                    PackedScales::Groups { lines, values } => {
                        assert_eq!(*lines, 256 / layout.cols());
                        assert_eq!(values.len(), 2 * rows.next_multiple_of(layout.rows()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_matrix_too_wide_for_base_3_takes_two_bits() {
        let cols = (Layout::Base3.max_cols() + 1).next_multiple_of(128);
        let bytes = vec![0; cols / 4 + 32];
        let matrix = TernaryMatrix::new(TernaryEncoding::I2S(Default::default()), 1, cols, bytes, None).unwrap();
        let packed = PackedMatrix::pack(&matrix, Layout::Base3, &Pool::new(1).unwrap(), &Arena::default());
        assert_eq!(packed.layout(), Layout::TwoBit);
    }

    #[test]
    fn scales_follow_their_rows_and_groups() {
        let (rows, cols, group) = (90, 96, 32);
        let values: Vec<f32> = (0..rows * 3).map(|i| i as f32).collect();
        let scales = Scales::Groups { cols: group, values: values.clone() };
        for layout in Layout::ALL {
            let PackedScales::Groups { lines, values: packed } = PackedScales::new(&scales, layout, rows, cols) else {
                panic!("grouped scales stay grouped")
            };
            assert_eq!(lines * layout.cols(), group);
            for row in 0..rows {
                for group in 0..3 {
                    let place = (row / layout.rows() * 3 + group) * layout.rows() + row % layout.rows();
                    assert_eq!(packed[place], values[row * 3 + group]);
                }
            }
        }
    }

    #[test]
    fn a_matrix_without_rows_or_columns_is_empty() {
        for layout in Layout::ALL {
            for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
                let scales = PackedScales::Tensor(1.0);
                let packed = PackedMatrix::from_rows(
                    layout,
                    rows,
                    cols,
                    scales,
                    &Pool::new(1).unwrap(),
                    &Arena::default(),
                    &|_, _| {},
                );
                assert_eq!((packed.rows(), packed.cols()), (rows, cols));
            }
        }
    }
}
