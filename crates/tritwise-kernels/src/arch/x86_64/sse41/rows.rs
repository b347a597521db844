//! The row-by-row layout, which is I2_S as it lies in a file: lanes run over columns.
//!
//! As in the kernel of AVX2 and better, in halves of its registers: a quarter of a [`Line`] is sixteen bytes of
//! one half of it, and has sixteen columns of each of that half's four planes.

use std::arch::x86_64::*;

use crate::arch::{Activations, Layout, Line, Panels};

/// Columns of a line, and of one plane in a quarter of it.
const COLS: usize = Layout::Rows.cols();
const PLANE: usize = COLS / 16;

/// The most one `pmaddubsw` gives: two products of -128 with code 3.
const STEP_MAX: i32 = 2 * 128 * 3;

/// Lines, of sixteen steps each, whose sums fit 16 bits.
const NARROW_LINES: usize = (i16::MAX as i32 / STEP_MAX / 16) as usize;

/// Tokens of a tile at most; what a line is unpacked to serves all of them.
const TILE: usize = 4;

#[target_feature(enable = "ssse3,sse4.1")]
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
#[target_feature(enable = "ssse3,sse4.1")]
fn sums<const T: usize>(row: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], stride: usize) {
    let x: [&[[i8; COLS]]; T] = std::array::from_fn(|t| x.row(first + t, row.len() * COLS).as_chunks().0);
    let (mask, ones) = (_mm_set1_epi8(3), _mm_set1_epi16(1));
    let mut wide = [_mm_setzero_si128(); T];
    for start in (0..row.len()).step_by(NARROW_LINES) {
        let mut narrow = [_mm_setzero_si128(); T];
        for i in start..row.len().min(start + NARROW_LINES) {
            let quarters: [__m128i; 4] = bytemuck::cast(row[i].0);
            for (q, quarter) in quarters.into_iter().enumerate() {
                for plane in 0..4 {
                    let shift = _mm_cvtsi32_si128(6 - 2 * plane as i32);
                    // Bits that come in from the byte above fall to the mask.
                    let codes = _mm_and_si128(_mm_srl_epi32(quarter, shift), mask);
                    // Half, plane, and quarter of the half.
                    let place = q / 2 * 8 + plane * 2 + q % 2;
                    for t in 0..T {
                        let x = x[t][i].as_chunks::<PLANE>().0[place];
                        narrow[t] = _mm_add_epi16(narrow[t], _mm_maddubs_epi16(codes, bytemuck::cast(x)));
                    }
                }
            }
        }
        for (wide, narrow) in wide.iter_mut().zip(narrow) {
            *wide = _mm_add_epi32(*wide, _mm_madd_epi16(narrow, ones));
        }
    }
    for (t, wide) in wide.into_iter().enumerate() {
        let lanes: [i32; 4] = bytemuck::cast(wide);
        out[t * stride] = lanes.into_iter().fold(0, i32::wrapping_add);
    }
}
