//! Causal attention of a batch's rows over one sequence's past.

use std::ops::Range;

use crate::arch::{ATTEND_CHUNK, Isa, KvType, Queries, QueryValues, Softmax};
use crate::parallel::{Pool, for_each_shard};

use super::cache::{Past, RoundedQueries, Scratch};
use super::{Cache, Rows};

/// Queries that go through the past together, if a prompt has as many rows.
const QUERIES: usize = 32;

/// Queries of which a thread takes as many at a time in any case, since registers hold so many.
const AT_ONCE: usize = 8;

/// Multiplications below which waking the other threads costs more than it saves.
const INLINE_PRODUCTS: usize = 64 << 10;

/// Stores rows `rows` of `k` and `v` at positions `start…`, then writes each
/// row's attention over the last `window` positions up to its own to `out`.
///
/// A prompt is split into runs of rows that share what is read, fewer rows than
/// threads by kv head, and one row by kv head and chunk of the past. The results
/// are the same.
#[allow(clippy::too_many_arguments, reason = "the operands of attention; a struct would only rename them")]
pub(super) fn attend(
    isa: &dyn Isa,
    pool: &Pool,
    layer: usize,
    cache: &mut Cache,
    start: usize,
    window: usize,
    rows: Range<usize>,
    q: &Rows,
    k: &Rows,
    v: &Rows,
    out: &mut Rows,
) {
    assert!(window > 0, "a row sees itself");
    let (kv, head_dim, kv_heads) = (cache.kv_type(), cache.head_dim(), cache.kv_heads());
    let width = q.width();
    assert!(width.is_multiple_of(kv_heads * head_dim), "query heads are a multiple of the kv heads");
    assert_eq!(width, out.width(), "one output per query");
    cache.store(isa, pool, layer, start, rows.clone(), k, v);
    out.set_tokens(q.tokens());
    if rows.is_empty() || width == 0 {
        return;
    }
    let (past, Scratch { parts, rounded }) = cache.split();
    if kv == KvType::Int8 {
        rounded.round(isa, kv_heads, head_dim, q, rows.clone());
    }
    let heads = width / (kv_heads * head_dim);
    let batch = Batch {
        isa,
        past,
        layer,
        start,
        window,
        rows: rows.len(),
        heads,
        head_dim,
        width,
        q: &q.as_slice()[rows.start * width..rows.end * width],
        rounded: (kv == KvType::Int8).then_some(rounded),
    };
    let out = &mut out.as_mut_slice()[rows.start * width..rows.end * width];
    let group = heads * head_dim;

    // Later rows see more, so several runs for each thread; but not so many that fewer queries share what is read.
    let balanced = rows.len().div_ceil(4 * pool.threads()).max(AT_ONCE.div_ceil(heads));
    let run = (QUERIES / heads).max(1).min(balanced).min(rows.len().div_ceil(pool.threads()));
    let some_rows = |i: usize, out: &mut [f32]| {
        for kv_head in 0..kv_heads {
            batch.attend(kv_head, i * run, out.len() / width, &mut out[kv_head * group..]);
        }
    };
    if 2 * batch.q.len() * (start + rows.len()).min(window) < INLINE_PRODUCTS {
        for (i, out) in out.chunks_mut(run * width).enumerate() {
            some_rows(i, out);
        }
    } else if rows.len() == 1 && start >= ATTEND_CHUNK && pool.threads() > 1 {
        let first = batch.first_chunk(0);
        let chunks = start / ATTEND_CHUNK + 1 - first;
        let part_len = group + 2 * heads;
        let parts = &mut parts[..kv_heads * chunks * part_len];
        for_each_shard(pool, parts, part_len, &|i, part| batch.attend_part(i / chunks, first + i % chunks, part));
        for (parts, out) in parts.chunks_exact(chunks * part_len).zip(out.chunks_exact_mut(group)) {
            isa.join_chunks(parts, heads, out);
        }
    } else if rows.len() < pool.threads() {
        // Row by row and kv head by kv head, outputs lie one after the other.
        for_each_shard(pool, out, group, &|i, out| batch.attend(i % kv_heads, i / kv_heads, 1, out));
    } else {
        for_each_shard(pool, out, run * width, &some_rows);
    }
}

/// The rows, and what they look back on.
struct Batch<'a> {
    isa: &'a dyn Isa,
    past: Past<'a>,
    layer: usize,
    /// The first row's position.
    start: usize,
    /// Positions that a row sees at most.
    window: usize,
    rows: usize,
    /// Query heads per kv head.
    heads: usize,
    head_dim: usize,
    /// Of a row's queries, and of its outputs.
    width: usize,
    q: &'a [f32],
    /// The queries in place of `q`, for int8 keys.
    rounded: Option<&'a RoundedQueries>,
}

impl Batch<'_> {
    /// The first chunk of which row `row` sees something.
    fn first_chunk(&self, row: usize) -> usize {
        (self.start + row + 1).saturating_sub(self.window) / ATTEND_CHUNK
    }

    /// Attention of `rows` rows from the `first` on over one kv head; `out` begins with the first output.
    fn attend(&self, kv_head: usize, first: usize, rows: usize, out: &mut [f32]) {
        self.for_some_queries(rows, |row, rows, head, heads| {
            let out = &mut out[row * self.width + head * self.head_dim..];
            let last = self.start + first + row + rows - 1;
            let softmax = &mut [Softmax::default(); QUERIES][..rows * heads];
            for chunk in self.first_chunk(first + row)..last / ATTEND_CHUNK + 1 {
                self.attend_chunk(kv_head, chunk, first + row..first + row + rows, head..head + heads, softmax, out);
            }
            for (i, softmax) in softmax.iter().enumerate() {
                let place = i / heads * self.width + i % heads * self.head_dim;
                self.isa.divide(&mut out[place..][..self.head_dim], softmax.sum);
            }
        });
    }

    /// One chunk's part of the attention of the only row over one kv head.
    fn attend_part(&self, kv_head: usize, chunk: usize, part: &mut [f32]) {
        let (out, state) = part.split_at_mut(self.heads * self.head_dim);
        let (max, sum) = state.split_at_mut(self.heads);
        self.for_some_queries(1, |_, _, head, heads| {
            let softmax = &mut [Softmax::default(); QUERIES][..heads];
            self.attend_chunk(kv_head, chunk, 0..1, head..head + heads, softmax, &mut out[head * self.head_dim..]);
            for (i, softmax) in softmax.iter().enumerate() {
                (max[head + i], sum[head + i]) = (softmax.max, softmax.sum);
            }
        });
    }

    /// Calls `f(row, rows, head, heads)` for parts of `rows` rows of all heads, of at most [`QUERIES`] queries.
    fn for_some_queries(&self, rows: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let run = (QUERIES / self.heads).max(1);
        for row in (0..rows).step_by(run) {
            for head in (0..self.heads).step_by(QUERIES) {
                f(row, run.min(rows - row), head, QUERIES.min(self.heads - head));
            }
        }
    }

    /// Takes some heads of some rows through one chunk; `out` begins with the first one's output.
    fn attend_chunk(
        &self,
        kv_head: usize,
        chunk: usize,
        rows: Range<usize>,
        heads: Range<usize>,
        softmax: &mut [Softmax],
        out: &mut [f32],
    ) {
        let values = match self.rounded {
            None => {
                let head = kv_head * self.heads + heads.start;
                QueryValues::Plain(&self.q[rows.start * self.width + head * self.head_dim..])
            }
            Some(rounded) => {
                let first = (kv_head * self.rows + rows.start) * self.heads + heads.start;
                rounded.queries(self.head_dim, first, rows.len() * heads.len())
            }
        };
        let queries = Queries {
            values,
            stride: self.width,
            rows: rows.len(),
            heads: heads.len(),
            start: self.start + rows.start,
            window: self.window,
        };
        self.isa.attend_chunk(self.past.chunk(self.layer, kv_head, chunk), queries, softmax, out);
    }
}
