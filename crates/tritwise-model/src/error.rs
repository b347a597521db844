//! What can go wrong between a checkpoint and its logits.

use tritwise_kernels::PackError;
use tritwise_tensor::{CheckpointError, TensorId};

/// Why a model could not be built or a forward call could not run.
///
/// A forward call that returns an error has changed no sequence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor is missing, surplus, or not what the graph needs.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The backend cannot compute with a matrix in the way it was asked to.
    #[error("{tensor}: {source}")]
    Pack {
        /// The matrix.
        tensor: TensorId,
        /// What the backend found, and what to do.
        source: PackError,
    },
    /// The hyperparameters contradict each other.
    #[error("the model's configuration does not fit together: {0}")]
    Config(String),
    /// A token id that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A sequence has no room for the new tokens.
    #[error(
        "the sequence holds {len} of {capacity} positions and cannot take {adding} more tokens: \
         shorten the text or make the sequence with a larger capacity"
    )]
    Full {
        /// Positions in use.
        len: usize,
        /// Tokens to be added.
        adding: usize,
        /// Positions there are.
        capacity: usize,
    },
    /// More rows of logits wanted than a turn has tokens.
    #[error("{rows} rows of logits are wanted of a turn of {tokens} tokens, which has one each")]
    Wanted {
        /// Rows wanted.
        rows: usize,
        /// Tokens of the turn.
        tokens: usize,
    },
    /// Keys and values that no model writes.
    #[error("the record of token {index} is not one of keys and values: what it was read from is damaged")]
    Record {
        /// The token's index in its sequence.
        index: usize,
    },
    /// A turn without tokens.
    #[error("a turn needs at least one token")]
    Empty,
    /// A logit that is NaN or infinite, which no draw can be made from.
    #[error(
        "the logit of token {token} is not a finite number: the file's weights are damaged, or so large that their \
         products have no number; get the file again, and compare its checksum"
    )]
    Logit {
        /// Which turn of the batch it is of.
        turn: usize,
        /// The first such token of the vocabulary.
        token: usize,
    },
    /// A hidden vector with a feature that is NaN or infinite.
    #[error(
        "feature {feature} of a hidden vector is not a finite number: the file's weights are damaged, or so large that \
         their products have no number; get the file again, and compare its checksum"
    )]
    Hidden {
        /// Which turn of the batch it is of.
        turn: usize,
        /// The first such feature.
        feature: usize,
    },
}
