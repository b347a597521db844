//! The hyperparameters that fix a model's graph, whatever file they came from.

/// Everything a transformer of this family needs to know besides its weights.
///
/// Loaders fill it from GGUF metadata or `config.json`; the model builds its
/// graph from it and from nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The architecture as the file names it (`bitnet-b1.58`, `llama`, …), for
    /// people to read; no code decides by it.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads` (grouped-query attention).
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` may differ from `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward block.
    pub ffn: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Longest sequence the model was trained for, in tokens.
    pub context: usize,
    /// RMSNorm's ε.
    pub norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// The feed-forward gate's activation.
    pub activation: Activation,
    /// Whether an RMSNorm stands before the attention output projection and
    /// before the down projection (BitNet's SubLN).
    pub sub_norms: bool,
    /// Whether the output head is the embedding table.
    pub tied: bool,
}

impl Config {
    /// Ternary weights of one block.
    pub fn layer_parameters(&self) -> u64 {
        let [hidden, ffn, heads, kv_heads, head_dim] =
            [self.hidden, self.ffn, self.heads, self.kv_heads, self.head_dim].map(|n| n as u64);
        hidden * head_dim * (2 * heads + 2 * kv_heads) + 3 * hidden * ffn
    }

    /// Weights of the model: all blocks, the embedding, and the head where it is
    /// a table of its own. Norms are left out.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        self.layers as u64 * self.layer_parameters() + tables * self.vocab as u64 * self.hidden as u64
    }
}

/// The gate's activation function in `activation(gate) * up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)²`, BitNet b1.58 2B-4T.
    SquaredRelu,
    /// `x / (1 + e^-x)`, Llama and the 1bitLLM models (SwiGLU).
    Silu,
}

/// Rotary position embedding (Su et al., arXiv 2104.09864).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base θ of the frequencies θ^(-2i/d).
    pub theta: f32,
    /// Which elements form a rotated pair.
    pub style: RopeStyle,
    /// How angles are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Which two elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(i, i + d/2)`: Hugging Face's rotate-half, ggml's NEOX.
    Halves,
    /// `(2i, 2i + 1)`: the original form; GGUF files of architecture `llama`.
    Interleaved,
}

/// Changes to the rotary angles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All angles divided by `factor`.
    Linear {
        /// The divisor.
        factor: f32,
    },
}
