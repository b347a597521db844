use super::saturate;
use crate::{Candidate, Candidates, Effect, Error, Random, Stage};

/// Makes tokens of the recent past less likely: repetition, frequency and presence penalties.
///
/// For a token that occurs `n > 0` times among the last `window` tokens, in this order:
///
/// ```text
/// logit > 0:  logit / repetition        logit ≤ 0:  logit · repetition
/// logit − n · frequency − presence
/// ```
///
/// *Repetition* is that of Keskar et al. (CTRL, arXiv 1909.05858, section 4.1),
/// who divide every logit; for a negative one that would make the token *more*
/// likely, so it is multiplied instead, as every engine since has done.
/// *Frequency* and *presence* are those of OpenAI's API. Window and order are
/// llama.cpp's, and so is counting a prompt's tokens too, where OpenAI's count
/// only what was sampled.
///
/// Neutral are 1, 0 and 0, and a `window` of 0. Values on the other side
/// favour repetition. A finite logit stays finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
    window: usize,
    /// The tokens of the window in order; kept for its allocation.
    seen: Vec<u32>,
}

impl Penalties {
    /// These penalties on the tokens among the last `window`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `repetition` that is not a finite number above 0, or another penalty that is not finite.
    pub fn new(repetition: f32, frequency: f32, presence: f32, window: usize) -> Result<Self, Error> {
        if !(repetition.is_finite() && repetition > 0.0) {
            return Err(Error::Parameter {
                parameter: "repetition penalty",
                found: repetition,
                expected: "a finite number above 0 (1 for none)",
            });
        }
        for (parameter, found) in [("frequency penalty", frequency), ("presence penalty", presence)] {
            if !found.is_finite() {
                return Err(Error::Parameter { parameter, found, expected: "a finite number (0 for none)" });
            }
        }
        Ok(Self { repetition, frequency, presence, window, seen: Vec::new() })
    }

    fn recent<'a>(&self, history: &'a [u32]) -> &'a [u32] {
        let neutral = self.repetition == 1.0 && self.frequency == 0.0 && self.presence == 0.0;
        let window = if neutral { 0 } else { self.window };
        history.get(history.len().saturating_sub(window)..).unwrap_or_default()
    }
}

impl Stage for Penalties {
    fn name(&self) -> &str {
        "penalties"
    }

    fn apply(&mut self, candidates: &mut Candidates, history: &[u32], _random: &mut Random) {
        let recent = self.recent(history);
        self.seen.clear();
        self.seen.extend_from_slice(recent);
        self.seen.sort_unstable();
        for same in self.seen.chunk_by(|a, b| a == b) {
            if let Some(Candidate { logit, .. }) = same.first().and_then(|id| candidates.find_mut(*id)) {
                let scaled = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
                let scaled = saturate(*logit, scaled);
                #[expect(clippy::cast_precision_loss, reason = "the penalty is f32 and rounds as well")]
                let taken = same.len() as f32 * self.frequency + self.presence;
                *logit = saturate(scaled, scaled - taken);
            }
        }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn effect(&mut self, history: &[u32], touched: &mut Vec<u32>) -> Effect {
        touched.extend_from_slice(self.recent(history));
        Effect::Touches
    }
}
