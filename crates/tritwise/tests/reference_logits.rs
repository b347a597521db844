//! Logits of whole checkpoints against Hugging Face `transformers` in f32.
//!
//! The fixtures and how they were made: tools/reference/README.md.

use std::path::{Path, PathBuf};

use tritwise::loader::{Conversion, write_gguf};
use tritwise::tensor::{I2sLayout, TernaryEncoding};
use tritwise::transformer::{Turn, Wanted};
use tritwise::{KvType, Model, ModelBuilder};

/// Largest difference, as a share of the largest logit.
const TOLERANCE: f32 = 1e-3;

/// The reference for `llama-trilm` does not round activations, we do.
const WEIGHT_ONLY_TOLERANCE: f32 = 5e-2;

const FOLDERS: [(&str, &str, f32); 7] = [
    ("bitnet-2b4t-online", "logits.bin", TOLERANCE),
    ("bitnet-2b4t-offline", "logits.bin", TOLERANCE),
    ("bitnet-1bitllm", "logits.bin", TOLERANCE),
    ("llama-bitlinear-divide", "logits.bin", TOLERANCE),
    ("llama-autobitlinear-offline", "logits.bin", TOLERANCE),
    ("llama-trilm", "logits_int8.bin", TOLERANCE),
    ("llama-trilm", "logits.bin", WEIGHT_ONLY_TOLERANCE),
];

/// Checkpoints whose graphs have more to them.
const GRAPHS: [&str; 5] =
    ["qwen3-embedding", "gemma3-embedding", "gemma3-embedding-full", "llama-rms-norm", "llama3-rope"];

/// GGUF files written by the reference scripts, and the folder whose logits they must give.
const GGUF: [(&str, &str); 6] = [
    ("llama-bitlinear-divide.i2_s.gguf", "llama-bitlinear-divide"),
    ("bitnet-1bitllm.i2_s.gguf", "bitnet-1bitllm"),
    ("bitnet-2b4t-offline.tq.gguf", "bitnet-2b4t-offline"),
    ("llama3-rope.i2_s.gguf", "llama3-rope"),
    ("qwen3-embedding.i2_s.gguf", "qwen3-embedding"),
    ("gemma3-embedding-full.i2_s.gguf", "gemma3-embedding-full"),
];

#[test]
fn folders_give_the_logits_of_transformers() {
    for (name, reference, tolerance) in FOLDERS.into_iter().chain(GRAPHS.map(|name| (name, "logits.bin", TOLERANCE))) {
        let folder = fixtures().join(name);
        let model = exact().open(&folder).unwrap_or_else(|e| panic!("{e}"));
        compare(
            name,
            &logits(&model, &tokens(&folder)),
            &floats(&folder.join(reference)),
            model.config().vocab,
            tolerance,
        );
    }
}

#[test]
fn gguf_files_from_elsewhere_give_the_same_logits() {
    for (file, name) in GGUF {
        let folder = fixtures().join(name);
        let model = exact().open(fixtures().join("gguf").join(file)).unwrap_or_else(|e| panic!("{e}"));
        compare(
            file,
            &logits(&model, &tokens(&folder)),
            &floats(&folder.join("logits.bin")),
            model.config().vocab,
            TOLERANCE,
        );
    }
}

#[test]
fn gguf_files_we_write_give_the_same_logits() {
    for (name, reference, tolerance) in FOLDERS {
        let folder = fixtures().join(name);
        let source = tritwise::loader::open(&folder, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
        let ggml = [TernaryEncoding::I2S(I2sLayout::A), TernaryEncoding::Tq1_0, TernaryEncoding::Tq2_0];
        for linear in ggml.into_iter().chain([TernaryEncoding::Base3]) {
            let mut conversion = Conversion::default();
            conversion.linear = linear;
            let file = match write_gguf(&source, Vec::new(), &conversion, &mut |_| {}) {
                Ok(file) => file,
                // Only one of the fixtures has widths that TQ1_0 and TQ2_0 can hold.
                Err(error) if error.to_string().contains("256") && name != "bitnet-2b4t-offline" => continue,
                Err(error) => panic!("{error}"),
            };
            let model = exact().open_bytes(name, file).unwrap_or_else(|e| panic!("{e}"));
            let what = format!("{name} as {linear}");
            let expected = floats(&folder.join(reference));
            compare(&what, &logits(&model, &tokens(&folder)), &expected, model.config().vocab, tolerance);
        }
    }
}

/// Keys and values as the reference keeps them. Rounded to F16, some activations
/// fall on another int8 step, and the tolerance is exceeded.
fn exact() -> ModelBuilder {
    Model::builder().kv(KvType::F32)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tokens(folder: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join("tokens.json")).expect("the fixture has tokens");
    serde_json::from_str(&text).expect("tokens are a JSON array")
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the fixture has logits");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let network = model.network();
    let (mut sequence, mut workspace) = (network.sequence(tokens.len()), network.workspace());
    let turn = Turn { sequence: &mut sequence, tokens, wanted: Wanted::All };
    network.forward(&mut workspace, &mut [turn]).expect("tokens fit").as_slice().to_vec()
}

fn compare(name: &str, found: &[f32], expected: &[f32], vocab: usize, tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (position, (found, expected)) in found.chunks(vocab).zip(expected.chunks(vocab)).enumerate() {
        let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
        assert!(
            difference <= tolerance,
            "{name}: position {position} differs by {difference:.1e} of the largest logit"
        );
        assert_eq!(argmax(found), argmax(expected), "{name}: position {position}");
    }
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
    println!("{name}: largest difference {worst:.1e} of the largest logit");
}

fn argmax(row: &[f32]) -> usize {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("a row has logits").0
}
