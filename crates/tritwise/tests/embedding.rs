//! Text embeddings against those of transformers; the fixtures are tools/reference/README.md's.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tritwise::tensor::Pooling;
use tritwise::{Error, KvType, Model};

/// Folders and files, and the folder whose embeddings they must give.
const MODELS: [(&str, &str); 5] = [
    ("qwen3-embedding", "qwen3-embedding"),
    ("gemma3-embedding", "gemma3-embedding"),
    ("gemma3-embedding-full", "gemma3-embedding-full"),
    ("gguf/qwen3-embedding.i2_s.gguf", "qwen3-embedding"),
    ("gguf/gemma3-embedding-full.i2_s.gguf", "gemma3-embedding-full"),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open(name: &str) -> Model {
    Model::builder().kv(KvType::F32).context(2048).open(fixtures().join(name)).unwrap_or_else(|e| panic!("{e}"))
}

/// Texts, their tokens, their vectors.
fn expected(folder: &str) -> (Vec<String>, Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let text = std::fs::read_to_string(fixtures().join(folder).join("embeddings.json")).expect("the fixture is there");
    let all: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    let field = |name: &str| all.iter().map(|text| text[name].clone()).collect::<Value>();
    (
        serde_json::from_value(field("text")).expect("texts"),
        serde_json::from_value(field("tokens")).expect("tokens"),
        serde_json::from_value(field("vector")).expect("vectors"),
    )
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn embeddings_are_those_of_transformers() {
    for (name, folder) in MODELS {
        let (texts, tokens, vectors) = expected(folder);
        assert!(texts.len() > 1);
        let model = open(name);
        let tokenizer = model.tokenizer().expect("it has one");
        for (text, tokens) in texts.iter().zip(&tokens) {
            let found = tokenizer.encode_prompt(text, tritwise::tokenizer::Special::Text).expect("any text has tokens");
            assert_eq!(found, *tokens, "{name}: {text:?}");
        }
        for ((text, found), vector) in texts.iter().zip(model.embed(&texts).expect("it embeds")).zip(&vectors) {
            let distance = cosine_distance(&found, vector);
            assert!(distance < 1e-4, "{name}: {text:?} is off by {distance:.1e}");
            let length = found.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "{name}: {length}");
        }
    }
}

#[test]
fn company_and_cuts_change_nothing() {
    let model = open("gemma3-embedding");
    // 0 to 4 times 130 characters, more than a call takes together.
    let texts: Vec<String> =
        (0..13).map(|i| "So many words, so many tokens".chars().cycle().take(i % 5 * 130).collect()).collect();
    for pooling in [Pooling::Last, Pooling::Cls, Pooling::Mean] {
        let together = model.embed_with(&texts, pooling).expect("they fit");
        for (text, together) in texts.iter().zip(&together) {
            let alone = model.embed_with(&[text], pooling).expect("it fits");
            assert_eq!(alone, std::slice::from_ref(together), "{pooling:?}, {} characters", text.len());
        }
    }
}

#[test]
fn a_text_longer_than_a_call_is_pooled_over_all_of_it() {
    let model = open("qwen3-embedding");
    let text = "abc ".repeat(300);
    let ids = model.tokenizer().unwrap().encode_prompt(&text, tritwise::tokenizer::Special::Text).unwrap();
    assert!((1025..=2048).contains(&ids.len()), "{}", ids.len());
    let (mut sequence, mut workspace) = (model.network().sequence(ids.len()), model.network().workspace());
    let turn = tritwise::transformer::Turn {
        sequence: &mut sequence,
        tokens: &ids,
        wanted: tritwise::transformer::Wanted::All,
    };
    let rows: Vec<Vec<f32>> =
        model.network().hidden(&mut workspace, &mut [turn]).unwrap().map(<[f32]>::to_vec).collect();
    let mut mean = vec![0.0; model.config().hidden];
    for row in &rows {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / rows.len() as f32);
    }
    for (pooling, expected) in
        [(Pooling::Cls, &rows[0]), (Pooling::Last, &rows[rows.len() - 1]), (Pooling::Mean, &mean)]
    {
        let found = model.embed_with(&[&text], pooling).unwrap();
        assert!(cosine_distance(&found[0], expected) < 1e-6, "{pooling:?}");
    }
}

#[test]
fn what_cannot_be_embedded() {
    let stories = open("bitnet-2b4t-offline");
    assert!(matches!(stories.embed(&["a"]), Err(Error::NoPooling(_))));
    assert!(matches!(stories.embed_with(&["a", ""], Pooling::Mean), Err(Error::EmptyText { index: 1 })));
    let long = "a b".repeat(2048);
    assert!(matches!(stories.embed_with(&[&long], Pooling::Mean), Err(Error::ContextFull { .. })));
    assert_eq!(stories.embed_with(&[""; 0], Pooling::Mean).unwrap(), Vec::<Vec<f32>>::new());
}
