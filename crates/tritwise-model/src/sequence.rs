//! One text's state: its keys and values.

use std::fmt;

use tritwise_kernels::Backend;

use crate::{Error, Model};

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

    /// Where keys and values are.
    pub fn cache(&self) -> &B::Cache {
        &self.cache
    }

    /// Bytes of the record of one token: its keys and values of all layers, in a form that depends on
    /// nothing but the model's shape and the type of the numbers, to be kept in files.
    pub fn record_bytes(&self, model: &Model<B>) -> usize {
        model.backend().record_bytes(&self.cache)
    }

    /// Writes the record of token `index` to `record`, which has [`record_bytes`](Self::record_bytes).
    ///
    /// # Panics
    /// The token has not been evaluated, or `record` has another length.
    pub fn read_record(&self, model: &Model<B>, index: usize, record: &mut [u8]) {
        assert!(index < self.len, "token {index} of {}", self.len);
        model.backend().read_record(&self.cache, index, record);
    }

    /// Takes `record` for the next token, in place of evaluating it: all that follows is as if it had been,
    /// if the record is of the same token after the same others, of the same model.
    ///
    /// # Errors
    /// The sequence is full, or such a record is never written.
    ///
    /// # Panics
    /// `record` has another length.
    pub fn push_record(&mut self, model: &Model<B>, record: &[u8]) -> Result<(), Error> {
        if self.len >= self.capacity {
            return Err(Error::Full { len: self.len, adding: 1, capacity: self.capacity });
        }
        if !model.backend().write_record(&mut self.cache, self.len, record) {
            return Err(Error::Record { index: self.len });
        }
        self.len += 1;
        Ok(())
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
