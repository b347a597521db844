//! The keys and values of one sequence.
//!
//! ```text
//! memory    layer 0                                     layer 1 …
//!           kv head 0           kv head 1           …
//!           keys    │ values    keys    │ values
//!
//! keys      block of positions 16b .. 16b + 15: [head_dim][16], so that the lanes of q·k run over keys
//! values    position p: [head_dim, padded with zeros to a multiple of 16]
//! ```
//!
//! Numbers are binary16, or binary32 where [`KvType::F32`] is asked for.
//! Capacity is fixed when the cache is made; pages of
//! memory are the system's to hand out when they are first written, so a large
//! capacity costs address space until it is used.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;
use tritwise_tensor::Config;

use crate::arch::{ATTEND_CHUNK, Halves, Isa, KEY_BLOCK, KvHead, Queries, Singles};
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Features per unit of memory.
const LANES: usize = 16;

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// Rounded to binary16: half the memory, and what other engines do.
    #[default]
    F16,
    /// Not rounded, for comparison with references that keep binary32.
    F32,
}

/// The keys and values of one sequence, for all layers.
pub struct Cache {
    shape: Shape,
    memory: Memory,
    /// Scratch of [`Cache::attend_in_parts`].
    parts: Zeroed<f32>,
}

enum Memory {
    F16(Zeroed<Halves>),
    F32(Zeroed<Singles>),
}

impl Cache {
    /// Room for `capacity` positions of a model of this shape.
    ///
    /// # Panics
    /// There is not as much memory.
    pub(super) fn new(config: &Config, capacity: usize, kv: KvType) -> Self {
        let shape = Shape::new(config, capacity);
        let memory = match kv {
            KvType::F16 => Memory::F16(Zeroed::new(shape.len())),
            KvType::F32 => Memory::F32(Zeroed::new(shape.len())),
        };
        Self { shape, memory, parts: Zeroed::new(shape.parts_len()) }
    }

    /// Bytes of keys and values of a cache of this shape, saturating. (What one row's
    /// attention needs for its parts is well below a hundredth of it.)
    pub(super) fn bytes_for(config: &Config, capacity: usize, kv: KvType) -> usize {
        let unit = match kv {
            KvType::F16 => size_of::<Halves>(),
            KvType::F32 => size_of::<Singles>(),
        };
        Shape::new(config, capacity).len().saturating_mul(unit)
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    pub(super) fn kv_heads(&self) -> usize {
        self.shape.kv_heads
    }

    pub(super) fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    pub(super) fn kv_type(&self) -> KvType {
        match self.memory {
            Memory::F16(_) => KvType::F16,
            Memory::F32(_) => KvType::F32,
        }
    }

    /// An independent copy of the first `positions` positions, with the same capacity.
    ///
    /// # Panics
    /// There are not as many.
    pub(super) fn fork(&self, positions: usize) -> Self {
        let shape = self.shape;
        assert!(positions <= shape.capacity, "{positions} positions of {}", shape.capacity);
        let memory = match &self.memory {
            Memory::F16(memory) => Memory::F16(shape.fork(memory, positions)),
            Memory::F32(memory) => Memory::F32(shape.fork(memory, positions)),
        };
        Self { shape, memory, parts: Zeroed::new(shape.parts_len()) }
    }

    /// Attention of `queries` over the past of one kv head of one layer.
    pub(super) fn attend(&self, isa: &dyn Isa, layer: usize, kv_head: usize, queries: Queries<'_>, out: &mut [f32]) {
        match &self.memory {
            Memory::F16(memory) => isa.attend(self.shape.head(memory, layer, kv_head), queries, out),
            Memory::F32(memory) => isa.attend_f32(self.shape.head(memory, layer, kv_head), queries, out),
        }
    }

    /// Attention of one row, split between the threads of `pool` by kv head and by chunk of the past.
    ///
    /// # Panics
    /// The cache does not hold binary16.
    pub(super) fn attend_in_parts(
        &mut self,
        isa: &dyn Isa,
        pool: &Pool,
        layer: usize,
        pos: usize,
        q: &[f32],
        out: &mut [f32],
    ) {
        let Memory::F16(memory) = &self.memory else { panic!("parts are of binary16") };
        let shape = &self.shape;
        let group = q.len() / shape.kv_heads;
        let heads = group / shape.head_dim;
        let (chunks, part_len) = (pos / ATTEND_CHUNK + 1, group + 2 * heads);
        let parts = &mut self.parts.as_mut_slice()[..shape.kv_heads * chunks * part_len];
        for_each_shard(pool, parts, part_len, &|i, part| {
            let (kv_head, chunk) = (i / chunks, i % chunks);
            let values = &q[kv_head * group..][..group];
            let queries = Queries { values, stride: group, rows: 1, heads, start: pos };
            isa.attend_chunk(shape.head(memory, layer, kv_head), queries, chunk, part);
        });
        for (parts, out) in parts.chunks_exact(chunks * part_len).zip(out.chunks_exact_mut(group)) {
            isa.join_chunks(parts, heads, out);
        }
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
        match &mut self.memory {
            Memory::F16(memory) => self.shape.store(memory, isa, pool, layer, start, rows, k, v),
            Memory::F32(memory) => self.shape.store(memory, isa, pool, layer, start, rows, k, v),
        }
    }
}

/// Sixteen numbers as one kind of memory keeps them.
trait Unit: Pod + Send {
    fn store_key(isa: &dyn Isa, key: &[f32], slot: usize, block: &mut [Self]);
    fn store_value(isa: &dyn Isa, value: &[f32], out: &mut [Self]);
}

impl Unit for Halves {
    fn store_key(isa: &dyn Isa, key: &[f32], slot: usize, block: &mut [Self]) {
        isa.store_key(key, slot, block);
    }

    fn store_value(isa: &dyn Isa, value: &[f32], out: &mut [Self]) {
        isa.store_value(value, out);
    }
}

impl Unit for Singles {
    fn store_key(isa: &dyn Isa, key: &[f32], slot: usize, block: &mut [Self]) {
        isa.store_key_f32(key, slot, block);
    }

    fn store_value(isa: &dyn Isa, value: &[f32], out: &mut [Self]) {
        isa.store_value_f32(value, out);
    }
}

/// What fixes the places of keys and values. Lengths are counted in units of [`LANES`] numbers.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl Shape {
    fn new(config: &Config, capacity: usize) -> Self {
        let Config { layers, heads, kv_heads, head_dim, .. } = *config;
        assert!(layers > 0 && kv_heads > 0 && head_dim > 0, "a model has layers and heads");
        Self { layers, heads, kv_heads, head_dim, capacity }
    }

    /// The past of one kv head of one layer.
    fn head<'a, U: Pod>(&self, memory: &'a Zeroed<U>, layer: usize, kv_head: usize) -> KvHead<'a, U> {
        assert!(layer < self.layers && kv_head < self.kv_heads, "layer {layer}, kv head {kv_head}");
        let first = (layer * self.kv_heads + kv_head) * self.head_len();
        let (keys, values) = memory.as_slice()[first..][..self.head_len()].split_at(self.keys_len());
        KvHead { head_dim: self.head_dim, keys, values }
    }

    /// New memory with the first `positions` positions of `memory`.
    fn fork<U: Pod>(&self, memory: &Zeroed<U>, positions: usize) -> Zeroed<U> {
        let mut copy = Zeroed::new(self.len());
        let keys = ..positions.div_ceil(KEY_BLOCK) * self.head_dim;
        let values = self.keys_len()..self.keys_len() + positions * self.value_len();
        let heads = memory.as_slice().chunks_exact(self.head_len());
        for (from, to) in heads.zip(copy.as_mut_slice().chunks_exact_mut(self.head_len())) {
            to[keys].copy_from_slice(&from[keys]);
            to[values.clone()].copy_from_slice(&from[values.clone()]);
        }
        copy
    }

    /// Stores rows `rows` of `k` and `v` as positions `start…` of `layer`.
    #[allow(clippy::too_many_arguments, reason = "the operands of the operation it is part of")]
    fn store<U: Unit>(
        &self,
        memory: &mut Zeroed<U>,
        isa: &dyn Isa,
        pool: &Pool,
        layer: usize,
        start: usize,
        rows: Range<usize>,
        k: &Rows,
        v: &Rows,
    ) {
        let Self { layers, kv_heads, head_dim, capacity, .. } = *self;
        assert!(layer < layers, "layer {layer} of {layers}");
        assert!(start + rows.len() <= capacity, "{} positions of {capacity}", start + rows.len());
        let width = kv_heads * head_dim;
        assert_eq!((k.width(), v.width()), (width, width), "keys and values of all kv heads");
        let layer_len = kv_heads * self.head_len();
        let layer = &mut memory.as_mut_slice()[layer * layer_len..][..layer_len];
        let store_head = |kv_head: usize, head: &mut [U]| {
            let (keys, values) = head.split_at_mut(self.keys_len());
            for (pos, row) in (start..).zip(rows.clone()) {
                let block = &mut keys[pos / KEY_BLOCK * head_dim..][..head_dim];
                U::store_key(isa, &k.row(row)[kv_head * head_dim..][..head_dim], pos % KEY_BLOCK, block);
                let value = &mut values[pos * self.value_len()..][..self.value_len()];
                U::store_value(isa, &v.row(row)[kv_head * head_dim..][..head_dim], value);
            }
        };
        if rows.len() * width < INLINE_ELEMENTS {
            for (kv_head, head) in layer.chunks_exact_mut(self.head_len()).enumerate() {
                store_head(kv_head, head);
            }
        } else {
            for_each_shard(pool, layer, self.head_len(), &store_head);
        }
    }

    /// Length of the whole, saturating.
    fn len(&self) -> usize {
        self.layers.saturating_mul(self.kv_heads).saturating_mul(self.head_len())
    }

    /// Numbers that one row's attention makes of its chunks: output, maximum and sum of every head.
    fn parts_len(&self) -> usize {
        self.heads.saturating_mul(self.head_dim + 2).saturating_mul(self.capacity.div_ceil(ATTEND_CHUNK))
    }

    /// Length of one kv head in one layer: even and not zero, so that all begin on a cache line.
    fn head_len(&self) -> usize {
        let values = self.capacity.saturating_mul(self.value_len());
        (self.keys_len().saturating_add(values) | 1).saturating_add(1)
    }

    /// Length of one kv head's keys.
    fn keys_len(&self) -> usize {
        self.capacity.div_ceil(KEY_BLOCK).saturating_mul(self.head_dim)
    }

    /// Length of one value.
    fn value_len(&self) -> usize {
        self.head_dim.div_ceil(LANES)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Zeros from the system's untouched pages, beginning on a cache line.
///
/// A vector of zero bytes is allocated without being written (`alloc_zeroed`),
/// which a vector of any aligned type is not; so it is a little longer and
/// begins where a line does.
struct Zeroed<U> {
    bytes: Vec<u8>,
    first: usize,
    len: usize,
    unit: PhantomData<U>,
}

impl<U: Pod> Zeroed<U> {
    fn new(len: usize) -> Self {
        const LINE: usize = 64;
        let bytes = len.checked_mul(size_of::<U>()).and_then(|bytes| bytes.checked_add(LINE));
        let bytes = vec![0; bytes.expect("a cache fits the address space")];
        let first = bytes.as_ptr().align_offset(LINE).min(LINE);
        Self { bytes, first, len, unit: PhantomData }
    }

    fn as_slice(&self) -> &[U] {
        bytemuck::cast_slice(&self.bytes[self.first..][..self.len * size_of::<U>()])
    }

    fn as_mut_slice(&mut self) -> &mut [U] {
        bytemuck::cast_slice_mut(&mut self.bytes[self.first..][..self.len * size_of::<U>()])
    }
}
