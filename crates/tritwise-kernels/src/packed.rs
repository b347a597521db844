//! Ternary matrices in the layout the integer kernels read.

use tritwise_tensor::{Scales, TernaryMatrix};

use crate::arch::{LINE_COLS, Line, PANEL_ROWS, Panels};
use crate::memory::Buffer;
use crate::parallel::{Pool, for_each_shard};

/// A ternary matrix as panels of 2-bit codes, with its shape and scales.
///
/// ```text
/// panel 0: rows  0..16   line 0: columns 0..16 | line 1: columns 16..32 | …
/// panel 1: rows 16..32   line 0: …
/// ```
///
/// Rows are padded to whole panels and columns to whole lines ([`Line`] draws
/// one). What the padding holds is never seen: activations are zero beyond the
/// last column, and sums beyond the last row are dropped.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
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
        values: Vec<[f32; PANEL_ROWS]>,
    },
}

impl PackedMatrix {
    /// Packs `weights` on all threads of `pool`.
    ///
    /// # Panics
    /// Scales come in groups that are not whole lines of [`LINE_COLS`] columns
    /// (every published group is a multiple of 32).
    pub(crate) fn pack(weights: &TernaryMatrix<'_>, pool: &Pool) -> Self {
        let (rows, cols) = (weights.rows(), weights.cols());
        Self::from_rows(rows, cols, PackedScales::new(weights.scales(), rows, cols), pool, &|row, trits| {
            weights.read_row(row, trits);
        })
    }

    /// Packs the rows that `read_row` writes as trits.
    pub(crate) fn from_rows(
        rows: usize,
        cols: usize,
        scales: PackedScales,
        pool: &Pool,
        read_row: &(dyn Fn(usize, &mut [i8]) + Sync),
    ) -> Self {
        // Never zero, so that an empty matrix still is whole panels.
        let lines_per_panel = cols.div_ceil(LINE_COLS).max(1);
        let mut lines = Buffer::<Line>::zeroed(rows.div_ceil(PANEL_ROWS) * lines_per_panel);
        for_each_shard(pool, &mut lines, lines_per_panel, &|panel, lines| {
            let mut trits = vec![0; lines_per_panel * LINE_COLS];
            let first = panel * PANEL_ROWS;
            for row in first..rows.min(first + PANEL_ROWS) {
                read_row(row, &mut trits[..cols]);
                pack_row(&trits, row - first, lines);
            }
        });
        Self { rows, cols, lines_per_panel, lines, scales }
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
        size_of_val(&*self.lines) + self.scales.bytes()
    }

    /// Lines of each panel.
    pub(crate) fn lines_per_panel(&self) -> usize {
        self.lines_per_panel
    }

    /// `count` panels from panel `first`.
    pub(crate) fn panels_at(&self, first: usize, count: usize) -> Panels<'_> {
        let lines = &self.lines[first * self.lines_per_panel..][..count * self.lines_per_panel];
        Panels::new(lines, self.lines_per_panel)
    }

    /// What sums of trits are multiplied by.
    pub(crate) fn scales(&self) -> &PackedScales {
        &self.scales
    }
}

impl PackedScales {
    pub(crate) fn new(scales: &Scales, rows: usize, cols: usize) -> Self {
        let (group_cols, values) = match scales {
            Scales::Tensor(scale) => return Self::Tensor(*scale),
            Scales::Rows(values) => (cols.max(1), values),
            Scales::Groups { cols: group, values } => (*group, values),
        };
        let groups = cols.div_ceil(group_cols);
        assert!(
            groups <= 1 || group_cols.is_multiple_of(LINE_COLS),
            "groups of {group_cols} columns are not whole lines"
        );
        assert_eq!(values.len(), rows * groups, "one scale per row and group");
        let mut packed = vec![[0.0; PANEL_ROWS]; rows.div_ceil(PANEL_ROWS) * groups];
        for (i, scale) in values.iter().enumerate() {
            let (row, group) = (i / groups, i % groups);
            packed[row / PANEL_ROWS * groups + group][row % PANEL_ROWS] = *scale;
        }
        Self::Groups { lines: group_cols.div_ceil(LINE_COLS), values: packed }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Tensor(scale) => size_of_val(scale),
            Self::Groups { values, .. } => size_of_val(&**values),
        }
    }
}

/// Writes a row of trits, as codes, to row `row` of a panel.
///
/// Sixteen trits become one 32-bit word with a handful of word operations: the
/// four columns of a 2-bit field lie in four neighbouring bytes on both sides.
fn pack_row(trits: &[i8], row: usize, panel: &mut [Line]) {
    let (runs, rest) = trits.as_chunks::<LINE_COLS>();
    debug_assert!(rest.is_empty() && runs.len() == panel.len());
    for (line, trits) in panel.iter_mut().zip(runs) {
        let fields: [u32; 4] = bytemuck::cast(*trits);
        let word = codes(fields[0]) | codes(fields[1]) << 2 | codes(fields[2]) << 4 | codes(fields[3]) << 6;
        line.0[4 * row..][..4].copy_from_slice(&word.to_ne_bytes());
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
        for threads in [1, 3] {
            for (rows, cols) in [(1, 1), (16, 16), (17, 33), (40, 300)] {
                let packed = PackedMatrix::from_rows(
                    rows,
                    cols,
                    PackedScales::Tensor(1.0),
                    &Pool::new(threads).unwrap(),
                    &|row, out| {
                        for (col, out) in out.iter_mut().enumerate() {
                            *out = trit(row, col);
                        }
                    },
                );
                for (p, panel) in packed.panels_at(0, rows.div_ceil(PANEL_ROWS)).iter().enumerate() {
                    for row in (0..PANEL_ROWS).filter(|row| p * PANEL_ROWS + row < rows) {
                        for col in 0..cols {
                            let code = panel[col / LINE_COLS].code(row, col % LINE_COLS);
                            assert_eq!(
                                code as i8 - 1,
                                trit(p * PANEL_ROWS + row, col),
                                "panel {p} row {row} col {col}"
                            );
                        }
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
            (TernaryEncoding::Tq2_0, Scales::Groups { cols: 256, values }),
        ] {
            let bytes = encoding.encode(&trits, rows, cols, &scales).unwrap();
            let matrix = TernaryMatrix::new(encoding, rows, cols, bytes, None).unwrap();
            let packed = PackedMatrix::pack(&matrix, &Pool::new(2).unwrap());
            let lines = cols / LINE_COLS;
            for (i, trit) in trits.iter().enumerate() {
                let (row, col) = (i / cols, i % cols);
                let line = packed.lines[row / PANEL_ROWS * lines + col / LINE_COLS];
                assert_eq!(line.code(row % PANEL_ROWS, col % LINE_COLS) as i8 - 1, *trit, "row {row}, column {col}");
            }
            match packed.scales() {
                PackedScales::Tensor(scale) => assert_eq!(*scale, 0.5),
                PackedScales::Groups { lines, values } => {
                    assert_eq!((*lines, values.len(), values[3][5]), (16, 2 * 3, 22.0));
                }
            }
        }
    }

    #[test]
    fn scales_follow_their_rows_and_groups() {
        let (rows, cols, group) = (20, 96, 32);
        let values: Vec<f32> = (0..rows * 3).map(|i| i as f32).collect();
        let PackedScales::Groups { lines, values: packed } =
            PackedScales::new(&Scales::Groups { cols: group, values: values.clone() }, rows, cols)
        else {
            panic!("grouped scales stay grouped")
        };
        assert_eq!(lines, 2);
        for row in 0..rows {
            for group in 0..3 {
                assert_eq!(packed[row / PANEL_ROWS * 3 + group][row % PANEL_ROWS], values[row * 3 + group]);
            }
        }
    }

    #[test]
    fn a_matrix_without_rows_or_columns_is_empty() {
        for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
            let packed =
                PackedMatrix::from_rows(rows, cols, PackedScales::Tensor(1.0), &Pool::new(1).unwrap(), &|_, _| {});
            assert_eq!((packed.rows(), packed.cols()), (rows, cols));
        }
    }
}
