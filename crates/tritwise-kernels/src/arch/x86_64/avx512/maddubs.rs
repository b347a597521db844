//! Sums of code × activation without VNNI, by `vpmaddubsw`: the kernels of `avx2/integer.rs` with registers twice as wide and
//! twice as many.
//!
//! A line is one operand. Lines of two panels are unpacked together, to steps of four columns, and meet tiles of up to six
//! tokens. One token, whose time is the memory's, and two are left to AVX2.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::super::avx2::integer::{self as avx2, COLS, NARROW_LINES, ROWS, Run, STEP_COLS, STEPS};
use super::super::{rows, stream};
use super::Avx512;
use crate::arch::integer::group_by_group;
use crate::arch::{Activations, IntegerOps, Layout, Line, Panels};

impl IntegerOps for Avx512<false> {
    fn layouts(&self) -> &'static [Layout] {
        &[Layout::TwoBit]
    }

    fn gemv(&self, panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
        assert_eq!(x.len(), panels.cols(), "one activation per column");
        if panels.layout() == Layout::Rows {
            return self.gemm(panels, Activations::new(x, x.len(), 1), out);
        }
        assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");
        assert_eq!(out.len(), panels.rows(), "one sum per row");
        // SAFETY: AVX2 is among the features that `detect` found.
        unsafe { avx2::gemv(panels, x, out) }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");
        match panels.layout() {
            // SAFETY: AVX2 is among the features that `detect` found.
            Layout::Rows => unsafe { rows::gemm(panels, x, out) },
            // SAFETY: AVX2 is among the features that `detect` found.
            Layout::TwoBit if x.tokens() < FEW => unsafe { avx2::gemm(panels, x, out) },
            // SAFETY: `self` exists only where `detect` found these features.
            Layout::TwoBit => unsafe { gemm(panels, x, out) },
            Layout::Base3 => panic!("a layout with kernels"),
        }
    }

    fn group_sums(&self, panel: Panels<'_>, lines: usize, x: Activations<'_>, out: &mut [i32]) {
        if panel.layout() != Layout::TwoBit {
            return group_by_group(self, panel, lines, x, out);
        }
        // SAFETY: AVX2 is among the features that `detect` found.
        unsafe { avx2::group_sums(panel, lines, x, out) }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { peak_macs(rounds) }
    }
}

/// Sixteen independent chains of `vpmaddubsw` and the addition of its sixteen-bit sums.
#[target_feature(enable = "avx512f,avx512bw")]
fn peak_macs(rounds: usize) -> u64 {
    let activations = _mm512_set1_epi8(black_box(-1));
    let mut sums = [_mm512_set1_epi8(black_box(1)); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            // The sum is the operand too, or the product would be computed once for all rounds.
            *sum = _mm512_add_epi16(*sum, _mm512_maddubs_epi16(*sum, activations));
        }
    }
    black_box(sums);
    (rounds * 16 * 64) as u64
}

/// Tokens below which AVX2's kernels are faster, which unpack a line where they use it.
const FEW: usize = 3;

/// The codes of a line, step by step.
type Codes = [__m512i; STEPS];

/// Panels that meet a tile of tokens together, and tokens of a tile at most: a word of activations is loaded for both panels,
/// and the sums of 16 and of 32 bits take 24 of the 32 registers. Three panels and four or five tokens are as fast, one and
/// eleven a twentieth slower (docs/speed.md).
const PANELS: usize = 2;
const TILE: usize = 6;

/// Lines of each panel that are unpacked together, to 20 KiB of the nearest cache.
const CHUNK: usize = 4 * NARROW_LINES;

#[target_feature(enable = "avx512f,avx512bw")]
fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let rows = panels.rows();
    let mut unpacked = [[_mm512_setzero_si512(); STEPS]; PANELS * CHUNK];
    for (i, group) in panels.groups(PANELS).enumerate() {
        let out = &mut out[i * PANELS * ROWS..];
        match group.len() {
            1 => unpacked_once::<1>(group, x, &mut unpacked, out, rows),
            PANELS => unpacked_once::<PANELS>(group, x, &mut unpacked, out, rows),
            _ => unreachable!("1 to {PANELS} panels"),
        }
    }
}

/// [`gemm`] of `P` panels, some lines at a time for all tokens. In between, `out` holds the sums.
#[target_feature(enable = "avx512f,avx512bw")]
fn unpacked_once<const P: usize>(
    panels: Panels<'_>,
    x: Activations<'_>,
    unpacked: &mut [Codes; PANELS * CHUNK],
    out: &mut [i32],
    rows: usize,
) {
    let lines = panels.cols() / COLS;
    for start in (0..lines).step_by(CHUNK) {
        let (unpacked, _) = unpacked.as_chunks_mut::<P>();
        let unpacked = &mut unpacked[..CHUNK.min(lines - start)];
        for (i, codes) in unpacked.iter_mut().enumerate() {
            for (codes, panel) in codes.iter_mut().zip(panels.iter()) {
                let line = &panel[start + i];
                stream::prefetch(&line.0, stream::AHEAD_ALONE);
                *codes = unpack(line);
            }
        }
        let x = x.columns_from(start * COLS);
        for tile in x.tiles(TILE) {
            let (first, is_held) = (tile.start, start > 0);
            let out = &mut out[first * rows..];
            match tile.len() {
                1 => add::<P, 1>(unpacked, x, first, is_held, out, rows),
                2 => add::<P, 2>(unpacked, x, first, is_held, out, rows),
                3 => add::<P, 3>(unpacked, x, first, is_held, out, rows),
                4 => add::<P, 4>(unpacked, x, first, is_held, out, rows),
                5 => add::<P, 5>(unpacked, x, first, is_held, out, rows),
                TILE => add::<P, TILE>(unpacked, x, first, is_held, out, rows),
                _ => unreachable!("a tile has 1 to {TILE} tokens"),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn unpack(line: &Line) -> Codes {
    let line = bytemuck::cast(line.0);
    let mut codes = [line; STEPS];
    for (step, codes) in codes.iter_mut().enumerate() {
        // Bits that come in from the byte above fall to the mask.
        let field = _mm512_srlv_epi32(line, _mm512_set1_epi32(2 * step as i32));
        *codes = _mm512_and_si512(field, _mm512_set1_epi8(3));
    }
    codes
}

/// The products of some unpacked lines of `P` panels with `T` tokens from `first`, added to `out` if something `is_held`
/// there. The first token's sums go to the beginning of `out`, the others' `rows` further each.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline(never)]
fn add<const P: usize, const T: usize>(
    lines: &[[Codes; P]],
    x: Activations<'_>,
    first: usize,
    is_held: bool,
    out: &mut [i32],
    rows: usize,
) {
    let mut runs = [&[] as &[Run]; T];
    for (token, runs) in (first..).zip(&mut runs) {
        *runs = x.row(token, lines.len() * COLS).as_chunks().0;
    }
    let mut wide = [[_mm512_setzero_si512(); P]; T];
    if is_held {
        for t in 0..T {
            let (held, _) = out[t * rows..][..P * ROWS].as_chunks::<ROWS>();
            for p in 0..P {
                wide[t][p] = bytemuck::cast(held[p]);
            }
        }
    }
    let (whole, rest) = lines.as_chunks::<NARROW_LINES>();
    for (i, lines) in whole.iter().enumerate() {
        add_narrow(lines, &runs, i * NARROW_LINES, &mut wide);
    }
    for (i, line) in rest.iter().enumerate() {
        add_narrow(std::array::from_ref(line), &runs, whole.len() * NARROW_LINES + i, &mut wide);
    }
    for t in 0..T {
        out[t * rows..][..P * ROWS].copy_from_slice(bytemuck::cast_slice(&wide[t]));
    }
}

/// [`add`] of lines whose sums fit 16 bits, and which meet the activations of each token from line `first` on.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add_narrow<const P: usize, const T: usize, const L: usize>(
    lines: &[[Codes; P]; L],
    x: &[&[Run]; T],
    first: usize,
    wide: &mut [[__m512i; P]; T],
) {
    const { assert!(L <= NARROW_LINES, "sums that fit 16 bits") };
    let mut words = [&[] as &[[[i8; STEP_COLS]; STEPS]]; T];
    for t in 0..T {
        words[t] = bytemuck::cast_slice(&x[t][first..][..L]);
    }
    let mut narrow = [[_mm512_setzero_si512(); P]; T];
    for (i, line) in lines.iter().enumerate() {
        for step in 0..STEPS {
            for t in 0..T {
                let word = _mm512_set1_epi32(bytemuck::cast(words[t][i][step]));
                for p in 0..P {
                    narrow[t][p] = _mm512_add_epi16(narrow[t][p], _mm512_maddubs_epi16(line[p][step], word));
                }
            }
        }
    }
    let ones = _mm512_set1_epi16(1);
    for (wide, narrow) in wide.as_flattened_mut().iter_mut().zip(narrow.as_flattened()) {
        *wide = _mm512_add_epi32(*wide, _mm512_madd_epi16(*narrow, ones));
    }
}
