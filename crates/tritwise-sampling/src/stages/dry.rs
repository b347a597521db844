use std::ops::Range;

use super::saturate;
use crate::{Candidate, Candidates, Effect, Error, Random, Stage};

/// Makes a token less likely that would go on repeating what was said before
/// ("don't repeat yourself"; p-e-w, text-generation-webui pull request 5637).
///
/// ```text
/// history    … a b c d … x b c d … a b c ?
///                    ↑       ↑       ╰───╯ the end
///                  3 match   2 match:  so  d  would make a repeat of 3 one longer
///
/// logit − multiplier · base^(n − allowed)        n ≥ allowed tokens match, the most over all places
/// ```
///
/// A *breaker* is a sequence of tokens over which no repeat reaches: only what
/// follows the last one in the history can match. A token that is a breaker
/// by itself is never penalised. A line's end, a colon and quotation marks are usual, so that
/// the form of a dialogue may repeat. Prompt and text both count, to the last
/// `window` tokens. A finite logit stays finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    multiplier: f64,
    base: f64,
    allowed: usize,
    window: usize,
    /// Breakers of one token, ascending.
    single: Vec<u32>,
    /// Breakers of several.
    sequences: Vec<Vec<u32>>,
    /// For each distance from the end, how many tokens before it match those before the end.
    matches: Vec<usize>,
    /// Tokens that would continue a repeat, with its length; ascending by id, each once.
    repeats: Vec<(u32, usize)>,
}

impl Dry {
    /// A penalty of `multiplier · base^(n − allowed)` on whatever continues a repeat of `n ≥ allowed` tokens among
    /// the last `window`. Empty breakers are none.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `multiplier` that is negative or not finite, or a `base` below 1 or not finite.
    pub fn new(
        multiplier: f32,
        base: f32,
        allowed: usize,
        window: usize,
        breakers: Vec<Vec<u32>>,
    ) -> Result<Self, Error> {
        if !(multiplier.is_finite() && multiplier >= 0.0) {
            let expected = "a finite number of at least 0 (0 for none)";
            return Err(Error::Parameter { parameter: "DRY multiplier", found: multiplier, expected });
        }
        if !(base.is_finite() && base >= 1.0) {
            let expected = "a finite number of at least 1";
            return Err(Error::Parameter { parameter: "DRY base", found: base, expected });
        }
        let (short, sequences): (Vec<_>, Vec<_>) = breakers.into_iter().partition(|breaker| breaker.len() < 2);
        let mut single = short.concat();
        single.sort_unstable();
        single.dedup();
        let (multiplier, base) = (multiplier.into(), base.into());
        let (matches, repeats) = (Vec::new(), Vec::new());
        Ok(Self { multiplier, base, allowed, window, single, sequences, matches, repeats })
    }

    /// How many tokens follow the last breaker in `history`.
    fn after_breaker(&self, history: &[u32]) -> usize {
        let ends_here = |end: &usize| {
            let before = history.get(..*end).unwrap_or_default();
            let single = before.last().is_some_and(|id| self.is_breaker(*id));
            single || self.sequences.iter().any(|breaker| before.ends_with(breaker))
        };
        let end = (1..=history.len()).rev().find(ends_here);
        history.len() - end.unwrap_or(0)
    }

    fn is_breaker(&self, id: u32) -> bool {
        self.single.binary_search(&id).is_ok()
    }

    /// Finds what would continue a repeat, and fills `repeats`.
    fn find_repeats(&mut self, history: &[u32]) {
        self.repeats.clear();
        if self.multiplier == 0.0 {
            return;
        }
        let history = history.get(history.len().saturating_sub(self.window)..).unwrap_or_default();
        let longest = self.after_breaker(history);
        if longest < self.allowed {
            return;
        }
        match_ends(history, &mut self.matches);
        // What followed the stretch that ends `back` tokens before the end.
        for (&matching, &next) in self.matches.iter().skip(1).zip(history.iter().rev()) {
            let length = matching.min(longest);
            if length >= self.allowed && !self.is_breaker(next) {
                self.repeats.push((next, length));
            }
        }
        self.repeats.sort_unstable_by_key(|&(id, length)| (id, usize::MAX - length));
        self.repeats.dedup_by_key(|(id, _)| *id);
    }
}

impl Stage for Dry {
    fn name(&self) -> &str {
        "dry"
    }

    fn apply(&mut self, candidates: &mut Candidates, history: &[u32], _random: &mut Random) {
        self.find_repeats(history);
        for &(id, length) in &self.repeats {
            if let Some(Candidate { logit, .. }) = candidates.find_mut(id) {
                #[expect(clippy::cast_precision_loss, reason = "a history is far below 2⁵³ tokens")]
                let penalty = self.multiplier * libm::pow(self.base, (length - self.allowed) as f64);
                #[expect(clippy::cast_possible_truncation, reason = "rounded to f32, as logits are")]
                let penalized = (f64::from(*logit) - penalty) as f32;
                *logit = saturate(*logit, penalized);
            }
        }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn effect(&mut self, history: &[u32], touched: &mut Vec<u32>) -> Effect {
        self.find_repeats(history);
        touched.extend(self.repeats.iter().map(|(id, _)| *id));
        Effect::Touches
    }
}

/// For each `back`, how many tokens at the end of `history` equal those that end `back` tokens before the end.
///
/// The Z function of the reversed history (Gusfield, Algorithms on Strings, 1997, section 1.3): linear, since
/// a stretch that was compared once tells the matches within it.
#[expect(clippy::indexing_slicing, reason = "there is a match for each token, and `back` + `matching` is below `len`")]
fn match_ends(history: &[u32], matches: &mut Vec<usize>) {
    let len = history.len();
    let from_end = |i: usize| history[len - 1 - i];
    matches.clear();
    matches.resize(len, 0);
    let mut known: Range<usize> = 0..0;
    for back in 1..len {
        let mut matching = 0;
        if known.contains(&back) {
            matching = matches[back - known.start].min(known.end - back);
        }
        while back + matching < len && from_end(matching) == from_end(back + matching) {
            matching += 1;
        }
        matches[back] = matching;
        if back + matching > known.end {
            known = back..back + matching;
        }
    }
}
