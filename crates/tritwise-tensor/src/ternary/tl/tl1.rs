//! TL1: pairs of columns in four bits.
//!
//! Within a tile, blocks of `B` = `block_rows` rows and 256 / `B` columns follow each other, columns
//! first, then blocks of rows. A block is runs of 16 rows; a run is 16 bytes for every four columns:
//!
//! ```text
//! byte l < 16:   bits 7..4              bits 3..0
//! row l          columns 4k, 4k + 1     columns 4k + 2, 4k + 3         as 3a + b + 4
//! ```
//!
//! Tiles of columns lie within tiles of rows.
#![expect(
    clippy::indexing_slicing,
    reason = "lengths were compared with the shape, and offsets in a block are constants"
)]

use super::{MOST_PAIR, Tile, broken_tile, damaged, largest_nibble, pair, pair_number};
use crate::TensorError;

/// Weights of a block.
const BLOCK: usize = 256;
/// Rows of a run.
const RUN: usize = 16;

/// What the tile asks of the shape, if this shape breaks it.
pub(in crate::ternary) fn broken_rule(tile: Tile, rows: usize, cols: usize) -> Option<&'static str> {
    if !matches!(tile.block_rows, 32 | 64) {
        return Some("a tile of TL1 has blocks of 32 or 64 rows");
    }
    let block_cols = BLOCK / tile.block_rows;
    if tile.cols == 0 || !tile.cols.is_multiple_of(block_cols) || !cols.is_multiple_of(tile.cols) {
        return Some("a tile's blocks divide its columns, which divide the matrix's");
    }
    broken_tile(tile, rows)
}

/// Checks every number. `bytes` has the right length.
pub(in crate::ternary) fn validate(tile: Tile, rows: usize, cols: usize, bytes: &[u8]) -> Result<(), TensorError> {
    if largest_nibble(bytes) <= MOST_PAIR {
        return Ok(());
    }
    // Which row it is in is looked for only now.
    for row in 0..rows {
        let mut most = 0;
        for_each_byte(tile, cols, row, |byte| most = most.max(largest_nibble(&bytes[byte..=byte])));
        if most > MOST_PAIR {
            return Err(damaged(row, most));
        }
    }
    Ok(())
}

pub(in crate::ternary) fn read_row(tile: Tile, bytes: &[u8], row: usize, out: &mut [i8]) {
    let cols = out.len();
    let mut columns = out.as_chunks_mut::<4>().0.iter_mut();
    for_each_byte(tile, cols, row, |byte| {
        let byte = bytes[byte];
        if let Some(columns) = columns.next() {
            let ([a, b], [c, d]) = (pair(byte >> 4), pair(byte & 15));
            *columns = [a, b, c, d];
        }
    });
}

pub(in crate::ternary) fn encode(tile: Tile, trits: &[i8], cols: usize) -> Vec<u8> {
    let mut bytes = vec![0; trits.len() / 4];
    for (row, trits) in trits.chunks_exact(cols).enumerate() {
        let mut columns = trits.as_chunks::<4>().0.iter();
        for_each_byte(tile, cols, row, |byte| {
            if let Some(&[a, b, c, d]) = columns.next() {
                bytes[byte] = pair_number([a, b]) << 4 | pair_number([c, d]);
            }
        });
    }
    bytes
}

/// Calls `visit` with the place of each four columns of row `row`, in the order of columns.
fn for_each_byte(tile: Tile, cols: usize, row: usize, mut visit: impl FnMut(usize)) {
    let (tile_row, block_row, within) = tile.place(row);
    let block_cols = BLOCK / tile.block_rows;
    let tiles = cols / tile.cols;
    // Bytes of what lies together: 16 rows of a block, a block, a tile's row of blocks, a tile.
    let run = RUN * block_cols / 4;
    let block = BLOCK / 4;
    let blocks = tile.cols / block_cols * block;
    let whole = tile.rows / tile.block_rows * blocks;
    let start = tile_row * tiles * whole + block_row * blocks + within / RUN * run + within % RUN;
    for tile_col in 0..tiles {
        for block_col in 0..tile.cols / block_cols {
            for four in 0..block_cols / 4 {
                visit(start + tile_col * whole + block_col * block + four * RUN);
            }
        }
    }
}
