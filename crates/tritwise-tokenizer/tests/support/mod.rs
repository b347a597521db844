//! Reads the fixtures.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;

use serde_json::Value;
use tritwise_tokenizer::{GgufVocab, SpecialTokens, TokenRef, Tokenizer};

pub(crate) struct Fixture {
    pub(crate) json_bytes: Vec<u8>,
    pub(crate) gguf: GgufVocab,
    pub(crate) cases: Cases,
    end: &'static str,
}

/// Lines, and the ids expected for each of them.
pub(crate) struct Cases {
    pub(crate) lines: Vec<String>,
    pub(crate) ids: BTreeMap<String, Vec<Vec<u32>>>,
    pub(crate) parsed: Vec<Vec<u32>>,
}

pub(crate) fn byte_level() -> Fixture {
    read("byte-level", "<|end|>")
}

pub(crate) fn sentence_piece() -> Fixture {
    read("sentence-piece", "</s>")
}

impl Fixture {
    pub(crate) fn json(&self) -> Tokenizer {
        let eos = vec![TokenRef::Text(self.end.to_owned())];
        Tokenizer::from_json(&self.json_bytes, &SpecialTokens { eos, ..SpecialTokens::default() }).unwrap()
    }

    pub(crate) fn gguf(&self) -> Tokenizer {
        Tokenizer::from_gguf(self.gguf.clone()).unwrap()
    }
}

fn read(name: &str, end: &'static str) -> Fixture {
    let file = |kind: &str| {
        let path = format!("{}/tests/fixtures/{name}.{kind}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let value = |kind: &str| serde_json::from_slice::<Value>(&file(kind)).unwrap();
    let cases = value("cases");
    let gguf = value("gguf");
    let id = |key: &str| gguf[key].as_u64().map(|id| id as u32);
    Fixture {
        json_bytes: file("tokenizer"),
        gguf: GgufVocab {
            model: gguf["model"].as_str().unwrap().to_owned(),
            pre: (gguf["model"] == "gpt2").then(|| "llama-bpe".to_owned()),
            tokens: strings(&gguf["tokens"]),
            scores: numbers(&gguf["scores"]).map(|score| score as f32).collect(),
            token_types: numbers(&gguf["token_types"]).map(|kind| kind as i32).collect(),
            merges: strings(&gguf["merges"]),
            bos: id("bos"),
            eos: id("eos"),
            add_bos: gguf["add_bos"].as_bool(),
            ..GgufVocab::default()
        },
        cases: Cases {
            lines: strings(&cases["lines"]),
            ids: cases["ids"].as_object().unwrap().iter().map(|(name, ids)| (name.clone(), rows(ids))).collect(),
            parsed: rows(&cases["parsed"]),
        },
        end,
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn numbers(value: &Value) -> impl Iterator<Item = f64> {
    value.as_array().into_iter().flatten().map(|number| number.as_f64().unwrap())
}

fn rows(value: &Value) -> Vec<Vec<u32>> {
    value.as_array().unwrap().iter().map(|row| numbers(row).map(|id| id as u32).collect()).collect()
}
