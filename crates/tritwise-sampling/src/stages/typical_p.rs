use std::cmp::Ordering;

use crate::candidates::better;
use crate::softmax::{entropy, log_weight, weight};
use crate::{Candidate, Candidates, Effect, Error, Random, Stage};

/// Keeps the fewest candidates whose probabilities sum to at least `p`, those first whose information is nearest
/// to the expected one (locally typical sampling; Meister et al., arXiv 2202.00666).
///
/// ```text
/// ascending by  | −ln pᵢ − H |        H = −Σ pᵢ ln pᵢ
/// ```
///
/// Probabilities are those of the candidates that reach the stage; among equally
/// typical ones the better comes first. The best candidate may go, where it is
/// *too* likely. At least one stays; `p ≥ 1` keeps all.
#[derive(Debug, Clone, PartialEq)]
pub struct TypicalP {
    p: f32,
    /// Candidates with what they are sorted by; kept for its allocation.
    sorted: Vec<(f64, Candidate)>,
}

impl TypicalP {
    /// A typical set of mass `p`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a negative `p` or NaN.
    pub fn new(p: f32) -> Result<Self, Error> {
        if p >= 0.0 {
            return Ok(Self { p, sorted: Vec::new() });
        }
        Err(Error::Parameter { parameter: "typical-p", found: p, expected: "a probability from 0 to 1" })
    }
}

impl Stage for TypicalP {
    fn name(&self) -> &str {
        "typical-p"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        let Some(Candidate { logit: best, .. }) = candidates.best() else { return };
        if self.p >= 1.0 {
            return;
        }
        let items = candidates.order_by_id();
        let (total, entropy) = entropy(items, best);
        let expected = entropy - libm::log(total);
        let distance = |candidate: &Candidate| (-log_weight(candidate.logit, best) - expected).abs();
        // Impossible ones are infinitely far, and are not to be kept for want of others.
        let possible = |(distance, _): &(f64, Candidate)| *distance < f64::INFINITY;
        self.sorted.clear();
        self.sorted.extend(items.iter().map(|candidate| (distance(candidate), *candidate)).filter(possible));
        let wanted = f64::from(self.p) * total;
        let Some(&last) = shortest_head(&mut self.sorted, best, wanted).last() else { return };
        candidates.retain(|candidate| more_typical(&(distance(candidate), *candidate), &last).is_le());
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.p >= 1.0 { Effect::NONE } else { Effect::Any }
    }
}

/// The most typical candidates, in order, until their weights sum to `wanted`.
///
/// Sorts a few, then eight times as many, instead of a vocabulary for a few dozen.
#[expect(clippy::indexing_slicing, reason = "`seen` and `end` are at most as many as there are")]
fn shortest_head(all: &mut [(f64, Candidate)], best: f32, wanted: f64) -> &[(f64, Candidate)] {
    let (mut mass, mut seen, mut look) = (0.0, 0, FIRST_LOOK);
    while seen < all.len() {
        let end = look.min(all.len());
        if end < all.len() {
            all[seen..].select_nth_unstable_by(end - seen - 1, more_typical);
        }
        all[seen..end].sort_unstable_by(more_typical);
        while seen < end {
            mass += weight(all[seen].1.logit, best);
            seen += 1;
            if mass >= wanted {
                return &all[..seen];
            }
        }
        look = look.saturating_mul(8);
    }
    all
}

fn more_typical(a: &(f64, Candidate), b: &(f64, Candidate)) -> Ordering {
    a.0.total_cmp(&b.0).then_with(|| better(&a.1, &b.1))
}

/// How many candidates are sorted before looking for the end.
const FIRST_LOOK: usize = 64;
