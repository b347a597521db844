//! Text as it is made.

use std::fmt;
use std::time::Duration;

use tritwise_model::Wanted;

use crate::stopwatch::Stopwatch;
use crate::writer::{Choice, Writer};
use crate::{Cancel, Draft, Error, Sampling, Session, TokenLogprob};

/// An iterator over pieces of text, in whole characters.
///
/// Each call of `next` runs the model until there is text to release: at
/// least one token, more where a character or a possible stop string spans
/// tokens. After the last piece, [`summary`](Self::summary) says why it ended
/// and how fast it was. With a [`Draft`], a run of the model may make several tokens.
#[derive(Debug)]
pub struct Generation<'s> {
    session: &'s mut Session,
    writer: Writer,
    cancel: Cancel,
    draft: Option<Box<dyn Draft>>,
    /// Guesses at the next tokens, and tokens chosen but not written; kept for their allocations.
    guesses: Vec<u32>,
    choices: Vec<Choice>,
    failed: bool,
}

/// Some newly made text; never ends inside a character.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// The text, not empty.
    pub text: String,
    /// The tokens made since the piece before, where [`Sampling::logprobs`] asks for them, else none. Neither the
    /// token that ends the text nor those of a stop string are among them.
    pub logprobs: Vec<TokenLogprob>,
}

/// What a generation did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Tokens that had to be evaluated before the first new one.
    pub prompt_tokens: usize,
    /// Time that took; zero on `wasm32-unknown-unknown`, which has no clock.
    pub prompt_time: Duration,
    /// Tokens made, the ending one included.
    pub tokens: usize,
    /// Time spent making the tokens after the first; zero there.
    pub time: Duration,
    /// Runs of the model that made them: with a [`Draft`] there are fewer than tokens.
    pub steps: usize,
    /// Tokens that its draft guessed and the model evaluated.
    pub drafted: usize,
    /// Guesses that were right.
    pub accepted: usize,
    /// Tokens that a grammar left no choice about, and that no run of the model made.
    pub forced: usize,
    /// How often the session was full and dropped part of its text ([`Overflow::Shift`](crate::Overflow::Shift)).
    /// The rest was then read again, in the time of the next token.
    pub shifts: usize,
    /// Why it ended; `None` while it has not.
    pub stop_reason: Option<StopReason>,
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The model made an end-of-generation token.
    End,
    /// The text reached this stop string, which is part neither of the pieces
    /// nor of the session.
    Stop(String),
    /// As many tokens as were asked for.
    MaxTokens,
    /// The session can hold no more.
    ContextFull,
    /// [`Cancel::cancel`] was called.
    Cancelled,
    /// The deadline of its [`Cancel`] has come.
    Deadline,
}

impl<'s> Generation<'s> {
    pub(crate) fn new(session: &'s mut Session, sampling: &Sampling, cancel: Cancel) -> Result<Self, Error> {
        let writer = Writer::new(session, sampling)?;
        let (guesses, choices) = (Vec::new(), Vec::new());
        Ok(Self { session, writer, cancel, draft: None, guesses, choices, failed: false })
    }

    /// Has `draft` guess at the next tokens, and the model check its guesses several at a time, which is
    /// faster than making them one by one where guesses are right. The text is the same, to the byte, with any draft: each token is
    /// chosen from the same logits, with the same draw of the same seed.
    pub fn drafting(mut self, draft: impl Draft + 'static) -> Self {
        self.set_draft(Box::new(draft));
        self
    }

    pub(crate) fn set_draft(&mut self, draft: Box<dyn Draft>) {
        self.draft = Some(draft);
    }

    /// What has been done so far.
    pub fn summary(&self) -> &Summary {
        &self.writer.summary
    }

    /// Makes one token, or more if it may `guess` and guesses are right. Returns the text that is released, which may
    /// be empty.
    fn step(&mut self, guess: bool) -> Result<String, Error> {
        if let Some(reason) = self.writer.limit(self.session) {
            return Ok(self.writer.end(reason));
        }
        let forced = self.writer.summary.forced;
        let text = self.writer.force(self.session)?;
        if self.writer.summary.forced > forced {
            return Ok(text);
        }
        let start = Stopwatch::start();
        self.guesses.clear();
        if guess {
            self.guess()?;
        }
        let rules;
        let keeps;
        let wanted = if self.guesses.is_empty() {
            self.writer.wanted()
        } else {
            rules = self.writer.rules(&mut self.guesses);
            keeps = rules.keeps();
            Wanted::Each(&keeps)
        };
        let len = self.session.tokens().len();
        let logits = match self.session.logits_with(&self.guesses, wanted, &self.cancel) {
            Ok(Some(logits)) => logits,
            Ok(None) => return Ok(self.writer.end(self.cancel.reason().unwrap_or(StopReason::Cancelled))),
            // Perhaps after a guess that is wrong, where the text never comes.
            Err(Error::Model(tritwise_model::Error::Logit { .. })) if !self.guesses.is_empty() => {
                return self.step(false);
            }
            Err(error) => return Err(error),
        };
        let mut right = 0;
        for row in logits.rows() {
            match self.writer.choose(row) {
                Ok(choice) => self.choices.push(choice),
                // The next step comes to the same row, with the tokens before it written.
                Err(_) if right > 0 => break,
                Err(error) => return Err(error),
            }
            if self.guesses.get(right) != self.choices.last().map(|choice| &choice.token) {
                break;
            }
            right += 1;
        }
        self.session.keep_evaluated(len + right);
        if let Some(draft) = self.draft.as_mut().filter(|_| !self.guesses.is_empty()) {
            draft.checked(self.guesses.len(), right);
        }
        self.writer.took(start.elapsed());
        let summary = &mut self.writer.summary;
        (summary.steps, summary.drafted) = (summary.steps + 1, summary.drafted + self.guesses.len());
        summary.accepted += right;
        let mut text = String::new();
        for choice in self.choices.drain(..) {
            text += &self.writer.write(self.session, choice)?;
            if self.writer.ended() {
                break;
            }
        }
        // What was right behind an end is not part of the text.
        self.session.keep_evaluated(self.session.tokens().len());
        Ok(text)
    }

    /// Guesses at the tokens after the next ones, as many as there is room for.
    fn guess(&mut self) -> Result<(), Error> {
        let Some(draft) = &mut self.draft else { return Ok(()) };
        // The token that is chosen after the guesses needs room too.
        let room = self.session.capacity() - self.session.tokens().len();
        let most = room.min(self.writer.left()).saturating_sub(1);
        if most > 0 {
            draft.draft(self.session.tokens(), most, &mut self.guesses)?;
            self.guesses.truncate(most);
            let vocab = self.session.model().network.config().vocab;
            let known = self.guesses.iter().take_while(|&&token| (token as usize) < vocab).count();
            self.guesses.truncate(known);
        }
        Ok(())
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.writer.ended() && !self.failed {
            match self.step(true) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => return Some(Ok(Piece { text, logprobs: self.writer.take_logprobs() })),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Summary {
    /// Of a generation that has not begun, after `prompt_tokens` that were not evaluated.
    pub(crate) fn new(prompt_tokens: usize) -> Self {
        let (prompt_time, time) = (Duration::ZERO, Duration::ZERO);
        Self {
            prompt_tokens,
            prompt_time,
            tokens: 0,
            time,
            steps: 0,
            drafted: 0,
            accepted: 0,
            forced: 0,
            shifts: 0,
            stop_reason: None,
        }
    }

    /// Decoding speed: tokens after the first, per second. Zero if there were none.
    pub fn tokens_per_second(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.time)
    }

    /// Tokens that a run of the model made, on average.
    #[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2⁵³")]
    pub fn tokens_per_step(&self) -> f64 {
        self.tokens as f64 / self.steps.max(1) as f64
    }

    /// Reading speed: prompt tokens per second.
    pub fn prompt_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2⁵³")]
fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

impl StopReason {
    /// A short name for programs: `end`, `stop`, `max_tokens`, `context_full`, `cancelled`, `deadline`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop(_) => "stop",
            Self::MaxTokens => "max_tokens",
            Self::ContextFull => "context_full",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
