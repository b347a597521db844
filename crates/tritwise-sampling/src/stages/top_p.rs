use crate::softmax::{total, weight};
use crate::{Candidates, Effect, Error, Random, Stage};

/// Keeps the fewest best candidates whose probabilities sum to at least `p`
/// (nucleus sampling; Holtzman et al., arXiv 1904.09751, section 3.1).
///
/// Probabilities are those of the candidates that reach the stage. At least
/// one candidate stays; `p ≥ 1` keeps all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopP {
    p: f32,
}

impl TopP {
    /// A nucleus of mass `p`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a negative `p` or NaN.
    pub fn new(p: f32) -> Result<Self, Error> {
        if p >= 0.0 {
            return Ok(Self { p });
        }
        Err(Error::Parameter { parameter: "top-p", found: p, expected: "a probability from 0 to 1" })
    }
}

impl Stage for TopP {
    fn name(&self) -> &str {
        "top-p"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        let Some(best) = candidates.best() else { return };
        if self.p >= 1.0 {
            return;
        }
        // By rising id: a sum's last bit would otherwise depend on how an earlier cut left its candidates.
        let wanted = f64::from(self.p) * total(candidates.order_by_id(), best.logit);
        // A nucleus is small as a rule: rank a few candidates, then eight times
        // as many, instead of sorting a vocabulary for its best dozen.
        let mut mass = 0.0;
        let mut seen = 0;
        let mut ranked = FIRST_LOOK;
        while seen < candidates.len() {
            for candidate in candidates.rank(ranked).iter().skip(seen) {
                mass += weight(candidate.logit, best.logit);
                seen += 1;
                if mass >= wanted {
                    candidates.keep_best(seen);
                    return;
                }
            }
            ranked = ranked.saturating_mul(8);
        }
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.p >= 1.0 { Effect::NONE } else { Effect::Any }
    }
}

/// How many candidates are ranked before looking for the end of the nucleus.
const FIRST_LOOK: usize = 64;
