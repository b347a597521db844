use std::f64::consts::LN_2;

use crate::softmax::{log_weight, total};
use crate::{Candidate, Candidates, Error, Random, Stage};

/// Holds the surprise of the text near `tau` bits per token (Mirostat 2.0: Basu et al., arXiv 2007.14966, in the
/// form of the authors' second version, github.com/basusourya/mirostat).
///
/// ```text
/// keep       those with  −log₂ pᵢ ≤ μ, and the best              μ = 2 τ at first
/// accepted   μ ← μ − η · (s − τ)        s = −log₂ of the accepted token's pᵢ
/// ```
///
/// Probabilities are those of the candidates that reach the stage, *before*
/// this cut, as the authors have it; so τ is the mean of `s` in the long run.
/// llama.cpp measures `s` after the cut, where it is smaller: the same τ is
/// more adventurous there.
///
/// The state changes with [`accept`](Stage::accept) alone, by the token that
/// was accepted and what the latest row said of it. A token that the cut
/// dropped, which the caller has put there himself, changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirostat {
    tau: f64,
    eta: f64,
    mu: f64,
    /// What the latest cut kept, ascending by id, with each one's surprise in bits. Empty once a token is accepted.
    kept: Vec<(u32, f64)>,
}

impl Mirostat {
    /// A mean surprise of `tau` bits, approached at the rate `eta`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for either that is not a finite number above 0.
    pub fn new(tau: f32, eta: f32) -> Result<Self, Error> {
        for (parameter, found) in [("Mirostat's tau", tau), ("Mirostat's eta", eta)] {
            if !(found.is_finite() && found > 0.0) {
                return Err(Error::Parameter { parameter, found, expected: "a finite number above 0" });
            }
        }
        let (tau, eta) = (f64::from(tau), f64::from(eta));
        Ok(Self { tau, eta, mu: 2.0 * tau, kept: Vec::new() })
    }

    /// The most surprise, in bits, that the next token may have.
    pub fn mu(&self) -> f64 {
        self.mu
    }
}

impl Stage for Mirostat {
    fn name(&self) -> &str {
        "mirostat"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        self.kept.clear();
        let Some(best) = candidates.best() else { return };
        let log_total = libm::log(total(candidates.order_by_id(), best.logit));
        let surprise = |candidate: &Candidate| (log_total - log_weight(candidate.logit, best.logit)) / LN_2;
        candidates.retain(|candidate| candidate.id == best.id || surprise(candidate) <= self.mu);
        self.kept.extend(candidates.as_slice().iter().map(|candidate| (candidate.id, surprise(candidate))));
    }

    fn accept(&mut self, id: u32) {
        let index = self.kept.binary_search_by_key(&id, |(id, _)| *id);
        if let Some((_, surprise)) = index.ok().and_then(|index| self.kept.get(index)) {
            self.mu -= self.eta * (surprise - self.tau);
        }
        self.kept.clear();
    }

    fn reset(&mut self) {
        self.mu = 2.0 * self.tau;
        self.kept.clear();
    }
}
