//! Dense tables: embedding lookup and the output head.

use std::sync::{Mutex, PoisonError};

use tritwise_tensor::{DenseEncoding, DenseMatrix};

use crate::arch::{Isa, TableRows};
use crate::memory::Buffer;
use crate::parallel::{ColumnShard, ColumnShards, Pool, for_each_shard};

use super::{Norm, Rows};

/// Bytes of table rows in a shard.
const SHARD_BYTES: usize = 128 << 10;

/// Bytes of a shard when a table is copied.
const COPY_BYTES: usize = 4 << 20;

/// Rows and tokens of a kernel call whose outputs go through the stack.
const CALL_ROWS: usize = 32;
const CALL_TOKENS: usize = 16;

/// A dense table in the bytes of its file.
#[derive(Debug)]
pub struct Table {
    encoding: DenseEncoding,
    rows: usize,
    cols: usize,
    bytes: Buffer<u8>,
}

impl Table {
    /// Copies the file's bytes on all threads: most of the time goes into
    /// touching pages, of the file as of the copy. The file's are released as
    /// they are copied, so that no table is in memory twice.
    pub(super) fn new(weights: &DenseMatrix<'_>, pool: &Pool) -> Self {
        let from = weights.bytes();
        let mut bytes = Buffer::zeroed(from.len());
        for_each_shard(pool, &mut bytes, COPY_BYTES, &|i, to: &mut [u8]| {
            let piece = i * COPY_BYTES..i * COPY_BYTES + to.len();
            to.copy_from_slice(&from[piece.clone()]);
            from.release(piece);
        });
        Self { encoding: weights.encoding(), rows: weights.rows(), cols: weights.cols(), bytes }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn as_rows(&self) -> TableRows<'_> {
        TableRows::new(self.encoding, self.rows, self.cols, &self.bytes)
    }
}

/// The normalised rows that a head multiplies, kept between calls.
#[derive(Debug, Default)]
pub(super) struct HeadInput(Mutex<Buffer<f32>>);

/// Makes `out` the rows of `table` that belong to `tokens`.
///
/// # Panics
/// A token is not a row of the table.
pub(super) fn embed(isa: &dyn Isa, table: &Table, tokens: &[u32], out: &mut Rows) {
    assert_eq!(table.cols, out.width(), "one weight per feature");
    out.set_tokens(tokens.len());
    let rows = table.as_rows();
    for (i, token) in tokens.iter().enumerate() {
        isa.decode(rows.slice(*token as usize, 1), out.row_mut(i));
    }
}

/// `out[i * vocab..][..vocab]` = table · norm(row `rows[i]` of `x`).
#[allow(clippy::too_many_arguments, reason = "the operands of the operation and what runs it")]
pub(super) fn logits(
    isa: &dyn Isa,
    pool: &Pool,
    input: &HeadInput,
    x: &Rows,
    rows: &[usize],
    norm: &Norm,
    table: &Table,
    out: &mut [f32],
) {
    assert_eq!(table.cols, x.width(), "one weight per feature");
    assert_eq!(out.len(), rows.len() * table.rows, "a row of logits per wanted row");
    if rows.is_empty() || table.rows == 0 {
        return;
    }
    let padded = x.width().next_multiple_of(16);
    let mut input = input.0.lock().unwrap_or_else(PoisonError::into_inner);
    if input.len() < rows.len() * padded {
        *input = Buffer::zeroed(rows.len() * padded);
    }
    let input = &mut input[..rows.len() * padded];
    for (row, normalised) in rows.iter().zip(input.chunks_exact_mut(padded)) {
        // Another table's rows may have lain here.
        normalised[x.width()..].fill(0.0);
        isa.normalize(x.row(*row), norm.as_weight(), &mut normalised[..x.width()]);
    }

    let input = &*input;
    let table = table.as_rows();
    let row_bytes = table.bytes().len() / table.rows();
    let shard_rows = (SHARD_BYTES / row_bytes.max(1)).next_multiple_of(CALL_ROWS).max(CALL_ROWS);
    let shards = ColumnShards::new(out, table.rows(), shard_rows);
    pool.run(&|_worker| {
        while let Some(mut shard) = shards.next() {
            project(isa, table.slice(shard.start(), shard.len()), input, padded, &mut shard);
        }
    });
}

/// The logits of one shard of rows, for all tokens.
fn project(isa: &dyn Isa, table: TableRows<'_>, x: &[f32], padded: usize, out: &mut ColumnShard<'_, f32>) {
    if out.rows() == 1 {
        return isa.project(table, x, out.row_mut(0));
    }
    let mut tile = [0.0; CALL_TOKENS * CALL_ROWS];
    for row in (0..table.rows()).step_by(CALL_ROWS) {
        let rows = CALL_ROWS.min(table.rows() - row);
        for (call, x) in x.chunks(CALL_TOKENS * padded).enumerate() {
            let tile = &mut tile[..x.len() / padded * rows];
            isa.project(table.slice(row, rows), x, tile);
            for (t, logits) in tile.chunks_exact(rows).enumerate() {
                out.row_mut(call * CALL_TOKENS + t)[row..][..rows].copy_from_slice(logits);
            }
        }
    }
}
