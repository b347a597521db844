//! The models that are run: every graph there is, from files and from chance.

use std::path::{Path, PathBuf};

use tritwise::tensor::{Checkpoint, Config, Inputs, TernaryEncoding};

use crate::held::Held;
use crate::random::{RandomCheckpoint, bitnet, gemma, llama};

/// A model, and a text for it.
pub(crate) struct Subject {
    /// The name under which its digests are recorded: architecture or file, then encoding.
    pub(crate) name: String,
    pub(crate) weights: Held,
    pub(crate) tokens: Vec<u32>,
}

/// Tokens of a long text: more than one chunk of attention (256), and no multiple of anything.
const LONG: usize = 301;

/// Tokens of a text for graphs that are larger, or many.
const SHORT: usize = 41;

impl Subject {
    fn new(name: &str, weights: Held, tokens: usize) -> Self {
        let (vocab, tokens) = (weights.config().vocab, tokens.min(weights.config().context));
        let tokens = (0..tokens).map(|i| ((i * i * 7 + i * 31 + 3) % vocab) as u32).collect();
        Self { name: name.into(), weights, tokens }
    }

    /// The same text for the same weights, otherwise kept.
    pub(crate) fn variant(&self, suffix: &str, weights: Held) -> Self {
        Self { name: format!("{} {}", self.name, suffix.replace(' ', "-")), weights, tokens: self.tokens.clone() }
    }

    /// This model in every encoding that can hold it.
    pub(crate) fn in_every_encoding(&self) -> Vec<Self> {
        let held = |encoding: TernaryEncoding| Some(self.variant(encoding.name(), self.weights.with_linear(encoding)?));
        TernaryEncoding::WRITABLE.into_iter().filter_map(held).collect()
    }
}

/// Checkpoints as Hugging Face folders: each of the graphs that loaders know, in BF16 or F32 or packed.
const FOLDERS: [&str; 14] = [
    "bitnet-2b4t-online",
    "bitnet-2b4t-offline",
    "bitnet-1bitllm",
    "llama-bitlinear-divide",
    "llama-autobitlinear-offline",
    "llama-rms-norm",
    "llama3-rope",
    "qwen3-embedding",
    "gemma3-embedding",
    "gemma3-embedding-full",
    "llama-trilm",
    "llama-trilm-shards",
    "qwen3-bonsai",
    "qwen3-ternary-bonsai",
];

pub(crate) fn folders() -> Vec<Subject> {
    FOLDERS.iter().map(|name| Subject::new(name, open(&fixtures().join(name)), SHORT)).collect()
}

/// GGUF files that the reference scripts wrote, in encodings of other projects.
const FILES: [&str; 12] = [
    "bitnet-1bitllm.i2_s.gguf",
    "bitnet-1bitllm.iq2_bn.gguf",
    "bitnet-2b4t-offline.tq.gguf",
    "gemma3-embedding-full.i2_s.gguf",
    "llama-autobitlinear-offline.iq1_bn.gguf",
    "llama-bitlinear-divide.i2_s.gguf",
    "llama3-rope.i2_s.gguf",
    "qwen3-bonsai.q1_0.gguf",
    "qwen3-embedding.i2_s.gguf",
    "qwen3-ternary-bonsai.pq2_0.gguf",
    "qwen3-ternary-bonsai.ptq1_0.gguf",
    "qwen3-ternary-bonsai.q2_0.gguf",
];

pub(crate) fn files() -> Vec<Subject> {
    FILES.iter().map(|name| Subject::new(name, open(&fixtures().join("gguf").join(name)), SHORT)).collect()
}

/// Random weights and long texts: a BitNet, a Llama whose inputs are rounded to 8 bits and one whose are not, and a
/// model with every norm there is and a window.
pub(crate) fn random() -> Vec<Subject> {
    [
        ("random-bitnet", bitnet()),
        ("random-llama", llama()),
        ("random-llama-weight-only", Config { inputs: Inputs::Float, ..llama() }),
        ("random-gemma", gemma()),
    ]
    .map(|(name, config)| from_chance(name, config, LONG))
    .into()
}

/// A model as wide as the longest block of an encoding.
pub(crate) fn wide() -> Subject {
    let config = Config { hidden: 256, kv_heads: 1, head_dim: 64, ffn: 512, layers: 1, vocab: 77, ..bitnet() };
    from_chance("random-wide", config, 17)
}

/// A head that is large enough to be screened.
pub(crate) fn large_head() -> Subject {
    from_chance("random-large-head", Config { vocab: 10_000, layers: 1, ..bitnet() }, 12)
}

/// One layer with the widths of BitNet b1.58 2B-4T.
pub(crate) fn published_widths() -> Subject {
    let config = Config { hidden: 2560, heads: 20, kv_heads: 5, head_dim: 128, ffn: 6912, layers: 1, ..bitnet() };
    from_chance("random-2b-4t-layer", config, 4)
}

/// The trained model in the repository.
pub(crate) fn bundled() -> Subject {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../assets/stories-8m.gguf"].iter().collect();
    Subject::new("stories-8m", open(&path), 9)
}

fn from_chance(name: &str, config: Config, tokens: usize) -> Subject {
    Subject::new(name, Held::new(&RandomCheckpoint::new(config, 1)), tokens)
}

fn open(path: &Path) -> Held {
    Held::new(&tritwise::loader::open(path, &Default::default()).unwrap_or_else(|e| panic!("{e}")))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
