//! How a token is chosen, and when to end.

use tritwise_model::{Keep, Wanted};
use tritwise_sampling::{Params, Sampler};

use crate::Error;

/// How tokens are chosen and when a generation ends.
///
/// The default is that of [`Params`]: temperature 0.8 over the 40 likeliest
/// tokens, cut by top-p 0.95 and min-p 0.05, with seed 0; it goes on until the
/// model ends the text or the context is full. The same seed gives the same
/// text on every machine.
///
/// ```
/// let sampling = tritwise::Sampling::default().seed(7).max_tokens(64).stop("\n\n");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    params: Params,
    pub(crate) max_tokens: usize,
    pub(crate) stops: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self::new(Params::default())
    }
}

impl Sampling {
    /// Chooses by `params`, without a limit on length.
    pub fn new(params: Params) -> Self {
        Self { params, max_tokens: usize::MAX, stops: Vec::new() }
    }

    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self::new(Params::greedy())
    }

    /// Divides the logits: below 1 sharpens, above 1 flattens, 0 is greedy.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.params.temperature = temperature;
        self
    }

    /// Keeps the `k` likeliest tokens; 0 keeps all.
    pub fn top_k(mut self, k: usize) -> Self {
        self.params.top_k = k;
        self
    }

    /// Keeps the likeliest tokens that together reach probability `p`; 1 keeps all.
    pub fn top_p(mut self, p: f32) -> Self {
        self.params.top_p = p;
        self
    }

    /// Keeps tokens at least `p` times as likely as the likeliest; 0 keeps all.
    pub fn min_p(mut self, p: f32) -> Self {
        self.params.min_p = p;
        self
    }

    /// Makes recent tokens less likely; 1 leaves them.
    pub fn repetition_penalty(mut self, penalty: f32) -> Self {
        self.params.repetition_penalty = penalty;
        self
    }

    /// Seed of the draws.
    pub fn seed(mut self, seed: u64) -> Self {
        self.params.seed = seed;
        self
    }

    /// Ends after this many tokens.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Ends where the text reaches `text`, which is left out. Can be given several times.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stops.push(text.into());
        self
    }

    /// A sampler that has seen `history`.
    pub(crate) fn sampler(&self, history: &[u32]) -> Result<Sampler, Error> {
        let mut sampler = self.params.sampler()?;
        for &token in history {
            sampler.accept(token);
        }
        Ok(sampler)
    }

    /// The same for text `index` of a batch, whose seed is `index` further.
    pub(crate) fn nth(&self, index: u64) -> Self {
        let seed = self.params.seed.wrapping_add(index);
        self.clone().seed(seed)
    }

    /// Which logits the stages of [`Params`] can tell from −∞, after `history`.
    ///
    /// They are, in this order: repetition penalty, top-k, top-p, min-p, temperature. The penalty changes
    /// tokens of the history, so those are asked for whatever they are, and what the others must
    /// reach is judged among the others: a token below k of them is below k of all.
    pub(crate) fn wanted<'a>(&self, history: &'a [u32]) -> Wanted<'a> {
        let Params { temperature, top_k, top_p, min_p, repetition_penalty, repetition_window, .. } = self.params;
        let recent = if repetition_penalty == 1.0 { 0 } else { repetition_window.min(history.len()) };
        let always = &history[history.len() - recent..];
        if temperature == 0.0 {
            return Wanted::Best(Keep { best: 1, within: f32::INFINITY, always, allowed: None });
        }
        // Top-p looks at shares of all that top-k left, so then min-p must not cut before it. Min-p's logarithm is
        // an f64; what this one lacks in precision is far less than what is added.
        let cut = min_p > 0.0 && top_p >= 1.0;
        let within = if cut { 1e-3 - min_p.ln() } else { f32::INFINITY };
        match top_k {
            0 if within == f32::INFINITY => Wanted::Last,
            0 => Wanted::Best(Keep { best: usize::MAX, within, always, allowed: None }),
            best => Wanted::Best(Keep { best, within, always, allowed: None }),
        }
    }
}
