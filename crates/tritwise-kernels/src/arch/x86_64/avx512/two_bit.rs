//! The two-bit layout: lane r of a line is row r, and its four 2-bit fields are
//! four steps of `vpdpbusd`.
//!
//! * For one token the fields are not shifted down. Masked where they lie, they
//!   are codes times 1, 4, 16 and 64, and each has an accumulator of its own,
//!   which is shifted once at the end. That is four ANDs and four `vpdpbusd`
//!   for 64 bytes: less time than the memory takes to deliver them.
//! * For several tokens the fields are shifted down once and used for a tile of
//!   tokens, whose sums fill the registers: 2 panels × 12 tokens are 24 of 32.

use std::arch::x86_64::*;

use super::super::stream::{self, STREAMS};
use crate::arch::{Activations, Layout, Line, Panels};

/// Rows of a panel, and columns of a line.
const ROWS: usize = Layout::TwoBit.rows();
const COLS: usize = Layout::TwoBit.cols();

/// Sixteen activations: what meets one line.
type Run = [i8; COLS];

/// The most one line adds to an accumulator: four products of -128 with code 3,
/// which lies in the top field, worth 64 times itself.
const LINE_MAX: i32 = 4 * 128 * (3 * 64);

/// Lines after which the accumulators are shifted and added up, so that none
/// overflows: 349,520 columns, so in practice never within a row.
const RUN_LINES: usize = (i32::MAX / LINE_MAX) as usize;

/// Some panels at a time, as many as come from memory fastest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn gemv(panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
    let streams = stream::streams();
    let (x, _) = x.as_chunks();
    for (group, out) in panels.groups(streams).zip(out.chunks_mut(streams * ROWS)) {
        match group.len() {
            1 => panel_sums::<1>(group, x, out),
            2 => panel_sums::<2>(group, x, out),
            3 => panel_sums::<3>(group, x, out),
            STREAMS => panel_sums::<STREAMS>(group, x, out),
            _ => unreachable!("1 to {STREAMS} panels"),
        }
    }
}

/// The sums of the rows of `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn panel_sums<const P: usize>(panels: Panels<'_>, x: &[Run], out: &mut [i32]) {
    let masks = [0x03, 0x0C, 0x30, 0xC0_u8 as i8].map(|mask| _mm512_set1_epi8(mask));
    let panels: [&[Line]; P] = std::array::from_fn(|p| &panels.lines()[p * x.len()..][..x.len()]);
    let mut sums = [_mm512_setzero_si512(); P];
    for (piece, ahead) in stream::pieces::<P>(x.len()) {
        for start in piece.clone().step_by(RUN_LINES) {
            let mut scaled = [[_mm512_setzero_si512(); 4]; P];
            for i in start..piece.end.min(start + RUN_LINES) {
                let words: [i32; 4] = bytemuck::cast(x[i]);
                for p in 0..P {
                    stream::prefetch(&panels[p][i].0, ahead);
                    let line = bytemuck::cast(panels[p][i].0);
                    for f in 0..4 {
                        let codes = _mm512_and_si512(line, masks[f]);
                        scaled[p][f] = _mm512_dpbusd_epi32(scaled[p][f], codes, _mm512_set1_epi32(words[f]));
                    }
                }
            }
            for (sum, [by_1, by_4, by_16, by_64]) in sums.iter_mut().zip(scaled) {
                // Exact: each accumulator is a multiple of what it is divided by.
                let low = _mm512_add_epi32(by_1, _mm512_srai_epi32::<2>(by_4));
                let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(by_16), _mm512_srai_epi32::<6>(by_64));
                *sum = _mm512_add_epi32(*sum, _mm512_add_epi32(low, high));
            }
        }
    }
    out.copy_from_slice(bytemuck::cast_slice(&sums));
}

/// Tokens of a tile at most.
const TILE: usize = 12;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let lines = panels.cols() / COLS;
    let rows = panels.rows();
    for (i, pair) in panels.lines().chunks(2 * lines).enumerate() {
        let first_row = 2 * i * ROWS;
        for tile in x.tiles(TILE) {
            let (first, tokens) = (tile.start, tile.len());
            let tile = Tile { x, first, out: &mut out[first * rows + first_row..], rows };
            match pair.split_at_checked(lines) {
                Some((a, b)) if !b.is_empty() => tile.multiply([a, b], tokens),
                _ => tile.multiply([pair], tokens),
            }
        }
    }
}

/// Some tokens' activations, and where their sums go.
struct Tile<'a> {
    x: Activations<'a>,
    first: usize,
    /// From the first token's sum with the first row; tokens are `rows` apart.
    out: &'a mut [i32],
    rows: usize,
}

impl Tile<'_> {
    /// The sums of `P` panels' rows for `tokens` tokens, at most [`TILE`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn multiply<const P: usize>(self, panels: [&[Line]; P], tokens: usize) {
        match tokens {
            1 => self.sums::<P, 1>(panels),
            2 => self.sums::<P, 2>(panels),
            3 => self.sums::<P, 3>(panels),
            4 => self.sums::<P, 4>(panels),
            5 => self.sums::<P, 5>(panels),
            6 => self.sums::<P, 6>(panels),
            7 => self.sums::<P, 7>(panels),
            8 => self.sums::<P, 8>(panels),
            9 => self.sums::<P, 9>(panels),
            10 => self.sums::<P, 10>(panels),
            11 => self.sums::<P, 11>(panels),
            TILE => self.sums::<P, TILE>(panels),
            _ => unreachable!("a tile has 1 to {TILE} tokens"),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn sums<const P: usize, const T: usize>(self, panels: [&[Line]; P]) {
        let lines = panels[0].len();
        let x: [&[Run]; T] = std::array::from_fn(|t| self.x.row(self.first + t, lines * COLS).as_chunks::<COLS>().0);
        let mut sums = [[_mm512_setzero_si512(); T]; P];
        for i in 0..lines {
            panels.iter().for_each(|panel| stream::prefetch(&panel[i].0, stream::AHEAD_ALONE));
            step::<0, P, T>(panels, x, i, &mut sums);
            step::<1, P, T>(panels, x, i, &mut sums);
            step::<2, P, T>(panels, x, i, &mut sums);
            step::<3, P, T>(panels, x, i, &mut sums);
        }
        for (p, sums) in sums.into_iter().enumerate() {
            for (t, sum) in sums.into_iter().enumerate() {
                let sum: [i32; ROWS] = bytemuck::cast(sum);
                self.out[t * self.rows + p * ROWS..][..ROWS].copy_from_slice(&sum);
            }
        }
    }
}

/// Adds field `F` of line `i` of `P` panels, times the activations of `T` tokens.
///
/// Written out four times by its caller: as a loop over `F` the compiler left
/// some tiles rolled, with their sums in memory, at three quarters of the speed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn step<const F: usize, const P: usize, const T: usize>(
    panels: [&[Line]; P],
    x: [&[Run]; T],
    i: usize,
    sums: &mut [[__m512i; T]; P],
) {
    let mut codes = [_mm512_setzero_si512(); P];
    for (codes, panel) in codes.iter_mut().zip(panels) {
        // Bits that come in from the byte above fall to the mask.
        let field = _mm512_srlv_epi32(bytemuck::cast(panel[i].0), _mm512_set1_epi32(2 * F as i32));
        *codes = _mm512_and_si512(field, _mm512_set1_epi8(3));
    }
    for (t, x) in x.into_iter().enumerate() {
        let words: [i32; 4] = bytemuck::cast(x[i]);
        let word = _mm512_set1_epi32(words[F]);
        for (sums, codes) in sums.iter_mut().zip(codes) {
            sums[t] = _mm512_dpbusd_epi32(sums[t], codes, word);
        }
    }
}
