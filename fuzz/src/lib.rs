//! What the fuzz targets have in common: tiny checkpoints that are sound, for a target to spoil, and what is expected
//! of whatever still opens.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Map, json};
use tempfile::TempDir;
use tritwise::loader::{self, Conversion, write_gguf};
use tritwise::tensor::TernaryEncoding;
use tritwise::{Error, Model, Sampling, Session, transformer};

pub const VOCAB: usize = 96;
const HIDDEN: usize = 16;
const KV: usize = 8;
const FFN: usize = 32;

/// GGUF files of each architecture and of several encodings, 25 to 50 kB each.
const GGUF: [&[u8]; 7] = [
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/qwen3-bonsai.q1_0.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/gemma3-embedding-full.i2_s.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/qwen3-embedding.i2_s.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/qwen3-ternary-bonsai.ptq1_0.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/bitnet-1bitllm.i2_s.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/qwen3-ternary-bonsai.pq2_0.gguf"),
    include_bytes!("../../crates/tritwise/tests/fixtures/gguf/bitnet-1bitllm.iq2_bn.gguf"),
];

/// Sound GGUF files: those, and the tiny Llama in the encodings that can be computed with in place.
pub fn gguf() -> &'static [Vec<u8>] {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let source = loader::open(folder(&[]), &Default::default()).expect("a sound folder");
        let tiny = [TernaryEncoding::Base3, TernaryEncoding::I2S(Default::default())].map(|linear| {
            let mut conversion = Conversion::default();
            conversion.linear = linear;
            write_gguf(&source, Vec::new(), &conversion, &mut |_| {}).expect("memory takes it")
        });
        GGUF.map(<[u8]>::to_vec).into_iter().chain(tiny).collect()
    })
}

/// `tokenizer.json` of [`VOCAB`] tokens: single bytes and one merge.
pub const TOKENIZER: &[u8] =
    include_bytes!("../../crates/tritwise/tests/fixtures/llama-bitlinear-divide/tokenizer.json");

/// `config.json` of the tiny Llama that [`tensors`] are the weights of.
pub const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
"vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
"rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true}"#;

/// Name, dimensions, type and bytes of a tensor, whatever the container.
pub type Tensor<T> = (String, Vec<u64>, T, Vec<u8>);

/// The weights of the tiny Llama, in BF16.
pub fn tensors() -> Vec<Tensor<&'static str>> {
    // 0.5, -0.5, 0: ternary as they are.
    let number = |i: usize| [0x3f00u16, 0xbf00, 0][i * i % 7 % 3].to_le_bytes();
    let tensor = |name: &str, shape: &[usize]| {
        let bytes = (0..shape.iter().product()).flat_map(number).collect();
        let dims = shape.iter().map(|&dim| dim as u64).collect();
        (format!("model.{name}.weight"), dims, "BF16", bytes)
    };
    let linear = |name: &str, rows, cols| tensor(&format!("layers.0.{name}_proj"), &[rows, cols]);
    vec![
        tensor("embed_tokens", &[VOCAB, HIDDEN]),
        tensor("norm", &[HIDDEN]),
        tensor("layers.0.input_layernorm", &[HIDDEN]),
        tensor("layers.0.post_attention_layernorm", &[HIDDEN]),
        linear("self_attn.q", HIDDEN, HIDDEN),
        linear("self_attn.k", KV, HIDDEN),
        linear("self_attn.v", KV, HIDDEN),
        linear("self_attn.o", HIDDEN, HIDDEN),
        linear("mlp.gate", FFN, HIDDEN),
        linear("mlp.up", FFN, HIDDEN),
        linear("mlp.down", HIDDEN, FFN),
    ]
}

/// A safetensors file of `tensors`, of which the last of two with one name is. (The crate's writer takes only what is
/// sound.)
pub fn safetensors(tensors: &[Tensor<&str>]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dims, dtype, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": dims, "data_offsets": offsets}));
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat()
}

/// The tiny Llama's folder, of this process: each call writes `files` in place of the sound ones, of which those that
/// are not named stay.
pub fn folder(files: &[(&str, &[u8])]) -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let sound = || {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let weights = safetensors(&tensors());
        for (name, bytes) in
            [("config.json", CONFIG.as_bytes()), ("tokenizer.json", TOKENIZER), ("model.safetensors", &weights)]
        {
            fs::write(folder.path().join(name), bytes).expect("the file can be written");
        }
        folder
    };
    let folder = FOLDER.get_or_init(sound).path();
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("files are in the folder")).expect("the folder can be made");
        fs::write(path, bytes).expect("the file can be written");
    }
    folder
}

/// Reads a few tokens with a model that was opened. Its logits are numbers, or an error says that they are none: weights
/// that are numbers may still be so large that their products are none.
pub fn run(model: &Model) {
    let vocab = model.config().vocab;
    let mut session = model.session();
    let tokens: Vec<u32> = [1, 2, vocab - 1].map(|token| (token % vocab) as u32).into();
    let count = tokens.len().min(session.capacity().saturating_sub(1)).max(1);
    session.push_tokens(&tokens[..count]).expect("there is room");
    check(&mut session);
}

/// As [`run`], of a session with a text.
pub fn check(session: &mut Session) {
    match session.logits() {
        Ok(logits) => assert!(logits.iter().all(|logit| logit.is_finite()), "logits that are no numbers"),
        Err(Error::Model(transformer::Error::Logit { .. })) => {
            if let Ok(mut generation) = session.generate(&Sampling::default().max_tokens(1)) {
                assert!(generation.next().is_none_or(|piece| piece.is_err()), "a token sampled from what is no number");
            }
        }
        Err(other) => panic!("there is a token: {other}"),
    }
}
