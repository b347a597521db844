//! Weights, sums and logarithms with the same bits on every platform.
//!
//! A weight is `exp(logit − best)` in `f64`, from `libm` and not from the
//! platform's library, whose last bit differs from one system to the next;
//! sums run from the first candidate to the last. With the seeded generator
//! this is what makes a seed's text the same everywhere.

use crate::{Candidate, Error};

/// `exp(logit − best)`, where `best` is the highest logit.
///
/// +∞ beats everything finite: next to it a finite logit weighs nothing, and
/// several infinite ones weigh the same. −∞ weighs nothing.
pub(crate) fn weight(logit: f32, best: f32) -> f64 {
    if logit == best {
        1.0
    } else if best == f32::INFINITY {
        0.0
    } else {
        libm::exp(f64::from(logit) - f64::from(best))
    }
}

/// The sum of all weights, in the order of `candidates`.
pub(crate) fn total(candidates: &[Candidate], best: f32) -> f64 {
    candidates.iter().map(|candidate| weight(candidate.logit, best)).sum()
}

/// The sum of all weights, and the entropy of the distribution in nats: `ln Σ − Σ wᵢ (lᵢ − best) / Σ`.
///
/// In the order of `candidates`, which must not be empty.
pub(crate) fn entropy(candidates: &[Candidate], best: f32) -> (f64, f64) {
    let (mut total, mut mean) = (0.0, 0.0);
    for candidate in candidates {
        let weight = weight(candidate.logit, best);
        total += weight;
        if weight > 0.0 {
            mean += weight * log_weight(candidate.logit, best);
        }
    }
    (total, libm::log(total) - mean / total)
}

/// The natural logarithm of the probability that a row of logits gives to `id`.
///
/// `f64` throughout and summed in the order of the ids, so that a perplexity
/// has the same bits on every platform. −∞ when the logit is −∞.
///
/// ```
/// let lp = tritwise_sampling::logprob(&[0.0, 0.0, 0.0, 0.0], 2)?;
/// assert_eq!(lp, -(4f64.ln()));
/// # Ok::<(), tritwise_sampling::Error>(())
/// ```
///
/// # Errors
/// [`Error::Empty`], [`Error::NotANumber`], [`Error::OutOfVocabulary`] for an
/// `id` without a logit, [`Error::NoCandidates`] when every logit is −∞.
pub fn logprob(logits: &[f32], id: u32) -> Result<f64, Error> {
    if logits.is_empty() {
        return Err(Error::Empty);
    }
    let mut best = f32::NEG_INFINITY;
    for (&logit, id) in logits.iter().zip(0u32..) {
        if logit.is_nan() {
            return Err(Error::NotANumber { id });
        }
        best = best.max(logit);
    }
    if best == f32::NEG_INFINITY {
        return Err(Error::NoCandidates);
    }
    let wanted = usize::try_from(id).ok().and_then(|index| logits.get(index));
    let &wanted = wanted.ok_or(Error::OutOfVocabulary { id, vocab: logits.len() })?;
    let total: f64 = logits.iter().map(|&logit| weight(logit, best)).sum();
    Ok(log_weight(wanted, best) - libm::log(total))
}

/// The logarithm of [`weight`], without the detour that would underflow.
pub(crate) fn log_weight(logit: f32, best: f32) -> f64 {
    if logit == best {
        0.0
    } else if best == f32::INFINITY {
        f64::NEG_INFINITY
    } else {
        f64::from(logit) - f64::from(best)
    }
}
