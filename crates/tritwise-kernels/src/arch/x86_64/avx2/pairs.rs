//! Five rows of the two-bit layout by four products, with 256 bits.
//!
//! The idea, its proof and its bound are those of `avx512/pairs.rs`: a function of two neighbouring rows' codes,
//! `codeₖ + 64 codeₖ₊₁`, is a byte, and four of them hold five rows. Base 3 has such rows in one byte; here they are rows
//! of five panels, whose lines are unpacked together, once for all tokens of a call. A macro, as in [`vnni`](super::vnni).

use std::arch::x86_64::*;

use crate::arch::{Layout, Line};

/// Rows that are computed together, each of another panel; and functions of their codes.
pub(super) const PANELS: usize = 5;
pub(super) const PAIRS: usize = PANELS - 1;

/// The weight of a function's second code.
pub(super) const STEP: i32 = 64;

/// Columns up to which a row's sum, also one of code 3, is below `31 · 64³`.
pub(super) const MOST_COLS: usize = 31 * 64_usize.pow(3) / (3 * 128);

/// Tokens from which on this is faster than a tile's own codes.
pub(super) const MANY: usize = 24;

/// Tokens that lines are unpacked for at most: their sums fill 17 KiB of the nearest cache.
pub(super) const MOST: usize = 64;

/// Tokens of a tile at most: of half a panel's rows, twelve of the sixteen registers hold sums.
pub(super) const TILE: usize = 3;
pub(super) const TILES: usize = MOST.div_ceil(TILE);

/// Columns of a step, and steps of a line.
pub(super) const COLS: usize = 4;
pub(super) const STEPS: usize = Layout::TwoBit.cols() / COLS;

/// Lines that are unpacked together, to 16 KiB of the nearest cache.
pub(super) const CHUNK: usize = 16;

/// A word of four activations: what meets one step.
pub(super) type Word = [i8; COLS];

/// The functions of a step, for half of the panels' rows.
pub(super) type Functions = [__m256i; PAIRS];

/// The functions of five panels' lines, step by step, of each half of the rows.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn functions(lines: [&Line; PANELS]) -> [[Functions; STEPS]; 2] {
    let (low, high) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0xC0_u8 as i8));
    let halves: [[__m256i; 2]; PANELS] = lines.map(|line| bytemuck::cast(line.0));
    let mut functions = [[[_mm256_setzero_si256(); PAIRS]; STEPS]; 2];
    for (half, functions) in functions.iter_mut().enumerate() {
        for (step, functions) in functions.iter_mut().enumerate() {
            // Bits that come in from the bytes beside fall to the masks.
            let (down, up) = (_mm256_set1_epi32(2 * step as i32), _mm256_set1_epi32(6 - 2 * step as i32));
            for (k, function) in functions.iter_mut().enumerate() {
                let first = _mm256_and_si256(_mm256_srlv_epi32(halves[k][half], down), low);
                let second = _mm256_and_si256(_mm256_sllv_epi32(halves[k + 1][half], up), high);
                *function = _mm256_or_si256(first, second);
            }
        }
    }
    functions
}

/// The sums of each lane's row in five panels, from the sums of the four functions.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn rows(pairs: Functions) -> [[i32; 8]; PANELS] {
    const BITS: i32 = STEP.trailing_zeros() as i32;
    let mut row = _mm256_setzero_si256();
    for pair in pairs {
        let rest = _mm256_add_epi32(_mm256_sub_epi32(pair, row), _mm256_set1_epi32(STEP / 2));
        row = _mm256_srai_epi32::<BITS>(rest);
    }
    let mut rows = [row; PANELS];
    for k in (0..PAIRS).rev() {
        rows[k] = _mm256_sub_epi32(pairs[k], _mm256_slli_epi32::<BITS>(rows[k + 1]));
    }
    rows.map(bytemuck::cast)
}

macro_rules! kernels {
    ($features:literal, $dot:ident) => {
        /// The sums of five panels' rows for up to [`pairs::MOST`] tokens, `stride` further for each.
        #[target_feature(enable = $features)]
        fn five_panels(panels: Panels<'_>, x: Activations<'_>, out: &mut [i32], stride: usize) {
            use pairs::{CHUNK, PAIRS, PANELS, STEPS, TILE, TILES, Word};
            let lines = panels.cols() / COLS;
            let panels: [&[Line]; PANELS] = std::array::from_fn(|p| &panels.lines()[p * lines..][..lines]);
            let mut words = [[&[] as &[Word]; TILE]; TILES];
            for (tile, words) in x.tiles(TILE).zip(&mut words) {
                for (token, words) in tile.zip(words) {
                    *words = x.row(token, lines * COLS).as_chunks().0;
                }
            }
            let mut sums = [[[[_mm256_setzero_si256(); PAIRS]; TILE]; 2]; TILES];
            let mut functions = [[[_mm256_setzero_si256(); PAIRS]; CHUNK * STEPS]; 2];
            for start in (0..lines).step_by(CHUNK) {
                let end = lines.min(start + CHUNK);
                for i in start..end {
                    let at = (i - start) * STEPS;
                    let of_line = pairs::functions(panels.map(|panel| &panel[i]));
                    for half in 0..2 {
                        functions[half][at..at + STEPS].copy_from_slice(&of_line[half]);
                    }
                    panels.iter().for_each(|panel| stream::prefetch(&panel[i].0, stream::AHEAD_ALONE));
                }
                let steps = (end - start) * STEPS;
                for ((tile, words), sums) in x.tiles(TILE).zip(&words).zip(&mut sums) {
                    for (functions, sums) in functions.iter().zip(sums) {
                        match tile.len() {
                            1 => add_pairs::<1>(&functions[..steps], start * STEPS, words, sums),
                            2 => add_pairs::<2>(&functions[..steps], start * STEPS, words, sums),
                            TILE => add_pairs::<TILE>(&functions[..steps], start * STEPS, words, sums),
                            _ => unreachable!("a tile has 1 to {TILE} tokens"),
                        }
                    }
                }
            }
            for (tile, sums) in x.tiles(TILE).zip(&sums) {
                for (i, token) in tile.enumerate() {
                    let halves = [pairs::rows(sums[0][i]), pairs::rows(sums[1][i])];
                    for p in 0..PANELS {
                        let out: &mut [[i32; 8]] = out[token * stride + p * ROWS..][..ROWS].as_chunks_mut().0;
                        (out[0], out[1]) = (halves[0][p], halves[1][p]);
                    }
                }
            }
        }

        /// Adds the products of some steps, from step `from` on, with a tile of `T` tokens to the sums of the functions.
        #[target_feature(enable = $features)]
        #[inline]
        fn add_pairs<const T: usize>(
            steps: &[pairs::Functions],
            from: usize,
            words: &[&[pairs::Word]; pairs::TILE],
            held: &mut [pairs::Functions; pairs::TILE],
        ) {
            let mut x: [&[pairs::Word]; T] = [&[]; T];
            for (x, words) in x.iter_mut().zip(words) {
                *x = &words[from..][..steps.len()];
            }
            let mut sums = [[_mm256_setzero_si256(); pairs::PAIRS]; T];
            sums.copy_from_slice(&held[..T]);
            for (i, functions) in steps.iter().enumerate() {
                let mut words = [_mm256_setzero_si256(); T];
                for t in 0..T {
                    words[t] = _mm256_set1_epi32(bytemuck::cast(x[t][i]));
                }
                for p in 0..pairs::PAIRS {
                    for t in 0..T {
                        sums[t][p] = $dot(sums[t][p], functions[p], words[t]);
                    }
                }
            }
            held[..T].copy_from_slice(&sums);
        }
    };
}
pub(super) use kernels;
