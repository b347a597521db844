//! Sums of code × activation by either of [`products`](super::products).
//!
//! A quarter of a [`Line`] of two-bit panels is one register: four rows, four neighbouring columns
//! each in every 2-bit field, which meet one word of four activations. In the row-by-row layout
//! (I2_S as it lies in a file) lanes run over columns instead, and are added up at the end.

use std::arch::aarch64::*;
use std::ops::Range;

use bytemuck::cast;

use crate::arch::{Activations, Layout, Line, Panels};

/// Rows of a panel, and columns of a line, in two bits.
pub(super) const ROWS: usize = Layout::TwoBit.rows();
pub(super) const COLS: usize = Layout::TwoBit.cols();

/// Sixteen activations: what meets one line in two bits.
pub(super) type Run = [i8; COLS];

/// The largest product: -128 with code 3.
pub(super) const PRODUCT_MAX: i32 = 128 * 3;

/// Columns of a row-by-row line, of which each half has four planes.
const ROW_COLS: usize = Layout::Rows.cols();
const PLANE: usize = ROW_COLS / 8;

/// Field `field` of each byte, lowest bits first.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn codes(bytes: uint8x16_t, field: usize) -> int8x16_t {
    vreinterpretq_s8_u8(vandq_u8(vshlq_u8(bytes, vdupq_n_s8(-2 * field as i8)), vdupq_n_u8(3)))
}

/// Kernels for tiles of so many tokens: what registers hold the sums of.
macro_rules! kernels {
    ($features:literal, $products:ident, $($tokens:literal)*) => {
        use super::super::products::$products::{Sums, dot, dot_word, steps, widen, zero};
        use super::*;

        /// Tokens of a tile at most.
        const TILE: usize = [$($tokens),*].len();

        /// Lines, of four steps each, that sums bear.
        const RUN_LINES: usize = steps(PRODUCT_MAX) / 4;

        #[target_feature(enable = $features)]
        pub(crate) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
            let rows = panels.rows();
            for (i, panel) in panels.iter().enumerate() {
                for tile in x.tiles(TILE) {
                    let out = &mut out[tile.start * rows + i * ROWS..];
                    tile_sums(panel, x, tile, out, rows);
                }
            }
        }

        /// The sums of every `lines` lines of a panel.
        #[target_feature(enable = $features)]
        pub(crate) fn group_sums(panel: &[Line], lines: usize, x: Activations<'_>, out: &mut [i32]) {
            let tokens = x.tokens();
            for (group, lines_of_group) in panel.chunks(lines).enumerate() {
                let x = x.columns_from(group * lines * COLS);
                for tile in x.tiles(TILE) {
                    let out = &mut out[(group * tokens + tile.start) * ROWS..];
                    tile_sums(lines_of_group, x, tile, out, ROWS);
                }
            }
        }

        /// The sums of a panel's rows for the tokens of a tile. The first one's go to the beginning
        /// of `out`, the others' `rows` further each.
        #[target_feature(enable = $features)]
        fn tile_sums(panel: &[Line], x: Activations<'_>, tile: Range<usize>, out: &mut [i32], rows: usize) {
            match tile.len() {
                $($tokens => sums::<$tokens>(panel, x, tile.start, out, rows),)*
                _ => unreachable!("a tile has 1 to {TILE} tokens"),
            }
        }

        /// [`tile_sums`] for `T` tokens from `first`.
        #[target_feature(enable = $features)]
        fn sums<const T: usize>(panel: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], rows: usize) {
            let x: [&[Run]; T] = std::array::from_fn(|t| x.row(first + t, panel.len() * COLS).as_chunks().0);
            let mut wide = [[vdupq_n_s32(0); 4]; T];
            for start in (0..panel.len()).step_by(RUN_LINES) {
                let end = panel.len().min(start + RUN_LINES);
                let mut sums = [[zero(); 4]; T];
                for (i, line) in panel[start..end].iter().enumerate() {
                    let x: [&Run; T] = std::array::from_fn(|t| &x[t][start + i]);
                    step::<0, T>(line, x, &mut sums);
                    step::<1, T>(line, x, &mut sums);
                    step::<2, T>(line, x, &mut sums);
                    step::<3, T>(line, x, &mut sums);
                }
                for (wide, sums) in wide.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                    *wide = vaddq_s32(*wide, widen(*sums));
                }
            }
            for (t, wide) in wide.into_iter().enumerate() {
                let sums: [i32; ROWS] = cast(wide);
                out[t * rows..][..ROWS].copy_from_slice(&sums);
            }
        }

        /// Adds field `F` of a line, times the activations of `T` tokens.
        #[target_feature(enable = $features)]
        #[inline]
        fn step<const F: i32, const T: usize>(line: &Line, x: [&Run; T], sums: &mut [[Sums; 4]; T]) {
            let quarters: [uint8x16_t; 4] = cast(line.0);
            for q in 0..4 {
                let codes = codes(quarters[q], F as usize);
                for t in 0..T {
                    sums[t][q] = dot_word::<F>(sums[t][q], codes, cast(*x[t]));
                }
            }
        }

        /// [`gemm`] in the row-by-row layout.
        #[target_feature(enable = $features)]
        pub(crate) fn rows_gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
            for (row, lines) in panels.iter().enumerate() {
                for tile in x.tiles(TILE) {
                    let (first, out) = (tile.start, &mut out[tile.start * panels.rows() + row..]);
                    match tile.len() {
                        $($tokens => row_sums::<$tokens>(lines, x, first, out, panels.rows()),)*
                        _ => unreachable!("a tile has 1 to {TILE} tokens"),
                    }
                }
            }
        }

        /// The sum of one row for each of `T` tokens from `first`, written `stride` apart.
        #[target_feature(enable = $features)]
        fn row_sums<const T: usize>(row: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], stride: usize) {
            /// Lines, of eight steps each, that sums bear.
            const RUN_LINES: usize = steps(PRODUCT_MAX) / 8;
            // Eight planes of activations meet a line.
            let x: [&[[[i8; PLANE]; 8]]; T] = std::array::from_fn(|t| {
                let (planes, _) = x.row(first + t, row.len() * ROW_COLS).as_chunks::<PLANE>();
                planes.as_chunks().0
            });
            let mut wide = [vdupq_n_s32(0); T];
            for start in (0..row.len()).step_by(RUN_LINES) {
                let mut sums = [[zero(); 2]; T];
                for i in start..row.len().min(start + RUN_LINES) {
                    let bytes: [[uint8x16_t; 2]; 2] = cast(row[i].0);
                    for plane in 0..8 {
                        for half in 0..2 {
                            let codes = codes(bytes[plane / 4][half], 3 - plane % 4);
                            for t in 0..T {
                                let x: [int8x16_t; 2] = cast(x[t][i][plane]);
                                sums[t][half] = dot(sums[t][half], codes, x[half]);
                            }
                        }
                    }
                }
                for t in 0..T {
                    wide[t] = vaddq_s32(wide[t], vaddq_s32(widen(sums[t][0]), widen(sums[t][1])));
                }
            }
            for (t, wide) in wide.into_iter().enumerate() {
                out[t * stride] = vaddvq_s32(wide);
            }
        }
    };
}

/// Sums of a token fill eight registers, and their widened ones four more.
pub(super) mod smlal {
    kernels!("neon", smlal, 1 2);
}

/// Sums of a token fill four registers.
pub(super) mod sdot {
    kernels!("neon,dotprod", sdot, 1 2 3 4);
}
