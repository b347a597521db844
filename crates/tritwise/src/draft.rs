//! Guesses at the text ahead, so that the model can check several tokens at once.
//!
//! A forward call over a few tokens takes little longer than one over a single token, whose time goes into reading
//! the weights. So whoever has a good guess at the next tokens lets the model evaluate all of them in one call, and
//! keeps those that it would have chosen itself (Leviathan et al., arXiv 2211.17192). Here they are held against
//! the very choice that the sampler makes from the same logits, which is why a draft can change a text's speed and nothing else.

use std::fmt;

use tritwise_model::{Keep, Wanted};

use crate::{Cancel, Error, Model, Session};

/// Something that guesses how a text goes on.
pub trait Draft: fmt::Debug + Send {
    /// Adds to `guesses`, which is empty, what may follow `text`: at most `most` tokens, or none.
    ///
    /// # Errors
    /// Whatever ends the generation; having no guess is none.
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error>;

    /// Tells how many of the latest guesses were right, from the first on.
    fn checked(&mut self, drafted: usize, right: usize) {
        let _ = (drafted, right);
    }
}

/// The longest end of a text that is looked for further up.
const LONGEST: usize = 8;

/// Guesses that a text goes on as it did before: looks for the latest place where its last tokens occur already, and
/// drafts what followed there. Costs no model, and helps where a text quotes, edits or repeats.
/// (Saxena's prompt lookup decoding, <https://github.com/apoorvumang/prompt-lookup-decoding>.)
#[derive(Debug, Clone)]
pub struct PromptLookup {
    shortest: usize,
    most: usize,
    /// How many to draft next: doubled by guesses that were all right, cut back by wrong ones.
    next: usize,
}

impl PromptLookup {
    /// Drafts at most `most` tokens, where at least the last `shortest` tokens (1 counts as well as 0) occur further up.
    pub fn new(shortest: usize, most: usize) -> Self {
        Self { shortest: shortest.max(1), most, next: most.min(FIRST) }
    }
}

/// Tokens that a lookup drafts before it knows whether its guesses are good.
const FIRST: usize = 4;

impl Default for PromptLookup {
    /// At most 15 tokens, behind at least 2 that are repeated.
    fn default() -> Self {
        Self::new(2, 15)
    }
}

impl Draft for PromptLookup {
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        // How many tokens before `end` are those at the text's end.
        let alike = |end: usize| {
            let pairs = text.iter().take(end).rev().zip(text.iter().rev());
            pairs.take(LONGEST).take_while(|(old, new)| old == new).count()
        };
        // The latest of the longest.
        let places = (self.shortest..text.len()).rev().map(|end| (alike(end), end));
        let best =
            places.filter(|(alike, _)| *alike >= self.shortest).fold(None, |best: Option<(usize, usize)>, place| {
                if best.is_none_or(|best| place.0 > best.0) { Some(place) } else { best }
            });
        if let Some((_, end)) = best {
            // Beyond the text's end a repetition repeats itself.
            guesses.extend(text.iter().skip(end).cycle().take(most.min(self.next)));
        }
        Ok(())
    }

    fn checked(&mut self, drafted: usize, right: usize) {
        self.next = if right == drafted { (2 * self.next).min(self.most) } else { (right + 1).min(self.most) };
    }
}

/// A smaller model with the same vocabulary that guesses what a larger one says: its own likeliest tokens.
#[derive(Debug)]
pub struct DraftModel {
    session: Session,
    most: usize,
}

impl DraftModel {
    /// Drafts `most` tokens at a time with `small` for texts of `large`.
    ///
    /// # Errors
    /// Either has no tokenizer, or their tokens differ.
    pub fn new(small: &Model, large: &Model, most: usize) -> Result<Self, Error> {
        let (a, b) = (small.tokenizer()?, large.tokenizer()?);
        let ids = 0..u32::try_from(a.vocab_size().max(b.vocab_size())).unwrap_or(u32::MAX);
        let differs = |id: &u32| a.token_text(*id) != b.token_text(*id) || a.token_bytes(*id) != b.token_bytes(*id);
        if let Some(token) = ids.into_iter().find(differs) {
            return Err(Error::Vocabularies { small: small.name().into(), large: large.name().into(), token });
        }
        Ok(Self { session: small.session(), most })
    }
}

impl Draft for DraftModel {
    fn draft(&mut self, text: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        if text.len() + self.most > self.session.capacity() {
            return Ok(());
        }
        self.session.set_tokens(text)?;
        for _ in 0..most.min(self.most) {
            let logits = match self.session.next_logits(Wanted::Best(Keep::best(1)), &Cancel::new()) {
                // It has no guess, and the text does not depend on one.
                Err(Error::Model(tritwise_model::Error::Logit { .. })) => break,
                logits => logits?,
            };
            let ids = logits.into_iter().flatten().zip(0u32..);
            let best = ids.reduce(|best, other| if other.0 > best.0 { other } else { best });
            let Some((_, token)) = best else { break };
            guesses.push(token);
            self.session.append(token);
        }
        Ok(())
    }
}
