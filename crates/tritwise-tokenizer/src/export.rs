//! The vocabulary of a GGUF file as a `tokenizer.json`.
//!
//! GGUF names a splitting rule and leaves the rest to the reader; `tokenizer.json` spells everything out:
//!
//! ```text
//! gpt2    split by the rule's expressions, then bytes; merges in their order
//! llama   ▁ for a space, and in front; no splitting. Scores become a list of merges, best first: every way to
//!         cut a token into two others, as Hugging Face converts SentencePiece models
//! ```

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::gguf::{byte_level_kinds, control, halves, sentence_piece_kinds};
use crate::tokenizer::Control;
use crate::vocabulary::{Kind, SPACE};
use crate::{Error, GgufVocab};

impl GgufVocab {
    /// The text of a `tokenizer.json` from which [`Tokenizer::from_json`](crate::Tokenizer::from_json) makes what
    /// [`Tokenizer::from_gguf`](crate::Tokenizer::from_gguf) makes of `self`.
    ///
    /// Where two SentencePiece tokens have the same score the list of merges decides, which GGUF leaves to their places
    /// in the text.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`](crate::Tokenizer::from_gguf).
    pub fn to_json(&self) -> Result<String, Error> {
        let mut vocab = self.clone();
        let mut json = match vocab.model.as_str() {
            "gpt2" => {
                let (rule, kinds) = byte_level_kinds(&vocab)?;
                let control = control(&vocab, &kinds, rule.add_bos)?;
                let merges = vocab.merges.iter().enumerate().map(|(index, merge)| halves(index, merge));
                let merges: Value = merges.collect::<Result<Vec<_>, _>>()?.into_iter().map(pair).collect();
                let split = |expression: &&str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
                let bytes =
                    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
                let steps: Vec<Value> = rule.splits.iter().map(split).chain([bytes.clone()]).collect();
                json!({
                    "added_tokens": added(&vocab, &kinds),
                    "normalizer": vocab.normalizer.as_ref().map(|name| json!({"type": name})),
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
                    "post_processor": template(&vocab, &control),
                    "decoder": bytes,
                    "model": model(&vocab, &kinds, rule.ignore_merges, merges),
                })
            }
            "llama" => {
                let kinds = sentence_piece_kinds(&mut vocab)?;
                let control = control(&vocab, &kinds, true)?;
                let merges: Value = merges(&vocab, &kinds)?.into_iter().map(pair).collect();
                let prefix = vocab.add_space_prefix.unwrap_or(true);
                let space = SPACE.to_string();
                let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": space})];
                let mut decoders = vec![
                    json!({"type": "Replace", "pattern": {"String": space}, "content": " "}),
                    json!({"type": "ByteFallback"}),
                    json!({"type": "Fuse"}),
                ];
                if prefix {
                    normalizers.insert(0, json!({"type": "Prepend", "prepend": space}));
                    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
                }
                json!({
                    "added_tokens": added(&vocab, &kinds),
                    "normalizer": {"type": "Sequence", "normalizers": normalizers},
                    "pre_tokenizer": null,
                    "post_processor": template(&vocab, &control),
                    "decoder": {"type": "Sequence", "decoders": decoders},
                    "model": model(&vocab, &kinds, false, merges),
                })
            }
            _ => return Err(Error::Model(vocab.model)),
        };
        for (key, value) in [("version", "1.0".into()), ("truncation", Value::Null), ("padding", Value::Null)] {
            json.as_object_mut().and_then(|json| json.insert(key.to_owned(), value));
        }
        Ok(json.to_string())
    }
}

fn pair((left, right): (&str, &str)) -> Value {
    json!([left, right])
}

/// Every token that stands for something, with its id and kind.
fn used<'a>(vocab: &'a GgufVocab, kinds: &'a [Kind]) -> impl Iterator<Item = (usize, &'a str, Kind)> {
    let tokens = vocab.tokens.iter().zip(kinds).enumerate();
    tokens
        .map(|(id, (text, kind))| (id, text.as_str(), *kind))
        .filter(|(_, text, kind)| !text.is_empty() && *kind != Kind::Unused)
}

fn added(vocab: &GgufVocab, kinds: &[Kind]) -> Value {
    let token = |(id, text, kind): (usize, &str, Kind)| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": kind == Kind::Special})
    };
    used(vocab, kinds).filter(|(_, _, kind)| matches!(kind, Kind::Special | Kind::Added)).map(token).collect()
}

fn model(vocab: &GgufVocab, kinds: &[Kind], ignore_merges: bool, merges: Value) -> Value {
    // Added tokens too, so that they keep their ids whoever reads the file.
    let table: Map<String, Value> = used(vocab, kinds).map(|(id, text, _)| (text.to_owned(), id.into())).collect();
    let sentence_piece = vocab.model == "llama";
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": vocab.unknown.and_then(|id| vocab.tokens.get(id as usize)),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": sentence_piece,
        "byte_fallback": sentence_piece,
        "ignore_merges": ignore_merges,
        "vocab": table,
        "merges": merges,
    })
}

/// What puts BOS and EOS around a text.
fn template(vocab: &GgufVocab, control: &Control) -> Value {
    let bos = control.bos.filter(|_| control.add_bos);
    let eos = control.eos.filter(|_| control.add_eos);
    // `control` has looked whether they are there.
    let text = |id: u32| vocab.tokens.get(id as usize).map(String::as_str).unwrap_or_default();
    let token = |id: u32| json!({"SpecialToken": {"id": text(id), "type_id": 0}});
    let around = |texts: &[(&str, u32)]| {
        let mut pieces = Vec::new();
        for (text, kind) in texts {
            pieces.extend(bos.map(token));
            pieces.push(json!({"Sequence": {"id": text, "type_id": kind}}));
            pieces.extend(eos.map(token));
        }
        pieces
    };
    let entry = |id: u32| (text(id).to_owned(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]}));
    let special: Map<String, Value> = bos.into_iter().chain(eos).map(entry).collect();
    match special.is_empty() {
        true => Value::Null,
        false => {
            json!({"type": "TemplateProcessing", "single": around(&[("A", 0)]), "pair": around(&[("A", 0), ("B", 1)]), "special_tokens": special})
        }
    }
}

/// Every way to cut a token into two, the best token first.
fn merges<'a>(vocab: &'a GgufVocab, kinds: &'a [Kind]) -> Result<Vec<(&'a str, &'a str)>, Error> {
    if vocab.scores.len() != vocab.tokens.len() {
        return Err(Error::Length {
            table: "tokenizer.ggml.scores",
            found: vocab.scores.len(),
            tokens: vocab.tokens.len(),
        });
    }
    let spelled = |kind: &Kind| matches!(kind, Kind::Normal | Kind::Added);
    let ids: HashMap<&str, usize> =
        used(vocab, kinds).filter(|(_, _, kind)| spelled(kind)).map(|(id, text, _)| (text, id)).collect();
    let mut found = Vec::new();
    for (&text, &id) in &ids {
        let Some(&score) = vocab.scores.get(id) else { continue };
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&a), Some(&b)) = (ids.get(left), ids.get(right)) {
                found.push((score, id, a, b, left, right));
            }
        }
    }
    found.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2, x.3).cmp(&(y.1, y.2, y.3))));
    Ok(found.into_iter().map(|(.., left, right)| (left, right)).collect())
}
