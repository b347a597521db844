//! Sums of code × activation with `pmaddubsw`.
//!
//! As in AVX2's kernels, with a quarter of a [`Line`] at a time: sixteen bytes are four rows, four
//! neighbouring columns each, which meet a word of four activations. `pmaddubsw` gives two 16-bit sums
//! of two products for each row; those of some lines are added as they are, and `pmaddwd` by one joins and widens them.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{Sse41, rows};
use crate::arch::{Activations, IntegerOps, Layout, Line, Panels};

/// Rows of a panel, and columns of a line, in the layout of these kernels.
const ROWS: usize = Layout::TwoBit.rows();
const COLS: usize = Layout::TwoBit.cols();

impl IntegerOps for Sse41 {
    fn layouts(&self) -> &'static [Layout] {
        &[Layout::TwoBit]
    }

    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        self.gemm(panels, Activations::new(x, x.len(), 1), out);
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");
        if panels.layout() == Layout::Rows {
            // SAFETY: `self` exists only where `detect` found these features.
            return unsafe { rows::gemm(panels, x, out) };
        }
        assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { gemm(panels, x, out) }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { peak_macs(rounds) }
    }
}

/// Twelve independent chains of `pmaddubsw` and the addition of its eight sums.
#[target_feature(enable = "ssse3,sse4.1")]
fn peak_macs(rounds: usize) -> u64 {
    let activations = _mm_set1_epi8(black_box(-1));
    let mut sums = [_mm_set1_epi8(black_box(1)); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            // The sum is the operand too, or the product would be computed once for all rounds.
            *sum = _mm_add_epi16(*sum, _mm_maddubs_epi16(*sum, activations));
        }
    }
    black_box(sums);
    (rounds * 12 * 16) as u64
}

/// Sixteen activations: what meets one line.
type Run = [i8; COLS];

/// The most one `pmaddubsw` gives: two products of -128 with code 3.
const STEP_MAX: i32 = 2 * 128 * 3;

/// Lines, of four steps each, whose sums fit 16 bits.
const NARROW_LINES: usize = (i16::MAX as i32 / STEP_MAX / 4) as usize;

/// Tokens of a tile at most: with four quarters of a line, eight of the sixteen registers hold sums.
const TILE: usize = 2;

#[target_feature(enable = "ssse3,sse4.1")]
fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let rows = panels.rows();
    for (i, panel) in panels.iter().enumerate() {
        for tile in x.tiles(TILE) {
            let out = &mut out[tile.start * rows + i * ROWS..];
            match tile.len() {
                1 => sums::<1>(panel, x, tile.start, out, rows),
                TILE => sums::<TILE>(panel, x, tile.start, out, rows),
                _ => unreachable!("a tile has 1 to {TILE} tokens"),
            }
        }
    }
}

/// The sums of a panel's rows for `T` tokens from `first`. The first one's go to the beginning of `out`, the others'
/// `rows` further each.
#[target_feature(enable = "ssse3,sse4.1")]
fn sums<const T: usize>(panel: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], rows: usize) {
    let x: [&[Run]; T] = std::array::from_fn(|t| x.row(first + t, panel.len() * COLS).as_chunks::<COLS>().0);
    let (mask, ones) = (_mm_set1_epi8(3), _mm_set1_epi16(1));
    let mut wide = [[_mm_setzero_si128(); 4]; T];
    for start in (0..panel.len()).step_by(NARROW_LINES) {
        let end = panel.len().min(start + NARROW_LINES);
        let mut narrow = [[_mm_setzero_si128(); 4]; T];
        for i in start..end {
            let quarters: [__m128i; 4] = bytemuck::cast(panel[i].0);
            for f in 0..4 {
                let shift = _mm_cvtsi32_si128(2 * f as i32);
                // Bits that come in from the byte above fall to the mask.
                let codes = quarters.map(|quarter| _mm_and_si128(_mm_srl_epi32(quarter, shift), mask));
                for t in 0..T {
                    let words: [i32; 4] = bytemuck::cast(x[t][i]);
                    let word = _mm_set1_epi32(words[f]);
                    for (narrow, codes) in narrow[t].iter_mut().zip(codes) {
                        *narrow = _mm_add_epi16(*narrow, _mm_maddubs_epi16(codes, word));
                    }
                }
            }
        }
        for (wide, narrow) in wide.as_flattened_mut().iter_mut().zip(narrow.as_flattened()) {
            *wide = _mm_add_epi32(*wide, _mm_madd_epi16(*narrow, ones));
        }
    }
    for (t, wide) in wide.into_iter().enumerate() {
        let sums: [i32; ROWS] = bytemuck::cast(wide);
        out[t * rows..][..ROWS].copy_from_slice(&sums);
    }
}
