//! Text as it is made.

use std::fmt;
use std::time::{Duration, Instant};

use crate::writer::Writer;
use crate::{Cancel, Error, Sampling, Session};

/// An iterator over pieces of text, in whole characters.
///
/// Each call of `next` runs the model until there is text to release: at
/// least one token, more where a character or a possible stop string spans
/// tokens. After the last piece, [`summary`](Self::summary) says why it ended
/// and how fast it was.
#[derive(Debug)]
pub struct Generation<'s> {
    session: &'s mut Session,
    writer: Writer,
    cancel: Cancel,
    failed: bool,
}

/// Some newly made text; never ends inside a character.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The text, not empty.
    pub text: String,
}

/// What a generation did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Tokens that had to be evaluated before the first new one.
    pub prompt_tokens: usize,
    /// Time that took.
    pub prompt_time: Duration,
    /// Tokens made, the ending one included.
    pub tokens: usize,
    /// Time spent making the tokens after the first.
    pub time: Duration,
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
        Ok(Self { session, writer, cancel, failed: false })
    }

    /// What has been done so far.
    pub fn summary(&self) -> &Summary {
        &self.writer.summary
    }

    /// Makes one token. Returns the text that it releases, which may be empty.
    fn step(&mut self) -> Result<String, Error> {
        if let Some(reason) = self.writer.limit(self.session) {
            return Ok(self.writer.end(reason));
        }
        let start = Instant::now();
        let Some(logits) = self.session.next_logits(self.writer.wanted(), &self.cancel)? else {
            return Ok(self.writer.end(self.cancel.reason().unwrap_or(StopReason::Cancelled)));
        };
        let token = self.writer.choose(logits)?;
        self.writer.took(start.elapsed());
        self.writer.write(self.session, token)
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.writer.ended() && !self.failed {
            match self.step() {
                Ok(text) if text.is_empty() => {}
                Ok(text) => return Some(Ok(Piece { text })),
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
        Self { prompt_tokens, prompt_time, tokens: 0, time, shifts: 0, stop_reason: None }
    }

    /// Decoding speed: tokens after the first, per second. Zero if there were none.
    pub fn tokens_per_second(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.time)
    }

    /// Reading speed: prompt tokens per second.
    pub fn prompt_tokens_per_second(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }
}

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
