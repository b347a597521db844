//! The shapes of published models, and the graphs of their families.

use clap::ValueEnum;
use tritwise::Config;
use tritwise::tensor::{
    Activation, Inputs, Norms, Pooling, Rope, RopeScaling, RopeStyle, SlidingWindow, TernaryEncoding,
};

/// The shape of a published model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// The graph of that model.
    pub graph: Graph,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
    context: usize,
    theta: f32,
    tied: bool,
}

/// What is computed with the weights, by the names of GGUF's architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Graph {
    /// Sub-norms and squared ReLU: BitNet b1.58 2B-4T.
    #[value(name = "bitnet-b1.58")]
    BitnetB158,
    /// Sub-norms and SiLU: the 1bitLLM models.
    Bitnet,
    /// Neither: Llama3-8B-1.58, Falcon3-1.58, Falcon-E, TriLM.
    Llama,
    /// A norm of each query and key head, YaRN, inputs that are not rounded: Bonsai.
    Qwen3,
    /// Four norms a block, a sliding window on five layers of six, GELU.
    Gemma3,
    /// Qwen3's with a norm in front of each projection: BitNet-embedding 0.6B.
    Qwen3Embedding,
    /// Gemma3's likewise, without windows: BitNet-embedding 270M.
    Gemma3Embedding,
}

/// BitNet b1.58 2B-4T (its `config.json`), 1bitLLM's `large` and `3B`, Llama3-8B-1.58; the smallest and the largest shape
/// of bitnet.cpp's figures and, by their names there, those between (`utils/generate-dummy-bitnet-model.py`), from 7B on with
/// the vocabulary of Llama 3; Bonsai 1.7B and 8B; and the two BitNet-embedding models.
pub const SHAPES: [Shape; 14] = [
    Shape {
        name: "2b-4t",
        graph: Graph::BitnetB158,
        theta: 500_000.0,
        context: 4096,
        ..sized(2560, 30, (20, 5, 128), 6912, 128_256)
    },
    Shape { name: "large", ..sized(1536, 24, (16, 16, 96), 4096, 32_002) },
    Shape { name: "3b", ..sized(3200, 26, (32, 32, 100), 8640, 32_002) },
    Shape {
        name: "8b",
        graph: Graph::Llama,
        theta: 500_000.0,
        context: 8192,
        tied: false,
        ..sized(4096, 32, (32, 8, 128), 14_336, 128_256)
    },
    Shape { name: "125m", ..sized(768, 12, (12, 12, 64), 2048, 32_002) },
    Shape { name: "100b", ..sized(8192, 72, (64, 64, 128), 45_568, 128_256) },
    Shape { name: "7b", ..sized(4096, 32, (32, 32, 128), 12_032, 128_256) },
    Shape { name: "13b", ..sized(5120, 40, (40, 40, 128), 13_824, 128_256) },
    Shape { name: "30b", ..sized(6656, 60, (52, 52, 128), 16_384, 128_256) },
    Shape { name: "70b", ..sized(8192, 80, (64, 64, 128), 24_576, 128_256) },
    Shape {
        name: "bonsai-1.7b",
        graph: Graph::Qwen3,
        theta: 1e6,
        context: 32_768,
        ..sized(2048, 28, (16, 8, 128), 6144, 151_936)
    },
    Shape {
        name: "bonsai-8b",
        graph: Graph::Qwen3,
        theta: 1e6,
        context: 65_536,
        tied: false,
        ..sized(4096, 36, (32, 8, 128), 12_288, 151_936)
    },
    Shape {
        name: "embedding-0.6b",
        graph: Graph::Qwen3Embedding,
        theta: 1e6,
        context: 32_768,
        ..sized(1024, 28, (16, 8, 128), 3072, 151_936)
    },
    Shape {
        name: "embedding-270m",
        graph: Graph::Gemma3Embedding,
        context: 32_768,
        ..sized(640, 18, (4, 1, 256), 2048, 262_144)
    },
];

/// A model of the 1bitLLM family with these widths; `heads` are query heads, key/value heads and their width.
const fn sized(hidden: usize, layers: usize, heads: (usize, usize, usize), ffn: usize, vocab: usize) -> Shape {
    Shape {
        name: "",
        graph: Graph::Bitnet,
        hidden,
        layers,
        heads: heads.0,
        kv_heads: heads.1,
        head_dim: heads.2,
        ffn,
        vocab,
        context: 2048,
        theta: 10_000.0,
        tied: true,
    }
}

impl Shape {
    /// The hyperparameters of a model of this shape, with another graph than its own if one is given.
    pub fn config(&self, graph: Option<Graph>) -> Config {
        let graph = graph.unwrap_or(self.graph);
        let gemma = matches!(graph, Graph::Gemma3 | Graph::Gemma3Embedding);
        let embedding = matches!(graph, Graph::Qwen3Embedding | Graph::Gemma3Embedding);
        let sub = matches!(graph, Graph::BitnetB158 | Graph::Bitnet);
        let heads = !sub && graph != Graph::Llama;
        let rope = |theta, scaling| Rope { theta, style: RopeStyle::Halves, scaling };
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            original_context: self.context / 4,
            beta_fast: 32.0,
            beta_slow: 1.0,
            magnitude: (1.0 + 4f64.ln() / 10.0) as f32,
        };
        let window = SlidingWindow {
            width: 512,
            layers: (1..=self.layers).map(|layer| layer % 6 != 0).collect(),
            rope: rope(10_000.0, RopeScaling::None),
        };
        Config {
            architecture: String::new(),
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            ffn: self.ffn,
            vocab: self.vocab,
            context: self.context,
            norm_eps: if heads { 1e-6 } else { 1e-5 },
            input_norm_eps: if heads { 1e-6 } else { 1e-5 },
            rope: rope(self.theta, if graph == Graph::Qwen3 { yarn } else { RopeScaling::None }),
            window: (graph == Graph::Gemma3).then_some(window),
            activation: match graph {
                Graph::BitnetB158 => Activation::SquaredRelu,
                _ if gemma => Activation::GeluTanh,
                _ => Activation::Silu,
            },
            norms: Norms { sub: sub || embedding, heads, inputs: embedding, post: gemma },
            embedding_scale: if gemma { (self.hidden as f32).sqrt() } else { 1.0 },
            inputs: if graph == Graph::Qwen3 { Inputs::Float } else { Inputs::Int8 },
            tied: self.tied,
            pooling: embedding.then_some(Pooling::Last),
        }
    }

    /// Whether a model has this shape.
    pub fn is(&self, config: &Config) -> bool {
        (self.hidden, self.layers, self.ffn, self.vocab) == (config.hidden, config.layers, config.ffn, config.vocab)
    }

    /// Transformer blocks.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Ternary weights of all blocks.
    pub fn ternary_weights(&self) -> u64 {
        let config = self.config(None);
        config.layers as u64 * config.layer_parameters()
    }

    /// Weights of the output head.
    pub fn head_weights(&self) -> u64 {
        (self.vocab * self.hidden) as u64
    }
}

/// An encoding that is written, by its name on a command line.
///
/// # Errors
/// There is none of that name; says which there are.
pub fn parse_encoding(name: &str) -> Result<TernaryEncoding, String> {
    TernaryEncoding::from_name(name).ok_or_else(|| format!("expected one of {}", encoding_names().join(", ")))
}

/// The names that [`parse_encoding`] takes.
pub fn encoding_names() -> Vec<String> {
    TernaryEncoding::WRITABLE.iter().map(|encoding| encoding.name().to_lowercase().replace(' ', "-")).collect()
}
