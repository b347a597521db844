//! The base-3 layout: five rows' codes in a byte, all in one column.
//!
//! Since the five codes of a byte `v` meet the same activation, their sums need
//! not be told apart before the end. Any five functions of `v` that are linear in
//! its digits and independent do: multiply each with the activations, and solve
//! for the rows. These five cost seven operations a line beside the products:
//!
//! ```text
//! v           d₀ + 3 d₁ + 9 d₂ + 27 d₃ + 81 d₄      as it lies
//! r           d₀ + 3 d₁ + 9 d₂ + 27 d₃              v mod 81: min(v, v - 81, v - 162), where what is negative wraps
//! w           d₀ + 4 d₁ + 16 d₂ + 64 d₃             looked up, r being below the 128 entries of one `vpermi2b`
//! w & 0x0C         4 d₁
//! w & 0x30               16 d₂
//! ```
//!
//! What else was tried is in docs/decisions/0009-five-rows-in-a-byte.md.
//!
//! Bytes above 242 are no codes: what they give is defined (the table has 128
//! entries), but not said.

use std::arch::x86_64::*;

use super::super::stream::{self, STREAMS};
use super::pairs;
use crate::arch::{Activations, Layout, Line, Panels};

/// Rows of a panel, and columns of a line.
pub(super) const ROWS: usize = Layout::Base3.rows();
pub(super) const COLS: usize = Layout::Base3.cols();

/// Functions of a byte, and rows of a lane.
pub(super) const DIGITS: usize = 5;

/// A word of four activations: what meets one line.
type Word = [i8; COLS];

/// `w` for each `r`.
const WIDE: [u8; 128] = {
    let mut table = [0; 128];
    let mut r = 0;
    while r < 81 {
        table[r] = (r % 3 + r / 3 % 3 * 4 + r / 9 % 3 * 16 + r / 27 * 64) as u8;
        r += 1;
    }
    table
};

/// The five functions of each byte of a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
#[inline]
pub(super) fn functions(line: &Line) -> [__m512i; DIGITS] {
    let tables: [__m512i; 2] = bytemuck::cast(WIDE);
    let v = bytemuck::cast(line.0);
    let less_81 = _mm512_sub_epi8(v, _mm512_set1_epi8(81));
    let less_162 = _mm512_sub_epi8(v, _mm512_set1_epi8(162_u8 as i8));
    let r = _mm512_min_epu8(_mm512_min_epu8(v, less_81), less_162);
    let w = _mm512_permutex2var_epi8(tables[0], r, tables[1]);
    let by_4 = _mm512_and_si512(w, _mm512_set1_epi8(0x0C));
    let by_16 = _mm512_and_si512(w, _mm512_set1_epi8(0x30));
    [v, r, w, by_4, by_16]
}

/// The sums of the five rows of each lane, from the sums of the five functions.
///
/// Modulo 2³² but for the two shifts, which are exact while sixteen times a row's
/// sum fits 32 bits. Division by an odd number is multiplication by its inverse.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn rows([v, r, w, by_4, by_16]: [__m512i; DIGITS]) -> [[i32; 16]; DIGITS] {
    let times = |a, factor: u32| _mm512_mullo_epi32(a, _mm512_set1_epi32(factor as i32));
    let d1 = _mm512_srai_epi32::<2>(by_4);
    let d2 = _mm512_srai_epi32::<4>(by_16);
    // d₀ + 27 d₃ and d₀ + 64 d₃
    let narrow = _mm512_sub_epi32(r, _mm512_add_epi32(times(d1, 3), times(d2, 9)));
    let wide = _mm512_sub_epi32(w, _mm512_add_epi32(by_4, by_16));
    let d3 = times(_mm512_sub_epi32(wide, narrow), inverse(64 - 27));
    let d0 = _mm512_sub_epi32(narrow, times(d3, 27));
    let d4 = times(_mm512_sub_epi32(v, r), inverse(81));
    [d0, d1, d2, d3, d4].map(bytemuck::cast)
}

/// The inverse of an odd number modulo 2³², by Newton's iteration: each step
/// doubles the bits that are right, and `odd · odd` is 1 in the lowest three.
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut bits = 3;
    while bits < 32 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// Some panels at a time, as many as come from memory fastest; four have 20 sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn gemv(panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
    let (streams, is_far) = (stream::streams(), stream::is_amd());
    let x = Activations::new(x, x.len(), 1);
    for (group, out) in panels.groups(streams).zip(out.chunks_mut(streams * ROWS)) {
        match group.len() {
            1 if is_far => sums::<1, 1, true>(group, x, 0, out, ROWS),
            1 => sums::<1, 1, false>(group, x, 0, out, ROWS),
            2 => sums::<2, 1, false>(group, x, 0, out, ROWS),
            3 => sums::<3, 1, false>(group, x, 0, out, ROWS),
            STREAMS => sums::<STREAMS, 1, false>(group, x, 0, out, ROWS),
            _ => unreachable!("1 to {STREAMS} panels"),
        }
    }
}

/// Tokens of a tile at most: 25 of the 32 registers hold sums.
const TILE: usize = 5;

/// Tokens from which on unpacking lines once is faster than once for each tile, where unpacking takes its time from the products.
const MANY: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,gfni")]
pub(super) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let at_once = x.tokens() >= MANY && panels.cols() <= pairs::MOST_COLS;
    for (i, panel) in panels.groups(1).enumerate() {
        let out = &mut out[i * ROWS..];
        if !at_once {
            by_tiles(panel, x, out, panels.rows());
            continue;
        }
        for run in x.tiles(pairs::MOST) {
            pairs::gemm(panel, x.rows(run.clone()), &mut out[run.start * panels.rows()..], panels.rows());
        }
    }
}

/// [`gemm`] of one panel, whose lines are unpacked for each tile of tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
fn by_tiles(panel: Panels<'_>, x: Activations<'_>, out: &mut [i32], stride: usize) {
    for tile in x.tiles(TILE) {
        let (first, tokens) = (tile.start, tile.len());
        let out = &mut out[first * stride..];
        match tokens {
            1 => sums::<1, 1, false>(panel, x, first, out, stride),
            2 => sums::<1, 2, false>(panel, x, first, out, stride),
            3 => sums::<1, 3, false>(panel, x, first, out, stride),
            4 => sums::<1, 4, false>(panel, x, first, out, stride),
            TILE => sums::<1, TILE, false>(panel, x, first, out, stride),
            _ => unreachable!("a tile has 1 to {TILE} tokens"),
        }
    }
}

/// The sums of the rows of `P` panels for `T` tokens from `first`. The first one's go to
/// the beginning of `out`, the others' `stride` further each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
fn sums<const P: usize, const T: usize, const FAR: bool>(
    panels: Panels<'_>,
    x: Activations<'_>,
    first: usize,
    out: &mut [i32],
    stride: usize,
) {
    let lines = panels.cols() / COLS;
    let x: [&[Word]; T] = std::array::from_fn(|t| &x.row(first + t, panels.cols()).as_chunks().0[..lines]);
    let panels: [&[Line]; P] = std::array::from_fn(|p| &panels.lines()[p * lines..][..lines]);
    let mut sums = [[[_mm512_setzero_si512(); DIGITS]; P]; T];
    for (piece, ahead) in stream::pieces::<P>(lines) {
        for i in piece {
            for p in 0..P {
                stream::ask::<FAR>(&panels[p][i].0, ahead);
                let functions = functions(&panels[p][i]);
                for t in 0..T {
                    let word = _mm512_set1_epi32(bytemuck::cast(x[t][i]));
                    for (sum, function) in sums[t][p].iter_mut().zip(functions) {
                        *sum = _mm512_dpbusd_epi32(*sum, function, word);
                    }
                }
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (sums, out) in sums.into_iter().zip(out[t * stride..].chunks_exact_mut(ROWS)) {
            out.copy_from_slice(rows(sums).as_flattened());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::avx512::Avx512;

    /// A CPU takes one of the two, so that conformance tests see only that.
    #[test]
    fn pairs_give_what_tiles_give() {
        let byte = |i: usize| ((i * 2_654_435_761) >> 9) as u8;
        let line = |l: usize| Line(std::array::from_fn(|i| byte(64 * l + i) % 243));
        let activation = |i: usize| byte(i + 7) as i8;
        let all: (&[usize], &[usize]) =
            (&[1, 2, 3, 4, 5, 6, MANY, 13, 16, 31, 63, pairs::MOST], &[1, 2, 63, 64, 65, 197]);
        let (tokens, lines): (&[usize], &[usize]) = if cfg!(miri) { (&[3, 6, 13], &[1, 65]) } else { all };
        for &tokens in tokens {
            for &lines in lines {
                compare(tokens, lines, line, activation);
            }
        }
    }

    /// Where each step of taking rows apart is as wrong as it can be.
    #[test]
    fn pairs_of_the_largest_sums_give_what_tiles_give() {
        let most = pairs::MOST_COLS / COLS;
        // All rows, the first of each byte, all but the first, and every other one.
        for code in [242, 2, 240, 2 + 2 * 9 + 2 * 81, 2 * 3 + 2 * 27] {
            for x in [-128, 127] {
                compare(2, most, |_| Line([code; 64]), |_| x);
                compare(2, most - 1, |l| Line([code - (l % 2) as u8; 64]), |_| x);
            }
        }
    }

    fn compare(tokens: usize, lines: usize, line: impl Fn(usize) -> Line, activation: impl Fn(usize) -> i8) {
        if Avx512::<true>::detect().is_none_or(|isa| !isa.vbmi) {
            return;
        }
        let panel: Vec<Line> = (0..lines).map(line).collect();
        let panel = Panels::new(Layout::Base3, &panel, lines);
        let x: Vec<i8> = (0..tokens * panel.cols()).map(activation).collect();
        let x = Activations::new(&x, panel.cols(), tokens);
        // The panel's sums stand among those of others, which are not touched.
        let stride = ROWS + 16;
        let (mut tiles, mut pairs) = (vec![-1; tokens * stride], vec![-1; tokens * stride]);
        // SAFETY: `detect` found the features of both.
        unsafe { by_tiles(panel, x, &mut tiles, stride) };
        // SAFETY: as above.
        unsafe { pairs::gemm(panel, x, &mut pairs, stride) };
        assert_eq!(pairs, tiles, "{tokens} tokens, {lines} lines");
    }
}
