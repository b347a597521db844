//! One text's state: its keys and values.

use std::fmt;

use tritwise_kernels::Backend;

use crate::Model;

/// The keys and values of one text, and how much of it they cover.
///
/// Made by [`Model::sequence`] and used with that model only. Forgetting the
/// end of a text is free ([`truncate`](Self::truncate)); a second
/// continuation of it costs a copy and says so ([`fork`](Self::fork)).
pub struct Sequence<B: Backend> {
    pub(crate) cache: B::Cache,
    len: usize,
    capacity: usize,
}

impl<B: Backend> Sequence<B> {
    pub(crate) fn new(cache: B::Cache, capacity: usize) -> Self {
        Self { cache, len: 0, capacity }
    }

    /// Tokens evaluated so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been evaluated.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens this sequence can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `len` tokens; does nothing if there are no more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// An independent copy with the same capacity. Copies the keys and values.
    pub fn fork(&self, model: &Model<B>) -> Self {
        Self { cache: model.backend().fork(&self.cache, self.len), len: self.len, capacity: self.capacity }
    }

    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

impl<B: Backend> fmt::Debug for Sequence<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence").field("len", &self.len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
