//! Panels of two bits with several tokens, by `smmla`.
//!
//! `smmla` multiplies two rows of eight bytes with two others, and adds the four sums to its lanes:
//!
//! ```text
//!                 token t   token t + 1
//! row r           lane 0    lane 1
//! row r + 1       lane 2    lane 3
//! ```
//!
//! A quarter of a line has four columns of four rows in each 2-bit field. Zipped by words, two
//! fields are eight columns of two rows, twice.

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;

use bytemuck::cast;

use super::panels::{COLS, ROWS, codes};
use crate::arch::{Activations, Line, Panels};

/// Tokens of a tile at most: 24 of 32 registers hold sums.
const TILE: usize = 6;

/// Activations that meet half the fields of a line.
type Half = [i8; COLS / 2];

/// For two tokens, the sums of a panel's rows.
type Sums = [[int32x4_t; 2]; 4];

#[target_feature(enable = "neon,i8mm")]
pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let rows = panels.rows();
    for (i, panel) in panels.iter().enumerate() {
        for tile in x.tiles(TILE) {
            let out = &mut out[tile.start * rows + i * ROWS..];
            match tile.len() {
                1 | 2 => sums::<1>(panel, x, tile.start, tile.len(), out, rows),
                3 | 4 => sums::<2>(panel, x, tile.start, tile.len(), out, rows),
                5 | TILE => sums::<3>(panel, x, tile.start, tile.len(), out, rows),
                _ => unreachable!("a tile has 1 to {TILE} tokens"),
            }
        }
    }
}

/// The sums of a panel's rows for `tokens` tokens from `first`, in `P` pairs. The first one's go to
/// the beginning of `out`, the others' `rows` further each.
#[target_feature(enable = "neon,i8mm")]
fn sums<const P: usize>(panel: &[Line], x: Activations<'_>, first: usize, tokens: usize, out: &mut [i32], rows: usize) {
    let halves = |t: usize| -> &[[Half; 2]] {
        // The last token stands in for a partner that it lacks.
        let row = x.row(first + t.min(tokens - 1), panel.len() * COLS);
        row.as_chunks().0.as_chunks().0
    };
    let x: [[&[[Half; 2]]; 2]; P] = std::array::from_fn(|p| [halves(2 * p), halves(2 * p + 1)]);
    let mut sums: [Sums; P] = [[[vdupq_n_s32(0); 2]; 4]; P];
    for (i, line) in panel.iter().enumerate() {
        step::<0, P>(line, x, i, &mut sums);
        step::<1, P>(line, x, i, &mut sums);
    }
    for (p, sums) in sums.into_iter().enumerate() {
        for (q, [low, high]) in sums.into_iter().enumerate() {
            let by_token: [[i32; 4]; 2] = cast([vuzp1q_s32(low, high), vuzp2q_s32(low, high)]);
            for (t, sums) in (2 * p..tokens).zip(by_token) {
                out[t * rows + 4 * q..][..4].copy_from_slice(&sums);
            }
        }
    }
}

/// Adds fields `2 · HALF` and `2 · HALF + 1` of a line, times the activations of `P` pairs of tokens.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn step<const HALF: usize, const P: usize>(line: &Line, x: [[&[[Half; 2]]; 2]; P], i: usize, sums: &mut [Sums; P]) {
    let mut pairs = [vdupq_n_s8(0); P];
    for (pair, [x, y]) in pairs.iter_mut().zip(x) {
        *pair = vcombine_s8(cast(x[i][HALF]), cast(y[i][HALF]));
    }
    let quarters: [uint8x16_t; 4] = cast(line.0);
    for q in 0..4 {
        let fields: [int32x4_t; 2] = cast([codes(quarters[q], 2 * HALF), codes(quarters[q], 2 * HALF + 1)]);
        let low = vreinterpretq_s8_s32(vzip1q_s32(fields[0], fields[1]));
        let high = vreinterpretq_s8_s32(vzip2q_s32(fields[0], fields[1]));
        for p in 0..P {
            sums[p][q] = [smmla(sums[p][q][0], low, pairs[p]), smmla(sums[p][q][1], high, pairs[p])];
        }
    }
}

#[target_feature(enable = "neon,i8mm")]
#[inline]
fn smmla(mut sums: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction of these features, on registers alone.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sums = inlateout(vreg) sums,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Twelve independent `smmla` a round: enough to hide the latency of each.
#[target_feature(enable = "neon,i8mm")]
pub(super) fn peak_macs(rounds: usize) -> u64 {
    let (codes, activations) = (vdupq_n_s8(black_box(1)), vdupq_n_s8(black_box(-1)));
    let mut sums = [vdupq_n_s32(0); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = smmla(*sum, codes, activations);
        }
    }
    black_box(sums);
    (rounds * 12 * 32) as u64
}
