//! Sums of code × activation with `vpmaddubsw`.
//!
//! `vpmaddubsw` takes 32 unsigned bytes and 32 signed ones and gives sixteen
//! 16-bit sums of two products. Half a [`Line`] is 32 bytes: eight rows, four
//! neighbouring columns each, which meet a word of four activations that is the
//! same for all rows. The 16-bit sums of some lines are added as they are, and
//! then widened: `vpmaddwd` by one adds the two sums of a row and makes them 32
//! bits wide.
//!
//! For one token, whose time is the memory's, three panels that lie apart are read side
//! by side. For many tokens some lines are unpacked first, to steps of four columns, so that
//! the loop over a tile of tokens does nothing but load and multiply.

use std::arch::x86_64::*;
use std::hint::black_box;
use std::ops::Range;

use super::super::{rows, stream};
use super::{Avx2, vnni};
use crate::arch::integer::group_by_group;
use crate::arch::{Activations, IntegerOps, Layout, Line, Panels};

/// Rows of a panel, and columns of a line, in the layout of these kernels.
pub(in crate::arch::x86_64) const ROWS: usize = Layout::TwoBit.rows();
pub(in crate::arch::x86_64) const COLS: usize = Layout::TwoBit.cols();

impl IntegerOps for Avx2 {
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
        let gemv = if self.vnni { vnni::gemv } else { gemv };
        // SAFETY: `self` exists only where `detect` found the features of the one, and `vnni` tells that `detect_vnni` found
        // those of the other.
        unsafe { gemv(panels, x, out) }
    }

    fn gemm(&self, panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");
        if panels.layout() == Layout::Rows {
            // SAFETY: `self` exists only where `detect` found these features.
            return unsafe { rows::gemm(panels, x, out) };
        }
        assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");
        if self.vnni {
            // SAFETY: `vnni` tells that `detect_vnni` found these features.
            return unsafe { vnni::gemm(panels, x, out) };
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { gemm(panels, x, out) }
    }

    fn group_sums(&self, panel: Panels<'_>, lines: usize, x: Activations<'_>, out: &mut [i32]) {
        if panel.layout() != Layout::TwoBit {
            return group_by_group(self, panel, lines, x, out);
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { group_sums(panel, lines, x, out) }
    }

    fn peak_macs(&self, rounds: usize) -> u64 {
        if self.vnni {
            // SAFETY: `vnni` tells that `detect_vnni` found these features.
            return unsafe { vnni::peak_macs(rounds) };
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { peak_macs(rounds) }
    }
}

/// Twelve independent chains of `vpmaddubsw` and the addition of its sixteen-bit sums.
#[target_feature(enable = "avx2")]
fn peak_macs(rounds: usize) -> u64 {
    let activations = _mm256_set1_epi8(black_box(-1));
    let mut sums = [_mm256_set1_epi8(black_box(1)); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            // The sum is the operand too, or the product would be computed once for all rounds.
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(*sum, activations));
        }
    }
    black_box(sums);
    (rounds * 12 * 32) as u64
}

/// Sixteen activations: what meets one line.
pub(in crate::arch::x86_64) type Run = [i8; COLS];

/// The most one `vpmaddubsw` gives: two products of -128 with code 3.
const STEP_MAX: i32 = 2 * 128 * 3;

/// Lines, of four steps each, whose sums fit 16 bits.
pub(in crate::arch::x86_64) const NARROW_LINES: usize = (i16::MAX as i32 / STEP_MAX / 4) as usize;

/// Tokens of a tile at most: with two halves of a line, eight of the sixteen
/// registers hold sums.
const TILE: usize = 4;

/// Tokens from which on unpacking lines once is faster than once for each tile. Intel's gain from 16 on; Zen 3
/// loses at 16 and gains at 24 (docs/speed.md).
const MANY: usize = 24;

/// Lines that are unpacked together, to 20 KiB of the nearest cache.
const CHUNK: usize = 8 * NARROW_LINES;

/// Columns of a step, and steps of a line.
pub(in crate::arch::x86_64) const STEP_COLS: usize = 4;
pub(in crate::arch::x86_64) const STEPS: usize = COLS / STEP_COLS;

/// The codes of a step: bytes of eight rows each.
type Codes = [__m256i; 2];

/// Streams in which one token's weights are read: on Zen 3 two, four and one take longer (docs/speed.md).
const STREAMS: usize = 3;

/// The sums for one token. Each stream is a run of neighbouring panels, a third of all, and so breaks off nowhere before its
/// end. Panels that are left over are read one by one.
#[target_feature(enable = "avx2")]
pub(in crate::arch::x86_64) fn gemv(panels: Panels<'_>, x: &[i8], out: &mut [i32]) {
    let (x, _) = x.as_chunks();
    let (out, _) = out.as_chunks_mut::<ROWS>();
    let panel = |place: usize| &panels.lines()[place * x.len()..][..x.len()];
    let length = panels.len() / STREAMS;
    for i in 0..length {
        let places: [usize; STREAMS] = std::array::from_fn(|stream| stream * length + i);
        for (place, [sums]) in places.into_iter().zip(sums(places.map(panel), [x])) {
            out[place] = sums;
        }
    }
    for (out, place) in out.iter_mut().zip(0..).skip(STREAMS * length) {
        [[*out]] = sums([panel(place)], [x]);
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::arch::x86_64) fn gemm(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32]) {
    let rows = panels.rows();
    if x.tokens() >= MANY {
        let mut unpacked = [[[_mm256_setzero_si256(); 2]; STEPS]; CHUNK];
        for (i, panel) in panels.iter().enumerate() {
            unpacked_once(panel, x, &mut unpacked, &mut out[i * ROWS..], rows);
        }
        return;
    }
    for (i, panel) in panels.iter().enumerate() {
        let out = &mut out[i * ROWS..];
        for tile in x.tiles(TILE) {
            let out = &mut out[tile.start * rows..];
            tile_sums(panel, x, tile, out, rows);
        }
    }
}

/// [`gemm`] of one panel, some lines at a time for all tokens. In between, `out` holds the sums.
#[target_feature(enable = "avx2")]
fn unpacked_once(
    panel: &[Line],
    x: Activations<'_>,
    unpacked: &mut [[Codes; STEPS]; CHUNK],
    out: &mut [i32],
    rows: usize,
) {
    for (chunk, lines) in panel.chunks(CHUNK).enumerate() {
        for (line, steps) in lines.iter().zip(&mut *unpacked) {
            stream::prefetch(&line.0, stream::AHEAD_ALONE);
            *steps = codes(line);
        }
        let lines = &unpacked[..lines.len()];
        let x = x.columns_from(chunk * CHUNK * COLS);
        for tile in x.tiles(TILE) {
            let out = &mut out[tile.start * rows..];
            match tile.len() {
                3 => add::<3>(lines, &activations_of(x, tile.start, lines.len()), chunk > 0, out, rows),
                TILE => add::<TILE>(lines, &activations_of(x, tile.start, lines.len()), chunk > 0, out, rows),
                _ => unreachable!("tiles of {MANY} tokens and more have 3 or {TILE}"),
            }
        }
    }
}

/// The codes of a line, step by step.
#[target_feature(enable = "avx2")]
#[inline]
fn codes(line: &Line) -> [Codes; STEPS] {
    let halves: Codes = bytemuck::cast(line.0);
    let mask = _mm256_set1_epi8(3);
    let mut codes = [halves; STEPS];
    for (f, codes) in codes.iter_mut().enumerate() {
        let shift = _mm256_set1_epi32(2 * f as i32);
        // Bits that come in from the byte above fall to the mask.
        *codes = halves.map(|half| _mm256_and_si256(_mm256_srlv_epi32(half, shift), mask));
    }
    codes
}

/// The activations of `T` tokens from `first` that meet so many lines.
fn activations_of<const T: usize>(x: Activations<'_>, first: usize, lines: usize) -> [&[Run]; T] {
    std::array::from_fn(|t| x.row(first + t, lines * COLS).as_chunks().0)
}

/// The products of some unpacked lines with a tile of tokens, added to `out` if something `is_held` there.
///
/// A function of its own, or the compiler works out where the tokens lie in each turn of the loop. Lines come in
/// tens and then one by one, numbers that it knows: without, the loop alone is a tenth slower on Zen 3.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn add<const T: usize>(lines: &[[Codes; STEPS]], x: &[&[Run]; T], is_held: bool, out: &mut [i32], rows: usize) {
    let mut wide = [[_mm256_setzero_si256(); 2]; T];
    if is_held {
        for t in 0..T {
            let held: &[[i32; 8]] = out[t * rows..][..ROWS].as_chunks().0;
            wide[t] = [bytemuck::cast(held[0]), bytemuck::cast(held[1])];
        }
    }
    let (whole, rest) = lines.as_chunks::<NARROW_LINES>();
    for (i, lines) in whole.iter().enumerate() {
        add_narrow(lines, x, i * NARROW_LINES, &mut wide);
    }
    for (i, line) in rest.iter().enumerate() {
        add_narrow(std::array::from_ref(line), x, whole.len() * NARROW_LINES + i, &mut wide);
    }
    for t in 0..T {
        let sums: [i32; ROWS] = bytemuck::cast(wide[t]);
        out[t * rows..][..ROWS].copy_from_slice(&sums);
    }
}

/// [`add`] of lines whose sums fit 16 bits, and which meet the activations of each token from line `first` on.
#[target_feature(enable = "avx2")]
#[inline]
fn add_narrow<const T: usize, const L: usize>(
    lines: &[[Codes; STEPS]; L],
    x: &[&[Run]; T],
    first: usize,
    wide: &mut [[__m256i; 2]; T],
) {
    const { assert!(L <= NARROW_LINES, "sums that fit 16 bits") };
    let mut words = [&[] as &[[[i8; STEP_COLS]; STEPS]]; T];
    for t in 0..T {
        words[t] = bytemuck::cast_slice(&x[t][first..][..L]);
    }
    let mut narrow = [[_mm256_setzero_si256(); 2]; T];
    for (i, line) in lines.iter().enumerate() {
        for (step, codes) in line.iter().enumerate() {
            for t in 0..T {
                let word = _mm256_set1_epi32(bytemuck::cast(words[t][i][step]));
                for half in 0..2 {
                    narrow[t][half] = _mm256_add_epi16(narrow[t][half], _mm256_maddubs_epi16(codes[half], word));
                }
            }
        }
    }
    let ones = _mm256_set1_epi16(1);
    for (wide, narrow) in wide.as_flattened_mut().iter_mut().zip(narrow.as_flattened()) {
        *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(*narrow, ones));
    }
}

/// The sums of every `lines` lines of a panel. A call for each of so short runs would cost as much as they do.
#[target_feature(enable = "avx2")]
pub(in crate::arch::x86_64) fn group_sums(panel: Panels<'_>, lines: usize, x: Activations<'_>, out: &mut [i32]) {
    let tokens = x.tokens();
    assert_eq!(panel.len(), 1, "one panel");
    assert_eq!(out.len(), panel.lines().len().div_ceil(lines) * tokens * ROWS, "one sum per group, token and row");
    for (group, lines_of_group) in panel.lines().chunks(lines).enumerate() {
        let x = x.columns_from(group * lines * COLS);
        for tile in x.tiles(TILE) {
            let out = &mut out[(group * tokens + tile.start) * ROWS..];
            tile_sums(lines_of_group, x, tile, out, ROWS);
        }
    }
}

/// The sums of a panel's rows for the tokens of a tile. The first one's go to the beginning of `out`, the others'
/// `rows` further each.
#[target_feature(enable = "avx2")]
fn tile_sums(panel: &[Line], x: Activations<'_>, tile: Range<usize>, out: &mut [i32], rows: usize) {
    match tile.len() {
        1 => tile_of::<1>(panel, x, tile.start, out, rows),
        2 => tile_of::<2>(panel, x, tile.start, out, rows),
        3 => tile_of::<3>(panel, x, tile.start, out, rows),
        TILE => tile_of::<TILE>(panel, x, tile.start, out, rows),
        _ => unreachable!("a tile has 1 to {TILE} tokens"),
    }
}

/// [`tile_sums`] for `T` tokens from `first`.
#[target_feature(enable = "avx2")]
fn tile_of<const T: usize>(panel: &[Line], x: Activations<'_>, first: usize, out: &mut [i32], rows: usize) {
    let [tile] = sums([panel], activations_of::<T>(x, first, panel.len()));
    for (t, sums) in tile.into_iter().enumerate() {
        out[t * rows..][..ROWS].copy_from_slice(&sums);
    }
}

/// The sums of the rows of `P` panels for `T` tokens.
#[target_feature(enable = "avx2")]
#[inline]
fn sums<const P: usize, const T: usize>(panels: [&[Line]; P], x: [&[Run]; T]) -> [[[i32; ROWS]; T]; P] {
    let ahead = if P > 1 { stream::AHEAD } else { stream::AHEAD_ALONE };
    let (lines, mask, ones) = (panels[0].len(), _mm256_set1_epi8(3), _mm256_set1_epi16(1));
    let mut wide = [[[_mm256_setzero_si256(); 2]; T]; P];
    for start in (0..lines).step_by(NARROW_LINES) {
        let mut narrow = [[[_mm256_setzero_si256(); 2]; T]; P];
        for i in start..lines.min(start + NARROW_LINES) {
            for p in 0..P {
                stream::prefetch(&panels[p][i].0, ahead);
                let halves: [__m256i; 2] = bytemuck::cast(panels[p][i].0);
                for f in 0..4 {
                    let shift = _mm256_set1_epi32(2 * f as i32);
                    // Bits that come in from the byte above fall to the mask. Written out, since a closure over the halves
                    // makes the compiler keep the sums in memory.
                    let codes = [
                        _mm256_and_si256(_mm256_srlv_epi32(halves[0], shift), mask),
                        _mm256_and_si256(_mm256_srlv_epi32(halves[1], shift), mask),
                    ];
                    for t in 0..T {
                        let words: [i32; 4] = bytemuck::cast(x[t][i]);
                        let word = _mm256_set1_epi32(words[f]);
                        for half in 0..2 {
                            let step = _mm256_maddubs_epi16(codes[half], word);
                            narrow[p][t][half] = _mm256_add_epi16(narrow[p][t][half], step);
                        }
                    }
                }
            }
        }
        let wide = wide.as_flattened_mut().as_flattened_mut();
        for (wide, narrow) in wide.iter_mut().zip(narrow.as_flattened().as_flattened()) {
            *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(*narrow, ones));
        }
    }
    wide.map(|panel| panel.map(bytemuck::cast))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of [`MANY`] tokens and more are unpacked once, whatever their number of lines; and the largest sums there are.
    #[test]
    fn unpacking_once_gives_what_tiles_give() {
        if Avx2::detect().is_some() {
            // SAFETY: AVX2 was looked for.
            unsafe { compare() };
        }
    }

    #[target_feature(enable = "avx2")]
    fn compare() {
        let noise = |i: usize| ((i * 2_654_435_761) >> 9) as u8;
        let shapes = [(33, CHUNK + 1), (MANY, 1), (MANY + 1, CHUNK - 1), (MANY + 2, CHUNK), (64, 2 * CHUNK + 13)];
        // Miri takes minutes for all of them.
        let shapes = shapes.into_iter().take(if cfg!(miri) { 1 } else { shapes.len() });
        for ((tokens, lines), extreme) in shapes.flat_map(|shape| [(shape, false), (shape, true)]) {
            let byte = |i: usize| if extreme { 0xFF } else { noise(i) };
            let panel: Vec<Line> = (0..lines).map(|l| Line(std::array::from_fn(|i| byte(64 * l + i)))).collect();
            let cols = lines * COLS;
            let activation = |i: usize| if extreme { i8::MIN } else { noise(i + 7) as i8 };
            let x: Vec<i8> = (0..tokens * cols).map(activation).collect();
            let x = Activations::new(&x, cols, tokens);
            // The panel's sums stand among those of others, which are not touched.
            let rows = ROWS + 16;
            let (mut tiles, mut once) = (vec![-1; tokens * rows], vec![-1; tokens * rows]);
            for tile in x.tiles(TILE) {
                let first = tile.start;
                tile_sums(&panel, x, tile, &mut tiles[first * rows..], rows);
            }
            let mut unpacked = [[[_mm256_setzero_si256(); 2]; STEPS]; CHUNK];
            unpacked_once(&panel, x, &mut unpacked, &mut once, rows);
            assert_eq!(once, tiles, "{tokens} tokens, {lines} lines");
            if extreme {
                assert_eq!(once[0], 3 * -128 * cols as i32);
            }
        }
    }
}
