use crate::{Candidates, Effect, Error, Random, Stage};

/// Keeps candidates whose logit is at most `n` standard deviations below the best one
/// (Tang et al., arXiv 2411.07641).
///
/// ```text
/// logit ≥ best − n · σ        σ² = mean of (logit − mean)² over all candidates above −∞
/// ```
///
/// Scaling the logits scales σ too, so a temperature before it changes nothing.
/// `n = 0` keeps all. Next to +∞ only +∞ stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopNSigma {
    n: f32,
}

impl TopNSigma {
    /// A threshold of `n` standard deviations.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an `n` that is negative or not finite.
    pub fn new(n: f32) -> Result<Self, Error> {
        if n.is_finite() && n >= 0.0 {
            return Ok(Self { n });
        }
        let expected = "a finite number of standard deviations, at least 0 (0 for no cut)";
        Err(Error::Parameter { parameter: "top-n-sigma", found: n, expected })
    }
}

impl Stage for TopNSigma {
    fn name(&self) -> &str {
        "top-n-sigma"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        let Some(best) = candidates.best() else { return };
        if self.n == 0.0 {
            return;
        }
        if best.logit == f32::INFINITY {
            return candidates.retain(|candidate| candidate.logit == f32::INFINITY);
        }
        let items = candidates.order_by_id();
        let possible = || items.iter().map(|candidate| f64::from(candidate.logit)).filter(|x| *x > f64::NEG_INFINITY);
        #[expect(clippy::cast_precision_loss, reason = "there are at most 2³² candidates")]
        let count = possible().count() as f64;
        let mean = possible().sum::<f64>() / count;
        let variance = possible().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let least = f64::from(best.logit) - f64::from(self.n) * libm::sqrt(variance);
        candidates.retain(|candidate| f64::from(candidate.logit) >= least);
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.n == 0.0 { Effect::NONE } else { Effect::Any }
    }
}
