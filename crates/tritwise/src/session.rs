//! One text in progress.

mod saved;

use std::sync::Arc;

use tritwise_kernels::CpuBackend;
use tritwise_kernels::cpu::KvType;
use tritwise_model::{Logits, Sequence, Turn, Wanted, Workspace};
use tritwise_tokenizer::Special;

use crate::model::Inner;
use crate::{Cancel, Error, Generation, Sampling};

/// Tokens evaluated by one forward call while a prompt is read: enough to use the CPU fully, few
/// enough that half a block of them, after which a [`Cancel`] is looked at, takes no longer than a
/// token does when decoding (docs/sessions.md has the figures). The cut changes no bit of the result.
pub(crate) const PREFILL_CHUNK: usize = 64;

/// One text: its tokens, and the model's keys and values for them.
///
/// Text is added with [`push`](Self::push) and by [`generate`](Self::generate).
/// Nothing is computed until logits are needed, so pushing is cheap.
/// A session owns its memory and shares the model's; use one per thread.
///
/// Whatever ends a generation early (dropping it, a [`Cancel`], a panic of whoever consumes it), the session holds a
/// text whose evaluated part is known, and goes on from there as if nothing had happened.
#[derive(Debug)]
pub struct Session {
    model: Arc<Inner>,
    /// The whole text. Those from `sequence.len()` on are not yet evaluated.
    tokens: Vec<u32>,
    sequence: Sequence<CpuBackend>,
    workspace: Workspace<CpuBackend>,
    overflow: Overflow,
    shifts: usize,
}

/// What happens when a session is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// A generation ends with [`StopReason::ContextFull`](crate::StopReason::ContextFull), and more text is refused.
    #[default]
    Stop,
    /// The text loses its middle: the first `keep` tokens stay, and of the others the most recent ones, half of what there
    /// is room for (fewer, if new text needs more). These are then evaluated again, at their new
    /// positions, so that logits are those of the tokens that were kept, to the bit. Moving old keys and values
    /// instead would be cheaper and wrong: in all layers but the first they were made of what is dropped.
    Shift {
        /// Tokens at the beginning that are never dropped: at least the beginning-of-text token, where
        /// the model has one, better a whole system prompt.
        keep: usize,
    },
}

impl Session {
    pub(crate) fn new(model: Arc<Inner>, kv: KvType) -> Self {
        let network = &model.network;
        let capacity = network.context();
        let sequence = network.sequence_in(network.backend().cache_of(network.config(), capacity, kv), capacity);
        let workspace = network.workspace();
        Self { model, tokens: Vec::new(), sequence, workspace, overflow: Overflow::Stop, shifts: 0 }
    }

    /// What to do when the session is full, from now on.
    pub fn on_overflow(&mut self, overflow: Overflow) {
        self.overflow = overflow;
    }

    /// What happens when the session is full.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// How often [`Overflow::Shift`] has dropped text of this session.
    pub fn shifts(&self) -> usize {
        self.shifts
    }

    /// How keys and values are kept.
    pub fn kv_type(&self) -> KvType {
        self.sequence.cache().kv_type()
    }

    /// Adds text. An empty session begins with the model's beginning-of-text
    /// token, where it has one. Control tokens spelled out in `text` are taken
    /// as control tokens; see [`push_plain`](Self::push_plain) for text from strangers.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or the context is full and [`Overflow`] has nothing to drop.
    pub fn push(&mut self, text: &str) -> Result<(), Error> {
        self.push_text(text, Special::Parse)
    }

    /// Adds text in which control tokens have no power: `<|eot_id|>` is nine characters.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or the context is full and [`Overflow`] has nothing to drop.
    pub fn push_plain(&mut self, text: &str) -> Result<(), Error> {
        self.push_text(text, Special::Text)
    }

    fn push_text(&mut self, text: &str, special: Special) -> Result<(), Error> {
        let ids = self.encode(text, special, self.tokens.is_empty())?;
        self.make_room(ids.len())?;
        self.tokens.extend(ids);
        Ok(())
    }

    /// The tokens of `text`, behind the one that begins a text if they are the `first`.
    fn encode(&self, text: &str, special: Special, first: bool) -> Result<Vec<u32>, Error> {
        let tokenizer = self.model.tokenizer()?;
        let mut ids = tokenizer.encode(text, special)?;
        let bos = tokenizer.bos().filter(|_| first && tokenizer.add_bos());
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Adds tokens as they are.
    ///
    /// # Errors
    /// A token is outside the vocabulary, or the context is full.
    pub fn push_tokens(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.check_vocabulary(tokens)?;
        self.make_room(tokens.len())?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Makes `tokens` the whole text. What it has in common with the text so far, from the
    /// beginning, stays evaluated: a prompt that grew, or changed at its end, costs only the
    /// difference, with the same logits to the bit. Returns how many tokens that is.
    ///
    /// # Errors
    /// A token is outside the vocabulary, or there are more than the context holds; the text then stays as it was.
    pub fn set_tokens(&mut self, tokens: &[u32]) -> Result<usize, Error> {
        self.check_vocabulary(tokens)?;
        if tokens.len() > self.capacity() {
            return Err(Error::ContextFull { len: 0, adding: tokens.len(), capacity: self.capacity() });
        }
        let common = self.tokens.iter().zip(tokens).take_while(|(old, new)| old == new).count();
        self.truncate(common);
        self.tokens.extend(tokens.iter().skip(common));
        Ok(self.sequence.len())
    }

    /// As [`set_tokens`](Self::set_tokens) with what [`push`](Self::push) makes of `text` in an empty session.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or the text is longer than the context; the text then stays as it was.
    pub fn set(&mut self, text: &str) -> Result<usize, Error> {
        self.set_tokens(&self.encode(text, Special::Parse, true)?)
    }

    fn check_vocabulary(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocab = self.model.network.config().vocab;
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(tritwise_model::Error::Token { token, vocab }.into()),
            None => Ok(()),
        }
    }

    /// The whole text so far, as token ids.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The most tokens this session can hold.
    pub fn capacity(&self) -> usize {
        self.sequence.capacity()
    }

    /// Forgets all but the first `tokens` tokens. Free.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
        self.sequence.truncate(tokens);
    }

    /// A second continuation of the same text. Copies the keys and values.
    pub fn fork(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            tokens: self.tokens.clone(),
            sequence: self.sequence.fork(&self.model.network),
            workspace: self.model.network.workspace(),
            overflow: self.overflow,
            shifts: self.shifts,
        }
    }

    /// Continues the text: an iterator over pieces of it as they are made.
    ///
    /// Dropping the iterator stops the generation; the session keeps what was
    /// made and can go on.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, there is nothing to continue, or a
    /// sampling parameter is out of range.
    pub fn generate(&mut self, sampling: &Sampling) -> Result<Generation<'_>, Error> {
        self.generate_until(sampling, &Cancel::new())
    }

    /// Like [`generate`](Self::generate), ending about a token after `cancel`
    /// is set, from whatever thread, or its deadline has come; also while a prompt is read.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_until(&mut self, sampling: &Sampling, cancel: &Cancel) -> Result<Generation<'_>, Error> {
        self.begin()?;
        Generation::new(self, sampling, cancel.clone())
    }

    /// Sees to it that there is something to continue: in an empty session, the token that begins a text.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        if self.tokens.is_empty() {
            let bos = self.model.tokenizer()?.bos().ok_or(Error::EmptyPrompt)?;
            self.push_tokens(&[bos])?;
        }
        Ok(())
    }

    /// The logits of the token after the text, one per token of the vocabulary. Evaluates what is not yet evaluated.
    ///
    /// # Errors
    /// The session is empty.
    pub fn logits(&mut self) -> Result<&[f32], Error> {
        #[expect(clippy::expect_used, reason = "there are none only if it was cancelled")]
        Ok(self.next_logits(Wanted::Last, &Cancel::new())?.expect("nothing cancels it"))
    }

    /// Evaluates what is not yet evaluated and returns the wanted logits of the token
    /// after the text. `None` if cancelled on the way.
    pub(crate) fn next_logits(&mut self, wanted: Wanted<'_>, cancel: &Cancel) -> Result<Option<&[f32]>, Error> {
        let logits = self.logits_with(&[], wanted, cancel)?;
        Ok(logits.and_then(|logits| logits.last()))
    }

    /// The same as if `ahead` followed the text, of which it does not become part; but it stays
    /// evaluated until [`keep_evaluated`](Self::keep_evaluated) says how much of it came true.
    #[expect(clippy::indexing_slicing, reason = "what is evaluated are tokens of the text, and the rest is pending")]
    pub(crate) fn logits_with(
        &mut self,
        ahead: &[u32],
        wanted: Wanted<'_>,
        cancel: &Cancel,
    ) -> Result<Option<Logits<'_>>, Error> {
        if self.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.rewind();
        let stop = || cancel.reason().is_some();
        let len = self.tokens.len();
        let Self { model, tokens, sequence, workspace, .. } = self;
        while len - sequence.len() > PREFILL_CHUNK {
            let start = sequence.len();
            let turn = Turn { sequence, tokens: &tokens[start..start + PREFILL_CHUNK], wanted: Wanted::Nothing };
            if model.network.forward_unless(workspace, &mut [turn], &stop)?.is_none() {
                return Ok(None);
            }
        }
        tokens.extend_from_slice(ahead);
        let turn = Turn { tokens: &tokens[sequence.len()..], sequence, wanted };
        let logits = model.network.forward_unless(workspace, &mut [turn], &stop);
        tokens.truncate(len);
        Ok(logits?)
    }

    /// The next `count` tokens that are not evaluated, as part of a batch.
    #[expect(clippy::indexing_slicing, reason = "callers ask for no more than there are")]
    pub(crate) fn turn<'a>(&'a mut self, count: usize, wanted: Wanted<'a>) -> Turn<'a, CpuBackend> {
        let start = self.sequence.len();
        Turn { sequence: &mut self.sequence, tokens: &self.tokens[start..start + count], wanted }
    }

    /// Leaves at least the last token to evaluate: where all were, the logits are gone, and it gives them again.
    pub(crate) fn rewind(&mut self) {
        self.sequence.truncate(self.tokens.len().saturating_sub(1));
    }

    /// Takes the first `tokens` evaluated tokens for the text's, and forgets those behind them.
    pub(crate) fn keep_evaluated(&mut self, tokens: usize) {
        self.sequence.truncate(tokens);
    }

    pub(crate) fn model(&self) -> &Arc<Inner> {
        &self.model
    }

    /// Tokens not yet evaluated.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.tokens.len() >= self.capacity()
    }

    /// Appends a sampled token; the caller has checked that there is room.
    pub(crate) fn append(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Makes room for `adding` tokens, if need be as [`Overflow`] says. Returns how many it dropped.
    pub(crate) fn make_room(&mut self, adding: usize) -> Result<usize, Error> {
        let (len, capacity) = (self.tokens.len(), self.capacity());
        if adding <= capacity - len {
            return Ok(0);
        }
        let full = Error::ContextFull { len, adding, capacity };
        let Overflow::Shift { keep } = self.overflow else { return Err(full) };
        let room = capacity.saturating_sub(keep);
        if adding > room || room < 2 || len <= keep {
            return Err(full);
        }
        let tail = (room / 2).min(room - adding);
        let dropped = len - keep - tail;
        self.tokens.drain(keep..keep + dropped);
        self.sequence.truncate(keep);
        self.shifts += 1;
        Ok(dropped)
    }
}
