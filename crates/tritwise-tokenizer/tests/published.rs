//! Vocabularies published by llama.cpp reproduce its expected tokens.
//!
//! The files (`models/ggml-vocab-*.gguf`, `.inp`, `.out` of ggml-org/llama.cpp)
//! are too large to carry along. Set `TRITWISE_SHARED` to a folder that has
//! them in `vectors/`; without it these tests say that they skip.

use std::path::PathBuf;

use tritwise_gguf::{Header, Metadata};
use tritwise_tokenizer::{GgufVocab, Special, SpecialTokens, Tokenizer};

#[test]
fn gpt2_vectors() {
    reproduce("gpt-2");
}

#[test]
fn falcon_vectors() {
    reproduce("falcon");
}

#[test]
fn llama_spm_vectors() {
    reproduce("llama-spm");
}

/// Each input encodes to the expected ids, and they decode to the input again.
fn reproduce(name: &str) {
    let Some(folder) = shared("vectors") else { return };
    let file = |extension: &str| folder.join(format!("ggml-vocab-{name}.gguf{extension}"));
    let vocab = vocab(&std::fs::read(file("")).unwrap());
    let json = vocab.to_json().unwrap();
    reproduces(&Tokenizer::from_gguf(vocab).unwrap(), name, &file);
    // And what is written of it as tokenizer.json.
    reproduces(&Tokenizer::from_json(json.as_bytes(), &SpecialTokens::default()).unwrap(), name, &file);
}

fn reproduces(tokenizer: &Tokenizer, name: &str, file: &dyn Fn(&str) -> PathBuf) {
    let inputs = std::fs::read_to_string(file(".inp")).unwrap();
    let outputs = std::fs::read_to_string(file(".out")).unwrap();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (input, output) in inputs.split("\n__ggml_vocab_test__\n").zip(outputs.lines()) {
        let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(input, Special::Text).unwrap();
        if found != expected {
            wrong.push(format!("{input:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
        assert_eq!(tokenizer.decode(&found), input);
        cases += 1;
    }
    assert!(cases >= 46, "only {cases} cases in {name}");
    assert!(wrong.is_empty(), "{} of {cases} cases of {name}:\n{}", wrong.len(), wrong.join("\n"));
}

fn shared(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("TRITWISE_SHARED") else {
        println!("skipped: TRITWISE_SHARED is not set");
        return None;
    };
    Some(PathBuf::from(root).join(folder))
}

/// What a loader does: from the metadata's keys to the tokenizer's parts.
fn vocab(file: &[u8]) -> GgufVocab {
    let header = Header::parse(file).unwrap();
    let metadata: &Metadata = header.metadata();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let strings = |name: &str| {
        let strings = metadata.strings(&key(name)).unwrap();
        strings.map(|strings| strings.iter().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    let id = |name: &str| metadata.unsigned(&key(name)).unwrap().map(|id| u32::try_from(id).unwrap());
    GgufVocab {
        model: metadata.string(&key("model")).unwrap().unwrap().to_owned(),
        normalizer: None,
        pre: metadata.string(&key("pre")).unwrap().map(str::to_owned),
        tokens: strings("tokens"),
        scores: metadata.floats(&key("scores")).unwrap().unwrap_or_default().to_vec(),
        token_types: metadata.integers(&key("token_type")).unwrap().unwrap_or_default().to_vec(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        unknown: id("unknown_token_id"),
        padding: id("padding_token_id"),
        add_bos: metadata.boolean(&key("add_bos_token")).unwrap(),
        add_eos: metadata.boolean(&key("add_eos_token")).unwrap(),
        add_space_prefix: metadata.boolean(&key("add_space_prefix")).unwrap(),
    }
}
