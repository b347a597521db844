//! Five rows of the base-3 layout by four products.
//!
//! The sums of one row need some 20 bits, those of a byte's functions some 27 of their 32. So four functions can hold
//! what five rows want, if they are not independent of each other but linked, each pair of neighbouring digits by one:
//!
//! ```text
//! p₀ = d₀ + 64 d₁     p₁ = d₁ + 64 d₂     p₂ = d₂ + 64 d₃     p₃ = d₃ + 64 d₄
//! ```
//!
//! Let `S₀ … S₄` be the sums of the rows and `P₀ … P₃` those of the functions, so that `Pₖ = Sₖ + 64 Sₖ₊₁`. If `S₀` were known,
//! so were all others. It is not, but taken for zero it is wrong by no more than 2²³, and each step towards `S₄` divides
//! that by 64. Rounded to a whole number in the end, `S₄` is right, and gives the others on the way back:
//!
//! ```text
//! s₁ = ⌊P₀/64⌉     s₂ = ⌊(P₁ - s₁)/64⌉     s₃ = ⌊(P₂ - s₂)/64⌉     S₄ = ⌊(P₃ - s₃)/64⌉
//! S₃ = P₃ - 64 S₄     S₂ = P₂ - 64 S₃     S₁ = P₁ - 64 S₂     S₀ = P₀ - 64 S₁
//! ```
//!
//! For `eₖ = Sₖ - sₖ`: `|e₁| ≤ |S₀|/64 + ½` and `|eₖ₊₁| ≤ |eₖ|/64 + ½`, so `|e₃| < |S₀|/64³ + 0.51`; and the whole number
//! `e₄`, of `|e₄| ≤ |e₃|/64 + ½`, is 0 if `|S₀| < 31 · 64³`. Codes are at most 2 and activations at most 128 in magnitude, which
//! makes that [`MOST_COLS`].
//!
//! The functions cost more than base 3's own five, so this is for several tokens, for which they are made once.

use std::arch::x86_64::*;

use super::super::stream;
use super::base3::{COLS, DIGITS, ROWS};
use crate::arch::{Activations, Line, Panels};

/// Functions of a byte.
const PAIRS: usize = DIGITS - 1;

/// The weight of a function's second digit.
const STEP: i32 = 64;

/// Columns up to which a row's sum is below `31 · 64³`.
pub(super) const MOST_COLS: usize = 31 * 64_usize.pow(3) / (2 * 128);

/// Tokens of a tile at most: 24 of the 32 registers hold sums.
const TILE: usize = 6;

/// Tokens that lines are unpacked for at most: their sums fill 16 KiB of the nearest cache.
pub(super) const MOST: usize = 64;

const TILES: usize = MOST.div_ceil(TILE);

/// Lines that are unpacked together, to 16 KiB of the nearest cache.
const CHUNK: usize = 64;

/// A word of four activations: what meets one line.
type Word = [i8; COLS];

/// The four functions of each byte of a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
#[inline]
fn functions(line: &Line) -> [__m512i; PAIRS] {
    // d₀ + 4 d₁ + 16 d₂ + 64 d₃, of which each function takes four bits.
    let [v, r, w, ..] = super::base3::functions(line);
    let taken = |matrix| _mm512_gf2p8affine_epi64_epi8::<0>(w, _mm512_set1_epi64(matrix));
    // 81 d₄, and d₄ is 0, 1 or 2: 0, 0101_0001 or 1010_0010.
    let last = _mm512_sub_epi8(v, r);
    let last =
        _mm512_ternarylogic_epi32::<{ (0xF0 & 0xCC) | 0xAA }>(last, _mm512_set1_epi8(0xC0_u8 as i8), taken(pair(3)));
    [taken(pair(0)), taken(pair(1)), taken(pair(2)), last]
}

/// The matrix that takes two bits from bit `2 · digit` to bit 0, and the two above them to bit 6. Its last byte is of bit 0.
const fn pair(digit: u32) -> i64 {
    let (mut matrix, bit) = ([0; 8], 1_u8 << (2 * digit));
    [matrix[7], matrix[6]] = [bit, bit << 1];
    if digit < 3 {
        [matrix[1], matrix[0]] = [bit << 2, bit << 3];
    }
    i64::from_le_bytes(matrix)
}

/// The sums of the five rows of each lane, from the sums of the four functions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn rows(pairs: [__m512i; PAIRS]) -> [[i32; 16]; DIGITS] {
    const BITS: u32 = STEP.trailing_zeros();
    let mut row = _mm512_setzero_si512();
    for pair in pairs {
        let rest = _mm512_add_epi32(_mm512_sub_epi32(pair, row), _mm512_set1_epi32(STEP / 2));
        row = _mm512_srai_epi32::<BITS>(rest);
    }
    let mut rows = [row; DIGITS];
    for k in (0..PAIRS).rev() {
        rows[k] = _mm512_sub_epi32(pairs[k], _mm512_slli_epi32::<BITS>(rows[k + 1]));
    }
    rows.map(bytemuck::cast)
}

/// Some lines of a panel, unpacked.
struct Chunk<'a> {
    lines: &'a [Line],
    functions: &'a [[__m512i; PAIRS]],
    /// The first line's place in the panel.
    start: usize,
    /// Lines of the next chunk that each tile asks for: all at once would hold up the first.
    ahead: usize,
}

/// The sums of one panel's rows for up to [`MOST`] tokens, `stride` further for each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,gfni")]
pub(super) fn gemm(panel: Panels<'_>, x: Activations<'_>, out: &mut [i32], stride: usize) {
    debug_assert!(panel.cols() <= MOST_COLS);
    // In a table, since a compiler that sees how rows follow each other computes where one lies from another, in each turn
    // of the products' loop.
    let mut words = [[&[] as &[Word]; TILE]; TILES];
    for (tile, words) in x.tiles(TILE).zip(&mut words) {
        for (token, words) in tile.zip(words) {
            *words = x.row(token, panel.cols()).as_chunks().0;
        }
    }
    let mut sums = [[[_mm512_setzero_si512(); PAIRS]; TILE]; TILES];
    let mut functions = [[_mm512_setzero_si512(); PAIRS]; CHUNK];
    let tiles = x.tokens().div_ceil(TILE);
    for (chunk, lines) in panel.lines().chunks(CHUNK).enumerate() {
        for (functions, line) in functions.iter_mut().zip(lines) {
            *functions = self::functions(line);
        }
        let functions = &functions[..lines.len()];
        let chunk = Chunk { lines, functions, start: chunk * CHUNK, ahead: CHUNK.div_ceil(tiles) };
        // As `Activations::tiles` has them: the first ones have a token more.
        let (tokens, longer) = (x.tokens() / tiles, x.tokens() % tiles);
        for (tokens, range) in [(tokens + 1, 0..longer), (tokens, longer..tiles)] {
            let (words, sums) = (&words[range.clone()], &mut sums[range.clone()]);
            match tokens {
                1 => add::<1>(&chunk, range.start, words, sums),
                2 => add::<2>(&chunk, range.start, words, sums),
                3 => add::<3>(&chunk, range.start, words, sums),
                4 => add::<4>(&chunk, range.start, words, sums),
                5 => add::<5>(&chunk, range.start, words, sums),
                TILE => add::<TILE>(&chunk, range.start, words, sums),
                _ => assert!(range.is_empty(), "a tile has 1 to {TILE} tokens"),
            }
        }
    }
    // Not by the tiles of the last chunk, which have no registers left for it.
    for (tile, sums) in x.tiles(TILE).zip(&sums) {
        for (token, sums) in tile.zip(sums) {
            out[token * stride..][..ROWS].copy_from_slice(rows(*sums).as_flattened());
        }
    }
}

/// Adds a chunk's products with tiles of `T` tokens, of which this is from number `first` on, to the sums of the functions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn add<const T: usize>(
    chunk: &Chunk<'_>,
    first: usize,
    words: &[[&[Word]; TILE]],
    held: &mut [[[__m512i; PAIRS]; TILE]],
) {
    let Some((last, others)) = chunk.functions.split_last() else { return };
    let lines = chunk.start..chunk.start + chunk.functions.len();
    for ((x, held), tile) in words.iter().zip(held).zip(first..) {
        for line in tile * chunk.ahead..CHUNK.min((tile + 1) * chunk.ahead) {
            stream::prefetch(&chunk.lines[0].0, (CHUNK + line) * size_of::<Line>());
        }
        assert!(x[..T].iter().all(|words| words.len() >= lines.end), "a word for each line");
        // A word is loaded as soon as the last product of the one before it is under way, not when it is wanted: that is
        // some per cent where a core takes up fewer instructions and loads than it could (docs/speed.md).
        let word = |t: usize, line: usize| {
            // SAFETY: `x[t]` has a word for each of `lines`, as was asserted, and `line` is less than their number.
            _mm512_set1_epi32(bytemuck::cast(unsafe { *x[t].get_unchecked(lines.start + line) }))
        };
        let mut words = [_mm512_setzero_si512(); T];
        for (t, first) in words.iter_mut().enumerate() {
            *first = word(t, 0);
        }
        let mut sums = [[_mm512_setzero_si512(); PAIRS]; T];
        sums.copy_from_slice(&held[..T]);
        for (line, functions) in others.iter().enumerate() {
            for p in 0..PAIRS {
                for t in 0..T {
                    sums[t][p] = _mm512_dpbusd_epi32(sums[t][p], functions[p], words[t]);
                    if p == PAIRS - 1 {
                        words[t] = word(t, line + 1);
                    }
                }
            }
        }
        for p in 0..PAIRS {
            for t in 0..T {
                sums[t][p] = _mm512_dpbusd_epi32(sums[t][p], last[p], words[t]);
            }
        }
        held[..T].copy_from_slice(&sums);
    }
}
