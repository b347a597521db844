//! The row-by-row layout, which is I2_S as it lies in a file: lanes run over columns.
//!
//! A lane has sums of one row, so lanes are added up at the end, and every
//! activation is loaded for every row. Panels are faster; this is for memory that
//! has no room for them, and one kernel serves every instruction set with AVX2.
//!
//! `vpmaddubsw` gives 16-bit sums of two products. They are added as they are
//! for some lines, then widened by `vpmaddwd`.

use std::arch::x86_64::*;

use super::stream;
use crate::arch::{Activations, Layout, Line, Panels};

/// Columns of a line, of which each half has four planes.
const COLS: usize = Layout::Rows.cols();
const PLANE: usize = COLS / 8;

/// The most one `vpmaddubsw` gives: two products of -128 with code 3.
const STEP_MAX: i32 = 2 * 128 * 3;

/// Lines, of eight steps each, whose sums fit 16 bits.
const NARROW_LINES: usize = (i16::MAX as i32 / STEP_MAX / 8) as usize;

/// Tokens of a tile at most: eight of the sixteen registers hold sums.
const TILE: usize = 4;

#[target_feature(enable = "avx2")]
pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    for (row, lines) in panels.iter().enumerate() {
        for tile in x.tiles(TILE) {
            let (first, tokens) = (tile.start, tile.len());
            let out = &mut out[first * panels.rows() + row..];
            match tokens {
                1 => sums::<1>(lines, x, first, out, panels.rows()),
                2 => sums::<2>(lines, x, first, out, panels.rows()),
                3 => sums::<3>(lines, x, first, out, panels.rows()),
                TILE => sums::<TILE>(lines, x, first, out, panels.rows()),
                _ => unreachable!("a tile has 1 to {TILE} tokens"),
            }
        }
    }
}

/// The sum of one row for each of `T` tokens from `first`, written `stride` apart.
#[target_feature(enable = "avx2")]
fn sums<const T: usize>(row: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], stride: usize) {
    // Eight planes of activations meet a line.
    let x: [&[[[i8; PLANE]; 8]]; T] = std::array::from_fn(|t| {
        let (planes, _) = x.row(first + t, row.len() * COLS).as_chunks::<PLANE>();
        planes.as_chunks::<8>().0
    });
    let ones = _mm256_set1_epi16(1);
    let mut wide = [_mm256_setzero_si256(); T];
    for start in (0..row.len()).step_by(NARROW_LINES) {
        let mut narrow = [_mm256_setzero_si256(); T];
        for i in start..row.len().min(start + NARROW_LINES) {
            stream::prefetch(&row[i].0, stream::AHEAD_ALONE);
            let halves: [__m256i; 2] = bytemuck::cast(row[i].0);
            for plane in 0..8 {
                let shift = _mm256_set1_epi32(6 - 2 * (plane % 4) as i32);
                // Bits that come in from the byte above fall to the mask.
                let codes = _mm256_and_si256(_mm256_srlv_epi32(halves[plane / 4], shift), _mm256_set1_epi8(3));
                for t in 0..T {
                    let step = _mm256_maddubs_epi16(codes, bytemuck::cast(x[t][i][plane]));
                    narrow[t] = _mm256_add_epi16(narrow[t], step);
                }
            }
        }
        for (wide, narrow) in wide.iter_mut().zip(narrow) {
            *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(narrow, ones));
        }
    }
    for (t, wide) in wide.into_iter().enumerate() {
        let lanes: [i32; 8] = bytemuck::cast(wide);
        out[t * stride] = lanes.into_iter().fold(0, i32::wrapping_add);
    }
}
