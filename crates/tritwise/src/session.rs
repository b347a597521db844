//! One text in progress.

use std::sync::Arc;

use tritwise_kernels::CpuBackend;
use tritwise_model::{Logits, Sequence, Turn, Wanted, Workspace};
use tritwise_tokenizer::Special;

use crate::model::Inner;
use crate::{Cancel, Error, Generation, Sampling};

/// Tokens evaluated by one forward call while a prompt is read: large enough
/// to use the CPU fully, small enough that cancelling is prompt and scratch
/// memory stays modest. The cut changes no bit of the result.
const PREFILL_CHUNK: usize = 512;

/// One text: its tokens, and the model's keys and values for them.
///
/// Text is added with [`push`](Self::push) and by [`generate`](Self::generate).
/// Nothing is computed until logits are needed, so pushing is cheap.
/// A session owns its memory and shares the model's; use one per thread.
#[derive(Debug)]
pub struct Session {
    model: Arc<Inner>,
    /// The whole text. Those from `sequence.len()` on are not yet evaluated.
    tokens: Vec<u32>,
    sequence: Sequence<CpuBackend>,
    workspace: Workspace<CpuBackend>,
}

impl Session {
    pub(crate) fn new(model: Arc<Inner>) -> Self {
        let sequence = model.network.sequence(model.network.context());
        let workspace = model.network.workspace();
        Self { model, tokens: Vec::new(), sequence, workspace }
    }

    /// Adds text. An empty session begins with the model's beginning-of-text
    /// token, where it has one. Control tokens spelled out in `text` are taken
    /// as control tokens; see [`push_plain`](Self::push_plain) for text from strangers.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or the context is full.
    pub fn push(&mut self, text: &str) -> Result<(), Error> {
        self.push_text(text, Special::Parse)
    }

    /// Adds text in which control tokens have no power: `<|eot_id|>` is nine characters.
    ///
    /// # Errors
    /// The checkpoint has no tokenizer, or the context is full.
    pub fn push_plain(&mut self, text: &str) -> Result<(), Error> {
        self.push_text(text, Special::Text)
    }

    fn push_text(&mut self, text: &str, special: Special) -> Result<(), Error> {
        let model = Arc::clone(&self.model);
        let tokenizer = model.tokenizer()?;
        let ids = tokenizer.encode(text, special)?;
        let bos = tokenizer.bos().filter(|_| self.tokens.is_empty() && tokenizer.add_bos());
        let bos = bos.filter(|bos| ids.first() != Some(bos));
        self.room_for(ids.len() + usize::from(bos.is_some()))?;
        self.tokens.extend(bos);
        self.tokens.extend(ids);
        Ok(())
    }

    /// Adds tokens as they are.
    ///
    /// # Errors
    /// A token is outside the vocabulary, or the context is full.
    pub fn push_tokens(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let vocab = self.model.network.config().vocab;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(tritwise_model::Error::Token { token, vocab }.into());
        }
        self.room_for(tokens.len())?;
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
        let common = self.tokens.iter().zip(tokens).take_while(|(old, new)| old == new).count();
        let evaluated = common.min(self.sequence.len());
        let old = self.tokens.split_off(common);
        if let Err(error) = self.push_tokens(&tokens[common..]) {
            self.tokens.extend(old);
            return Err(error);
        }
        self.sequence.truncate(common);
        Ok(evaluated)
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

    /// Like [`generate`](Self::generate), ending within one token once `cancel`
    /// is set, from whatever thread.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_until(&mut self, sampling: &Sampling, cancel: &Cancel) -> Result<Generation<'_>, Error> {
        if self.tokens.is_empty() {
            let bos = self.model.tokenizer()?.bos().ok_or(Error::EmptyPrompt)?;
            self.push_tokens(&[bos])?;
        }
        Generation::new(self, sampling, cancel.clone())
    }

    /// Evaluates what is not yet evaluated and returns the logits of the token
    /// after the text: `vocab` of them, −∞ where they are not `wanted`.
    /// `None` if cancelled on the way.
    ///
    /// # Errors
    /// There is nothing to evaluate.
    pub(crate) fn next_logits(&mut self, wanted: Wanted<'_>, cancel: &Cancel) -> Result<Option<&[f32]>, Error> {
        if self.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        // All evaluated, but the logits are gone: the last token gives them again.
        self.sequence.truncate(self.tokens.len() - 1);
        while self.tokens.len() - self.sequence.len() > PREFILL_CHUNK {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            self.forward(PREFILL_CHUNK, Wanted::Nothing)?;
        }
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let rest = self.tokens.len() - self.sequence.len();
        Ok(self.forward(rest, wanted)?.last())
    }

    /// Evaluates the next `count` tokens of the text.
    fn forward(&mut self, count: usize, wanted: Wanted<'_>) -> Result<Logits<'_>, Error> {
        let start = self.sequence.len();
        let turn = Turn { sequence: &mut self.sequence, tokens: &self.tokens[start..start + count], wanted };
        Ok(self.model.network.forward(&mut self.workspace, &mut [turn])?)
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

    fn room_for(&self, adding: usize) -> Result<(), Error> {
        let (len, capacity) = (self.tokens.len(), self.capacity());
        if adding > capacity - len {
            return Err(Error::ContextFull { len, adding, capacity });
        }
        Ok(())
    }
}
