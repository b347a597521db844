//! Many texts at once.
//!
//! ```text
//! prompts   ──▶  slots: a session and a writer each             ──▶  completions
//! (waiting)      ┌──────────┬──────────┬──────────┬──────────┐       (as they end)
//!                │ decoding │ decoding │ reading  │ decoding │
//!                └──────────┴──────────┴──────────┴──────────┘
//!                  1 token    1 token   n tokens    1 token      = one forward call
//! ```
//!
//! Decoding one text reads all weights for one token. With several texts in one forward call they are read once
//! for all of them. When a text ends, its slot takes the next prompt at once.

use std::collections::VecDeque;

use tritwise_kernels::CpuBackend;
use tritwise_model::{Wanted, Workspace};

use crate::session::PREFILL_CHUNK;
use crate::stopwatch::Stopwatch;
use crate::writer::Writer;
use crate::{Cancel, Error, Model, Sampling, Session, StopReason, Summary};

/// Texts in flight, unless another number is asked for.
const IN_FLIGHT: usize = 8;

/// An iterator over the completions of many prompts; see [`Model::complete`].
#[derive(Debug)]
pub struct Completions<P> {
    model: Model,
    prompts: P,
    sampling: Sampling,
    in_flight: usize,
    cancel: Cancel,
    workspace: Workspace<CpuBackend>,
    /// Prompts taken so far.
    taken: usize,
    slots: Vec<Slot>,
    /// Sessions whose text has ended; what the next prompt shares with one stays evaluated.
    idle: Vec<Session>,
    done: VecDeque<(usize, Result<Completion, Error>)>,
}

/// What was made of a prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The text after the prompt.
    pub text: String,
    /// What it took, and why it ended. Times are those of the whole batch while the text was part of it.
    pub summary: Summary,
}

/// One text in flight.
#[derive(Debug)]
struct Slot {
    index: usize,
    session: Session,
    writer: Writer,
    text: String,
    error: Option<Error>,
}

impl Model {
    /// Continues many texts, several in one forward call: several times as fast as one by one, and the same texts.
    ///
    /// Gives each prompt's number, counted from 0, with its completion, in the order in which they *end*; whoever
    /// consumes them sees the progress. Prompts are taken from the iterator as there is room for them, so it may be
    /// long. Each is taken as by [`Session::push`]. Prompt `i` is completed with the seed of `sampling` plus `i`
    /// (wrapping), so that equal prompts get different texts: the text is the one that a session
    /// of its own makes with `sampling.seed(seed + i)`, whatever else is in flight.
    ///
    /// A prompt that cannot be completed, because it is longer than the context, gets an error in its place, and the
    /// others go on. Where prompts begin alike (a system prompt, examples), what one shares with the one that had its
    /// place before is not read again.
    ///
    /// ```no_run
    /// let model = tritwise::Model::open("model.gguf")?;
    /// let prompts = ["Once upon a time", "The old king"];
    /// for (index, completion) in model.complete(prompts, &tritwise::Sampling::default().max_tokens(64)) {
    ///     println!("{}{}", prompts[index], completion?.text);
    /// }
    /// # Ok::<(), tritwise::Error>(())
    /// ```
    pub fn complete<P>(&self, prompts: P, sampling: &Sampling) -> Completions<P::IntoIter>
    where
        P: IntoIterator<Item: AsRef<str>>,
    {
        Completions {
            model: self.clone(),
            prompts: prompts.into_iter(),
            sampling: sampling.clone(),
            in_flight: IN_FLIGHT,
            cancel: Cancel::new(),
            workspace: self.network().workspace(),
            taken: 0,
            slots: Vec::new(),
            idle: Vec::new(),
            done: VecDeque::new(),
        }
    }
}

impl<P> Completions<P> {
    /// How many texts may be in flight, 8 unless another number is asked for, at least 1. More of them are faster,
    /// up to a point, and take more memory: keys and values of each. Changes no text.
    pub fn in_flight(mut self, texts: usize) -> Self {
        self.in_flight = texts.max(1);
        self
    }

    /// Ends all texts in flight once `cancel` says so, with what they have; no further prompt is then taken.
    pub fn until(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }
}

impl<P: Iterator<Item: AsRef<str>>> Completions<P> {
    /// Fills free slots with the next prompts.
    fn fill(&mut self) {
        while self.slots.len() < self.in_flight
            && self.cancel.reason().is_none()
            && let Some(prompt) = self.prompts.next()
        {
            let index = self.taken;
            self.taken += 1;
            match self.start(index, prompt.as_ref()) {
                Ok(slot) => self.slots.push(slot),
                Err(error) => self.done.push_back((index, Err(error))),
            }
        }
    }

    fn start(&mut self, index: usize, prompt: &str) -> Result<Slot, Error> {
        let mut session = self.idle.pop().unwrap_or_else(|| self.model.session());
        let sampling = self.sampling.nth(index as u64);
        let mut begin = || {
            session.set(prompt)?;
            session.begin()?;
            Writer::new(&session, &sampling)
        };
        match begin() {
            Ok(writer) => Ok(Slot { index, session, writer, text: String::new(), error: None }),
            Err(error) => {
                self.idle.push(session);
                Err(error)
            }
        }
    }

    /// One forward call: a token of every text that has been read, and more of the others' prompts.
    fn step(&mut self) {
        self.slots.iter_mut().for_each(Slot::prepare);
        self.collect();
        if self.slots.is_empty() {
            return;
        }
        let start = Stopwatch::start();
        let counts = counts(&mut self.slots);
        let mut turns = Vec::with_capacity(counts.len());
        for (Slot { session, writer, .. }, &count) in self.slots.iter_mut().zip(&counts) {
            let wanted = match count == session.pending() {
                false => Wanted::Nothing,
                true => writer.wanted(),
            };
            if count > 0 {
                turns.push(session.turn(count, wanted));
            }
        }
        let stop = || self.cancel.reason().is_some();
        let logits = self.model.network().forward_unless(&mut self.workspace, &mut turns, &stop);
        drop(turns);
        match logits {
            Ok(Some(logits)) => {
                let mut rows = logits.rows();
                for slot in &mut self.slots {
                    slot.writer.took(start.elapsed());
                    if slot.session.pending() == 0
                        && let Some(row) = rows.next()
                    {
                        slot.advance(row);
                    }
                }
            }
            Ok(None) => {
                let reason = self.cancel.reason().unwrap_or(StopReason::Cancelled);
                self.slots.iter_mut().for_each(|slot| slot.end(reason.clone()));
            }
            // One text's numbers are not the others' concern: they go on without it.
            Err(error @ tritwise_model::Error::Logit { turn, .. }) => {
                let mut evaluated = self.slots.iter_mut().zip(&counts).filter(|(_, count)| **count > 0);
                if let Some((slot, _)) = evaluated.nth(turn) {
                    slot.error = Some(error.into());
                }
            }
            Err(error) => self.slots.iter_mut().for_each(|slot| slot.error = Some(error.clone().into())),
        }
        self.collect();
    }

    /// Takes texts that have ended out of their slots.
    fn collect(&mut self) {
        for slot in self.slots.extract_if(.., |slot| slot.writer.ended() || slot.error.is_some()) {
            let Slot { index, session, writer, text, error } = slot;
            let completion = Completion { text, summary: writer.summary };
            self.done.push_back((index, error.map_or(Ok(completion), Err)));
            self.idle.push(session);
        }
    }
}

impl<P: Iterator<Item: AsRef<str>>> Iterator for Completions<P> {
    type Item = (usize, Result<Completion, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            self.fill();
            if self.slots.is_empty() {
                return self.done.pop_front();
            }
            self.step();
        }
    }
}

impl Slot {
    /// Takes the tokens that leave no choice, until one does or the text ends.
    fn prepare(&mut self) {
        while !self.writer.ended() && self.error.is_none() {
            if let Some(reason) = self.writer.limit(&mut self.session) {
                self.end(reason);
                return;
            }
            let forced = self.writer.summary.forced;
            match self.writer.force(&mut self.session) {
                Ok(text) => self.text.push_str(&text),
                Err(error) => self.error = Some(error),
            }
            if self.writer.summary.forced == forced {
                return;
            }
        }
    }

    /// Takes the next token.
    fn advance(&mut self, logits: &[f32]) {
        let choice = self.writer.choose(logits);
        match choice.and_then(|choice| self.writer.write(&mut self.session, choice)) {
            Ok(text) => self.text.push_str(&text),
            Err(error) => self.error = Some(error),
        }
    }

    fn end(&mut self, reason: StopReason) {
        self.text.push_str(&self.writer.end(reason));
    }
}

/// Tokens to evaluate of each slot: one where it decodes, and as many as there is room for where it still reads.
fn counts(slots: &mut [Slot]) -> Vec<usize> {
    slots.iter_mut().for_each(|slot| slot.session.rewind());
    let decoding = slots.iter().filter(|slot| slot.session.pending() == 1).count();
    let mut room = PREFILL_CHUNK.saturating_sub(decoding).max(1);
    let count = |slot: &Slot| match slot.session.pending() {
        1 => 1,
        pending => {
            let count = pending.min(room);
            room -= count;
            count
        }
    };
    slots.iter().map(count).collect()
}
