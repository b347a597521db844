//! What the model thought of the tokens that were made.

use tritwise_sampling::Logprobs;

use crate::{Error, Sampling};

/// A token that was made, and what the model's own distribution says of it: the `log_softmax` of its logits, before
/// anything that [`Sampling`] does to them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens in its place and their log-probabilities, best first: as many as were asked for. Whether
    /// the token is among them depends on what it was.
    pub best: Vec<(u32, f64)>,
}

/// Computes log-probabilities.
#[derive(Debug)]
pub(crate) struct Recorder {
    best: usize,
    logprobs: Logprobs,
}

impl Recorder {
    /// None where none are asked for.
    pub(crate) fn new(sampling: &Sampling) -> Option<Self> {
        sampling.logprobs.map(|best| Self { best, logprobs: Logprobs::new() })
    }

    /// Those of `token`, which was chosen from `logits`, which are all there.
    pub(crate) fn of(&mut self, logits: &[f32], token: u32) -> Result<TokenLogprob, Error> {
        let (logprob, best) = self.logprobs.of(logits, token, self.best)?;
        Ok(TokenLogprob { token, logprob, best: best.collect() })
    }
}
