//! TL2: triples of columns in four bits and a sign, and the columns that remain in pairs.
//!
//! The columns that whole tiles have are triples; what remains, fewer than a tile has, are pairs.
//! Tiles of columns lie within tiles of rows, and blocks of 32 rows within a tile, columns first.
//!
//! ```text
//! magnitudes   a byte for every row and 6 columns: the first triple in bits 7..4, the second in 3..0
//! signs        32 bytes for every 32 rows and 24 columns: 16 words of 16 bits, little-endian
//! pairs        a byte for every row and 4 columns, as in TL1, in tiles of 32 columns
//! zeros        up to the length of (cols - 256) columns in triples and 256 in pairs
//!
//! 32 bytes are of rows   0..8, 16..24, 8..16, 24..32
//! sign of triple k < 8 of row r < 32:   word r % 16, bit 15 - 2k - r / 16; set where the triple is negative
//! ```
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::{MOST_PAIR, Tile, broken_tile, damaged, largest_nibble, pair, pair_number};
use crate::TensorError;

/// Rows of a block.
const ROWS: usize = 32;
/// Columns of a block of triples, of signs, of pairs.
const TRIPLES: usize = 6;
const SIGNS: usize = 24;
const PAIRS: usize = 4;
/// Columns of a tile of pairs.
const PAIR_TILE: usize = 32;
/// Columns that the length takes to be in pairs, however many are.
const LENGTH_PAIRS: usize = 256;
/// The largest magnitude of a triple.
const MOST_TRIPLE: u8 = 13;

/// What the tile asks of the shape, if this shape breaks it.
pub(in crate::ternary) fn broken_rule(tile: Tile, rows: usize, cols: usize) -> Option<&'static str> {
    if tile.block_rows != ROWS {
        return Some("a tile of TL2 has blocks of 32 rows");
    }
    if tile.cols == 0 || !tile.cols.is_multiple_of(SIGNS) || tile.cols > LENGTH_PAIRS {
        return Some("a tile of TL2 has a multiple of 24 columns, at most 240");
    }
    if cols < LENGTH_PAIRS || !(cols % tile.cols).is_multiple_of(PAIR_TILE) {
        return Some("there are 256 columns at least, and a multiple of 32 is left by whole tiles");
    }
    broken_tile(tile, rows)
}

/// Bytes of the codes; `None` if that overflows. The shape breaks no rule.
pub(in crate::ternary) fn len(rows: usize, cols: usize) -> Option<usize> {
    // The division rounds down, and what it loses is less than the zeros at the end.
    let triples = ((cols - LENGTH_PAIRS) * rows / 3).checked_mul(5)? / 8;
    triples.checked_add(LENGTH_PAIRS / PAIRS * rows)
}

/// Checks every number. `bytes` has the right length.
pub(in crate::ternary) fn validate(tile: Tile, rows: usize, cols: usize, bytes: &[u8]) -> Result<(), TensorError> {
    let parts = Parts::new(tile, rows, cols);
    let (triples, pairs) = (&bytes[..parts.signs], &bytes[parts.pairs..parts.end]);
    if largest_nibble(triples) <= MOST_TRIPLE && largest_nibble(pairs) <= MOST_PAIR {
        return Ok(());
    }
    // Which row it is in is looked for only now.
    for row in 0..rows {
        let mut found = None;
        let mut look = |byte: usize, limit: u8| {
            let most = largest_nibble(&bytes[byte..=byte]);
            found = found.or((most > limit).then_some(most));
        };
        parts.for_each_triples(row, |_, at| at.into_iter().for_each(|byte| look(byte, MOST_TRIPLE)));
        parts.for_each_pairs(row, |byte| look(byte, MOST_PAIR));
        if let Some(number) = found {
            return Err(damaged(row, number));
        }
    }
    Ok(())
}

pub(in crate::ternary) fn read_row(tile: Tile, rows: usize, bytes: &[u8], row: usize, out: &mut [i8]) {
    let parts = Parts::new(tile, rows, out.len());
    let (triples, pairs) = out.split_at_mut(parts.triple_cols);
    let mut triples = triples.as_chunks_mut::<3>().0.iter_mut();
    parts.for_each_triples(row, |sign, at| {
        let word = u16::from_le_bytes([bytes[sign.word], bytes[sign.word + 1]]);
        let numbers = at.into_iter().flat_map(|byte| [bytes[byte] >> 4, bytes[byte] & 15]);
        for (k, (number, out)) in numbers.zip(&mut triples).enumerate() {
            let negative = word >> (sign.bit - 2 * k) & 1 == 1;
            *out = TRIPLE[usize::from(number)].map(|trit| if negative { -trit } else { trit });
        }
    });
    let mut pairs = pairs.as_chunks_mut::<2>().0.iter_mut();
    parts.for_each_pairs(row, |byte| {
        for (number, out) in [bytes[byte] >> 4, bytes[byte] & 15].into_iter().zip(&mut pairs) {
            *out = pair(number);
        }
    });
}

pub(in crate::ternary) fn encode(tile: Tile, trits: &[i8], rows: usize, cols: usize, len: usize) -> Vec<u8> {
    let parts = Parts::new(tile, rows, cols);
    let mut bytes = vec![0; len];
    for (row, trits) in trits.chunks_exact(cols).enumerate() {
        let (triples, pairs) = trits.split_at(parts.triple_cols);
        let mut numbers = triples.as_chunks().0.iter().map(|&[a, b, c]| 9 * a + 3 * b + c);
        parts.for_each_triples(row, |sign, at| {
            let mut word = 0_u16;
            for (k, number) in numbers.by_ref().take(8).enumerate() {
                bytes[at[k / 2]] |= number.unsigned_abs() << (4 - 4 * (k % 2));
                word |= u16::from(number < 0) << (sign.bit - 2 * k);
            }
            // Rows 16 apart share a word.
            for (byte, bits) in bytes[sign.word..].iter_mut().zip(word.to_le_bytes()) {
                *byte |= bits;
            }
        });
        let mut numbers = pairs.as_chunks().0.iter().map(|pair| pair_number(*pair));
        parts.for_each_pairs(row, |byte| {
            for (number, shift) in numbers.by_ref().take(2).zip([4, 0]) {
                bytes[byte] |= number << shift;
            }
        });
    }
    bytes
}

/// Where the parts of the codes begin.
struct Parts {
    tile: Tile,
    /// Columns in triples, and in pairs.
    triple_cols: usize,
    pair_cols: usize,
    signs: usize,
    pairs: usize,
    end: usize,
}

/// Where the signs of eight triples are: in every second bit of a word, downwards from `bit`.
struct Sign {
    word: usize,
    bit: usize,
}

impl Parts {
    fn new(tile: Tile, rows: usize, cols: usize) -> Self {
        let pair_cols = cols % tile.cols;
        let triple_cols = cols - pair_cols;
        let signs = rows * (triple_cols / TRIPLES);
        let pairs = signs + rows * (triple_cols / SIGNS);
        Self { tile, triple_cols, pair_cols, signs, pairs, end: pairs + rows * (pair_cols / PAIRS) }
    }

    /// Calls `visit` with the places of each eight triples of row `row`, in the order of columns: of their
    /// signs, and of their magnitudes, two to a byte.
    fn for_each_triples(&self, row: usize, mut visit: impl FnMut(Sign, [usize; 4])) {
        let (tile_row, block_row, within) = self.tile.place(row);
        let (tiles, blocks) = (self.triple_cols / self.tile.cols, self.tile.rows / ROWS);
        let signs = self.tile.cols / SIGNS;
        for tile_col in 0..tiles {
            let block = ((tile_row * tiles + tile_col) * blocks + block_row) * signs;
            for sign in 0..signs {
                let at = std::array::from_fn(|n| ((block + sign) * 4 + n) * ROWS + permuted(within));
                let word = self.signs + (block + sign) * ROWS + within % 16 * 2;
                visit(Sign { word, bit: 15 - within / 16 }, at);
            }
        }
    }

    /// Calls `visit` with the place of each two pairs of row `row`, in the order of columns.
    fn for_each_pairs(&self, row: usize, mut visit: impl FnMut(usize)) {
        let (tile_row, block_row, within) = self.tile.place(row);
        let (tiles, blocks) = (self.pair_cols / PAIR_TILE, self.tile.rows / ROWS);
        for tile_col in 0..tiles {
            let block = ((tile_row * tiles + tile_col) * blocks + block_row) * (PAIR_TILE / PAIRS);
            for n in 0..PAIR_TILE / PAIRS {
                visit(self.pairs + (block + n) * ROWS + permuted(within));
            }
        }
    }
}

/// The byte of row `within` among the 32 of a block: the second and third quarter change places.
fn permuted(within: usize) -> usize {
    [0, 2, 1, 3][within / 8] * 8 + within % 8
}

/// The trits of each magnitude. (14 and 15, which are refused, stand for nothing.)
static TRIPLE: [[i8; 3]; 16] = {
    let mut triples = [[0; 3]; 16];
    let mut number = 0;
    while number <= MOST_TRIPLE {
        // The digits of number + 13, which is not negative, are the trits plus one.
        let digits = number.cast_signed() + 13;
        triples[number as usize] = [digits / 9 - 1, digits / 3 % 3 - 1, digits % 3 - 1];
        number += 1;
    }
    triples
};
