use super::saturate;
use crate::softmax::entropy;
use crate::{Candidates, Error, Random, Stage, Temperature};

/// A [`Temperature`] that follows how sure the model is, between `t − range` and `t + range`
/// (llama.cpp's `dynatemp_range` and `dynatemp_exponent`, after koboldcpp's).
///
/// ```text
/// T = low + (high − low) · (H / ln n)^exponent        low = t − range, at least 0.001
///                                                     high = t + range
/// ```
///
/// `H` is the entropy, in nats, of the `n` candidates that reach the stage
/// with a logit above −∞, so `H / ln n` runs from 0 (certain) to 1 (all
/// alike). One candidate alone is left as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicTemperature {
    low: f64,
    high: f64,
    exponent: f64,
}

impl DynamicTemperature {
    /// Temperatures from `t − range` to `t + range`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `t` that [`Temperature`] refuses, a `range` that is negative or not finite, or an
    /// `exponent` that is not a finite number above 0.
    pub fn new(t: f32, range: f32, exponent: f32) -> Result<Self, Error> {
        Temperature::new(t)?;
        if !(range.is_finite() && range >= 0.0) {
            let expected = "a finite number of at least 0 (0 for a fixed temperature)";
            return Err(Error::Parameter { parameter: "dynamic temperature range", found: range, expected });
        }
        if !(exponent.is_finite() && exponent > 0.0) {
            let expected = "a finite number above 0";
            return Err(Error::Parameter { parameter: "dynamic temperature exponent", found: exponent, expected });
        }
        let (t, range) = (f64::from(t), f64::from(range));
        let low = (t - range).max(f64::from(Temperature::MIN));
        Ok(Self { low, high: t + range, exponent: exponent.into() })
    }
}

impl Stage for DynamicTemperature {
    fn name(&self) -> &str {
        "dynamic-temperature"
    }

    fn apply(&mut self, candidates: &mut Candidates, _history: &[u32], _random: &mut Random) {
        let Some(best) = candidates.best() else { return };
        let items = candidates.order_by_id();
        let possible = items.iter().filter(|candidate| candidate.logit > f32::NEG_INFINITY).count();
        if possible < 2 {
            return;
        }
        let (_, entropy) = entropy(items, best.logit);
        // Rounding may leave the entropy a little outside of what it can be.
        #[expect(clippy::cast_precision_loss, reason = "there are at most 2³² candidates")]
        let share = (entropy / libm::log(possible as f64)).clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "rounded to f32, as logits are")]
        let t = (self.low + (self.high - self.low) * libm::pow(share, self.exponent)) as f32;
        for candidate in candidates.as_mut_slice() {
            candidate.logit = saturate(candidate.logit, candidate.logit / t);
        }
    }
}
