//! Texts as vectors.
//!
//! A text's embedding is made of the vectors that the graph leaves behind its last norm: the last token's, the
//! first's, or the mean of all, as the model was trained, scaled to length 1. The dot product of two embeddings
//! is then the cosine of their angle, and says how alike the texts are.

use tritwise_kernels::CpuBackend;
use tritwise_model::{Sequence, Turn, Wanted};
use tritwise_tensor::Pooling;
use tritwise_tokenizer::Special;

use crate::{Error, Model};

/// Tokens of all texts of one forward call. The cut changes no bit of the result.
const BATCH_TOKENS: usize = 512;

impl Model {
    /// The embeddings of `texts`, of length 1, [`hidden`](tritwise_tensor::Config::hidden) numbers each.
    ///
    /// Texts are evaluated side by side, and each has the same bits as if it came alone. A text gets the tokens
    /// around it that the checkpoint asks for, often one at its end; control tokens spelled out in it are text.
    ///
    /// ```no_run
    /// let model = tritwise::Model::open("bitnet-embedding-0.6b.gguf")?;
    /// let vectors = model.embed(&["a cat", "a kitten", "a tax form"])?;
    /// let alike = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    /// assert!(alike(&vectors[0], &vectors[1]) > alike(&vectors[0], &vectors[2]));
    /// # Ok::<(), tritwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// The checkpoint does not say how its vectors are pooled ([`embed_with`](Self::embed_with) lets the caller
    /// say it), or has no tokenizer; a text has no tokens, or more than the context holds.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>, Error> {
        let pooling = self.config().pooling.ok_or_else(|| Error::NoPooling(self.name().to_owned()))?;
        self.embed_with(texts, pooling)
    }

    /// As [`embed`](Self::embed), pooled as the caller says.
    ///
    /// # Errors
    /// As for [`embed`](Self::embed), but for pooling.
    pub fn embed_with<T: AsRef<str>>(&self, texts: &[T], pooling: Pooling) -> Result<Vec<Vec<f32>>, Error> {
        let (tokenizer, network) = (self.tokenizer()?, self.network());
        let mut workspace = network.workspace();
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut waiting = texts.iter().enumerate();
        // Texts of which some tokens have not been evaluated, in order; only the last may be one that has begun.
        let mut batch: Vec<Text> = Vec::new();
        loop {
            let mut room = BATCH_TOKENS.saturating_sub(batch.iter().map(Text::pending).sum());
            while room > 0
                && let Some((index, text)) = waiting.next()
            {
                let tokens = tokenizer.encode_prompt(text.as_ref(), Special::Text)?;
                if tokens.is_empty() {
                    return Err(Error::EmptyText { index });
                }
                if tokens.len() > network.context() {
                    return Err(Error::ContextFull { len: 0, adding: tokens.len(), capacity: network.context() });
                }
                room = room.saturating_sub(tokens.len());
                batch.push(Text::new(tokens, self));
            }
            if batch.is_empty() {
                return Ok(embeddings);
            }
            let mut room = BATCH_TOKENS;
            let mut counts = Vec::with_capacity(batch.len());
            let mut turns = Vec::with_capacity(batch.len());
            for text in &mut batch {
                let count = text.pending().min(room);
                room -= count;
                counts.push(count);
                #[expect(clippy::indexing_slicing, reason = "`count` are pending")]
                let tokens = &text.tokens[text.sequence.len()..][..count];
                let wanted = if pooling == Pooling::Last { Wanted::Last } else { Wanted::All };
                turns.push(Turn { sequence: &mut text.sequence, tokens, wanted });
            }
            let mut rows = network.hidden(&mut workspace, &mut turns)?;
            drop(turns);
            for (text, count) in batch.iter_mut().zip(counts) {
                let wanted = if pooling == Pooling::Last { 1 } else { count };
                text.pool(pooling, rows.by_ref().take(wanted));
            }
            // All but the last were short enough to be evaluated whole.
            let begun = batch.pop_if(|text| text.pending() > 0);
            embeddings.extend(batch.drain(..).map(|text| text.embedding()));
            batch.extend(begun);
        }
    }
}

/// A text whose tokens are being evaluated.
struct Text {
    tokens: Vec<u32>,
    sequence: Sequence<CpuBackend>,
    /// What its vectors have come to.
    pooled: Vec<f64>,
}

impl Text {
    fn new(tokens: Vec<u32>, model: &Model) -> Self {
        let sequence = model.network().sequence(tokens.len());
        Self { tokens, sequence, pooled: Vec::new() }
    }

    fn pending(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    /// Takes the vectors of the next tokens.
    fn pool<'a>(&mut self, pooling: Pooling, rows: impl Iterator<Item = &'a [f32]>) {
        for row in rows {
            let row = row.iter().map(|x| f64::from(*x));
            match pooling {
                _ if self.pooled.is_empty() => self.pooled = row.collect(),
                Pooling::Last => self.pooled = row.collect(),
                Pooling::Cls => {}
                // The mean but for its length, which becomes 1 anyway.
                Pooling::Mean => self.pooled.iter_mut().zip(row).for_each(|(sum, x)| *sum += x),
            }
        }
    }

    /// The pooled vector at length 1; one of zeros stays as it is.
    fn embedding(self) -> Vec<f32> {
        let length = self.pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
        let factor = if length > 0.0 { 1.0 / length } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        self.pooled.iter().map(|x| (x * factor) as f32).collect()
    }
}
