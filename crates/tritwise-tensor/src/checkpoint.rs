//! The seam between loaders and models: tensors by role, not by name.

use std::fmt;

use crate::{Config, DenseMatrix, TernaryMatrix};

/// A set of weights with its [`Config`], from whatever container.
///
/// A model asks for tensors by [`TensorId`] and says the shape it needs, so an
/// implementation can refuse a wrong one with the file's own names. When the
/// model has all it wants it calls [`finish`](Checkpoint::finish), which fails
/// if the file holds tensors that nobody asked for: a surplus norm or rotation
/// means that the file's graph is not the one that was built.
///
/// `Sync`, so that matrices can be packed on several threads.
pub trait Checkpoint: Sync {
    /// The hyperparameters.
    fn config(&self) -> &Config;

    /// The linear layer `id` with `rows` output and `cols` input features.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is not ternary.
    fn ternary(&self, id: TensorId, rows: usize, cols: usize) -> Result<TernaryMatrix<'_>, CheckpointError>;

    /// The table `id` (embedding or output head) with `rows` rows of `cols`.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or an encoding that is not dense.
    fn dense(&self, id: TensorId, rows: usize, cols: usize) -> Result<DenseMatrix<'_>, CheckpointError>;

    /// The norm weight `id` of `len` finite numbers.
    ///
    /// # Errors
    /// The tensor is missing, has another length, or holds NaN or infinity.
    fn vector(&self, id: TensorId, len: usize) -> Result<Vec<f32>, CheckpointError>;

    /// Whether every tensor in the file has been read at least once.
    ///
    /// # Errors
    /// Names the tensors that nobody read.
    fn finish(&self) -> Result<(), CheckpointError>;
}

/// A tensor's role in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorId {
    /// `[vocab × hidden]`, one row per token.
    TokenEmbedding,
    /// `[hidden]`, the norm before the head.
    OutputNorm,
    /// `[vocab × hidden]`, the head of an untied model.
    Output,
    /// A tensor of the block with this index.
    Layer(usize, LayerTensor),
}

/// The tensors of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the roles; the shapes are in docs/model.md")]
pub enum LayerTensor {
    AttnNorm,
    QueryInputNorm,
    Query,
    KeyInputNorm,
    Key,
    ValueInputNorm,
    Value,
    QueryNorm,
    KeyNorm,
    AttnSubNorm,
    AttnOutput,
    PostAttnNorm,
    FfnNorm,
    GateInputNorm,
    Gate,
    UpInputNorm,
    Up,
    FfnSubNorm,
    Down,
    PostFfnNorm,
}

impl LayerTensor {
    /// Every tensor a block can have, in the order the graph reads them.
    pub const ALL: [Self; 20] = [
        Self::AttnNorm,
        Self::QueryInputNorm,
        Self::Query,
        Self::KeyInputNorm,
        Self::Key,
        Self::ValueInputNorm,
        Self::Value,
        Self::QueryNorm,
        Self::KeyNorm,
        Self::AttnSubNorm,
        Self::AttnOutput,
        Self::PostAttnNorm,
        Self::FfnNorm,
        Self::GateInputNorm,
        Self::Gate,
        Self::UpInputNorm,
        Self::Up,
        Self::FfnSubNorm,
        Self::Down,
        Self::PostFfnNorm,
    ];
}

impl LayerTensor {
    /// The tensor's shape in blocks of `config`; `None` where they have no such tensor.
    pub fn shape(self, config: &Config) -> Option<LayerShape> {
        let &Config { hidden, ffn, norms, .. } = config;
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        Some(match self {
            Self::AttnNorm | Self::FfnNorm => LayerShape::Norm(hidden),
            Self::QueryInputNorm
            | Self::KeyInputNorm
            | Self::ValueInputNorm
            | Self::GateInputNorm
            | Self::UpInputNorm
                if norms.inputs =>
            {
                LayerShape::Norm(hidden)
            }
            Self::QueryNorm | Self::KeyNorm if norms.heads => LayerShape::Norm(config.head_dim),
            Self::AttnSubNorm if norms.sub => LayerShape::Norm(q),
            Self::FfnSubNorm if norms.sub => LayerShape::Norm(ffn),
            Self::PostAttnNorm | Self::PostFfnNorm if norms.post => LayerShape::Norm(hidden),
            Self::Query => LayerShape::Linear(q, hidden),
            Self::Key | Self::Value => LayerShape::Linear(kv, hidden),
            Self::AttnOutput => LayerShape::Linear(hidden, q),
            Self::Gate | Self::Up => LayerShape::Linear(ffn, hidden),
            Self::Down => LayerShape::Linear(hidden, ffn),
            _ => return None,
        })
    }
}

/// What a [`LayerTensor`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerShape {
    /// An RMSNorm's weight, of that many features.
    Norm(usize),
    /// A ternary matrix of rows (output features) and columns (input features).
    Linear(usize, usize),
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenEmbedding => write!(f, "token embedding"),
            Self::OutputNorm => write!(f, "output norm"),
            Self::Output => write!(f, "output head"),
            Self::Layer(n, tensor) => write!(f, "layer {n} {tensor:?}"),
        }
    }
}

/// Why a checkpoint did not deliver: a sentence that names the file, the
/// tensor, what was found and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}: {tensor}{message}", tensor = .tensor.as_ref().map(|t| format!("tensor {t}: ")).unwrap_or_default())]
pub struct CheckpointError {
    /// The file, as the user named it.
    pub file: String,
    /// The tensor, as the file names it; `None` when the file as a whole is meant.
    pub tensor: Option<String>,
    /// What was found, what was expected, what to do.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_the_tensor() {
        let mut error = CheckpointError {
            file: "model.gguf".into(),
            tensor: Some("blk.3.ffn_up.weight".into()),
            message: "is missing".into(),
        };
        assert_eq!(error.to_string(), "model.gguf: tensor blk.3.ffn_up.weight: is missing");
        error.tensor = None;
        assert_eq!(error.to_string(), "model.gguf: is missing");
    }

    #[test]
    fn roles_are_readable() {
        assert_eq!(TensorId::Layer(3, LayerTensor::AttnSubNorm).to_string(), "layer 3 AttnSubNorm");
        assert_eq!(TensorId::TokenEmbedding.to_string(), "token embedding");
    }
}
