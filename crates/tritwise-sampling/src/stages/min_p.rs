use crate::{Candidates, Effect, Error, Random, Stage};

/// Keeps candidates at least `p` times as probable as the best one
/// (Nguyen et al., arXiv 2407.01082, section 3).
///
/// In logits: `logit ≥ best + ln p`, so no softmax is needed. `p = 0` keeps
/// all; `p = 1` keeps those that tie with the best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinP {
    p: f32,
}

impl MinP {
    /// A threshold of `p` relative to the best candidate.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `p` outside 0 to 1, or NaN.
    pub fn new(p: f32) -> Result<Self, Error> {
        if (0.0..=1.0).contains(&p) {
            return Ok(Self { p });
        }
        Err(Error::Parameter { parameter: "min-p", found: p, expected: "a probability from 0 to 1" })
    }
}

impl Stage for MinP {
    fn name(&self) -> &str {
        "min-p"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        let Some(best) = candidates.best() else { return };
        if self.p > 0.0 {
            let least = f64::from(best.logit) + libm::log(f64::from(self.p));
            candidates.retain(|candidate| f64::from(candidate.logit) >= least);
        }
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.p == 0.0 {
            return Effect::NONE;
        }
        // What this logarithm lacks in precision is far less than what is added.
        Effect::Cuts { best: usize::MAX, within: 1e-3 - self.p.ln() }
    }
}
