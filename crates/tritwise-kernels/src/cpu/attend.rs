//! Causal attention of a batch's rows over one sequence's past.

use std::ops::Range;

use crate::arch::{ATTEND_CHUNK, Isa, Queries};
use crate::parallel::{Pool, for_each_shard};

use super::{Cache, KvType, Rows};

/// Queries that go through the past together, if a prompt has as many rows.
const QUERIES: usize = 32;

/// Pieces of work per thread that make a region end evenly.
const TASKS: usize = 4;

/// Multiplications below which waking the other threads costs more than it saves.
const INLINE_PRODUCTS: usize = 64 << 10;

/// Stores rows `rows` of `k` and `v` at positions `start…`, then writes each
/// row's attention over positions `0..=its own` to `out`.
///
/// A prompt is split into runs of rows that share what is read, fewer rows than
/// threads by kv head, and one row, where that leaves threads idle, by chunk of
/// the past as well. The results are the same.
#[allow(clippy::too_many_arguments, reason = "the operands of attention; a struct would only rename them")]
pub(super) fn attend(
    isa: &dyn Isa,
    pool: &Pool,
    layer: usize,
    cache: &mut Cache,
    start: usize,
    rows: Range<usize>,
    q: &Rows,
    k: &Rows,
    v: &Rows,
    out: &mut Rows,
) {
    let (head_dim, kv_heads) = (cache.head_dim(), cache.kv_heads());
    let width = q.width();
    assert!(width.is_multiple_of(kv_heads * head_dim), "query heads are a multiple of the kv heads");
    assert_eq!(width, out.width(), "one output per query");
    cache.store(isa, pool, layer, start, rows.clone(), k, v);
    out.set_tokens(q.tokens());
    if rows.is_empty() || width == 0 {
        return;
    }
    let q = &q.as_slice()[rows.start * width..rows.end * width];
    let out = &mut out.as_mut_slice()[rows.start * width..rows.end * width];
    let heads = width / (kv_heads * head_dim);
    let group = heads * head_dim;

    // Row by row and kv head by kv head, outputs lie one after the other.
    let one = |i: usize, out: &mut [f32]| {
        let (row, kv_head) = (i / kv_heads, i % kv_heads);
        let values = &q[i * group..][..group];
        let queries = Queries { values, stride: width, rows: 1, heads, start: start + row };
        cache.attend(isa, layer, kv_head, queries, out);
    };
    let run = (QUERIES / heads).max(1).min(rows.len().div_ceil(pool.threads()));
    let many = |i: usize, out: &mut [f32]| {
        for kv_head in 0..kv_heads {
            let first = kv_head * group;
            let values = &q[i * run * width + first..];
            let queries = Queries { values, stride: width, rows: out.len() / width, heads, start: start + i * run };
            cache.attend(isa, layer, kv_head, queries, &mut out[first..]);
        }
    };

    if 2 * q.len() * (start + rows.len()) < INLINE_PRODUCTS {
        return many_inline(out, run * width, &many);
    }
    if rows.len() == 1 && start >= ATTEND_CHUNK && kv_heads < TASKS * pool.threads() && cache.kv_type() == KvType::F16 {
        return cache.attend_in_parts(isa, pool, layer, start, q, out);
    }
    if rows.len() < pool.threads() {
        for_each_shard(pool, out, group, &one)
    } else {
        for_each_shard(pool, out, run * width, &many)
    }
}

/// What [`for_each_shard`] does, on this thread.
fn many_inline(out: &mut [f32], shard_len: usize, f: &dyn Fn(usize, &mut [f32])) {
    for (i, shard) in out.chunks_mut(shard_len).enumerate() {
        f(i, shard);
    }
}
