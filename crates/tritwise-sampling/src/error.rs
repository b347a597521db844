//! What can be wrong with a row of logits or a parameter.

/// Why no token could be chosen, or why a stage could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no logits at all.
    #[error("the row of logits is empty: a model gives one logit per vocabulary entry")]
    Empty,
    /// A logit is NaN: a defect of the engine or of the weights, never something to sample from.
    #[error("the logit of token {id} is NaN: the weights or the computation before it are faulty")]
    NotANumber {
        /// The first token whose logit is NaN.
        id: u32,
    },
    /// Nothing is left to choose from: every logit is −∞, or a stage removed every candidate.
    #[error("no token is left to choose: every logit is -inf or every candidate was removed by a stage")]
    NoCandidates,
    /// The token asked about is not in the vocabulary.
    #[error("token {id} is outside the vocabulary of {vocab}")]
    OutOfVocabulary {
        /// The token.
        id: u32,
        /// How many logits there are.
        vocab: usize,
    },
    /// A stage's parameter is outside its range.
    #[error("{parameter} is {found}, it must be {expected}")]
    Parameter {
        /// The parameter's name.
        parameter: &'static str,
        /// The refused value.
        found: f32,
        /// The range it must lie in, in words.
        expected: &'static str,
    },
}
