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
//! All numbers are binary16. Capacity is fixed when the cache is made; pages of
//! memory are the system's to hand out when they are first written, so a large
//! capacity costs address space until it is used.

use std::fmt;
use std::ops::Range;

use tritwise_tensor::Config;

use crate::arch::{Halves, Isa, KEY_BLOCK, KvHead};
use crate::parallel::{Pool, for_each_shard};

use super::Rows;

/// Features per [`Halves`].
const LANES: usize = size_of::<Halves>() / 2;

/// Elements below which waking the other threads costs more than it saves.
const INLINE_ELEMENTS: usize = 16 << 10;

/// The keys and values of one sequence, for all layers.
pub struct Cache {
    shape: Shape,
    memory: Zeroed,
}

impl Cache {
    /// Room for `capacity` positions of a model of this shape.
    ///
    /// # Panics
    /// There is not as much memory.
    pub(super) fn new(config: &Config, capacity: usize) -> Self {
        let shape = Shape::new(config, capacity);
        Self { shape, memory: Zeroed::new(shape.len()) }
    }

    /// Bytes of a cache of this shape, saturating.
    pub(super) fn bytes_for(config: &Config, capacity: usize) -> usize {
        Shape::new(config, capacity).len().saturating_mul(size_of::<Halves>())
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

    /// An independent copy of the first `positions` positions, with the same capacity.
    ///
    /// # Panics
    /// There are not as many.
    pub(super) fn fork(&self, positions: usize) -> Self {
        let shape = self.shape;
        assert!(positions <= shape.capacity, "{positions} positions of {}", shape.capacity);
        let mut memory = Zeroed::new(shape.len());
        let keys = ..positions.div_ceil(KEY_BLOCK) * shape.head_dim;
        let values = shape.keys_len()..shape.keys_len() + positions * shape.value_len();
        let heads = self.memory.as_slice().chunks_exact(shape.head_len());
        for (from, to) in heads.zip(memory.as_mut_slice().chunks_exact_mut(shape.head_len())) {
            to[keys].copy_from_slice(&from[keys]);
            to[values.clone()].copy_from_slice(&from[values.clone()]);
        }
        Self { shape, memory }
    }

    /// The past of one kv head of one layer.
    pub(super) fn head(&self, layer: usize, kv_head: usize) -> KvHead<'_> {
        let shape = &self.shape;
        assert!(layer < shape.layers && kv_head < shape.kv_heads, "layer {layer}, kv head {kv_head}");
        let first = (layer * shape.kv_heads + kv_head) * shape.head_len();
        let (keys, values) = self.memory.as_slice()[first..][..shape.head_len()].split_at(shape.keys_len());
        KvHead { head_dim: shape.head_dim, keys, values }
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
        let Shape { layers, kv_heads, head_dim, capacity } = shape;
        assert!(layer < layers, "layer {layer} of {layers}");
        assert!(start + rows.len() <= capacity, "{} positions of {capacity}", start + rows.len());
        let width = kv_heads * head_dim;
        assert_eq!((k.width(), v.width()), (width, width), "keys and values of all kv heads");
        let layer_len = kv_heads * shape.head_len();
        let layer = &mut self.memory.as_mut_slice()[layer * layer_len..][..layer_len];
        let store_head = |kv_head: usize, head: &mut [Halves]| {
            let (keys, values) = head.split_at_mut(shape.keys_len());
            for (pos, row) in (start..).zip(rows.clone()) {
                let block = &mut keys[pos / KEY_BLOCK * head_dim..][..head_dim];
                isa.store_key(&k.row(row)[kv_head * head_dim..][..head_dim], pos % KEY_BLOCK, block);
                let value = &mut values[pos * shape.value_len()..][..shape.value_len()];
                isa.store_value(&v.row(row)[kv_head * head_dim..][..head_dim], value);
            }
        };
        if rows.len() * width < INLINE_ELEMENTS {
            for (kv_head, head) in layer.chunks_exact_mut(shape.head_len()).enumerate() {
                store_head(kv_head, head);
            }
        } else {
            for_each_shard(pool, layer, shape.head_len(), &store_head);
        }
    }
}

/// What fixes the places of keys and values. Lengths are counted in [`Halves`].
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl Shape {
    fn new(config: &Config, capacity: usize) -> Self {
        let Config { layers, kv_heads, head_dim, .. } = *config;
        assert!(layers > 0 && kv_heads > 0 && head_dim > 0, "a model has layers and heads");
        Self { layers, kv_heads, head_dim, capacity }
    }

    /// Length of the whole, saturating.
    fn len(&self) -> usize {
        self.layers.saturating_mul(self.kv_heads).saturating_mul(self.head_len())
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
struct Zeroed {
    bytes: Vec<u8>,
    first: usize,
    len: usize,
}

impl Zeroed {
    fn new(len: usize) -> Self {
        const LINE: usize = 64;
        let bytes = len.checked_mul(size_of::<Halves>()).and_then(|bytes| bytes.checked_add(LINE));
        let bytes = vec![0; bytes.expect("a cache fits the address space")];
        let first = bytes.as_ptr().align_offset(LINE).min(LINE);
        Self { bytes, first, len }
    }

    fn as_slice(&self) -> &[Halves] {
        &self.bytes[self.first..].as_chunks().0[..self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [Halves] {
        &mut self.bytes[self.first..].as_chunks_mut().0[..self.len]
    }
}
