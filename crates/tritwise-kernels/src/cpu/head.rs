//! Dense tables: embedding lookup and the output head.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tritwise_tensor::{Bytes, DenseEncoding, DenseMatrix};

use crate::arch::{Isa, TableRows};
use crate::memory::Buffer;
use crate::parallel::{ColumnShard, ColumnShards, Columns, Pool, for_each_shard};
use crate::{HeadReads, Keep};

use super::screen::{self, ScreenScratch};
use super::sketch::Sketch;
use super::{Norm, Rows};

/// Bytes of table rows in a shard.
const SHARD_BYTES: usize = 128 << 10;

/// Bytes of a shard when a table is copied.
const COPY_BYTES: usize = 4 << 20;

/// Bytes from which a table is worth a sketch: one that stays in a core's cache is read at no cost.
const SKETCH_MIN_BYTES: usize = 1 << 20;

/// Rows that a thread rounds at a time.
const ROUND_ROWS: usize = 64;

/// Rows and tokens of a kernel call whose outputs go through the stack.
const CALL_ROWS: usize = 32;
const CALL_TOKENS: usize = 16;

/// What a head needs from call to call.
#[derive(Debug, Default)]
pub(super) struct HeadInput(Mutex<Scratch>);

#[derive(Debug, Default)]
struct Scratch {
    /// The normalised rows, padded to sixteen columns.
    rows: Buffer<f32>,
    screen: ScreenScratch,
}

/// How the output head is multiplied with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadMode {
    /// Exact: where only the best logits matter, a sketch of the table rules out most of its
    /// rows. A large table in F32, F16, BF16, Q8_0 or Q6_K has one, which takes 6.5 bits a weight on
    /// top of it: two fifths of an F16 table's memory, as much again as a Q6_K table's.
    #[default]
    Screened,
    /// Exact, and all of the table is read for every token.
    Full,
    /// **Lossy**: an F32, F16 or BF16 head is rounded to 8.5 bits a weight at load.
    Q8_0,
    /// **Lossy**: an F32, F16 or BF16 head is rounded to 6.56 bits a weight at load. A
    /// width that is no multiple of 256 stays as it is.
    Q6K,
}

/// A dense table in the bytes of its file, and what helps to multiply with it.
#[derive(Debug)]
pub struct Table {
    encoding: DenseEncoding,
    rows: usize,
    cols: usize,
    bytes: Buffer<u8>,
    head: Head,
}

/// What a table is multiplied as.
#[derive(Debug)]
enum Head {
    /// Itself.
    Full,
    Screened(Box<Sketch>),
    /// Another table, while rows are looked up in this one.
    Rounded(Box<Table>),
}

impl Table {
    /// Copies the file's bytes. In place, bytes that are a file's are not copied.
    pub(super) fn new(weights: &DenseMatrix<'_>, in_place: bool, pool: &Pool) -> Self {
        let bytes = match weights.bytes() {
            Bytes::Shared(shared) if in_place => Buffer::shared(shared.clone()),
            _ => None,
        };
        let bytes = bytes.unwrap_or_else(|| copy(weights.bytes(), pool));
        let (encoding, rows, cols) = (weights.encoding(), weights.rows(), weights.cols());
        Self { encoding, rows, cols, bytes, head: Head::Full }
    }

    /// A table that will be multiplied with, and looked up in if it is `tied`.
    /// In place there is no sketch, which would take memory.
    pub(super) fn head(
        isa: &dyn Isa,
        pool: &Pool,
        mode: HeadMode,
        weights: &DenseMatrix<'_>,
        tied: bool,
        in_place: bool,
    ) -> Self {
        let rounded = match mode {
            HeadMode::Q8_0 => Self::rounded(pool, weights, DenseEncoding::Q8_0),
            HeadMode::Q6K => Self::rounded(pool, weights, DenseEncoding::Q6K),
            HeadMode::Screened | HeadMode::Full => None,
        };
        if let Some(rounded) = rounded {
            if !tied {
                return rounded;
            }
            return Self { head: Head::Rounded(Box::new(rounded)), ..Self::new(weights, in_place, pool) };
        }
        let mut table = Self::new(weights, in_place, pool);
        let is_large = table.bytes.len() >= SKETCH_MIN_BYTES;
        if mode == HeadMode::Screened && !in_place && is_slower_than_a_sketch(table.encoding) && is_large {
            table.head = Sketch::new(isa, pool, table.as_rows()).map_or(Head::Full, |s| Head::Screened(Box::new(s)));
        }
        table
    }

    /// The table in another encoding; `None` where that cannot hold it, or would not save anything.
    fn rounded(pool: &Pool, weights: &DenseMatrix<'_>, encoding: DenseEncoding) -> Option<Self> {
        let (rows, cols) = (weights.rows(), weights.cols());
        let row_bytes = encoding.encoded_len(1, cols).ok().filter(|_| is_plain(weights.encoding()))?;
        let mut bytes = Buffer::zeroed(rows.checked_mul(row_bytes)?);
        let refused = AtomicBool::new(false);
        for_each_shard(pool, &mut bytes, ROUND_ROWS * row_bytes, &|shard, out: &mut [u8]| {
            let mut row = vec![0.0; cols];
            for (i, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                weights.read_row(shard * ROUND_ROWS + i, &mut row);
                match encoding.encode(&row, 1, cols) {
                    Ok(bytes) => out.copy_from_slice(&bytes),
                    // Weights that are not finite: left to the table as it is.
                    Err(_) => refused.store(true, Ordering::Relaxed),
                }
            }
        });
        (!refused.into_inner()).then_some(Self { encoding, rows, cols, bytes, head: Head::Full })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory, with the sketch or the second table, where there is one.
    pub fn bytes(&self) -> usize {
        let head = match &self.head {
            Head::Full => 0,
            Head::Screened(sketch) => sketch.bytes(),
            Head::Rounded(table) => table.bytes(),
        };
        self.bytes.len() + head
    }

    /// Bytes that all logits of one row read.
    pub(super) fn logits_bytes(&self) -> usize {
        self.multiplied().bytes.len()
    }

    /// The table that is multiplied with.
    fn multiplied(&self) -> &Self {
        match &self.head {
            Head::Rounded(table) => table,
            Head::Full | Head::Screened(_) => self,
        }
    }

    fn as_rows(&self) -> TableRows<'_> {
        TableRows::new(self.encoding, self.rows, self.cols, &self.bytes)
    }
}

/// Whether a pass over such weights takes clearly longer than one over 4.25 bits of each. Bounds hold for any encoding,
/// since a product is of the numbers that it decodes to.
fn is_slower_than_a_sketch(encoding: DenseEncoding) -> bool {
    is_plain(encoding) || matches!(encoding, DenseEncoding::Q8_0 | DenseEncoding::Q6K)
}

/// Whether a weight is a number of its own rather than part of a block.
fn is_plain(encoding: DenseEncoding) -> bool {
    matches!(encoding, DenseEncoding::F32 | DenseEncoding::F16 | DenseEncoding::Bf16)
}

/// Copies a table on all threads: most of the time goes into touching pages, of the
/// file as of the copy. The file's are released as they are copied, so that no
/// table is in memory twice.
fn copy(from: &Bytes<'_>, pool: &Pool) -> Buffer<u8> {
    let mut bytes = Buffer::zeroed(from.len());
    for_each_shard(pool, &mut bytes, COPY_BYTES, &|i, to: &mut [u8]| {
        let piece = i * COPY_BYTES..i * COPY_BYTES + to.len();
        to.copy_from_slice(&from[piece.clone()]);
        from.release(piece);
    });
    bytes
}

/// Makes `out` the rows of `table` that belong to `tokens`.
///
/// # Panics
/// A token is not a row of the table.
pub(super) fn embed(isa: &dyn Isa, table: &Table, tokens: &[u32], scale: f32, out: &mut Rows) {
    assert_eq!(table.cols, out.width(), "one weight per feature");
    out.set_tokens(tokens.len());
    let rows = table.as_rows();
    for (i, token) in tokens.iter().enumerate() {
        isa.decode(rows.slice(*token as usize, 1), out.row_mut(i));
        if scale != 1.0 {
            out.row_mut(i).iter_mut().for_each(|x| *x *= scale);
        }
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
    let mut scratch = input.0.lock().unwrap_or_else(PoisonError::into_inner);
    let padded = x.width().next_multiple_of(16);
    let input = normalized(isa, &mut scratch.rows, x, rows, norm);
    let table = table.multiplied().as_rows();
    let row_bytes = table.bytes().len() / table.rows();
    let shard_rows = (SHARD_BYTES / row_bytes.max(1)).next_multiple_of(CALL_ROWS).max(CALL_ROWS);
    let shards = ColumnShards::new([Some(Columns::new(out, table.rows(), shard_rows))], pool.threads());
    pool.run(&|worker| {
        while let Some(mut shard) = shards.next(worker) {
            project(isa, table.slice(shard.start(), shard.len()), input, padded, &mut shard);
        }
    });
}

/// Rows `rows` of `x`, normalised and padded with zeros to multiples of sixteen.
fn normalized<'a>(isa: &dyn Isa, to: &'a mut Buffer<f32>, x: &Rows, rows: &[usize], norm: &Norm) -> &'a [f32] {
    let padded = x.width().next_multiple_of(16);
    if to.len() < rows.len() * padded {
        *to = Buffer::zeroed(rows.len() * padded);
    }
    let to = &mut to[..rows.len() * padded];
    for (row, normalized) in rows.iter().zip(to.chunks_exact_mut(padded)) {
        // Another table's rows may have lain here.
        normalized[x.width()..].fill(0.0);
        isa.normalize(x.row(*row), norm.as_weight(), &mut normalized[..x.width()]);
    }
    to
}

/// Rows of logits of which only some matter.
#[allow(clippy::too_many_arguments, reason = "the operands of the operation and what runs it")]
pub(super) fn top_logits(
    isa: &dyn Isa,
    pool: &Pool,
    input: &HeadInput,
    x: &Rows,
    rows: &[usize],
    norm: &Norm,
    table: &Table,
    keeps: &[Keep<'_>],
    out: &mut [f32],
) -> HeadReads {
    assert_eq!(rows.len(), keeps.len(), "a rule for each row");
    assert_eq!(out.len(), rows.len() * table.rows, "a row of logits per wanted row");
    assert_eq!(table.cols, x.width(), "one weight per feature");
    if let Head::Screened(sketch) = &table.head
        && keeps.iter().all(|keep| screen::is_worth_it(keep, table.rows))
    {
        let mut scratch = input.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { rows: normed, screen } = &mut *scratch;
        let x = normalized(isa, normed, x, rows, norm);
        if screen.set_probes(pool, x, rows.len(), table.cols) {
            return screen::top_logits(isa, pool, screen, x, table.as_rows(), sketch, keeps, out);
        }
    }
    if rows.len() > 1 {
        // One of them may be what keeps the others from being screened.
        let each = rows.iter().zip(keeps).zip(out.chunks_exact_mut(table.rows));
        let each = each.map(|((row, keep), out)| {
            top_logits(isa, pool, input, x, &[*row], norm, table, std::slice::from_ref(keep), out)
        });
        let mut reads = HeadReads::default();
        each.for_each(|row| reads += row);
        return reads;
    }
    logits(isa, pool, input, x, rows, norm, table, out);
    screen::not_left_out(out);
    HeadReads { exact: out.len(), bytes: table.logits_bytes() * rows.len(), ..HeadReads::default() }
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
