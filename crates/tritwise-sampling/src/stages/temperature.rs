use super::saturate;
use crate::{Candidates, Effect, Error, Random, Stage};

/// Divides every logit by a temperature: below 1 sharpens, above 1 flattens
/// the distribution (Ackley, Hinton and Sejnowski 1985, the Boltzmann machine).
///
/// A finite logit stays finite: a quotient beyond `f32`, which takes a logit
/// above 10³⁵, becomes the largest number and not a certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    t: f32,
}

impl Temperature {
    /// The lowest temperature: below it all but exact ties has the outcome of [`Greedy`](crate::Greedy).
    pub const MIN: f32 = 1e-3;

    /// A temperature of `t`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `t` below [`MIN`](Self::MIN), infinite or NaN.
    pub fn new(t: f32) -> Result<Self, Error> {
        if t.is_finite() && t >= Self::MIN {
            return Ok(Self { t });
        }
        Err(Error::Parameter {
            parameter: "temperature",
            found: t,
            expected: "a finite number of at least 0.001, or greedy instead",
        })
    }
}

impl Stage for Temperature {
    fn name(&self) -> &str {
        "temperature"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        if self.t != 1.0 {
            for candidate in candidates.as_mut_slice() {
                candidate.logit = saturate(candidate.logit, candidate.logit / self.t);
            }
        }
    }

    fn effect(&mut self, _history: &[u32], _touched: &mut Vec<u32>) -> Effect {
        if self.t == 1.0 { Effect::NONE } else { Effect::Any }
    }
}
