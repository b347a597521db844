//! What the model itself thinks of a token, and what it thought of first.

use crate::softmax::{log_weight, total};
use crate::{Candidates, Error};

/// The log-probability of a token, and those of the most probable ones.
///
/// They are of the model's own distribution, the `log_softmax` of its logits
/// *before* any stage: what OpenAI-like interfaces mean, and what can be
/// compared between runs with different parameters. The probability in the
/// distribution that was drawn from is [`Pick::logprob`](crate::Pick::logprob).
///
/// ```
/// let mut logprobs = tritwise_sampling::Logprobs::new();
/// let (logprob, best) = logprobs.of(&[0.0, 2.0, 1.0], 0, 2)?;
/// assert!((logprob.exp() - 0.09003).abs() < 1e-5);
/// assert_eq!(best.map(|(id, _)| id).collect::<Vec<_>>(), [1, 2]);
/// # Ok::<(), tritwise_sampling::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Logprobs {
    candidates: Candidates,
}

impl Logprobs {
    /// Holds nothing but a buffer: after the first row of a vocabulary nothing is allocated.
    pub fn new() -> Self {
        Self::default()
    }

    /// The natural logarithm of the probability that a row of logits gives to `id`, and the `n` most probable tokens
    /// with theirs, best first (all, where there are fewer).
    ///
    /// In `f64`, summed by rising id: the same bits on every platform, and the same as [`logprob`](crate::logprob)'s.
    ///
    /// # Errors
    /// As [`logprob`](crate::logprob).
    pub fn of(
        &mut self,
        logits: &[f32],
        id: u32,
        n: usize,
    ) -> Result<(f64, impl ExactSizeIterator<Item = (u32, f64)> + '_), Error> {
        self.candidates.load(logits)?;
        let best = match self.candidates.best() {
            Some(best) if best.logit > f32::NEG_INFINITY => best.logit,
            _ => return Err(Error::NoCandidates),
        };
        let log_total = libm::log(total(self.candidates.as_slice(), best));
        let logprob = move |logit: f32| log_weight(logit, best) - log_total;
        let found = self.candidates.find(id).and_then(|index| self.candidates.as_slice().get(index));
        let of_id = logprob(found.ok_or(Error::OutOfVocabulary { id, vocab: logits.len() })?.logit);
        let ranked = self.candidates.rank(n).iter().map(move |candidate| (candidate.id, logprob(candidate.logit)));
        Ok((of_id, ranked))
    }
}
