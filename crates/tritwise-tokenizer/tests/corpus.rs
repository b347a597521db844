//! A corpus of many scripts, code, emoji and control characters gives the ids that Hugging Face's `tokenizers` gives:
//! to the Python package, whose ids the fixture has hashes of (`tools/reference/corpus.py`), and to the Rust
//! crate itself, token by token. Decoded they are the corpus again.

mod support;

use std::sync::LazyLock;

use serde_json::Value;
use support::{byte_level, sentence_piece};
use tritwise_tokenizer::{GgufVocab, Special, SpecialTokens, Tokenizer};

static FIXTURE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("fixtures/corpus.json")).unwrap());
static LINES: LazyLock<Vec<String>> = LazyLock::new(corpus);

/// By the rule of the script.
fn corpus() -> Vec<String> {
    let number = |value: &Value| value.as_u64().unwrap();
    let texts = FIXTURE["texts"].as_array().unwrap();
    let ranges = FIXTURE["ranges"].as_array().unwrap();
    let mut state = 1u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut lines = Vec::new();
    for _ in 0..number(&FIXTURE["lines"]) {
        let mut line = String::new();
        for _ in 0..1 + draw(16) {
            if draw(4) > 0 {
                line.push_str(texts[draw(texts.len() as u64) as usize].as_str().unwrap());
            } else {
                let range = &ranges[draw(ranges.len() as u64) as usize];
                let (low, high) = (number(&range[0]), number(&range[1]));
                for _ in 0..1 + draw(4) {
                    line.push(char::from_u32((low + draw(high - low + 1)) as u32).unwrap());
                }
            }
            if draw(2) == 0 {
                line.push(' ');
            }
        }
        lines.push(line);
    }
    lines
}

fn check(tokenizer: &Tokenizer, name: &str) {
    let expected = FIXTURE["hashes"][name].as_array().unwrap_or_else(|| panic!("no hashes of {name}"));
    let blocks = LINES.chunks(FIXTURE["block"].as_u64().unwrap() as usize);
    assert_eq!(blocks.len(), expected.len());
    for (n, (lines, expected)) in blocks.zip(expected).enumerate() {
        let ids = lines.iter().flat_map(|line| {
            let mut ids = tokenizer.encode(line, Special::Parse).unwrap();
            ids.push(u32::MAX);
            ids
        });
        let bytes = ids.flat_map(u32::to_le_bytes);
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), expected.as_str().unwrap(), "{name}, block {n}");
    }
}

#[test]
fn the_corpus_is_that_of_the_script() {
    let bytes: usize = LINES.iter().map(String::len).sum();
    assert_eq!(bytes as u64, FIXTURE["bytes"].as_u64().unwrap());
    assert!(bytes >= 200_000, "{bytes}");
}

#[test]
fn byte_level_ids_are_those_of_python() {
    let fixture = byte_level();
    check(&fixture.json(), "byte-level");
    for name in fixture.cases.ids.keys() {
        let vocab = GgufVocab { pre: Some(name.clone()), ..fixture.gguf.clone() };
        check(&Tokenizer::from_gguf(vocab).unwrap(), name);
    }
}

#[test]
fn sentence_piece_ids_are_those_of_python() {
    check(&sentence_piece().json(), "sentence-piece");
    check(&sentence_piece().gguf(), "sentence-piece");
}

#[test]
fn ids_are_those_of_the_crate_token_by_token() {
    for fixture in [byte_level(), sentence_piece()] {
        let theirs = tokenizers::Tokenizer::from_bytes(&fixture.json_bytes).unwrap();
        for ours in [fixture.json(), fixture.gguf()] {
            for line in LINES.iter() {
                let expected = theirs.encode(line.as_str(), false).unwrap();
                assert_eq!(ours.encode(line, Special::Parse).unwrap(), expected.get_ids(), "{line:?}");
            }
        }
    }
}

#[test]
fn the_corpus_is_decoded_to_itself() {
    let fixture = byte_level();
    for tokenizer in [fixture.json(), fixture.gguf()] {
        for line in LINES.iter() {
            assert_eq!(tokenizer.decode(&tokenizer.encode(line, Special::Text).unwrap()), *line);
            assert_eq!(tokenizer.decode_with_special(&tokenizer.encode(line, Special::Parse).unwrap()), *line);
        }
    }
    let fixture = sentence_piece();
    for tokenizer in [fixture.json(), fixture.gguf()] {
        // Where SentencePiece loses something: ▁ is a space, and a space follows a token found in the text.
        for line in LINES.iter().filter(|line| !line.contains('▁') && !line.contains("<|tool|>")) {
            assert_eq!(tokenizer.decode(&tokenizer.encode(line, Special::Text).unwrap()), *line);
        }
    }
}

/// What a whole `tokenizer.json` adds, its post-processor, is a prompt's.
#[test]
fn prompts_are_those_of_the_crate() {
    for fixture in [byte_level(), sentence_piece()] {
        let theirs = tokenizers::Tokenizer::from_bytes(&fixture.json_bytes).unwrap();
        let ours = Tokenizer::from_json(&fixture.json_bytes, &SpecialTokens::default()).unwrap();
        // But for a text that begins with BOS, which gets no second one here.
        let bos = ours.token_text(ours.bos().unwrap()).unwrap();
        for line in LINES.iter().take(300).filter(|line| !line.starts_with(bos)) {
            let expected = theirs.encode(line.as_str(), true).unwrap();
            assert_eq!(ours.encode_prompt(line, Special::Parse).unwrap(), expected.get_ids(), "{line:?}");
        }
    }
}
