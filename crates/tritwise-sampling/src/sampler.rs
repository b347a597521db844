//! The chain, the draw and the memory of what was said.

use crate::softmax::{log_weight, weight};
use crate::{Candidates, Chain, Error, Greedy, Needs, Random};

/// Chooses a token from a row of logits: a [`Chain`] of stages, then one seeded draw.
///
/// # The draw
///
/// One number `u ∈ [0, 1)` is taken from [`Random`] on *every* call, also when
/// one candidate is left; a stage that takes numbers takes them before. The
/// candidates are walked by rising id, their weights `exp(logit − best)` added
/// up in `f64`, and the first one whose running sum exceeds `u · Σ` is the
/// token. Nothing in this depends on the platform or on a library's taste, so
/// the same seed and the same logits give the same tokens for ever.
///
/// # Odd rows
///
/// A NaN is an error: it says that something before the sampler is broken.
/// Logits of +∞ share all the probability, −∞ has none, and a row of nothing
/// but −∞ is an error. Ties are broken by the lower id wherever a stage cuts.
///
/// ```
/// use tritwise_sampling::{Params, Sampler};
///
/// let mut sampler = Params { temperature: 0.8, top_k: 2, seed: 7, ..Params::default() }.sampler()?;
/// let id = sampler.sample(&[1.0, -3.0, 1.5])?;
/// sampler.accept(id);
/// assert!(id == 0 || id == 2);
/// # Ok::<(), tritwise_sampling::Error>(())
/// ```
#[derive(Debug)]
pub struct Sampler {
    chain: Chain,
    seed: u64,
    random: Random,
    history: History,
    candidates: Candidates,
    /// The weight of each candidate at the draw; kept for its allocation.
    weights: Vec<f64>,
    /// The tokens that stages touch; kept for its allocation.
    touched: Vec<u32>,
    /// The history and what may follow; kept for its allocation.
    ahead: Vec<u32>,
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability in the distribution that was
    /// drawn from, after all stages. For the model's own, see [`logprob`](crate::logprob).
    pub logprob: f64,
}

impl Sampler {
    /// Applies `chain`, then draws with the generator that `seed` starts.
    pub fn new(chain: Chain, seed: u64) -> Self {
        let history = History::new(chain.window());
        Self {
            chain,
            seed,
            random: Random::new(seed),
            history,
            candidates: Candidates::new(),
            weights: Vec::new(),
            touched: Vec::new(),
            ahead: Vec::new(),
        }
    }

    /// Always takes the best token.
    pub fn greedy() -> Self {
        Self::new(Chain::new().then(Greedy), 0)
    }

    /// The stages, in the order in which they are applied.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The seed this sampler started from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds tokens to the history that were not chosen: a prompt. Penalties count them, while the states that
    /// follow the chosen tokens (of Mirostat, of a grammar) stay as they are.
    pub fn prompt(&mut self, ids: &[u32]) {
        ids.iter().for_each(|&id| self.history.push(id));
    }

    /// Tells the stages that `id` was chosen and is now part of the text.
    pub fn accept(&mut self, id: u32) {
        self.history.push(id);
        self.chain.accept(id);
    }

    /// Forgets the text and starts the generator anew.
    pub fn reset(&mut self) {
        self.history.clear();
        self.chain.reset();
        self.random = Random::new(self.seed);
    }

    /// Which logits of the next row make a difference: whoever computes it may leave out the others.
    ///
    /// ```
    /// use tritwise_sampling::{Needs, Params};
    ///
    /// let mut greedy = Params { banned: vec![3], ..Params::greedy() }.sampler()?;
    /// assert_eq!(greedy.needs(), Needs::Best { best: 1, within: f32::INFINITY, always: &[3] });
    /// # Ok::<(), tritwise_sampling::Error>(())
    /// ```
    pub fn needs(&mut self) -> Needs<'_> {
        self.chain.needs(self.history.as_slice(), &mut self.touched)
    }

    /// As [`needs`](Self::needs), for the row after `ahead` should these tokens be accepted next.
    pub fn needs_after(&mut self, ahead: &[u32]) -> Needs<'_> {
        self.ahead.clear();
        self.ahead.extend_from_slice(self.history.as_slice());
        self.ahead.extend_from_slice(ahead);
        self.chain.needs(&self.ahead, &mut self.touched)
    }

    /// Chooses a token from `logits` (one per vocabulary entry); does not [`accept`](Self::accept) it.
    ///
    /// # Errors
    /// As [`pick`](Self::pick).
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, Error> {
        self.pick(logits).map(|pick| pick.id)
    }

    /// As [`sample`](Self::sample), with the token's probability.
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::NotANumber`] for such logits (or a stage
    /// that makes a NaN), [`Error::NoCandidates`] when nothing is left to
    /// choose. The generator advances only when a token is chosen.
    pub fn pick(&mut self, logits: &[f32]) -> Result<Pick, Error> {
        let mut random = self.random.clone();
        self.candidates.load(logits)?;
        self.chain.apply(&mut self.candidates, self.history.as_slice(), &mut random);
        self.candidates.refuse_nan()?;
        let best = match self.candidates.best() {
            Some(best) if best.logit > f32::NEG_INFINITY => best.logit,
            _ => return Err(Error::NoCandidates),
        };
        let candidates = self.candidates.order_by_id();
        self.weights.clear();
        self.weights.extend(candidates.iter().map(|candidate| weight(candidate.logit, best)));
        let total: f64 = self.weights.iter().sum();
        let threshold = random.unit() * total;
        let mut sum = 0.0;
        let mut chosen = None;
        for (candidate, &weight) in candidates.iter().zip(&self.weights) {
            sum += weight;
            // The last candidate with any weight stands in, should rounding leave the threshold at the total.
            if weight > 0.0 {
                chosen = Some(*candidate);
            }
            if sum > threshold {
                break;
            }
        }
        let chosen = chosen.ok_or(Error::NoCandidates)?;
        self.random = random;
        Ok(Pick { id: chosen.id, logprob: log_weight(chosen.logit, best) - libm::log(total) })
    }
}

/// The last tokens, as one slice, in bounded memory.
///
/// Tokens are appended; when the buffer holds twice the window, its last
/// window moves to the front. A ring would move nothing, but would hand the
/// stages two slices.
#[derive(Debug)]
struct History {
    tokens: Vec<u32>,
    window: usize,
}

impl History {
    fn new(window: usize) -> Self {
        Self { tokens: Vec::new(), window }
    }

    fn push(&mut self, id: u32) {
        if self.window == 0 {
            return;
        }
        if self.tokens.len() >= self.window.saturating_mul(2) {
            self.tokens.drain(..self.tokens.len() - self.window);
        }
        self.tokens.push(id);
    }

    fn clear(&mut self) {
        self.tokens.clear();
    }

    fn as_slice(&self) -> &[u32] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use crate::Params;

    /// Where every buffer lies, and how much it holds.
    fn buffers(sampler: &super::Sampler) -> [(usize, usize); 4] {
        [
            sampler.candidates.buffer(),
            (sampler.weights.as_ptr() as usize, sampler.weights.capacity()),
            (sampler.history.tokens.as_ptr() as usize, sampler.history.tokens.capacity()),
            (sampler.touched.as_ptr() as usize, sampler.touched.capacity()),
        ]
    }

    #[test]
    fn nothing_is_allocated_after_the_first_tokens() {
        let vocab: u32 = if cfg!(miri) { 40 } else { 20_000 };
        let params = Params { repetition_penalty: 1.1, penalty_window: 16, ..Params::default() };
        for params in [params.clone(), Params::greedy(), Params { top_k: 0, ..params }] {
            let mut sampler = params.sampler().unwrap();
            let row = |shift: u32| (0..vocab).map(|id| ((id * 7919 + shift) % 1009) as f32 / 50.0).collect::<Vec<_>>();
            let draw = |sampler: &mut super::Sampler, shift| {
                sampler.needs();
                let id = sampler.sample(&row(shift)).unwrap();
                sampler.accept(id);
            };
            sampler.weights.reserve(vocab as usize); // how many are left at the draw varies with the row
            (0..64).for_each(|shift| draw(&mut sampler, shift));
            let before = buffers(&sampler);
            (64..256).for_each(|shift| draw(&mut sampler, shift));
            assert_eq!(buffers(&sampler), before, "{:?}", sampler.chain());
        }
    }
}
