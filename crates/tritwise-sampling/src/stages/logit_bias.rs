use super::saturate;
use crate::{Candidate, Candidates, Effect, Error, Random, Stage};

/// Adds a number to the logits of single tokens (`logit_bias` of OpenAI's API).
///
/// Several biases of one token add up. A finite logit stays finite; a token
/// that must not be said at all is for [`Ban`](crate::Ban).
#[derive(Debug, Clone, PartialEq)]
pub struct LogitBias {
    biases: Vec<(u32, f32)>,
}

impl LogitBias {
    /// These tokens and what is added to their logits.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a bias that is infinite or NaN.
    pub fn new(biases: Vec<(u32, f32)>) -> Result<Self, Error> {
        match biases.iter().find(|(_, bias)| !bias.is_finite()) {
            None => Ok(Self { biases }),
            Some(&(_, found)) => Err(Error::Parameter {
                parameter: "logit bias",
                found,
                expected: "a finite number; ban a token that must never be chosen",
            }),
        }
    }
}

impl Stage for LogitBias {
    fn name(&self) -> &str {
        "logit-bias"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        for &(id, bias) in &self.biases {
            if let Some(Candidate { logit, .. }) = candidates.find_mut(id) {
                *logit = saturate(*logit, *logit + bias);
            }
        }
    }

    fn effect(&mut self, _history: &[u32], touched: &mut Vec<u32>) -> Effect {
        touched.extend(self.biases.iter().map(|(id, _)| *id));
        Effect::Touches
    }
}
