//! Small vocabularies of our own give the ids that Hugging Face's `tokenizers` gives in Python.
//!
//! `tools/reference/vocabularies.py` makes the fixtures: 32 lines in many
//! scripts, a byte-level and a SentencePiece vocabulary, each in both file
//! forms, and ids for every splitting rule.

mod support;

use support::{Cases, byte_level, sentence_piece};
use tritwise_tokenizer::{GgufVocab, Special, SpecialTokens, TokenRef, Tokenizer};

#[test]
fn byte_level_json() {
    let tokenizer = byte_level().json();
    compare(&tokenizer, &byte_level().cases, "llama-bpe");
}

#[test]
fn byte_level_gguf_under_every_splitting_rule() {
    let fixture = byte_level();
    let names: Vec<&String> = fixture.cases.ids.keys().collect();
    assert_eq!(names, ["default", "falcon", "falcon3", "gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm"]);
    for name in names {
        let vocab = GgufVocab { pre: Some(name.clone()), ..fixture.gguf.clone() };
        compare(&Tokenizer::from_gguf(vocab).unwrap(), &fixture.cases, name);
    }
}

#[test]
fn sentence_piece_json() {
    compare(&sentence_piece().json(), &sentence_piece().cases, "");
}

#[test]
fn sentence_piece_gguf() {
    let fixture = sentence_piece();
    compare(&Tokenizer::from_gguf(fixture.gguf).unwrap(), &fixture.cases, "");
}

/// What is written as `tokenizer.json` for the vocabulary of a GGUF file, read again.
fn exported(vocab: &GgufVocab) -> Tokenizer {
    let special = SpecialTokens {
        eos: [vocab.eos, vocab.eot, vocab.eom].into_iter().flatten().map(TokenRef::Id).collect(),
        ..SpecialTokens::default()
    };
    Tokenizer::from_json(vocab.to_json().unwrap().as_bytes(), &special).unwrap()
}

#[test]
fn byte_level_gguf_as_json() {
    let fixture = byte_level();
    for name in fixture.cases.ids.keys() {
        compare(&exported(&GgufVocab { pre: Some(name.clone()), ..fixture.gguf.clone() }), &fixture.cases, name);
    }
}

#[test]
fn sentence_piece_gguf_as_json() {
    let fixture = sentence_piece();
    compare(&exported(&fixture.gguf), &fixture.cases, "");
    // Not only what is encoded, also what is put around it, and whether a space is put in front.
    for (add_bos, add_eos, add_space_prefix) in [(true, true, true), (false, true, false), (false, false, true)] {
        let vocab = GgufVocab {
            add_bos: Some(add_bos),
            add_eos: Some(add_eos),
            add_space_prefix: Some(add_space_prefix),
            ..fixture.gguf.clone()
        };
        let (original, exported) = (Tokenizer::from_gguf(vocab.clone()).unwrap(), exported(&vocab));
        for line in &fixture.cases.lines {
            let (a, b) = (original.encode_prompt(line, Special::Text), exported.encode_prompt(line, Special::Text));
            assert_eq!(a, b, "{line:?}");
            let b = b.unwrap();
            let around = (b.first().copied() == original.bos(), b.last().copied() == original.eos());
            assert_eq!(around, (add_bos, add_eos), "{line:?}");
            assert_eq!(exported.decode(&b), original.decode(&b));
        }
        assert_eq!(original.eog(), exported.eog());
    }
}

#[test]
fn what_is_no_vocabulary_is_no_json() {
    let fixture = sentence_piece().gguf;
    let says = |vocab: GgufVocab| vocab.to_json().unwrap_err().to_string();
    assert!(says(GgufVocab { model: "bert".into(), ..fixture.clone() }).contains("bert"));
    assert!(says(GgufVocab { scores: vec![0.0], ..fixture.clone() }).contains("tokenizer.ggml.scores has 1 entries"));
    assert!(says(GgufVocab { unknown: Some(1 << 30), ..fixture.clone() }).contains("unknown"));
    assert!(says(GgufVocab { pre: None, ..byte_level().gguf }).contains("tokenizer.ggml.pre is missing"));
}

/// `expected.ids[name]` with control tokens as text, `expected.parsed` with them parsed.
fn compare(tokenizer: &Tokenizer, expected: &Cases, name: &str) {
    let plain = &expected.ids[name];
    assert_eq!(plain.len(), expected.lines.len());
    for (line, ids) in expected.lines.iter().zip(plain) {
        assert_eq!(&tokenizer.encode(line, Special::Text).unwrap(), ids, "{name}: {line:?}");
        // SentencePiece writes a space as ▁, and puts another after a token found in the
        // text; Hugging Face's decoder gives spaces for both, too.
        let lossy = line.contains('▁') || line.contains("<|tool|>");
        if !(name.is_empty() && lossy) {
            assert_eq!(tokenizer.decode(ids), *line, "{name}");
        }
    }
    if name.is_empty() || name == "llama-bpe" {
        for (line, ids) in expected.lines.iter().zip(&expected.parsed) {
            assert_eq!(&tokenizer.encode(line, Special::Parse).unwrap(), ids, "parsed: {line:?}");
        }
    }
}

#[test]
fn both_forms_of_a_vocabulary_are_the_same_table() {
    for fixture in [byte_level(), sentence_piece()] {
        let json = fixture.json();
        let gguf = fixture.gguf();
        assert_eq!(json.vocab_size(), gguf.vocab_size());
        for id in 0..json.vocab_size() as u32 {
            assert_eq!(json.token_text(id), gguf.token_text(id), "token {id}");
            assert_eq!(json.token_bytes(id), gguf.token_bytes(id), "token {id}");
            assert_eq!(json.is_special(id), gguf.is_special(id), "token {id}");
            assert_eq!(json.id_of(json.token_text(id).unwrap()), Some(id));
        }
        assert_eq!(json.eog(), gguf.eog());
        assert_eq!(json.bos(), gguf.bos());
        assert_eq!(json.add_bos(), gguf.add_bos());
    }
}

#[test]
fn control_tokens_are_control_only_when_parsed() {
    for tokenizer in [byte_level().json(), byte_level().gguf()] {
        let eot = tokenizer.id_of("<|eot_id|>").unwrap();
        let text = "Hi<|eot_id|>";
        let parsed = tokenizer.encode(text, Special::Parse).unwrap();
        assert_eq!(parsed.last(), Some(&eot));
        assert_eq!(tokenizer.decode(&parsed), "Hi");
        assert_eq!(tokenizer.decode_with_special(&parsed), text);
        let typed = tokenizer.encode(text, Special::Text).unwrap();
        assert!(typed.iter().all(|&id| !tokenizer.is_special(id)), "{typed:?}");
        assert_eq!(tokenizer.decode(&typed), text);
    }
}

#[test]
fn prompts_begin_with_one_bos() {
    for fixture in [byte_level(), sentence_piece()] {
        for tokenizer in [fixture.json(), fixture.gguf()] {
            let bos = tokenizer.bos().unwrap();
            let name = tokenizer.token_text(bos).unwrap().to_owned();
            let ids = tokenizer.encode_prompt("Hello", Special::Text).unwrap();
            assert_eq!(ids[0], bos);
            assert_eq!(ids[1..], tokenizer.encode("Hello", Special::Text).unwrap());
            assert_eq!(tokenizer.encode_prompt("", Special::Text).unwrap(), [bos]);
            let with_name = tokenizer.encode_prompt(&format!("{name}Hello"), Special::Parse).unwrap();
            assert_eq!(with_name.iter().filter(|&&id| id == bos).count(), 1, "{with_name:?}");
        }
    }
}

#[test]
fn what_the_folder_says_overrules_the_post_processor() {
    let fixture = byte_level();
    let build = |special| Tokenizer::from_json(&fixture.json_bytes, &special).unwrap();
    assert!(build(SpecialTokens::default()).add_bos());
    let never = build(SpecialTokens { add_bos: Some(false), ..SpecialTokens::default() });
    assert!(!never.add_bos());
    assert_eq!(never.bos(), never.id_of("<|begin|>"));
    let both = build(SpecialTokens {
        bos: Some(TokenRef::Text("<|eot_id|>".into())),
        eos: vec![TokenRef::Text("<|end|>".into()), TokenRef::Id(7)],
        add_bos: None,
        add_eos: Some(true),
    });
    let ids = both.encode_prompt("", Special::Text).unwrap();
    assert_eq!(ids, [both.id_of("<|eot_id|>").unwrap(), both.id_of("<|end|>").unwrap()]);
    assert!(both.is_eog(7) && both.is_eog(ids[1]));
    assert_eq!(both.eos(), Some(ids[1]));
}

#[test]
fn generation_ends_at_every_kind_of_end() {
    let fixture = byte_level();
    let tokenizer = fixture.gguf();
    let id = |text: &str| tokenizer.id_of(text).unwrap();
    assert_eq!(tokenizer.eog(), [id("<|end|>"), id("<|eot_id|>")]);
    assert!(!tokenizer.is_eog(id("<|begin|>")));
    let vocab = GgufVocab { eot: Some(5), eom: Some(6), ..fixture.gguf.clone() };
    let more = Tokenizer::from_gguf(GgufVocab { pre: Some("gpt-2".into()), ..vocab }).unwrap();
    assert_eq!(more.eog(), [5, 6, id("<|end|>"), id("<|eot_id|>")]);
    // Mistyped as text (1) that no merge makes, or as an added token (4), it still ends a turn.
    for kind in [1, 4] {
        let mut vocab = fixture.gguf.clone();
        let eot = id("<|eot_id|>");
        (vocab.token_types[eot as usize], vocab.eos, vocab.eot, vocab.eom) = (kind, None, None, None);
        vocab.pre = Some("gpt-2".into());
        assert!(Tokenizer::from_gguf(vocab).unwrap().is_eog(eot), "type {kind}");
    }
}

/// Microsoft's BitNet b1.58-2B-4T file: Llama 3's vocabulary, no `pre`, control tokens typed as text.
#[test]
fn the_official_2b_file_is_recognised() {
    let fixture = byte_level();
    let mut vocab = fixture.gguf.clone();
    let learned = vocab.tokens.iter().position(|text| text == "<|begin|>").unwrap();
    vocab.tokens.truncate(learned);
    vocab.tokens.extend((learned..128_000).map(|id| format!("filler{id}")));
    vocab.tokens.push("<|begin_of_text|>".into());
    vocab.tokens.push("<|end_of_text|>".into());
    vocab.tokens.extend((128_002..128_256).map(|id| match id {
        128_009 => "<|eot_id|>".to_owned(),
        _ => format!("<|reserved_special_token_{id}|>"),
    }));
    vocab.token_types = vec![1; vocab.tokens.len()];
    vocab.scores = vec![0.0; vocab.tokens.len()];
    (vocab.bos, vocab.eos, vocab.padding) = (Some(128_000), Some(128_001), Some(128_001));

    let missing = GgufVocab { pre: None, ..vocab.clone() };
    let tokenizer = Tokenizer::from_gguf(missing.clone()).unwrap();
    for (line, ids) in fixture.cases.lines.iter().zip(&fixture.cases.ids["llama-bpe"]) {
        if !line.contains("<|") {
            assert_eq!(&tokenizer.encode(line, Special::Text).unwrap(), ids, "{line:?}");
        }
    }
    let prompt = tokenizer.encode_prompt("Hello<|eot_id|>", Special::Parse).unwrap();
    assert_eq!((prompt[0], prompt.last()), (128_000, Some(&128_009)));
    assert_eq!(tokenizer.eog(), [128_001, 128_009]);
    assert!((128_000..128_256).all(|id| tokenizer.is_special(id) && tokenizer.token_bytes(id).is_empty()));
    assert!((0..128_000).all(|id| !tokenizer.is_special(id)));
}

#[test]
fn files_from_before_the_model_had_a_type_are_read() {
    let fixture = byte_level();
    let mut root: serde_json::Value = serde_json::from_slice(&fixture.json_bytes).unwrap();
    root["model"].as_object_mut().unwrap().remove("type");
    // They also write merges as "left right".
    let merges = fixture.gguf.merges.clone();
    root["model"]["merges"] = merges.into();
    let old = Tokenizer::from_json(&serde_json::to_vec(&root).unwrap(), &SpecialTokens::default()).unwrap();
    compare(&old, &fixture.cases, "llama-bpe");
}

#[test]
fn gaps_between_ids_stand_for_nothing() {
    let fixture = byte_level();
    let mut root: serde_json::Value = serde_json::from_slice(&fixture.json_bytes).unwrap();
    let mut late = root["added_tokens"][0].clone();
    (late["id"], late["content"]) = (700.into(), "<|late|>".into());
    root["added_tokens"].as_array_mut().unwrap().push(late);
    let tokenizer = Tokenizer::from_json(&serde_json::to_vec(&root).unwrap(), &SpecialTokens::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 701);
    assert_eq!(tokenizer.encode("<|late|>", Special::Parse).unwrap(), [700]);
    for id in [650, 701, u32::MAX] {
        assert_eq!(tokenizer.token_text(id), None);
        assert!(tokenizer.token_bytes(id).is_empty() && !tokenizer.is_special(id));
    }
    assert_eq!(tokenizer.decode_with_special(&[700, 650, u32::MAX]), "<|late|>");
}

#[test]
fn a_tokenizer_is_shared_between_threads() {
    let tokenizer = byte_level().gguf();
    let expected = tokenizer.encode("Hello world", Special::Text).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(tokenizer.encode("Hello world", Special::Text).unwrap(), expected));
        }
    });
}
