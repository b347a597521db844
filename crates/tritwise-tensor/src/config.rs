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
    /// The ε of [`Norms::inputs`], where there are such norms; [`norm_eps`](Self::norm_eps) in most models.
    pub input_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// What layers with a sliding window do differently; `None` where every layer attends to all earlier tokens.
    pub window: Option<SlidingWindow>,
    /// The feed-forward gate's activation.
    pub activation: Activation,
    /// The norms beside the two that every block has.
    pub norms: Norms,
    /// What the rows of the embedding are multiplied by on their way in; 1 for most models.
    pub embedding_scale: f32,
    /// What the linear layers' inputs are in the model's reference.
    pub inputs: Inputs,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// How a text's hidden vectors become its embedding, in a model that was made for it.
    pub pooling: Option<Pooling>,
}

impl Config {
    /// Ternary weights of one block.
    ///
    /// Like [`parameters`](Self::parameters) it stops at `u64::MAX`, as a file may claim any sizes.
    pub fn layer_parameters(&self) -> u64 {
        let [hidden, ffn, heads, kv_heads, head_dim] =
            [self.hidden, self.ffn, self.heads, self.kv_heads, self.head_dim].map(|n| n as u64);
        let heads = heads.saturating_add(kv_heads).saturating_mul(2);
        let attention = hidden.saturating_mul(head_dim).saturating_mul(heads);
        attention.saturating_add(hidden.saturating_mul(ffn).saturating_mul(3))
    }

    /// Weights of the model: all blocks, the embedding, and the head where it is
    /// a table of its own. Norms are left out.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let table = (self.vocab as u64).saturating_mul(self.hidden as u64);
        let blocks = (self.layers as u64).saturating_mul(self.layer_parameters());
        blocks.saturating_add(table.saturating_mul(tables))
    }
}

/// The gate's activation function in `activation(gate) * up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)²`, BitNet b1.58 2B-4T.
    SquaredRelu,
    /// `x / (1 + e^-x)`, Llama, Qwen3 and the 1bitLLM models (SwiGLU).
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, Gemma (GeGLU; Hendrycks and Gimpel, arXiv 1606.08415).
    GeluTanh,
}

/// The RMSNorms of a block beside the one before attention and the one before the feed-forward half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Norms {
    /// Before the attention output projection and before the down projection: BitNet's SubLN, and
    /// the `norm_in` of these two where [`inputs`](Self::inputs) is set.
    pub sub: bool,
    /// Of each query and key head, before its rotation: Qwen3, Gemma3.
    pub heads: bool,
    /// Of the query, key, value, gate and up projections' own inputs, each with a weight of its own and
    /// after the norm that they share: BitNet embedding models, `use_rms_norm` of transformers.
    pub inputs: bool,
    /// Of what attention and the feed-forward half add to the residual stream: Gemma3.
    pub post: bool,
}

/// What a linear layer multiplies its weights with, in the model's reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inputs {
    /// Activations rounded to `i8`, with one scale per token, as BitNet b1.58 was trained (arXiv 2402.17764).
    #[default]
    Int8,
    /// Activations as they are: only the weights were quantised (TriLM, Bonsai).
    Float,
}

/// How the hidden vectors of a text become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// Layers that attend to the last few tokens only.
#[derive(Debug, Clone, PartialEq)]
pub struct SlidingWindow {
    /// Tokens that such a layer sees, the current one included.
    pub width: usize,
    /// For each layer, whether it is one.
    pub layers: Vec<bool>,
    /// The rotary embedding of such layers.
    pub rope: Rope,
}

/// Rotary position embedding (Su et al., arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All angles divided by `factor`.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// The angle of pair `i` divided by `[i]`: Llama 3.1's rule, and `rope_freqs.weight` of GGUF files.
    Divisors(Vec<f32>),
    /// YaRN (Peng et al., arXiv 2309.00071): slow rotations are divided by `factor`, fast ones are left
    /// as they are, and those between are mixed.
    Yarn {
        /// The divisor of slow rotations.
        factor: f32,
        /// The context of the training before the extension.
        original_context: usize,
        /// Turns within the original context from which on a rotation is fast; usually 32.
        beta_fast: f32,
        /// Turns up to which it is slow; usually 1.
        beta_slow: f32,
        /// What rotated queries and keys are multiplied by; usually `1 + ln(factor) / 10`.
        magnitude: f32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            architecture: "bitnet-b1.58".into(),
            hidden: 2560,
            layers: 30,
            heads: 20,
            kv_heads: 5,
            head_dim: 128,
            ffn: 6912,
            vocab: 128_256,
            context: 4096,
            norm_eps: 1e-5,
            input_norm_eps: 1e-5,
            rope: Rope { theta: 5e5, style: RopeStyle::Halves, scaling: RopeScaling::None },
            window: None,
            activation: Activation::SquaredRelu,
            norms: Norms { sub: true, ..Norms::default() },
            embedding_scale: 1.0,
            inputs: Inputs::Int8,
            tied: true,
            pooling: None,
        }
    }

    #[test]
    fn counts_the_weights_of_bitnet_2b() {
        // Query and output are 2560 × 2560, key and value 640 × 2560, the feed-forward part 3 × 6912 × 2560.
        assert_eq!(config().layer_parameters(), 2 * 2560 * 2560 + 2 * 640 * 2560 + 3 * 6912 * 2560);
        assert_eq!(config().parameters(), 2_412_820_480 - PUBLISHED_NORMS);
        assert_eq!(Config { tied: false, ..config() }.parameters() - config().parameters(), 128_256 * 2560);
    }

    /// Four norms per block (2560, 2560, 2560, 6912) and the last one (2560).
    const PUBLISHED_NORMS: u64 = 30 * (3 * 2560 + 6912) + 2560;

    #[test]
    fn counts_no_further_than_the_type() {
        let huge = Config { hidden: usize::MAX, layers: usize::MAX, vocab: usize::MAX, ..config() };
        assert_eq!((huge.layer_parameters(), huge.parameters()), (u64::MAX, u64::MAX));
    }
}
