//! Text as it is made.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tritwise_sampling::Sampler;
use tritwise_tokenizer::{Special, StopStrings, Utf8Stream};

use crate::logprobs::Recorder;
use crate::{Cancel, Error, Sampling, Session, TokenLogprob};

/// An iterator over pieces of text, in whole characters.
///
/// Each call of `next` runs the model until there is text to release: at
/// least one token, more where a character or a possible stop string spans
/// tokens. After the last piece, [`summary`](Self::summary) says why it ended
/// and how fast it was.
#[derive(Debug)]
pub struct Generation<'s> {
    session: &'s mut Session,
    sampler: Sampler,
    sampling: Sampling,
    cancel: Cancel,
    utf8: Utf8Stream,
    stops: StopStrings,
    recorder: Option<Recorder>,
    /// Bytes of the tokens made, and of the text released.
    made: usize,
    released: usize,
    summary: Summary,
    ended: bool,
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
    /// Time that took.
    pub prompt_time: Duration,
    /// Tokens made, the ending one included.
    pub tokens: usize,
    /// Time spent making the tokens after the first.
    pub time: Duration,
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
}

impl<'s> Generation<'s> {
    pub(crate) fn new(session: &'s mut Session, sampling: &Sampling, cancel: Cancel) -> Result<Self, Error> {
        session.model().tokenizer()?;
        let sampler = sampling.sampler(session.model(), session.tokens())?;
        let summary = Summary {
            prompt_tokens: session.pending(),
            prompt_time: Duration::ZERO,
            tokens: 0,
            time: Duration::ZERO,
            stop_reason: None,
        };
        Ok(Self {
            session,
            sampler,
            sampling: sampling.clone(),
            cancel,
            utf8: Utf8Stream::new(),
            stops: StopStrings::new(&sampling.stops)?,
            recorder: Recorder::new(sampling),
            made: 0,
            released: 0,
            summary,
            ended: false,
        })
    }

    /// What has been done so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Makes one token. Returns the text that it releases, which may be empty.
    fn step(&mut self) -> Result<String, Error> {
        if self.summary.tokens >= self.sampling.max_tokens {
            return Ok(self.end(StopReason::MaxTokens));
        }
        if self.session.is_full() {
            return Ok(self.end(StopReason::ContextFull));
        }
        let start = Instant::now();
        let wanted = self.sampling.wanted(&mut self.sampler);
        let Some(logits) = self.session.next_logits(wanted, &self.cancel)? else {
            return Ok(self.end(StopReason::Cancelled));
        };
        let token = self.sampler.sample(logits)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.push(logits, token)?;
        }
        self.sampler.accept(token);
        self.session.append(token);
        let elapsed = start.elapsed();
        if self.summary.tokens == 0 {
            self.summary.prompt_time = elapsed;
        } else {
            self.summary.time += elapsed;
        }
        self.summary.tokens += 1;

        let tokenizer = self.session.model().tokenizer()?;
        if tokenizer.is_eog(token) {
            self.recorder.iter_mut().for_each(Recorder::pop);
            return Ok(self.end(StopReason::End));
        }
        let bytes = tokenizer.token_bytes(token);
        self.made += bytes.len();
        let (mut whole, mut text) = (String::new(), String::new());
        self.utf8.push(bytes, &mut whole);
        let stop = self.stops.push(&whole, &mut text);
        self.released += text.len();
        if let Some(stop) = stop {
            self.stopped_at(stop);
            self.take_back(self.made.saturating_sub(self.released))?;
        }
        Ok(text)
    }

    /// Ends the generation and releases the text that was held back.
    fn end(&mut self, reason: StopReason) -> String {
        let (mut whole, mut text) = (String::new(), String::new());
        self.utf8.finish(&mut whole);
        match self.stops.push(&whole, &mut text) {
            Some(stop) => self.stopped_at(stop),
            None => {
                self.stops.finish(&mut text);
                self.ended = true;
                self.summary.stop_reason = Some(reason);
            }
        }
        text
    }

    fn stopped_at(&mut self, stop: usize) {
        self.ended = true;
        self.summary.stop_reason = Some(StopReason::Stop(self.stops.stops()[stop].clone()));
    }

    /// Takes `excess` bytes off the session's end, so that its text is what
    /// was released and not the stop string too.
    ///
    /// A token that is only partly wanted is replaced by tokens for that part.
    fn take_back(&mut self, mut excess: usize) -> Result<(), Error> {
        let model = Arc::clone(self.session.model());
        let tokenizer = model.tokenizer()?;
        while let Some(&last) = self.session.tokens().last().filter(|_| excess > 0) {
            let bytes = tokenizer.token_bytes(last);
            self.session.truncate(self.session.tokens().len() - 1);
            if let Some(wanted) = bytes.len().checked_sub(excess).filter(|&wanted| wanted > 0) {
                let part = String::from_utf8_lossy(&bytes[..wanted]);
                tokenizer.encode(&part, Special::Text)?.into_iter().for_each(|id| self.session.append(id));
            } else {
                self.recorder.iter_mut().for_each(Recorder::pop);
            }
            excess = excess.saturating_sub(bytes.len());
        }
        Ok(())
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.step() {
                Ok(text) if text.is_empty() => {}
                Ok(text) => {
                    let logprobs = self.recorder.as_mut().map(Recorder::take).unwrap_or_default();
                    return Some(Ok(Piece { text, logprobs }));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Summary {
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
    /// A short name for programs: `end`, `stop`, `max_tokens`, `context_full`, `cancelled`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop(_) => "stop",
            Self::MaxTokens => "max_tokens",
            Self::ContextFull => "context_full",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
