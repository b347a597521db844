//! Sums of code × activation with `i32x4.dot_i16x8_s`.
//!
//! A quarter of a [`Line`] is sixteen bytes, four rows of four neighbouring columns. Two shifts and masks
//! make 16-bit codes of one field's even columns and of its odd ones, two columns of a row each, and
//! the dot product adds the two products to 32 bits: no sum is narrow, so there is no bound but that of the layout.

use std::arch::wasm32::*;
use std::hint::black_box;

use super::{Simd128, rows};
use crate::arch::{Activations, IntegerOps, Layout, Line, Panels};

/// Rows of a panel, and columns of a line, in the layout of these kernels.
const ROWS: usize = Layout::TwoBit.rows();
const COLS: usize = Layout::TwoBit.cols();

impl IntegerOps for Simd128 {
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
            return rows::gemm(panels, x, out);
        }
        assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");
        gemm(panels, x, out);
    }

    /// Twelve independent chains of dot products and additions.
    fn peak_macs(&self, rounds: usize) -> u64 {
        let activations = i16x8_splat(black_box(-1));
        let mut sums = [i16x8_splat(black_box(1)); 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                // The sum is the operand too, or the product would be computed once for all rounds.
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(*sum, activations));
            }
        }
        black_box(sums);
        (rounds * 12 * 8) as u64
    }
}

/// Tokens of a tile at most; codes are unpacked once for all of them.
const TILE: usize = 2;

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
fn sums<const T: usize>(panel: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], rows: usize) {
    let x: [&[[i8; COLS]]; T] = std::array::from_fn(|t| x.row(first + t, panel.len() * COLS).as_chunks().0);
    let mut sums = [[i32x4_splat(0); 4]; T];
    for (i, line) in panel.iter().enumerate() {
        let quarters: [v128; 4] = bytemuck::cast(line.0);
        let activations: [[[v128; 2]; 4]; T] = std::array::from_fn(|t| fields(&x[t][i]));
        for f in 0..4 {
            for (q, quarter) in quarters.into_iter().enumerate() {
                let codes = even_and_odd(quarter, 2 * f as u32);
                for t in 0..T {
                    for (codes, x) in codes.into_iter().zip(activations[t][f]) {
                        sums[t][q] = i32x4_add(sums[t][q], i32x4_dot_i16x8(codes, x));
                    }
                }
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        let sums: [i32; ROWS] = bytemuck::cast(sums);
        out[t * rows..][..ROWS].copy_from_slice(&sums);
    }
}

/// Bits `shift + 1..=shift` of even bytes and of odd ones.
#[inline(always)]
pub(super) fn even_and_odd(bytes: v128, shift: u32) -> [v128; 2] {
    let mask = i16x8_splat(3);
    [v128_and(u16x8_shr(bytes, shift), mask), v128_and(u16x8_shr(bytes, shift + 8), mask)]
}

/// For each field of a line's bytes, its even and its odd columns, repeated for all rows.
#[inline(always)]
fn fields(x: &[i8; COLS]) -> [[v128; 2]; 4] {
    let x: v128 = bytemuck::cast(*x);
    let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
    [
        [repeat::<0, 2>(low), repeat::<1, 3>(low)],
        [repeat::<4, 6>(low), repeat::<5, 7>(low)],
        [repeat::<0, 2>(high), repeat::<1, 3>(high)],
        [repeat::<4, 6>(high), repeat::<5, 7>(high)],
    ]
}

#[inline(always)]
pub(super) fn repeat<const A: usize, const B: usize>(x: v128) -> v128 {
    i16x8_shuffle::<A, B, A, B, A, B, A, B>(x, x)
}
