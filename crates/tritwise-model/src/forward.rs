//! One forward call: tokens in, logits out.
//!
//! The graph is BitNet b1.58's (Ma et al., arXiv 2402.17764; the 2B-4T report,
//! arXiv 2504.12285): a Llama block whose linear layers are ternary and whose
//! inputs are rounded to `i8` per token, optionally with squared ReLU in place
//! of SiLU and with a norm before each of the two inner projections. See
//! docs/model.md for the formulas.

use std::mem;

use tritwise_kernels::{Backend, HeadReads, Keep};

use crate::model::Layer;
use crate::{Error, Model, Sequence, Workspace};

/// Some new tokens for one sequence of a batch.
#[derive(Debug)]
pub struct Turn<'a, B: Backend> {
    /// The sequence that the tokens continue.
    pub sequence: &'a mut Sequence<B>,
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Which of the tokens' logits to compute.
    pub wanted: Wanted<'a>,
}

/// Which logits of a turn to compute: the head is a third of a small model's work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted<'a> {
    /// None: the tokens only fill the cache.
    Nothing,
    /// Those of the last token, from which the next one is sampled.
    Last,
    /// Those of the last token that matter to whoever samples from it; the others may be −∞.
    /// Which ones matter is computed exactly, from a fraction of the head's bytes.
    Best(Keep<'a>),
    /// The same for as many of the last tokens as there are rules, one each, in the order of the tokens:
    /// what a guess at the text needs to be checked.
    Each(&'a [Keep<'a>]),
    /// Those of every token.
    All,
}

impl Wanted<'_> {
    /// How many of the last tokens' logits are wanted, of `tokens`.
    fn count(&self, tokens: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Last | Self::Best(_) => 1,
            Self::Each(keeps) => keeps.len(),
            Self::All => tokens,
        }
    }

    /// What matters of the row of the `i`-th token among those; `None` for all of it.
    fn keep(&self, i: usize) -> Option<&Keep<'_>> {
        match self {
            Self::Best(keep) => Some(keep),
            Self::Each(keeps) => keeps.get(i),
            Self::Nothing | Self::Last | Self::All => None,
        }
    }
}

/// Rows of which few logits are wanted that share a pass over the head at most.
const TOGETHER: usize = 16;

/// The logits that a batch asked for.
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    data: &'a [f32],
    vocab: usize,
    reads: HeadReads,
}

impl<'a> Logits<'a> {
    /// Number of rows: one per wanted token, in the order of the batch.
    pub fn len(&self) -> usize {
        self.data.len() / self.vocab
    }

    /// Whether no logits were wanted.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The rows, `vocab` logits each.
    pub fn rows(&self) -> std::slice::ChunksExact<'a, f32> {
        self.data.chunks_exact(self.vocab)
    }

    /// The last row.
    pub fn last(&self) -> Option<&'a [f32]> {
        self.rows().next_back()
    }

    /// What was read of the output head.
    pub fn reads(&self) -> HeadReads {
        self.reads
    }

    /// All rows, one after the other.
    pub fn as_slice(&self) -> &'a [f32] {
        self.data
    }
}

impl<B: Backend> Model<B> {
    /// Evaluates the tokens of every turn and returns the logits they want.
    ///
    /// The logits of a token are those of the token that follows it. They
    /// depend on the tokens of its own sequence alone, to the bit.
    ///
    /// # Errors
    /// An empty batch, a turn without tokens, a token outside the vocabulary (also one that
    /// [`Keep::always`] names), a sequence without room, or wanted logits that are not finite, as damaged weights
    /// make them. No sequence has then been changed.
    pub fn forward<'w>(&self, workspace: &'w mut Workspace<B>, batch: &mut [Turn<'_, B>]) -> Result<Logits<'w>, Error> {
        let logits = self.forward_unless(workspace, batch, &|| false)?;
        #[expect(clippy::expect_used, reason = "there are none only if `stop` said so")]
        Ok(logits.expect("nothing stops it"))
    }

    /// As [`forward`](Self::forward), but gives up with `None` if `stop` says so. It is asked before
    /// each half of a block; no sequence has then been changed.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_unless<'w>(
        &self,
        workspace: &'w mut Workspace<B>,
        batch: &mut [Turn<'_, B>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Logits<'w>>, Error> {
        if !self.blocks(workspace, batch, stop)? {
            return Ok(None);
        }
        let reads = self.logits(workspace, batch);
        if let Some((turn, token)) = first_not_finite(&workspace.logits, self.config.vocab, batch) {
            return Err(Error::Logit { turn, token });
        }
        for turn in batch {
            turn.sequence.advance(turn.tokens.len());
        }
        Ok(Some(Logits { data: &workspace.logits, vocab: self.config.vocab, reads }))
    }

    /// Evaluates the tokens of every turn and returns, in place of the logits they want, what the head would
    /// have made them from: the normalised hidden vectors, [`hidden`](tritwise_tensor::Config::hidden)
    /// numbers each. Text embeddings are made of these.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden<'w>(
        &self,
        workspace: &'w mut Workspace<B>,
        batch: &mut [Turn<'_, B>],
    ) -> Result<std::slice::ChunksExact<'w, f32>, Error> {
        self.blocks(workspace, batch, &|| false)?;
        let Workspace { x, wanted, hidden, .. } = workspace;
        hidden.resize(wanted.len() * self.config.hidden, 0.0);
        self.backend.hidden(x, wanted, &self.output_norm, hidden);
        if let Some((turn, feature)) = first_not_finite(hidden, self.config.hidden, batch) {
            return Err(Error::Hidden { turn, feature });
        }
        for turn in batch {
            turn.sequence.advance(turn.tokens.len());
        }
        Ok(hidden.chunks_exact(self.config.hidden))
    }

    /// Everything between tokens and the last norm; whether it came to the end, and `stop` did not end it before.
    fn blocks(
        &self,
        workspace: &mut Workspace<B>,
        batch: &mut [Turn<'_, B>],
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        self.check_batch(batch)?;
        gather(workspace, batch);
        self.backend.embed(&self.embedding, &workspace.tokens, self.config.embedding_scale, &mut workspace.x);
        for (index, layer) in self.layers.iter().enumerate() {
            if stop() {
                return Ok(false);
            }
            self.attention(index, layer, workspace, batch);
            if stop() {
                return Ok(false);
            }
            self.feed_forward(layer, workspace);
        }
        Ok(true)
    }

    /// The wanted rows of logits. Those of which all logits are wanted share one pass over the head with
    /// their neighbours, and so do those of which few are.
    #[expect(
        clippy::indexing_slicing,
        reason = "`wanted` and `logits` have a row for each of `rows`; runs are TOGETHER long"
    )]
    fn logits(&self, workspace: &mut Workspace<B>, batch: &[Turn<'_, B>]) -> HeadReads {
        let Workspace { x, wanted, logits, .. } = workspace;
        let vocab = self.config.vocab;
        logits.resize(wanted.len() * vocab, 0.0);
        let mut rows = batch
            .iter()
            .flat_map(|turn| (0..turn.wanted.count(turn.tokens.len())).map(|i| turn.wanted.keep(i).copied()))
            .peekable();
        let mut reads = HeadReads::default();
        let mut done = 0;
        while let Some(first) = rows.next() {
            // On the stack, so that a token allocates nothing.
            let mut keeps = [Keep::best(0); TOGETHER];
            let mut count = 1;
            keeps[0] = first.unwrap_or(keeps[0]);
            while let Some(keep) =
                rows.next_if(|keep| keep.is_some() == first.is_some() && (keep.is_none() || count < TOGETHER))
            {
                if let Some(keep) = keep {
                    keeps[count] = keep;
                }
                count += 1;
            }
            let (rows, out) = (&wanted[done..done + count], &mut logits[done * vocab..(done + count) * vocab]);
            done += count;
            reads += if first.is_some() {
                self.backend.top_logits(x, rows, &self.output_norm, self.head(), &keeps[..count], out)
            } else {
                self.backend.logits(x, rows, &self.output_norm, self.head(), out);
                let bytes = self.backend.logits_bytes(self.head());
                HeadReads { exact: out.len(), bytes, ..HeadReads::default() }
            };
        }
        reads
    }

    /// `x += W_o · norm(attention(rope(W_q n), rope(W_k n), W_v n))`, `n = norm(x)`.
    fn attention(&self, index: usize, layer: &Layer<B>, w: &mut Workspace<B>, batch: &mut [Turn<'_, B>]) {
        let b = &self.backend;
        let Layer { query, key, value, .. } = layer;
        match &layer.input_norms {
            None => {
                b.quantize(&w.x, Some(&layer.attn_norm), &mut w.hidden_q);
                b.matmul(&w.hidden_q, &[query, key, value], &mut [&mut w.q, &mut w.k, &mut w.v]);
            }
            Some(own) => {
                b.normalize(&w.x, &layer.attn_norm, &mut w.normed);
                let parts = [(&own.query, query, &mut w.q), (&own.key, key, &mut w.k), (&own.value, value, &mut w.v)];
                for (norm, weights, out) in parts {
                    b.quantize(&w.normed, Some(norm), &mut w.hidden_q);
                    b.matmul(&w.hidden_q, &[weights], &mut [out]);
                }
            }
        }
        if let Some([query_norm, key_norm]) = &layer.head_norms {
            // Attention's output is not written yet, and as wide as the queries.
            b.normalize(&w.q, query_norm, &mut w.attention);
            b.normalize(&w.k, key_norm, &mut w.k_normed);
            mem::swap(&mut w.q, &mut w.attention);
            mem::swap(&mut w.k, &mut w.k_normed);
        }
        let (rotary, window) = self.view(index);
        let mut first = 0;
        for turn in batch {
            let rows = first..first + turn.tokens.len();
            first = rows.end;
            let start = turn.sequence.len();
            b.rope(&mut w.q, rows.clone(), start, rotary);
            b.rope(&mut w.k, rows.clone(), start, rotary);
            b.attend(index, &mut turn.sequence.cache, start, window, rows, &w.q, &w.k, &w.v, &mut w.attention);
        }
        b.quantize(&w.attention, layer.attn_sub_norm.as_ref(), &mut w.attention_q);
        b.matmul(&w.attention_q, &[&layer.attn_output], &mut [&mut w.delta]);
        self.add_delta(layer.post_attn_norm.as_ref(), w);
    }

    /// `x += W_down · norm(activation(W_gate n) ⊙ W_up n)`, `n = norm(x)`.
    fn feed_forward(&self, layer: &Layer<B>, w: &mut Workspace<B>) {
        let b = &self.backend;
        match &layer.input_norms {
            None => {
                b.quantize(&w.x, Some(&layer.ffn_norm), &mut w.hidden_q);
                let gate_up = [&layer.gate, &layer.up];
                b.gated_matmul(&w.hidden_q, gate_up, self.config.activation, &mut w.gate, &mut w.up);
            }
            Some(own) => {
                b.normalize(&w.x, &layer.ffn_norm, &mut w.normed);
                for (norm, weights, out) in [(&own.gate, &layer.gate, &mut w.gate), (&own.up, &layer.up, &mut w.up)] {
                    b.quantize(&w.normed, Some(norm), &mut w.hidden_q);
                    b.matmul(&w.hidden_q, &[weights], &mut [out]);
                }
                b.gate(self.config.activation, &mut w.gate, &w.up);
            }
        }
        b.quantize(&w.gate, layer.ffn_sub_norm.as_ref(), &mut w.ffn_q);
        b.matmul(&w.ffn_q, &[&layer.down], &mut [&mut w.delta]);
        self.add_delta(layer.post_ffn_norm.as_ref(), w);
    }

    /// `x += delta`, or `x += norm(delta)`.
    fn add_delta(&self, norm: Option<&B::Norm>, w: &mut Workspace<B>) {
        match norm {
            None => self.backend.add(&mut w.x, &w.delta),
            Some(norm) => {
                self.backend.normalize(&w.delta, norm, &mut w.normed);
                self.backend.add(&mut w.x, &w.normed);
            }
        }
    }

    /// Everything that could fail before anything is computed.
    fn check_batch(&self, batch: &[Turn<'_, B>]) -> Result<(), Error> {
        let vocab = self.config.vocab;
        if batch.is_empty() {
            return Err(Error::Empty);
        }
        for Turn { sequence, tokens, wanted } in batch {
            if tokens.is_empty() {
                return Err(Error::Empty);
            }
            let count = wanted.count(tokens.len());
            if count > tokens.len() {
                return Err(Error::Wanted { rows: count, tokens: tokens.len() });
            }
            let named = (0..count).filter_map(|i| wanted.keep(i)).flat_map(|keep| keep.always);
            if let Some(&token) = tokens.iter().chain(named).find(|&&token| token as usize >= vocab) {
                return Err(Error::Token { token, vocab });
            }
            let (len, adding, capacity) = (sequence.len(), tokens.len(), sequence.capacity());
            if adding > capacity - len {
                return Err(Error::Full { len, adding, capacity });
            }
        }
        Ok(())
    }
}

/// Lays the turns' tokens out as one batch of rows and notes whose logits are wanted.
fn gather<B: Backend>(workspace: &mut Workspace<B>, batch: &[Turn<'_, B>]) {
    workspace.tokens.clear();
    workspace.wanted.clear();
    for turn in batch {
        workspace.tokens.extend_from_slice(turn.tokens);
        let end = workspace.tokens.len();
        workspace.wanted.extend(end - turn.wanted.count(turn.tokens.len())..end);
    }
}

/// The first number of the wanted rows, `width` each, that is NaN or infinite: its turn, and its place in the row.
/// Logits that do not matter are −∞ ([`Wanted::Best`]), and no other number is.
///
/// A file can hold any numbers, and what they come to is known only now. One look at each logit is next to nothing
/// beside computing it.
fn first_not_finite<B: Backend>(rows: &[f32], width: usize, batch: &[Turn<'_, B>]) -> Option<(usize, usize)> {
    let wanted = batch.iter().enumerate().flat_map(|(index, turn)| {
        (0..turn.wanted.count(turn.tokens.len())).map(move |i| (index, turn.wanted.keep(i).is_some()))
    });
    rows.chunks_exact(width).zip(wanted).find_map(|(row, (turn, some_left_out))| {
        let is_wrong = |x: f32| if some_left_out { x.is_nan() || x == f32::INFINITY } else { !x.is_finite() };
        // Without a way out, so that it is a loop over vectors.
        let any = row.iter().fold(false, |any, x| any | is_wrong(*x));
        let at = || row.iter().position(|x| is_wrong(*x));
        if any { at().map(|at| (turn, at)) } else { None }
    })
}
