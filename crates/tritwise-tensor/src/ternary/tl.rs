//! TL1 and TL2, the encodings of bitnet.cpp's lookup-table kernels (for Arm and x86).
//!
//! Two or three neighbouring columns are one number, which is an index into a table of sums of
//! activations. The numbers lie in the order in which the kernel that was generated for the matrix
//! takes them, so that the order depends on how that kernel cuts the matrix: its [`Tile`].
//!
//! ```text
//! TL1   pair (a, b):       3a + b + 4                             0 .. 8, in 4 bits
//! TL2   triple (a, b, c):  |9a + 3b + c|, and whether it is < 0   0 .. 13, in 4 bits, and 1 bit elsewhere
//! ```
//!
//! No file says which tile it was written for. What can be known are the tiles that bitnet.cpp's own
//! scripts and presets have for the shapes of the models they know ([`Tile::tl1`], [`Tile::tl2`]).
//!
//! The scale is no part of the codes: bitnet.cpp's converter puts it behind them, as an f32 at the
//! next multiple of 32 bytes, and some versions into a tensor of its own.
//!
//! Source: microsoft/BitNet, `utils/convert-hf-to-gguf-bitnet.py` (`process_tl1`,
//! `preprocess_three_weights_tl2`, `preprocess_two_weights_tl2`), `setup_env.py` and `preset_kernels/`.

use crate::TensorError;

pub(super) mod tl1;
pub(super) mod tl2;

/// How a lookup-table kernel cuts its matrix, as `kernel_config.ini` and the options of bitnet.cpp's
/// code generators say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows that are computed together (`bm` in `kernel_config.ini`, the option `--BM`).
    pub rows: usize,
    /// Columns that are computed together (`bk`, `--BK`).
    pub cols: usize,
    /// Rows of a block within the tile (`bmm`, `--bm`).
    pub block_rows: usize,
}

impl Tile {
    /// The tiles with which bitnet.cpp writes a `rows` × `cols` matrix as TL1.
    ///
    /// None for shapes of no model that it has kernels for. Where `setup_env.py` and `preset_kernels/`
    /// disagree there are two, and a file may have either.
    pub fn tl1(rows: usize, cols: usize) -> &'static [Self] {
        match (rows, cols) {
            // bitnet_b1_58-large
            (1536, 4096) | (4096, 1536) => const { &[tile(256, 128, 32)] },
            (1536, 1536) => const { &[tile(128, 64, 64)] },
            // bitnet_b1_58-3B
            (3200, 8640) => const { &[tile(160, 64, 32)] },
            (3200, 3200) => const { &[tile(320, 128, 64)] },
            (8640, 3200) => const { &[tile(320, 64, 32)] },
            // Llama3-8B-1.58-100B-tokens: of the script, of the presets
            (14336, 4096) => const { &[tile(256, 128, 32), tile(256, 128, 64)] },
            (4096, 14336) => const { &[tile(128, 64, 64), tile(256, 128, 32)] },
            (1024, 4096) => const { &[tile(256, 128, 32), tile(128, 64, 64)] },
            (4096, 4096) => const { &[tile(128, 64, 64), tile(128, 64, 32)] },
            _ => &[],
        }
    }

    /// The tiles with which bitnet.cpp writes a `rows` × `cols` matrix as TL2: one, or none for
    /// shapes of no model that it has kernels for.
    pub fn tl2(rows: usize, cols: usize) -> &'static [Self] {
        match (rows, cols) {
            (1536, 4096) | (4096, 1536) => const { &[tile(256, 96, 32)] },
            (1536, 1536) => const { &[tile(128, 192, 32)] },
            (3200, 8640) => const { &[tile(160, 96, 32)] },
            (3200, 3200) | (8640, 3200) => const { &[tile(320, 96, 32)] },
            (14336, 4096) | (1024, 4096) => const { &[tile(256, 96, 32)] },
            (4096, 14336) | (4096, 4096) => const { &[tile(128, 96, 32)] },
            _ => &[],
        }
    }

    /// Which block of rows `row` is in and which of its rows it is: its tile, the block in there, and the row in there.
    fn place(self, row: usize) -> (usize, usize, usize) {
        let within = row % self.rows;
        (row / self.rows, within / self.block_rows, within % self.block_rows)
    }
}

const fn tile(rows: usize, cols: usize, block_rows: usize) -> Tile {
    Tile { rows, cols, block_rows }
}

/// What `rows` and `cols` break of the rules that both encodings have for tiles.
fn broken_tile(tile: Tile, rows: usize) -> Option<&'static str> {
    let divides = |a: usize, b: usize| a != 0 && b.is_multiple_of(a);
    (!divides(tile.block_rows, tile.rows) || !divides(tile.rows, rows))
        .then_some("a tile's blocks divide its rows, which divide the matrix's")
}

/// The refusal of a number that no pair or triple has.
fn damaged(row: usize, number: u8) -> TensorError {
    TensorError::Weight { row, what: format!("{number} stands for no weights; is the file damaged?") }
}

/// The larger of the two numbers of any byte.
fn largest_nibble(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |most, byte| most.max(byte >> 4).max(byte & 15))
}

/// The largest number of a pair.
const MOST_PAIR: u8 = 8;

fn pair(number: u8) -> [i8; 2] {
    [(number / 3).cast_signed() - 1, (number % 3).cast_signed() - 1]
}

fn pair_number(trits: [i8; 2]) -> u8 {
    (3 * trits[0] + trits[1] + 4).cast_unsigned()
}
