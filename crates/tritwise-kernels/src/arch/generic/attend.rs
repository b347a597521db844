//! Attention of a few queries over one kv head's past.
//!
//! ```text
//! for each chunk of 256 positions            so that a chunk's work does not depend on what came before it
//!   score_j = (Σ_d q[d] · k[j][d]) · scale   lanes over keys j, d in ascending order
//!   m       = max_j score_j
//!   e_j     = exp(score_j − m)
//!   l       = Σ_j e_j                        sixteen partials
//!   o[d]    = Σ_j e_j · v[j][d]              lanes over d, j in ascending order
//!   merge (m, l, o) into the running ones
//! out = o / l
//! ```
//!
//! A query's result is a chain of operations on its own. What the code adds is
//! company: up to four queries with equally much past in the chunk go through
//! it together and share the loads of keys and values. These are the query heads
//! of the kv head, and in a chunk that lies wholly in the past the rows of a
//! prompt as well.

use std::ops::Range;

use crate::arch::{ATTEND_CHUNK, Halves, KEY_BLOCK, KvHead, Queries, Singles};

use super::exp::{exp, exp_one};
use super::{LANES, Lanes, load_at, store_at};

/// Queries whose running maximum and sum are kept at a time.
const QUERIES: usize = 32;

/// Blocks of keys in a chunk.
const CHUNK_BLOCKS: usize = ATTEND_CHUNK / KEY_BLOCK;

/// One chunk's scores, and then exponentials, of one query.
type Scores = [[f32; KEY_BLOCK]; CHUNK_BLOCKS];

/// Sixteen numbers of a cache, as they are stored.
pub(in crate::arch) trait Unit: Copy + AsRef<[u8]> + AsMut<[u8]> {
    /// No bits set: sixteen zeros.
    const ZERO: Self;

    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32;
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self);
}

impl Unit for Halves {
    const ZERO: Self = [0; 2 * LANES];

    #[inline(always)]
    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32 {
        isa.load_f16(unit)
    }

    #[inline(always)]
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self) {
        isa.store_f16(x, unit);
    }
}

impl Unit for Singles {
    const ZERO: Self = [0; 4 * LANES];

    #[inline(always)]
    fn load<L: Lanes>(isa: L, unit: &Self) -> L::F32 {
        isa.load_f32(unit)
    }

    #[inline(always)]
    fn store<L: Lanes>(isa: L, x: L::F32, unit: &mut Self) {
        let mut lanes = [0.0; LANES];
        isa.store(x, &mut lanes);
        for (bytes, lane) in unit.as_chunks_mut().0.iter_mut().zip(lanes) {
            *bytes = lane.to_le_bytes();
        }
    }
}

/// Stores a key as lane `slot` of a block.
#[inline(always)]
pub(in crate::arch) fn store_key<L: Lanes, U: Unit>(isa: L, key: &[f32], slot: usize, block: &mut [U]) {
    assert_eq!(key.len(), block.len(), "one line of a block per feature");
    assert!(slot < KEY_BLOCK, "a block has {KEY_BLOCK} positions");
    let size = size_of::<U>() / LANES;
    for (start, lines) in (0..key.len()).step_by(LANES).zip(block.chunks_mut(LANES)) {
        let mut unit = U::ZERO;
        U::store(isa, load_at(isa, key, start), &mut unit);
        for (line, number) in lines.iter_mut().zip(unit.as_ref().chunks_exact(size)) {
            line.as_mut()[size * slot..][..size].copy_from_slice(number);
        }
    }
}

/// Stores a value, padded with zeros.
#[inline(always)]
pub(in crate::arch) fn store_value<L: Lanes, U: Unit>(isa: L, value: &[f32], out: &mut [U]) {
    assert_eq!(value.len().div_ceil(LANES), out.len(), "the value, padded");
    for (start, unit) in (0..value.len()).step_by(LANES).zip(out) {
        U::store(isa, load_at(isa, value, start), unit);
    }
}

/// Attention of each query over the positions up to its own.
#[inline(always)]
pub(in crate::arch) fn attend<L: Lanes, U: Unit>(isa: L, past: KvHead<'_, U>, queries: Queries<'_>, out: &mut [f32]) {
    let task = Task::new(past, queries);
    let count = queries.rows * queries.heads;
    for first in (0..count).step_by(QUERIES) {
        let count = QUERIES.min(count - first);
        let mut running = [Running::default(); QUERIES];
        let chunks = 0..task.position(first + count - 1) / ATTEND_CHUNK + 1;
        attend_chunks(isa, &task, first, chunks, &mut running[..count], out);
        for (i, running) in running[..count].iter().enumerate() {
            divide(isa, &mut out[task.offset(first + i)..][..past.head_dim], running.sum);
        }
    }
}

/// One chunk of one row's attention: `o` of all heads, then their maxima, then their sums.
#[inline(always)]
pub(in crate::arch) fn attend_chunk<L: Lanes, U: Unit>(
    isa: L,
    past: KvHead<'_, U>,
    queries: Queries<'_>,
    chunk: usize,
    part: &mut [f32],
) {
    assert_eq!(queries.rows, 1, "one row");
    let task = Task::new(past, queries);
    let (o, state) = part.split_at_mut(queries.heads * past.head_dim);
    let (max, sum) = state.split_at_mut(queries.heads);
    for first in (0..queries.heads).step_by(QUERIES) {
        let count = QUERIES.min(queries.heads - first);
        let mut running = [Running::default(); QUERIES];
        attend_chunks(isa, &task, first, chunk..chunk + 1, &mut running[..count], o);
        for (i, running) in running[..count].iter().enumerate() {
            (max[first + i], sum[first + i]) = (running.max, running.sum);
        }
    }
}

/// A row's attention from the parts that [`attend_chunk`] made of its chunks.
#[inline(always)]
pub(in crate::arch) fn join_chunks<L: Lanes>(isa: L, parts: &[f32], heads: usize, out: &mut [f32]) {
    let part_len = out.len() + 2 * heads;
    assert!(heads > 0 && out.len().is_multiple_of(heads), "whole heads");
    assert!(!parts.is_empty() && parts.len().is_multiple_of(part_len), "whole parts");
    let head_dim = out.len() / heads;
    for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let mut running = Running::default();
        for (chunk, part) in parts.chunks_exact(part_len).enumerate() {
            let (o, state) = part.split_at(heads * head_dim);
            let o = &o[head * head_dim..][..head_dim];
            let right = Running { max: state[head], sum: state[heads + head] };
            if chunk == 0 {
                running = right;
                out.copy_from_slice(o);
            } else {
                let merge = Merge::new(isa, running, right);
                running = merge.merged(running, right);
                for start in (0..head_dim).step_by(LANES) {
                    let y = merge.merged_lanes(isa, load_at(isa, out, start), load_at(isa, o, start));
                    store_at(isa, y, out, start);
                }
            }
        }
        divide(isa, out, running.sum);
    }
}

/// `o = o / sum`.
#[inline(always)]
fn divide<L: Lanes>(isa: L, o: &mut [f32], sum: f32) {
    for start in (0..o.len()).step_by(LANES) {
        let y = isa.div(load_at(isa, o, start), isa.splat(sum));
        store_at(isa, y, o, start);
    }
}

/// The operands, with what is derived from them.
struct Task<'a, U> {
    past: KvHead<'a, U>,
    queries: Queries<'a>,
    /// Units per value.
    tiles: usize,
    /// `1 / √head_dim`.
    scale: f32,
}

impl<'a, U: Unit> Task<'a, U> {
    #[inline(always)]
    fn new(past: KvHead<'a, U>, queries: Queries<'a>) -> Self {
        Self { past, queries, tiles: past.head_dim.div_ceil(LANES), scale: 1.0 / (past.head_dim as f32).sqrt() }
    }

    /// Where query `index` begins, and its output.
    #[inline(always)]
    fn offset(&self, index: usize) -> usize {
        (index / self.queries.heads) * self.queries.stride + (index % self.queries.heads) * self.past.head_dim
    }

    /// Where query `index` stands.
    #[inline(always)]
    fn position(&self, index: usize) -> usize {
        self.queries.start + index / self.queries.heads
    }

    /// How many positions of the chunk that begins at `base` query `index` sees.
    #[inline(always)]
    fn visible(&self, index: usize, base: usize) -> usize {
        (self.position(index) + 1).saturating_sub(base).min(ATTEND_CHUNK)
    }
}

/// A query's state after some chunks; the output holds `o`.
#[derive(Clone, Copy, Default)]
struct Running {
    max: f32,
    sum: f32,
}

/// Takes the queries from `first`, one per element of `running`, through `chunks`; `out` becomes `o`.
#[inline(always)]
fn attend_chunks<L: Lanes, U: Unit>(
    isa: L,
    task: &Task<'_, U>,
    first: usize,
    chunks: Range<usize>,
    running: &mut [Running],
    out: &mut [f32],
) {
    for chunk in chunks.clone() {
        let base = chunk * ATTEND_CHUNK;
        let mut i = 0;
        while i < running.len() {
            let visible = task.visible(first + i, base);
            let mut alike = 1;
            while alike < 4 && i + alike < running.len() && task.visible(first + i + alike, base) == visible {
                alike += 1;
            }
            let span = Span { base, visible, merge: chunk > chunks.start };
            let (index, running) = (first + i, &mut running[i..]);
            i += match (visible, alike) {
                (0, _) => 1,
                (_, 4) => attend_some::<L, U, 4, 1>(isa, task, index, span, running, out),
                (_, 3) => attend_some::<L, U, 3, 1>(isa, task, index, span, running, out),
                (_, 2) => attend_some::<L, U, 2, 2>(isa, task, index, span, running, out),
                _ => attend_some::<L, U, 1, 4>(isa, task, index, span, running, out),
            };
        }
    }
}

/// What some queries see of a chunk.
#[derive(Clone, Copy)]
struct Span {
    /// The chunk's first position.
    base: usize,
    /// Positions from there, at least one.
    visible: usize,
    /// Whether there are chunks before it to merge with.
    merge: bool,
}

/// Takes `Q` queries from `index` through one chunk, and returns `Q`. `N` vectors
/// per query are summed at a time.
#[inline(always)]
fn attend_some<L: Lanes, U: Unit, const Q: usize, const N: usize>(
    isa: L,
    task: &Task<'_, U>,
    index: usize,
    span: Span,
    running: &mut [Running],
    out: &mut [f32],
) -> usize {
    let Span { base, visible, merge } = span;
    let head_dim = task.past.head_dim;
    let mut queries: [&[f32]; Q] = [&[]; Q];
    let mut offsets = [0; Q];
    for q in 0..Q {
        offsets[q] = task.offset(index + q);
        queries[q] = &task.queries.values[offsets[q]..][..head_dim];
    }

    let blocks = visible.div_ceil(KEY_BLOCK);
    let keys = &task.past.keys[base / KEY_BLOCK * head_dim..][..blocks * head_dim];
    let mut scores: [Scores; Q] = [[[0.0; KEY_BLOCK]; CHUNK_BLOCKS]; Q];
    let mut block = 0;
    while block + N <= blocks {
        score::<L, U, Q, N>(isa, task.scale, &keys[block * head_dim..][..N * head_dim], &queries, block, &mut scores);
        block += N;
    }
    while block < blocks {
        score::<L, U, Q, 1>(isa, task.scale, &keys[block * head_dim..][..head_dim], &queries, block, &mut scores);
        block += 1;
    }

    let mut chunk = [Running::default(); Q];
    for q in 0..Q {
        // The lanes of the last block that are not visible hold anything.
        scores[q].as_flattened_mut()[visible..blocks * KEY_BLOCK].fill(f32::NEG_INFINITY);
        chunk[q] = soften(isa, &mut scores[q][..blocks]);
    }

    let mut merges: [Option<Merge>; Q] = [None; Q];
    for q in 0..Q {
        if merge {
            let merge = Merge::new(isa, running[q], chunk[q]);
            running[q] = merge.merged(running[q], chunk[q]);
            merges[q] = Some(merge);
        } else {
            running[q] = chunk[q];
        }
    }

    let tiles = task.tiles;
    let values = &task.past.values[base * tiles..][..visible * tiles];
    let mut tile = 0;
    while tile + N <= tiles {
        weigh::<L, U, Q, N>(isa, values, tiles, tile, head_dim, &scores, &merges, &offsets, out);
        tile += N;
    }
    while tile < tiles {
        weigh::<L, U, Q, 1>(isa, values, tiles, tile, head_dim, &scores, &merges, &offsets, out);
        tile += 1;
    }
    Q
}

/// The scores of `N` blocks of keys.
#[inline(always)]
fn score<L: Lanes, U: Unit, const Q: usize, const N: usize>(
    isa: L,
    scale: f32,
    keys: &[U],
    queries: &[&[f32]; Q],
    block: usize,
    scores: &mut [Scores; Q],
) {
    let head_dim = keys.len() / N;
    let mut blocks: [&[U]; N] = [&[]; N];
    for n in 0..N {
        blocks[n] = &keys[n * head_dim..][..head_dim];
    }
    let mut sums = [[isa.splat(0.0); N]; Q];
    for d in 0..head_dim {
        for n in 0..N {
            let k = U::load(isa, &blocks[n][d]);
            for q in 0..Q {
                sums[q][n] = isa.fma(isa.splat(queries[q][d]), k, sums[q][n]);
            }
        }
    }
    for q in 0..Q {
        for n in 0..N {
            isa.store(isa.mul(sums[q][n], isa.splat(scale)), &mut scores[q][block + n]);
        }
    }
}

/// Makes scores `exp(score − max)`; returns their maximum and sum.
#[inline(always)]
fn soften<L: Lanes>(isa: L, scores: &mut [[f32; KEY_BLOCK]]) -> Running {
    let mut maxima = isa.splat(f32::NEG_INFINITY);
    for block in scores.iter() {
        maxima = isa.max(isa.load(block), maxima);
    }
    let mut lanes = [0.0; LANES];
    isa.store(maxima, &mut lanes);
    let mut max = f32::NEG_INFINITY;
    for lane in lanes {
        max = if lane > max { lane } else { max };
    }

    let mut sums = isa.splat(0.0);
    for block in scores {
        let e = exp(isa, isa.sub(isa.load(block), isa.splat(max)));
        isa.store(e, block);
        sums = isa.add(sums, e);
    }
    Running { max, sum: isa.sum(sums) }
}

/// How two parts of a softmax become one.
#[derive(Clone, Copy)]
struct Merge {
    max: f32,
    /// `exp(max_a − max)`
    left: f32,
    /// `exp(max_b − max)`
    right: f32,
}

impl Merge {
    #[inline(always)]
    fn new<L: Lanes>(isa: L, left: Running, right: Running) -> Self {
        let max = if left.max > right.max { left.max } else { right.max };
        Self { max, left: exp_one(isa, left.max - max), right: exp_one(isa, right.max - max) }
    }

    #[inline(always)]
    fn merged(&self, left: Running, right: Running) -> Running {
        Running { max: self.max, sum: left.sum.mul_add(self.left, right.sum * self.right) }
    }

    #[inline(always)]
    fn merged_lanes<L: Lanes>(&self, isa: L, left: L::F32, right: L::F32) -> L::F32 {
        isa.fma(left, isa.splat(self.left), isa.mul(right, isa.splat(self.right)))
    }
}

/// `Σ_j e_j · v_j` for `N` tiles of sixteen features from `tile`, merged into `out`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the locals of `attend_some`, for two widths")]
fn weigh<L: Lanes, U: Unit, const Q: usize, const N: usize>(
    isa: L,
    values: &[U],
    tiles: usize,
    tile: usize,
    head_dim: usize,
    scores: &[Scores; Q],
    merges: &[Option<Merge>; Q],
    offsets: &[usize; Q],
    out: &mut [f32],
) {
    let mut sums = [[isa.splat(0.0); N]; Q];
    for (j, value) in values.chunks_exact(tiles).enumerate() {
        let value = &value[tile..][..N];
        for n in 0..N {
            let v = U::load(isa, &value[n]);
            for q in 0..Q {
                let e = scores[q].as_flattened()[j];
                sums[q][n] = isa.fma(isa.splat(e), v, sums[q][n]);
            }
        }
    }
    for q in 0..Q {
        let out = &mut out[offsets[q]..][..head_dim];
        for n in 0..N {
            let start = (tile + n) * LANES;
            let mut o = sums[q][n];
            if let Some(merge) = merges[q] {
                o = merge.merged_lanes(isa, load_at(isa, out, start), o);
            }
            store_at(isa, o, out, start);
        }
    }
}
