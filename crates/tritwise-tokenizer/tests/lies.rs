//! Files that lie: each is refused with a sentence that names the thing, and none panics.

mod support;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use support::{byte_level, sentence_piece};
use tritwise_tokenizer::{Error, GgufVocab, Special, SpecialTokens, StopStrings, TokenRef, Tokenizer};

fn gguf_error(change: impl FnOnce(&mut GgufVocab)) -> String {
    let mut vocab = byte_level().gguf;
    change(&mut vocab);
    Tokenizer::from_gguf(vocab).unwrap_err().to_string()
}

fn spm_error(change: impl FnOnce(&mut GgufVocab)) -> String {
    let mut vocab = sentence_piece().gguf;
    change(&mut vocab);
    Tokenizer::from_gguf(vocab).unwrap_err().to_string()
}

fn json_error(change: impl FnOnce(&mut Value)) -> String {
    let mut root: Value = serde_json::from_slice(&byte_level().json_bytes).unwrap();
    change(&mut root);
    let bytes = serde_json::to_vec(&root).unwrap();
    Tokenizer::from_json(&bytes, &SpecialTokens::default()).unwrap_err().to_string()
}

#[track_caller]
fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn unknown_model() {
    for model in ["bert", "t5", "rwkv", ""] {
        says(&gguf_error(|vocab| vocab.model = model.into()), &[&format!("{model:?}"), "gpt2", "llama"]);
    }
}

#[test]
fn unknown_pre_tokenizer() {
    says(&gguf_error(|vocab| vocab.pre = Some("tekken-9".into())), &["tokenizer.ggml.pre", "\"tekken-9\""]);
    says(&gguf_error(|vocab| vocab.pre = Some(String::new())), &["tokenizer.ggml.pre", "\"\""]);
}

#[test]
fn unknown_normalizer() {
    says(&gguf_error(|vocab| vocab.normalizer = Some("NFKC".into())), &["tritwise.normalizer", "NFKC", "NFC"]);
    says(&spm_error(|vocab| vocab.normalizer = Some("NFC".into())), &["tritwise.normalizer", "gpt2"]);
}

#[test]
fn missing_pre_tokenizer() {
    says(&gguf_error(|vocab| vocab.pre = None), &["tokenizer.ggml.pre is missing", "llama-bpe"]);
}

#[test]
fn tables_of_different_lengths() {
    says(&gguf_error(|vocab| vocab.token_types.truncate(7)), &["token_type", "7 entries"]);
    says(&spm_error(|vocab| vocab.scores.truncate(7)), &["scores", "7 entries"]);
    says(&spm_error(|vocab| vocab.scores.clear()), &["scores", "0 entries"]);
    says(&gguf_error(|vocab| vocab.merges.clear()), &["merges", "0 entries"]);
}

#[test]
fn special_ids_outside_the_vocabulary() {
    type Change = fn(&mut GgufVocab);
    let changes: [(&str, Change); 6] = [
        ("bos", |vocab| vocab.bos = Some(4_000_000_000)),
        ("eos", |vocab| vocab.eos = Some(4_000_000_000)),
        ("eot", |vocab| vocab.eot = Some(4_000_000_000)),
        ("eom", |vocab| vocab.eom = Some(4_000_000_000)),
        ("unknown", |vocab| vocab.unknown = Some(4_000_000_000)),
        ("padding", |vocab| vocab.padding = Some(4_000_000_000)),
    ];
    for (role, change) in changes {
        says(&gguf_error(change), &[role, "4000000000", "not in the vocabulary"]);
        says(&spm_error(change), &[role, "4000000000", "not in the vocabulary"]);
    }
}

#[test]
fn a_token_wanted_on_every_text_but_not_named() {
    says(&gguf_error(|vocab| (vocab.bos, vocab.add_bos) = (None, Some(true))), &["bos", "names none"]);
    says(&gguf_error(|vocab| (vocab.eos, vocab.add_eos) = (None, Some(true))), &["eos", "names none"]);
}

#[test]
fn token_types_that_do_not_exist() {
    for kind in [0, 7, -1, i32::MAX] {
        says(&gguf_error(|vocab| vocab.token_types[3] = kind), &["token 3", &kind.to_string()]);
    }
}

#[test]
fn byte_tokens_that_are_none() {
    for text in ["<0x-1>", "<0x1>", "<0x111>", "<0xGG>", "<0x+1>", "0x41", "<0x41", "", "<0xéé>"] {
        let error = spm_error(|vocab| vocab.tokens[3] = text.into());
        says(&error, &["token 3", "<0xHH>"]);
    }
}

#[test]
fn two_tokens_of_one_text() {
    says(&gguf_error(|vocab| vocab.tokens[9] = vocab.tokens[8].clone()), &["token 9", "token 8"]);
}

#[test]
fn merges_outside_the_vocabulary() {
    says(&gguf_error(|vocab| vocab.merges[5] = "nowhere e".into()), &["merge 5", "nowhere e", "left half"]);
    says(&gguf_error(|vocab| vocab.merges[5] = "e nowhere".into()), &["merge 5", "right half"]);
    says(&gguf_error(|vocab| vocab.merges[5] = "! !".into()), &["merge 5", "result"]);
    says(&gguf_error(|vocab| vocab.merges[5] = "one".into()), &["merge 5", "space between"]);
    says(&gguf_error(|vocab| vocab.merges[5] = String::new()), &["merge 5"]);
    says(&gguf_error(|vocab| vocab.merges[5] = " ".into()), &["merge 5"]);
    says(&gguf_error(|vocab| vocab.merges[5] = "é".into()), &["merge 5"]);
    // As long as the two longest tokens together: once a buffer overrun in the crate.
    says(&gguf_error(|vocab| vocab.merges[5] = "<|begin|> <|eot_id|>".into()), &["merge 5"]);
}

#[test]
fn scores_that_are_no_numbers() {
    says(&spm_error(|vocab| vocab.scores[300] = f32::NAN), &["token 300", "NaN"]);
}

#[test]
fn tokens_as_long_as_a_book() {
    says(&gguf_error(|vocab| vocab.tokens[600] = "x".repeat(20_000)), &["length of a token", "20000"]);
}

#[test]
fn no_merges_where_there_is_nothing_to_merge() {
    let tokens = ["<|end|>", "a", "b", "Ġ"].map(String::from).to_vec();
    let vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), tokens, ..GgufVocab::default() };
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    assert_eq!(tokenizer.encode("ab a", Special::Text).unwrap(), [1, 2, 3, 1]);
}

#[test]
fn an_empty_vocabulary() {
    for model in ["gpt2", "llama"] {
        let vocab = GgufVocab { model: model.into(), pre: Some("gpt-2".into()), ..GgufVocab::default() };
        let tokenizer = Tokenizer::from_gguf(vocab).unwrap_or_else(|error| panic!("{model}: {error}"));
        assert!(tokenizer.encode("", Special::Text).unwrap().is_empty());
        assert!(matches!(tokenizer.encode("a", Special::Text), Err(Error::Unencodable(_))));
    }
}

#[test]
fn characters_without_a_token_are_reported_not_dropped() {
    // A byte-level vocabulary without the bytes of anything but ASCII letters.
    let tokens: Vec<String> = ('a'..='z').map(String::from).chain(["ab".to_owned()]).collect();
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        merges: vec!["a b".into()],
        ..GgufVocab::default()
    };
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    assert_eq!(tokenizer.encode("abc", Special::Text).unwrap(), [26, 2]);
    assert!(matches!(tokenizer.encode("abécd", Special::Text), Err(Error::Unencodable(_))));
}

#[test]
fn not_json() {
    for bytes in [&b""[..], b"{", b"\xFF", b"[1,2", b"nul"] {
        let error = Tokenizer::from_json(bytes, &SpecialTokens::default()).unwrap_err();
        assert!(matches!(error, Error::Json(_)), "{error}");
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    assert!(matches!(Tokenizer::from_json(&deep, &SpecialTokens::default()), Err(Error::Json(_))));
}

#[test]
fn another_json() {
    for text in ["null", "[]", "{}", "{\"model\": 3}", "{\"model\": {}}"] {
        assert!(Tokenizer::from_json(text.as_bytes(), &SpecialTokens::default()).is_err(), "{text}");
    }
}

#[test]
fn models_other_than_bpe() {
    for model in ["WordPiece", "Unigram", "WordLevel"] {
        says(&json_error(|root| root["model"]["type"] = model.into()), &["model", model, "BPE"]);
    }
}

#[test]
fn options_of_bpe_that_change_the_text() {
    says(&json_error(|root| root["model"]["continuing_subword_prefix"] = "##".into()), &["continuing_subword_prefix"]);
    says(&json_error(|root| root["model"]["end_of_word_suffix"] = "</w>".into()), &["end_of_word_suffix"]);
    says(&json_error(|root| root["model"]["dropout"] = 0.1.into()), &["dropout"]);
    says(&json_error(|root| root["model"]["unk_token"] = "<nope>".into()), &["unknown", "<nope>"]);
}

#[test]
fn parts_this_crate_does_not_know() {
    says(&json_error(|root| root["normalizer"] = json!({"type": "Precompiled"})), &["normalizer", "Precompiled"]);
    says(&json_error(|root| root["pre_tokenizer"] = json!({"type": "BertPreTokenizer"})), &["BertPreTokenizer"]);
    let nested = json!({"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [{"type": "?"}]}]});
    says(&json_error(|root| root["pre_tokenizer"] = nested), &["pre-tokenizer", "\"?\""]);
    says(&json_error(|root| root["decoder"] = json!({"type": "CTC"})), &["decoder", "CTC"]);
    says(&json_error(|root| root["decoder"] = Value::Null), &["decoder", "null"]);
    says(&json_error(|root| root["post_processor"] = json!({"type": "BertProcessing"})), &["BertProcessing"]);
    says(&json_error(|root| root["pre_tokenizer"] = json!([1])), &["pre-tokenizer", "an object"]);
    let open = json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false});
    says(&json_error(|root| root["pre_tokenizer"] = open), &["pre_tokenizer"]);
}

#[test]
fn ids_that_would_size_a_table() {
    says(&json_error(|root| root["model"]["vocab"]["a"] = 4_294_967_295u64.into()), &["token id", "4294967295"]);
    says(&json_error(|root| root["model"]["vocab"]["a"] = u64::MAX.into()), &["token id"]);
    says(&json_error(|root| root["model"]["vocab"]["a"] = 2_000_000.into()), &["highest token id", "2000000"]);
    says(&json_error(|root| root["model"]["vocab"]["a"] = (-1).into()), &["model.vocab"]);
    says(&json_error(|root| root["model"]["vocab"]["a"] = 1.5.into()), &["model.vocab"]);
    says(&json_error(|root| root["added_tokens"][0]["id"] = u64::MAX.into()), &["token id"]);
}

#[test]
fn two_texts_of_one_id() {
    says(&json_error(|root| root["model"]["vocab"]["new"] = 17.into()), &["token 17", "same id"]);
    says(&json_error(|root| root["added_tokens"][0]["id"] = 17.into()), &["token 17", "same id"]);
}

#[test]
fn merges_that_are_no_pairs() {
    for merge in
        [json!("a"), json!("a b c"), json!(["a"]), json!(["a", "b", "c"]), json!([1, 2]), json!(3), json!(null)]
    {
        says(&json_error(|root| root["model"]["merges"][4] = merge.clone()), &["merge 4"]);
    }
}

#[test]
fn special_tokens_the_vocabulary_lacks() {
    let build = |special| Tokenizer::from_json(&byte_level().json_bytes, &special).unwrap_err().to_string();
    let bos = |token| SpecialTokens { bos: Some(token), ..SpecialTokens::default() };
    says(&build(bos(TokenRef::Text("<s>".into()))), &["bos", "<s>"]);
    says(&build(bos(TokenRef::Id(605))), &["bos", "605"]);
    let eos = vec![TokenRef::Text("<|end|>".into()), TokenRef::Id(u32::MAX)];
    says(&build(SpecialTokens { eos, ..SpecialTokens::default() }), &["eos", "4294967295"]);
}

#[test]
fn added_tokens_that_normalise_to_nothing() {
    let error = json_error(|root| {
        root["normalizer"] = json!({"type": "Replace", "pattern": {"String": "<|end|>"}, "content": ""});
        root["added_tokens"][1]["normalized"] = true.into();
    });
    says(&error, &["<|end|>", "nothing is left"]);
}

#[test]
fn normalizers_with_expressions() {
    for pattern in [json!({"Regex": "a*"}), json!({"String": ""}), json!(null)] {
        let replace = json!({"type": "Replace", "pattern": pattern, "content": "b"});
        let nested = json!({"type": "Sequence", "normalizers": [replace.clone()]});
        for normalizer in [replace, nested] {
            says(&json_error(|root| root["normalizer"] = normalizer), &["normalizer"]);
        }
    }
}

#[test]
fn empty_stop_strings() {
    assert_eq!(StopStrings::new(["a", ""]).unwrap_err(), Error::EmptyStop(1));
}

/// A million spaces and a page of one letter: no hang, no stack overflow, nothing lost.
#[test]
fn texts_that_make_expressions_backtrack() {
    let texts = [
        format!("{}x", " ".repeat(300_000)),
        format!("{}\n", " \n".repeat(100_000)),
        "a".repeat(200_000),
        "'".repeat(100_000),
        format!("{}!", "\u{a0}\t".repeat(50_000)),
    ];
    let mut tokenizers = vec![sentence_piece().gguf()];
    for pre in ["llama-bpe", "falcon", "default", "qwen35"] {
        let vocab = GgufVocab { pre: Some(pre.into()), ..byte_level().gguf };
        tokenizers.push(Tokenizer::from_gguf(vocab).unwrap());
    }
    for tokenizer in &tokenizers {
        for text in &texts {
            let ids = tokenizer.encode(text, Special::Text).unwrap();
            assert!(tokenizer.decode(&ids) == *text, "{:?}…", &text[..4]);
        }
    }
}

/// Expressions come from the file too. One that tries everything gives up after so many steps, and one that repeats repetitions
/// is refused before it takes its size in memory.
#[test]
fn expressions_of_the_file_that_backtrack_or_explode() {
    let with = |regex: &str| {
        let mut root: Value = serde_json::from_slice(&byte_level().json_bytes).unwrap();
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        root["pre_tokenizer"]["pretokenizers"][0] = split;
        Tokenizer::from_json(&serde_json::to_vec(&root).unwrap(), &SpecialTokens::default())
    };
    let start = std::time::Instant::now();
    let text = "a".repeat(20_000);
    for regex in ["(a*)*b(?!c)", "(a|a)*(?=b)c", "(a+a+)+(?!a)b", "(?:a?){50}a{50}(?=b)"] {
        let tokenizer = with(regex).unwrap_or_else(|e| panic!("{regex}: {e}"));
        let ids = tokenizer.encode(&text, Special::Text).unwrap();
        assert!(tokenizer.decode(&ids) == *text, "{regex}");
    }
    let error = with("((((a{1,99}){1,99}){1,99}){1,99}){1,99}").unwrap_err().to_string();
    says(&error, &["pre_tokenizer"]);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// A splitter that gives up after so many steps leaves the rest in one piece. `ĠHello` is
/// found only as a whole piece, so it shows that the text was split to its end.
#[test]
fn long_texts_are_split_to_their_end() {
    let tokenizer = byte_level().gguf();
    let hello = tokenizer.id_of("ĠHello").unwrap();
    for filler in [" ", " \n", "\u{a0}", "1"] {
        let text = filler.repeat(1_200_000 / filler.len()) + "\n Hello";
        let ids = tokenizer.encode(&text, Special::Text).unwrap();
        assert_eq!(ids.last(), Some(&hello), "after many {filler:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any byte of the file changed, or the file cut anywhere: an error or a tokenizer that still works, no panic.
    #[test]
    fn damaged_json_never_panics(at in any::<Index>(), byte: u8, cut: bool, sentence: bool) {
        let mut bytes = if sentence { sentence_piece() } else { byte_level() }.json_bytes;
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes, &SpecialTokens::default()) {
            for line in &byte_level().cases.lines {
                if let Ok(ids) = tokenizer.encode(line, Special::Parse) {
                    tokenizer.decode_with_special(&ids);
                }
            }
        }
    }

    /// Splitting expressions at random, with every behaviour: the crate's splitter meets them all.
    #[test]
    fn any_split_never_panics(
        expression in prop_oneof![
            prop::sample::select(vec!["", "(?=a)", "\\b", "a*", "(?!)", "^", "$", ".", "\\s+(?!\\S)", "(\\w)\\1"]).prop_map(str::to_owned),
            "[a-c .*+?|()\\[\\]^$]{0,8}",
        ],
        behavior in prop::sample::select(vec!["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]),
        invert: bool,
        literal: bool,
        text in "[a-c é\\n🦀]{0,20}",
    ) {
        let mut root: Value = serde_json::from_slice(&byte_level().json_bytes).unwrap();
        let kind = if literal { "String" } else { "Regex" };
        root["pre_tokenizer"]["pretokenizers"][0] =
            json!({"type": "Split", "pattern": {kind: expression}, "behavior": behavior, "invert": invert});
        let bytes = serde_json::to_vec(&root).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes, &SpecialTokens::default()) {
            let ids = tokenizer.encode(&text, Special::Text);
            if behavior != "Removed" && !invert && let Ok(ids) = ids {
                prop_assert_eq!(tokenizer.decode(&ids), text);
            }
        }
    }

    /// Every normalizer and pre-tokenizer that is let through, in any order, with added tokens of every kind.
    #[test]
    fn any_parts_never_panic(
        normalizers in prop::collection::vec(normalizer(), 0..4),
        pre_tokenizers in prop::collection::vec(pre_tokenizer(), 0..4),
        added in prop::collection::vec(("[ab <é\u{301}]{1,3}", any::<[bool; 5]>()), 0..4),
        text in "[ab <é\u{301}ﬁĠ▁\n🦀1A.]{0,24}",
    ) {
        let mut root: Value = serde_json::from_slice(&byte_level().json_bytes).unwrap();
        root["normalizer"] = json!({"type": "Sequence", "normalizers": normalizers});
        root["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": pre_tokenizers});
        let tokens = root["added_tokens"].as_array_mut().unwrap();
        for (id, (content, [special, single_word, lstrip, rstrip, normalized])) in (605..).zip(added) {
            tokens.push(json!({
                "id": id, "content": content, "special": special, "single_word": single_word,
                "lstrip": lstrip, "rstrip": rstrip, "normalized": normalized,
            }));
        }
        let bytes = serde_json::to_vec(&root).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes, &SpecialTokens::default()) {
            for special in [Special::Text, Special::Parse] {
                if let Ok(ids) = tokenizer.encode(&text, special) {
                    tokenizer.decode_with_special(&ids);
                }
            }
        }
    }
}

fn normalizer() -> impl Strategy<Value = Value> {
    let expression = prop::sample::select(vec!["", "a", "a*", "(?=a)", "^", "$", "\\s+", ".", "b|", "é"]);
    let content = prop::sample::select(vec!["", " ", "▁", "aé", "🦀"]);
    prop_oneof![
        prop::sample::select(vec!["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]).prop_map(|name| json!({"type": name})),
        content.clone().prop_map(|text| json!({"type": "Prepend", "prepend": text})),
        (prop::sample::select(vec!["String", "Regex"]), expression, content).prop_map(|(kind, expression, content)| {
            json!({"type": "Replace", "pattern": {kind: expression}, "content": content})
        }),
    ]
}

fn pre_tokenizer() -> impl Strategy<Value = Value> {
    let behavior =
        prop::sample::select(vec!["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]);
    let scheme = prop::sample::select(vec!["first", "never", "always"]);
    prop_oneof![
        any::<(bool, bool)>().prop_map(|(space, regex)| {
            json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex})
        }),
        any::<bool>().prop_map(|each| json!({"type": "Digits", "individual_digits": each})),
        behavior.prop_map(|behavior| json!({"type": "Punctuation", "behavior": behavior})),
        (scheme, any::<bool>()).prop_map(|(scheme, split)| {
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split})
        }),
    ]
}
