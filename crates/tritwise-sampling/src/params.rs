//! The usual parameters, as one plain value.

use crate::stages::{Greedy, MinP, RepetitionPenalty, Temperature, TopK, TopP};
use crate::{Chain, Error, Sampler};

/// The usual parameters of sampling, and the default order of the stages.
///
/// ```text
/// repetition penalty → top-k → top-p → min-p → temperature → draw
/// ```
///
/// Temperature comes last, so that the stages that cut judge the model's own
/// probabilities: a high temperature then adds variety among the tokens the
/// model thinks possible, and does not bring the impossible ones back. For
/// another order, build a [`Chain`] by hand.
///
/// A stage whose parameter is neutral is left out of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// 0 means greedy: the best token, no draw that matters. See [`Temperature`].
    pub temperature: f32,
    /// 0 keeps all. See [`TopK`].
    pub top_k: usize,
    /// 1 keeps all. See [`TopP`].
    pub top_p: f32,
    /// 0 keeps all. See [`MinP`].
    pub min_p: f32,
    /// 1 is none. See [`RepetitionPenalty`].
    pub repetition_penalty: f32,
    /// How many of the last tokens the repetition penalty looks at.
    pub repetition_window: usize,
    /// Where the random generator starts.
    pub seed: u64,
}

impl Default for Params {
    /// Temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no repetition penalty (window 64), seed 0.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl Params {
    /// The best token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Self::default() }
    }

    /// The stages these parameters ask for, in the default order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a value outside its range, also one that a greedy choice would not use.
    pub fn chain(&self) -> Result<Chain, Error> {
        let mut chain = Chain::new();
        let penalty = RepetitionPenalty::new(self.repetition_penalty, self.repetition_window)?;
        let top_p = TopP::new(self.top_p)?;
        let min_p = MinP::new(self.min_p)?;
        if self.repetition_penalty != 1.0 && self.repetition_window > 0 {
            chain.push(Box::new(penalty));
        }
        if self.temperature == 0.0 {
            return Ok(chain.then(Greedy));
        }
        if self.top_k > 0 {
            chain.push(Box::new(TopK::new(self.top_k)));
        }
        if self.top_p < 1.0 {
            chain.push(Box::new(top_p));
        }
        if self.min_p > 0.0 {
            chain.push(Box::new(min_p));
        }
        let temperature = Temperature::new(self.temperature)?;
        if self.temperature != 1.0 {
            chain.push(Box::new(temperature));
        }
        Ok(chain)
    }

    /// A sampler with [`chain`](Self::chain) and the seed.
    ///
    /// # Errors
    /// As [`chain`](Self::chain).
    pub fn sampler(&self) -> Result<Sampler, Error> {
        Ok(Sampler::new(self.chain()?, self.seed))
    }
}
