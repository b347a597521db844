//! Dense tables: the embedding lookup and the output head.
//!
//! The head reads every row once per batch and is bound by memory, so a row is
//! decoded in registers on its way into the products, several rows at a time:
//! one row's sum is a chain of fused multiply-adds, and a chain alone would wait
//! for itself.

mod codes;

use tritwise_tensor::{DenseEncoding, Group};

use crate::arch::TableRows;

use super::{LANES, Lanes, store_at};
use codes::{Iq4Nl, Ptq1_0, Q1_0, Q2_0, Q4_0, Q4K, Tq1_0, Tq2_0};

/// Evaluates an expression with the type `$E` that implements an encoding.
macro_rules! with_encoding {
    ($encoding:expr, $E:ident => $call:expr) => {
        with_encoding!(@ $encoding, $E, $call,
            DenseEncoding::F32 => F32,
            DenseEncoding::F16 => F16,
            DenseEncoding::Bf16 => Bf16,
            DenseEncoding::Q8_0 => Q8_0,
            DenseEncoding::Q6K => Q6K,
            DenseEncoding::Q4_0 => Q4_0,
            DenseEncoding::Q4K => Q4K,
            DenseEncoding::Iq4Nl => Iq4Nl,
            DenseEncoding::Q1_0(Group::Of32) => Q1_0<6>,
            DenseEncoding::Q1_0(Group::Of64) => Q1_0<10>,
            DenseEncoding::Q1_0(Group::Of128) => Q1_0<18>,
            DenseEncoding::Q2_0(Group::Of32) => Q2_0<10>,
            DenseEncoding::Q2_0(Group::Of64) => Q2_0<18>,
            DenseEncoding::Q2_0(Group::Of128) => Q2_0<34>,
            DenseEncoding::Tq1_0 => Tq1_0,
            DenseEncoding::Tq2_0 => Tq2_0,
            DenseEncoding::Ptq1_0 => Ptq1_0)
    };
    (@ $encoding:expr, $E:ident, $call:expr, $($pattern:pat => $type:ty),*) => {
        match $encoding {
            $($pattern => {
                type $E = $type;
                $call
            })*
        }
    };
}

/// The weights of one row.
#[inline(always)]
pub(in crate::arch) fn decode<L: Lanes>(isa: L, row: TableRows<'_>, out: &mut [f32]) {
    assert_eq!(row.rows(), 1, "one row");
    assert_eq!(row.cols(), out.len(), "one weight per column");
    with_encoding!(row.encoding(), E => decode_row::<L, E>(isa, row.bytes(), out));
}

/// `out[t * rows + r] = row r · x[t]`.
#[inline(always)]
pub(in crate::arch) fn project<L: Lanes>(isa: L, table: TableRows<'_>, x: &[f32], out: &mut [f32]) {
    with_encoding!(table.encoding(), E => project_rows::<L, E>(isa, table, x, out));
}

/// How an encoding's bytes become lanes.
///
/// A row is whole blocks; a block is decoded in `STEPS` steps of some vectors each.
trait Encoding {
    /// The bytes of a block.
    type Block: Copy;
    /// What all steps of a block share.
    type Scales: Copy;
    /// What a step decodes.
    type Vectors<V: Copy>: AsRef<[V]>;
    /// Vectors per step.
    const VECTORS: usize;
    /// Steps per block.
    const STEPS: usize;
    /// Whether products of several tokens share a decoded row. Each size of such a tile is a function of its own for each
    /// instruction set; the encodings that are rarely a head's do without.
    const TILED: bool;

    /// The whole blocks of a row, and what is left.
    fn blocks(row: &[u8]) -> (&[Self::Block], &[u8]);
    /// What is left of a row as a block padded with zeros.
    fn padded(rest: &[u8]) -> Self::Block;
    /// The block's scales.
    fn scales<L: Lanes>(isa: L, block: &Self::Block) -> Self::Scales;
    /// Vectors `VECTORS * step..` of the block.
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, scales: &Self::Scales, step: usize) -> Self::Vectors<L::F32>;
    /// The bytes of a block.
    fn bytes(block: &Self::Block) -> &[u8];
}

/// A block that is an array of bytes, padded with zeros.
macro_rules! byte_blocks {
    ($bytes:tt) => {
        type Block = [u8; $bytes];

        #[inline(always)]
        fn blocks(row: &[u8]) -> (&[Self::Block], &[u8]) {
            row.as_chunks()
        }

        #[inline(always)]
        fn padded(rest: &[u8]) -> Self::Block {
            let mut block = [0; $bytes];
            block[..rest.len()].copy_from_slice(rest);
            block
        }

        #[inline(always)]
        fn bytes(block: &Self::Block) -> &[u8] {
            block
        }
    };
}

use byte_blocks;

struct F32;
struct F16;
struct Bf16;
struct Q8_0;
struct Q6K;

impl Encoding for F32 {
    byte_blocks!(64);
    type Scales = ();
    type Vectors<V: Copy> = [V; 1];
    const VECTORS: usize = 1;
    const STEPS: usize = 1;
    const TILED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(_isa: L, _block: &Self::Block) {}

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, _scales: &(), _step: usize) -> [L::F32; 1] {
        [isa.load_f32(block)]
    }
}

impl Encoding for F16 {
    byte_blocks!(32);
    type Scales = ();
    type Vectors<V: Copy> = [V; 1];
    const VECTORS: usize = 1;
    const STEPS: usize = 1;
    const TILED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(_isa: L, _block: &Self::Block) {}

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, _scales: &(), _step: usize) -> [L::F32; 1] {
        [isa.load_f16(block)]
    }
}

impl Encoding for Bf16 {
    byte_blocks!(32);
    type Scales = ();
    type Vectors<V: Copy> = [V; 1];
    const VECTORS: usize = 1;
    const STEPS: usize = 1;
    const TILED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(_isa: L, _block: &Self::Block) {}

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, _scales: &(), _step: usize) -> [L::F32; 1] {
        [isa.load_bf16(block)]
    }
}

/// ```text
/// bytes 0..2   d, binary16        bytes 2..34   32 × q, i8        weight d·q
/// ```
impl Encoding for Q8_0 {
    byte_blocks!(34);
    type Scales = f32;
    type Vectors<V: Copy> = [V; 2];
    const VECTORS: usize = 2;
    const STEPS: usize = 1;
    const TILED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(isa: L, block: &Self::Block) -> f32 {
        isa.half(array_at(block, 0))
    }

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, d: &f32, _step: usize) -> [L::F32; 2] {
        let d = isa.splat(*d);
        [isa.mul(d, isa.load_i8(array_at(block, 2))), isa.mul(d, isa.load_i8(array_at(block, 18)))]
    }
}

/// ```text
/// bytes 0..128     low bits, 64 bytes per half      (see `Lanes::load_six_bit`)
/// bytes 128..192   high bits, 32 bytes per half
/// bytes 192..208   scales, i8, one per 16 columns
/// bytes 208..210   d, binary16                      weight (d·scale)·(code − 32)
/// ```
impl Encoding for Q6K {
    byte_blocks!(210);
    type Scales = [f32; LANES];
    type Vectors<V: Copy> = [V; 4];
    const VECTORS: usize = 4;
    const STEPS: usize = 4;
    const TILED: bool = true;

    #[inline(always)]
    fn scales<L: Lanes>(isa: L, block: &Self::Block) -> [f32; LANES] {
        let d = isa.splat(isa.half(array_at(block, 208)));
        let mut scales = [0.0; LANES];
        isa.store(isa.mul(d, isa.load_i8(array_at(block, 192))), &mut scales);
        // Where the compiler sees through this store, it takes the scales out of the register by
        // shuffles, of which the codes need many already; from memory, a broadcast is part of the load.
        std::hint::black_box(scales)
    }

    #[inline(always)]
    fn vectors<L: Lanes>(isa: L, block: &Self::Block, scales: &[f32; LANES], step: usize) -> [L::F32; 4] {
        let (half, part) = (step / 2, step % 2);
        let mut vectors = isa.load_six_bit(array_at(block, 64 * half), array_at(block, 128 + 32 * half), part);
        for (scale, vector) in scales[4 * step..].iter().zip(&mut vectors) {
            *vector = isa.mul(isa.splat(*scale), *vector);
        }
        vectors
    }
}

/// The `N` bytes at `start`.
#[inline(always)]
fn array_at<const N: usize>(block: &[u8], start: usize) -> &[u8; N] {
    block[start..].first_chunk().expect("a place inside the block")
}

#[inline(always)]
fn decode_row<L: Lanes, E: Encoding>(isa: L, row: &[u8], out: &mut [f32]) {
    let (blocks, rest) = E::blocks(row);
    let mut start = 0;
    for block in blocks {
        let scales = E::scales(isa, block);
        for step in 0..E::STEPS {
            for vector in E::vectors(isa, block, &scales, step).as_ref() {
                store_at(isa, *vector, out, start);
                start += LANES;
            }
        }
    }
    if !rest.is_empty() {
        let block = E::padded(rest);
        store_at(isa, E::vectors(isa, &block, &E::scales(isa, &block), 0).as_ref()[0], out, start);
    }
}

#[inline(always)]
fn project_rows<L: Lanes, E: Encoding>(isa: L, table: TableRows<'_>, x: &[f32], out: &mut [f32]) {
    let (x, rest) = x.as_chunks::<LANES>();
    let vectors = table.cols().div_ceil(LANES);
    assert!(rest.is_empty() && vectors > 0 && x.len().is_multiple_of(vectors), "padded rows of {vectors} vectors");
    let tokens = x.len() / vectors;
    let rows = table.rows();
    assert_eq!(out.len(), tokens * rows, "one output per token and row");
    if rows == 0 {
        return;
    }
    let table = Table { bytes: table.bytes(), row_bytes: table.bytes().len() / rows, rows };
    let mut t = 0;
    while t < tokens {
        let x = &x[t * vectors..];
        let out = &mut out[t * rows..];
        t += match (tokens - t, L::WIDE) {
            _ if !E::TILED => project_tokens::<L, E, 2, 1>(isa, &table, x, vectors, out),
            (4.., true) => project_tokens::<L, E, 4, 4>(isa, &table, x, vectors, out),
            (2.., _) => project_tokens::<L, E, 2, 2>(isa, &table, x, vectors, out),
            _ => project_tokens::<L, E, 4, 1>(isa, &table, x, vectors, out),
        };
    }
}

/// The rows, as bytes.
struct Table<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    rows: usize,
}

/// All rows with `T` tokens, `R` rows at a time; returns `T`.
#[inline(always)]
fn project_tokens<L: Lanes, E: Encoding, const R: usize, const T: usize>(
    isa: L,
    table: &Table<'_>,
    x: &[[f32; LANES]],
    vectors: usize,
    out: &mut [f32],
) -> usize {
    let mut row = 0;
    while row + R <= table.rows {
        project_tile::<L, E, R, T>(isa, table, row, x, vectors, out);
        row += R;
    }
    while row < table.rows {
        project_tile::<L, E, 1, T>(isa, table, row, x, vectors, out);
        row += 1;
    }
    T
}

/// `R` rows with `T` tokens.
#[inline(always)]
fn project_tile<L: Lanes, E: Encoding, const R: usize, const T: usize>(
    isa: L,
    table: &Table<'_>,
    row: usize,
    x: &[[f32; LANES]],
    vectors: usize,
    out: &mut [f32],
) {
    let mut rows: [&[E::Block]; R] = [&[]; R];
    let mut rests: [&[u8]; R] = [&[]; R];
    for r in 0..R {
        (rows[r], rests[r]) = E::blocks(&table.bytes[(row + r) * table.row_bytes..][..table.row_bytes]);
    }
    let mut tokens: [&[[f32; LANES]]; T] = [&[]; T];
    for t in 0..T {
        tokens[t] = &x[t * vectors..][..vectors];
    }

    let mut sums = [[isa.splat(0.0); T]; R];
    let blocks = rows[0].len();
    for b in 0..blocks {
        let mut scales = [E::scales(isa, &rows[0][b]); R];
        for r in 1..R {
            scales[r] = E::scales(isa, &rows[r][b]);
        }
        for step in 0..E::STEPS {
            let first = (b * E::STEPS + step) * E::VECTORS;
            let mut xs: [&[[f32; LANES]]; T] = [&[]; T];
            for t in 0..T {
                xs[t] = &tokens[t][first..first + E::VECTORS];
            }
            for r in 0..R {
                let weights = E::vectors(isa, &rows[r][b], &scales[r], step);
                for (i, w) in weights.as_ref().iter().enumerate() {
                    for t in 0..T {
                        sums[r][t] = isa.fma(*w, isa.load(&xs[t][i]), sums[r][t]);
                    }
                }
            }
        }
        for r in 0..R {
            // A block may be more than one line: 210 bytes in Q6_K.
            for line in E::bytes(&rows[r][b]).chunks(64) {
                isa.prefetch(line, R * table.row_bytes);
            }
        }
    }
    if !rests[0].is_empty() {
        for r in 0..R {
            let block = E::padded(rests[r]);
            let w = E::vectors(isa, &block, &E::scales(isa, &block), 0).as_ref()[0];
            for t in 0..T {
                sums[r][t] = isa.fma(w, isa.load(&tokens[t][vectors - 1]), sums[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            out[t * table.rows + row + r] = isa.sum(sums[r][t]);
        }
    }
}
