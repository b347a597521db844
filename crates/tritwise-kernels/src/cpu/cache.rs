//! The keys and values of one sequence.
//!
//! ```text
//! memory    chunk 0: positions 0 .. 256                        chunk 1: 256 .. 512   …
//!           layer 0                             layer 1 …
//!           kv head 0         kv head 1     …
//!           keys │ values     keys │ values
//! ```
//!
//! What lies inside a head's run of lines is drawn in `arch/kv.rs`. Positions come
//! first, so that memory fills from the front as a text grows: its pages are the
//! system's to hand out when they are first written, even those of 2 MiB, and a
//! large capacity costs address space until it is used. And attention reads one
//! run after the other.

use std::fmt;
use std::ops::Range;

use bytemuck::cast_slice;
use tritwise_tensor::Config;

use crate::arch::{ATTEND_CHUNK, Isa, KvChunk, KvLayout, KvLine, KvType, QueryValues};
use crate::memory::Buffer;
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// How many rows before it is stored a head's key or value is asked for: rows are far apart, so that hardware does not see
/// which piece is next, and each was waited for.
const AHEAD: usize = 4;

/// The keys and values of one sequence, for all layers.
pub struct Cache {
    shape: Shape,
    lines: Buffer<KvLine>,
    pub(super) scratch: Scratch,
}

/// What attention over a cache needs beside it, kept so that a token allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    /// What one row's chunks come to, for [`Isa::join_chunks`].
    pub(super) parts: Buffer<f32>,
    pub(super) rounded: RoundedQueries,
}

/// A batch's queries for int8 keys: kv head after kv head, then row after row.
#[derive(Default)]
pub(super) struct RoundedQueries {
    codes: Buffer<i16>,
    scales: Vec<f32>,
}

impl Cache {
    /// Room for `capacity` positions of a model of this shape.
    ///
    /// # Panics
    /// There is not as much memory.
    pub(super) fn new(config: &Config, capacity: usize, kv: KvType) -> Self {
        let shape = Shape::new(config, capacity, kv);
        let parts = Buffer::zeroed(shape.parts_len());
        let scratch = Scratch { parts, ..Scratch::default() };
        Self { shape, lines: Buffer::zeroed(shape.lines()), scratch }
    }

    /// Bytes of keys and values of a cache of this shape, saturating. (What one row's
    /// attention needs for its parts is well below a hundredth of it.)
    pub(super) fn bytes_for(config: &Config, capacity: usize, kv: KvType) -> usize {
        Shape::new(config, capacity, kv).lines().saturating_mul(size_of::<KvLine>())
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// How keys and values are kept.
    pub fn kv_type(&self) -> KvType {
        self.shape.kv
    }

    /// Heads of keys and values in each layer.
    pub(super) fn kv_heads(&self) -> usize {
        self.shape.kv_heads
    }

    /// Width of a head.
    pub(super) fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// An independent copy of the first `positions` positions, with the same capacity.
    ///
    /// # Panics
    /// There are not as many.
    pub(super) fn fork(&self, positions: usize) -> Self {
        let shape = self.shape;
        assert!(positions <= shape.capacity, "{positions} positions of {}", shape.capacity);
        let mut lines = Buffer::zeroed(shape.lines());
        // Whole chunks: one that has begun has its pages already.
        let begun = ..shape.chunk_lines().saturating_mul(positions.div_ceil(ATTEND_CHUNK)).min(lines.len());
        lines[begun].copy_from_slice(&self.lines[begun]);
        Self { shape, lines, scratch: Scratch { parts: Buffer::zeroed(shape.parts_len()), ..Scratch::default() } }
    }

    /// Bytes of the record of one position: layer after layer, kv head after kv head, as
    /// [`KvLayout::read_record`] writes it. Depends on nothing but the model's shape and the type.
    pub(super) fn record_bytes(&self) -> usize {
        self.shape.head_runs().saturating_mul(self.shape.layout(0).record_bytes())
    }

    /// Writes the keys and values of `position` to `record`.
    ///
    /// # Panics
    /// There is no such position, or `record` has another length.
    pub(super) fn read_record(&self, position: usize, record: &mut [u8]) {
        assert_eq!(record.len(), self.record_bytes(), "one position's record");
        let shape = self.shape;
        let (chunk, pos) = (position / ATTEND_CHUNK, position % ATTEND_CHUNK);
        let layout = shape.layout(chunk);
        for (i, record) in record.chunks_exact_mut(layout.record_bytes()).enumerate() {
            let lines = &self.lines[shape.place(i / shape.kv_heads, i % shape.kv_heads, chunk)..][..layout.lines()];
            layout.read_record(lines, pos, record);
        }
    }

    /// Makes `record` the keys and values of `position`; whether it is a record of such a cache. If not, what the
    /// position holds is lost.
    ///
    /// # Panics
    /// As for [`read_record`](Self::read_record).
    #[must_use]
    pub(super) fn write_record(&mut self, position: usize, record: &[u8]) -> bool {
        assert_eq!(record.len(), self.record_bytes(), "one position's record");
        let shape = self.shape;
        let (chunk, pos) = (position / ATTEND_CHUNK, position % ATTEND_CHUNK);
        let layout = shape.layout(chunk);
        record.chunks_exact(layout.record_bytes()).enumerate().all(|(i, record)| {
            let place = shape.place(i / shape.kv_heads, i % shape.kv_heads, chunk);
            layout.write_record(&mut self.lines[place..][..layout.lines()], pos, record)
        })
    }

    /// What may be read while the scratch is written.
    pub(super) fn split(&mut self) -> (Past<'_>, &mut Scratch) {
        (Past { shape: &self.shape, lines: &self.lines }, &mut self.scratch)
    }

    /// Stores rows `rows` of `k` and `v` as positions `start…` of `layer`.
    #[allow(clippy::too_many_arguments, reason = "the operands of the operation it is part of")]
    pub(super) fn store(
        &mut self,
        isa: &dyn Isa,
        pool: &Pool,
        layer: usize,
        start: usize,
        rows: Range<usize>,
        k: &Rows,
        v: &Rows,
    ) {
        let shape = self.shape;
        let Shape { layers, kv_heads, head_dim, capacity, .. } = shape;
        assert!(layer < layers, "layer {layer} of {layers}");
        assert!(start + rows.len() <= capacity, "{} positions of {capacity}", start + rows.len());
        let width = kv_heads * head_dim;
        assert_eq!((k.width(), v.width()), (width, width), "keys and values of all kv heads");
        let (mut row, mut pos) = (rows.start, start);
        while row < rows.end {
            let (chunk, first) = (pos / ATTEND_CHUNK, pos % ATTEND_CHUNK);
            let count = (rows.end - row).min(ATTEND_CHUNK - first);
            let layout = shape.layout(chunk);
            let lines = &mut self.lines[shape.place(layer, 0, chunk)..][..kv_heads * layout.lines()];
            let store_head = |kv_head: usize, lines: &mut [KvLine]| {
                let head = kv_head * head_dim..(kv_head + 1) * head_dim;
                for i in 0..count {
                    let (now, later) = (row + i, row + (i + AHEAD).min(count - 1));
                    isa.prefetch(cast_slice(&k.row(later)[head.clone()]));
                    isa.prefetch(cast_slice(&v.row(later)[head.clone()]));
                    isa.store_kv(layout, lines, first + i, &k.row(now)[head.clone()], &v.row(now)[head.clone()]);
                }
            };
            if count * width < INLINE_ELEMENTS {
                for (kv_head, lines) in lines.chunks_exact_mut(layout.lines()).enumerate() {
                    store_head(kv_head, lines);
                }
            } else {
                for_each_shard(pool, lines, layout.lines(), &store_head);
            }
            (row, pos) = (row + count, pos + count);
        }
    }
}

/// The keys and values of a [`Cache`], for reading.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    shape: &'a Shape,
    lines: &'a [KvLine],
}

impl<'a> Past<'a> {
    /// The keys and values of one kv head of one layer, in the positions of a chunk.
    pub(super) fn chunk(&self, layer: usize, kv_head: usize, chunk: usize) -> KvChunk<'a> {
        let layout = self.shape.layout(chunk);
        let lines = &self.lines[self.shape.place(layer, kv_head, chunk)..][..layout.lines()];
        KvChunk { layout, base: chunk * ATTEND_CHUNK, lines }
    }
}

impl RoundedQueries {
    /// Rounds the queries of rows `rows` of `q`, for `kv_heads` kv heads of `head_dim`.
    pub(super) fn round(&mut self, isa: &dyn Isa, kv_heads: usize, head_dim: usize, q: &Rows, rows: Range<usize>) {
        let heads = q.width() / (kv_heads * head_dim);
        let padded = head_dim.next_multiple_of(2);
        let count = rows.len() * kv_heads * heads;
        if self.scales.len() < count {
            self.codes = Buffer::zeroed(count * padded);
            self.scales.resize(count, 0.0);
        }
        let codes = self.codes.chunks_exact_mut(padded).zip(&mut self.scales);
        for (i, (codes, scale)) in codes.take(count).enumerate() {
            let (head, row, kv_head) = (i % heads, i / heads % rows.len(), i / heads / rows.len());
            let query = &q.row(rows.start + row)[(kv_head * heads + head) * head_dim..][..head_dim];
            *scale = isa.round_query(query, codes);
        }
    }

    /// `count` queries from the `first` on.
    pub(super) fn queries(&self, head_dim: usize, first: usize, count: usize) -> QueryValues<'_> {
        let padded = head_dim.next_multiple_of(2);
        QueryValues::Rounded {
            codes: &self.codes[first * padded..][..count * padded],
            scales: &self.scales[first..][..count],
        }
    }
}

/// What fixes the places of keys and values.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    kv: KvType,
}

impl Shape {
    fn new(config: &Config, capacity: usize, kv: KvType) -> Self {
        let Config { layers, heads, kv_heads, head_dim, .. } = *config;
        assert!(layers > 0 && kv_heads > 0 && head_dim > 0, "a model has layers and heads");
        Self { layers, heads, kv_heads, head_dim, capacity, kv }
    }

    /// What one kv head's lines of a chunk hold. The last chunk has only the blocks it needs.
    fn layout(&self, chunk: usize) -> KvLayout {
        let left = self.capacity.saturating_sub(chunk.saturating_mul(ATTEND_CHUNK));
        KvLayout::new(self.kv, self.head_dim, left.min(ATTEND_CHUNK))
    }

    /// Where the lines of one kv head of one layer in a chunk begin.
    fn place(&self, layer: usize, kv_head: usize, chunk: usize) -> usize {
        assert!(layer < self.layers && kv_head < self.kv_heads, "layer {layer}, kv head {kv_head}");
        chunk * self.chunk_lines() + (layer * self.kv_heads + kv_head) * self.layout(chunk).lines()
    }

    /// Length of a chunk that is not the last, saturating.
    fn chunk_lines(&self) -> usize {
        self.head_runs().saturating_mul(KvLayout::new(self.kv, self.head_dim, ATTEND_CHUNK).lines())
    }

    /// Length of the whole, saturating.
    fn lines(&self) -> usize {
        let whole = self.capacity / ATTEND_CHUNK;
        let last = self.head_runs().saturating_mul(self.layout(whole).lines());
        self.chunk_lines().saturating_mul(whole).saturating_add(last)
    }

    /// Runs of lines in a chunk.
    fn head_runs(&self) -> usize {
        self.layers.saturating_mul(self.kv_heads)
    }

    /// Numbers that one row's attention makes of its chunks: output, maximum and sum of every head.
    fn parts_len(&self) -> usize {
        self.heads.saturating_mul(self.head_dim + 2).saturating_mul(self.capacity.div_ceil(ATTEND_CHUNK))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("shape", &self.shape).finish_non_exhaustive()
    }
}
