use crate::candidates::better;
use crate::softmax::{total, weight};
use crate::{Candidate, Candidates, Error, Random, Stage};

/// Now and then excludes the top choices: all candidates of at least `threshold`, but the least likely of them
/// (XTC; p-e-w, text-generation-webui pull request 6335).
///
/// With the chance `probability`, drawn anew for every token, candidates whose
/// probability is at least `threshold` are dropped except for the worst of
/// them. Where only one reaches it, nothing happens, so above 0.5 never.
/// Probabilities are those of the candidates that reach the stage.
///
/// One number is taken from [`Random`] on every call, whatever the candidates
/// are and whether or not they are then cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    probability: f32,
    threshold: f32,
}

impl Xtc {
    /// Excludes with the chance `probability` those of at least `threshold`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for either outside 0 to 1, or NaN.
    pub fn new(probability: f32, threshold: f32) -> Result<Self, Error> {
        for (parameter, found) in [("XTC probability", probability), ("XTC threshold", threshold)] {
            if !(0.0..=1.0).contains(&found) {
                return Err(Error::Parameter { parameter, found, expected: "a probability from 0 to 1" });
            }
        }
        Ok(Self { probability, threshold })
    }
}

impl Stage for Xtc {
    fn name(&self) -> &str {
        "xtc"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], random: &mut Random) {
        let excludes = random.unit() < f64::from(self.probability);
        let Some(Candidate { logit: best, .. }) = candidates.best().filter(|_| excludes) else { return };
        let least = f64::from(self.threshold) * total(candidates.order_by_id(), best);
        // Not those without a weight, when `threshold` is 0: the one that stays must be possible.
        let top = |candidate: &Candidate| {
            let weight = weight(candidate.logit, best);
            weight > 0.0 && weight >= least
        };
        let worst = |a: Candidate, b: Candidate| if better(&a, &b).is_lt() { b } else { a };
        let Some(last) = candidates.as_slice().iter().copied().filter(top).reduce(worst) else { return };
        candidates.retain(|candidate| !top(candidate) || candidate.id == last.id);
    }
}
