//! From logits to text: what one generation knows, wherever its logits come from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tritwise_model::{Keep, Wanted};
use tritwise_sampling::Sampler;
use tritwise_tokenizer::{Special, StopStrings, Utf8Stream};

use crate::logprobs::Recorder;
use crate::{Error, Overflow, Sampling, Session, StopReason, Summary, TokenLogprob};

/// Something that says which tokens may come next, and is told which one did.
pub(crate) trait Guide: fmt::Debug + Send {
    /// Finds out which tokens may come next, if it is not known yet.
    fn look(&mut self) -> Result<(), Error>;

    /// A bit for each token, the lowest of the first word for the first one, set if it may come next. Tokens without
    /// a bit may not. Good once [`look`](Self::look) has found out.
    fn allowed(&self) -> &[u32];

    /// The same after each of the tokens `ahead`, should the text go on so. Cuts off those that cannot come.
    fn look_ahead(&mut self, ahead: &mut Vec<u32>) -> Vec<Vec<u32>>;

    /// Takes a token that came.
    fn accept(&mut self, token: u32) -> Result<(), Error>;
}

/// A generation in progress, without the session that it writes into.
///
/// In a loop: [`limit`](Self::limit), [`force`](Self::force), logits as [`wanted`](Self::wanted), [`choose`](Self::choose), [`write`](Self::write).
/// Where the text was guessed ahead, several rows of logits by [`rules`](Self::rules), and as many choices before they are written.
#[derive(Debug)]
pub(crate) struct Writer {
    sampler: Sampler,
    sampling: Sampling,
    recorder: Option<Recorder>,
    guide: Option<Box<dyn Guide>>,
    /// Logits, those that the guide does not allow being −∞; kept for its allocation.
    guided: Vec<f32>,
    /// Log-probabilities of the text that is not released.
    logprobs: Vec<TokenLogprob>,
    utf8: Utf8Stream,
    stops: StopStrings,
    /// Bytes of the tokens made, and of the text released.
    made: usize,
    released: usize,
    /// Where in the session the tokens made begin.
    start: usize,
    pub(crate) summary: Summary,
}

impl Writer {
    pub(crate) fn new(session: &Session, sampling: &Sampling) -> Result<Self, Error> {
        session.model().tokenizer()?;
        Ok(Self {
            sampler: sampling.sampler(session.model(), session.tokens())?,
            sampling: sampling.clone(),
            recorder: Recorder::new(sampling),
            guide: sampling.guide(session.model())?,
            guided: Vec::new(),
            logprobs: Vec::new(),
            utf8: Utf8Stream::new(),
            stops: StopStrings::new(&sampling.stops)?,
            made: 0,
            released: 0,
            start: session.tokens().len(),
            summary: Summary::new(session.pending()),
        })
    }

    pub(crate) fn ended(&self) -> bool {
        self.summary.stop_reason.is_some()
    }

    /// Why no further token can be made, if so. Makes room in a full session whose
    /// [`Overflow`] says how.
    pub(crate) fn limit(&mut self, session: &mut Session) -> Option<StopReason> {
        if self.summary.tokens >= self.sampling.max_tokens {
            return Some(StopReason::MaxTokens);
        }
        if session.is_full() {
            let Overflow::Shift { keep } = session.overflow() else { return Some(StopReason::ContextFull) };
            let dropped = session.make_room(1).ok()?;
            self.start = self.start.saturating_sub(dropped).max(keep);
            self.summary.shifts += 1;
        }
        None
    }

    /// How many tokens may still be made.
    pub(crate) fn left(&self) -> usize {
        self.sampling.max_tokens.saturating_sub(self.summary.tokens)
    }

    /// Writes the tokens that come next because nothing else may, which takes no logits. Returns the text that they release.
    ///
    /// They are chosen as any other, from a row with one candidate: what the sampler remembers, and the numbers that it
    /// takes, are the same as if there had been logits. Where log-probabilities are asked for, none is forced.
    pub(crate) fn force(&mut self, session: &mut Session) -> Result<String, Error> {
        let vocab = session.model().network.config().vocab;
        let mut text = String::new();
        while let Some(guide) = &mut self.guide {
            guide.look()?;
            let Some(token) = only(guide.allowed()).filter(|_| self.recorder.is_none()) else { break };
            if self.left() == 0 || session.is_full() {
                break;
            }
            self.guided.clear();
            self.guided.resize(vocab, f32::NEG_INFINITY);
            let outside = tritwise_model::Error::Token { token, vocab };
            *self.guided.get_mut(token as usize).ok_or(outside)? = 0.0;
            let choice = self.choose_guided()?;
            self.summary.forced += 1;
            text += &self.write(session, choice)?;
            if self.ended() {
                break;
            }
        }
        Ok(text)
    }

    /// Which logits the next token is chosen from.
    pub(crate) fn wanted(&mut self) -> Wanted<'_> {
        self.sampling.wanted(&mut self.sampler, self.guide.as_ref().map(|guide| guide.allowed()))
    }

    /// Which logits the next token is chosen from, and each one after that should the text go on with `ahead`, of which is cut off what cannot come.
    pub(crate) fn rules(&mut self, ahead: &mut Vec<u32>) -> Rules {
        let mut masks = Vec::new();
        if let Some(guide) = &mut self.guide {
            masks.push(guide.allowed().to_vec());
            masks.extend(guide.look_ahead(ahead));
        }
        let (mut named, mut rows) = (Vec::new(), Vec::with_capacity(ahead.len() + 1));
        let mut masked = false;
        for n in 0..=ahead.len() {
            let keep = self.sampling.wanted_after(
                &mut self.sampler,
                ahead.get(..n).unwrap_or_default(),
                masks.get(n).map(Vec::as_slice),
            );
            let start = named.len();
            named.extend_from_slice(keep.always);
            masked = keep.allowed.is_some();
            rows.push((keep.best, keep.within, start..named.len()));
        }
        if !masked {
            masks.clear();
        }
        Rules { named, rows, masks }
    }

    /// The next token, which the sampler then knows of.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Result<Choice, Error> {
        let Some(guide) = &mut self.guide else {
            let token = self.sampler.sample(logits)?;
            let logprob = self.recorder.as_mut().map(|recorder| recorder.of(logits, token)).transpose()?;
            self.sampler.accept(token);
            return Ok(Choice { token, logprob });
        };
        guide.look()?;
        self.guided.clear();
        self.guided.resize(logits.len(), f32::NEG_INFINITY);
        let words = self.guided.chunks_mut(32).zip(logits.chunks(32)).zip(guide.allowed());
        for ((guided, logits), word) in words.filter(|(_, word)| **word != 0) {
            let pairs = guided.iter_mut().zip(logits).enumerate();
            pairs.filter(|(bit, _)| word >> bit & 1 == 1).for_each(|(_, (guided, logit))| *guided = *logit);
        }
        let mut choice = self.choose_guided()?;
        choice.logprob = self.recorder.as_mut().map(|recorder| recorder.of(logits, choice.token)).transpose()?;
        Ok(choice)
    }

    /// The next token of those that are allowed, without its log-probability.
    fn choose_guided(&mut self) -> Result<Choice, Error> {
        let token = self.sampler.sample(&self.guided)?;
        if let Some(guide) = &mut self.guide {
            guide.accept(token)?;
        }
        self.sampler.accept(token);
        Ok(Choice { token, logprob: None })
    }

    /// Notes how long a token took.
    pub(crate) fn took(&mut self, time: Duration) {
        match self.summary.tokens - self.summary.forced {
            0 => self.summary.prompt_time += time,
            _ => self.summary.time += time,
        }
    }

    /// The log-probabilities of the tokens written since the last time, if they were asked for.
    pub(crate) fn take_logprobs(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.logprobs)
    }

    /// Adds a token to the session. Returns the text that it releases, which may be empty.
    pub(crate) fn write(&mut self, session: &mut Session, choice: Choice) -> Result<String, Error> {
        let Choice { token, logprob } = choice;
        session.append(token);
        self.summary.tokens += 1;
        let model = Arc::clone(session.model());
        let tokenizer = model.tokenizer()?;
        if tokenizer.is_eog(token) {
            return Ok(self.end(StopReason::End));
        }
        self.logprobs.extend(logprob);
        let bytes = tokenizer.token_bytes(token);
        self.made += bytes.len();
        let (mut whole, mut text) = (String::new(), String::new());
        self.utf8.push(bytes, &mut whole);
        let stop = self.stops.push(&whole, &mut text);
        self.released += text.len();
        if let Some(stop) = stop {
            self.stopped_at(stop);
            self.take_back(session, self.made.saturating_sub(self.released))?;
        }
        Ok(text)
    }

    /// Ends the generation and releases the text that was held back.
    pub(crate) fn end(&mut self, reason: StopReason) -> String {
        let (mut whole, mut text) = (String::new(), String::new());
        self.utf8.finish(&mut whole);
        match self.stops.push(&whole, &mut text) {
            Some(stop) => self.stopped_at(stop),
            None => {
                self.stops.finish(&mut text);
                self.summary.stop_reason = Some(reason);
            }
        }
        text
    }

    fn stopped_at(&mut self, stop: usize) {
        self.summary.stop_reason = self.stops.stops().get(stop).cloned().map(StopReason::Stop);
    }

    /// Takes `excess` bytes off the session's end, so that its text is what
    /// was released and not the stop string too.
    ///
    /// A token that is only partly wanted is replaced by tokens for that part. What
    /// was there before this generation stays, and so may a stop string's beginning that was dropped since.
    fn take_back(&mut self, session: &mut Session, mut excess: usize) -> Result<(), Error> {
        let model = Arc::clone(session.model());
        let tokenizer = model.tokenizer()?;
        while excess > 0
            && session.tokens().len() > self.start
            && let Some(&last) = session.tokens().last()
        {
            let bytes = tokenizer.token_bytes(last);
            session.truncate(session.tokens().len() - 1);
            let wanted = bytes.len().checked_sub(excess).and_then(|wanted| bytes.get(..wanted));
            if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
                let part = String::from_utf8_lossy(wanted);
                tokenizer.encode(&part, Special::Text)?.into_iter().for_each(|id| session.append(id));
            } else {
                self.logprobs.pop();
            }
            excess = excess.saturating_sub(bytes.len());
        }
        Ok(())
    }
}

/// A token that was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    logprob: Option<TokenLogprob>,
}

/// What matters of several rows of logits.
#[derive(Debug)]
pub(crate) struct Rules {
    /// All rows' [`Keep::always`].
    named: Vec<u32>,
    /// The rest of each row's [`Keep`], and which of `named` are its own.
    rows: Vec<(usize, f32, Range<usize>)>,
    /// Each row's [`Keep::allowed`]; none where all are.
    masks: Vec<Vec<u32>>,
}

impl Rules {
    /// One for each row.
    pub(crate) fn keeps(&self) -> Vec<Keep<'_>> {
        let rows = self.rows.iter().cloned().enumerate();
        let keep = |(row, (best, within, named)): (usize, (usize, f32, Range<usize>))| Keep {
            best,
            within,
            always: self.named.get(named).unwrap_or_default(),
            allowed: self.masks.get(row).map(Vec::as_slice),
        };
        rows.map(keep).collect()
    }
}

/// The only token that is allowed, if there is one.
fn only(allowed: &[u32]) -> Option<u32> {
    let mut words = allowed.iter().zip(0u32..).filter(|(word, _)| **word != 0);
    let (word, index) = words.next().filter(|(word, _)| word.is_power_of_two())?;
    words.next().is_none().then(|| 32 * index + word.trailing_zeros())
}
