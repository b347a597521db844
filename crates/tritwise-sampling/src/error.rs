//! What can be wrong with a row of logits or a parameter.

use crate::Step;

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
    /// The order of the steps names one twice.
    #[error("the order of the steps names {step} twice: name it once, where it should be applied")]
    RepeatedStep {
        /// The step.
        step: Step,
    },
    /// The order of the steps leaves one out that has something to do.
    #[error("{step} is not in the order of the steps, though its parameters are set: add it, or make them neutral")]
    MissingStep {
        /// The step.
        step: Step,
    },
    /// There is no step of this name.
    #[error("there is no step {name:?}: the steps are {}", Step::DEFAULT_ORDER.map(Step::name).join(", "))]
    UnknownStep {
        /// The name.
        name: String,
    },
}
