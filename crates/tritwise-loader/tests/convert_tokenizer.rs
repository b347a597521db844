//! `tokenizer.json` to the metadata of a GGUF file.

mod support;

use serde_json::{Value as Json, json};
use support::*;
use tritwise_gguf::{Header, Strings};
use tritwise_loader::{Conversion, Error, Options};
use tritwise_tensor::TernaryEncoding;
use tritwise_tokenizer::{GPT2_SPLIT, Special};

/// Rows of the embedding: some more than there are tokens.
const ROWS: usize = 300;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Converts a model with this tokenizer, and gives the file.
fn convert(tokenizer: &Json, tokenizer_config: &Json) -> Result<Vec<u8>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Folder::new("BitNetForCausalLM", Stored::Multiply);
    checkpoint.config["vocab_size"] = json!(ROWS);
    let embedding = (safetensors::Dtype::BF16, vec![ROWS, HIDDEN], vec![0; ROWS * HIDDEN * 2]);
    checkpoint.tensors.insert("model.embed_tokens.weight".to_owned(), embedding);
    checkpoint.write(folder.path());
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), tokenizer_config.to_string()).unwrap();
    let path = folder.path().join("model.gguf");
    let source = tritwise_loader::open(folder.path(), &Options::default()).unwrap();
    tritwise_loader::convert(&source, &path, &Conversion::default(), &mut |_| {})?;
    let bytes = std::fs::read(&path).unwrap();

    // Both tokenizers on a text that is not among those the conversion itself tries.
    let written = tritwise_loader::open(&path, &Options::default()).unwrap();
    let (original, translated) = (source.tokenizer().unwrap().unwrap(), written.tokenizer().unwrap().unwrap());
    for text in ["then the the  thin\n\nhat 1234567 hATH's <|begin|>then<|user|> ö", "\u{1f980}\t.", "t h e"] {
        for special in [Special::Text, Special::Parse] {
            let (wanted, found) = (original.encode_prompt(text, special), translated.encode_prompt(text, special));
            assert_eq!(wanted.unwrap(), found.unwrap(), "{text:?} {special:?}");
        }
    }
    assert_eq!(original.eog(), translated.eog());
    assert_eq!(source.chat_templates(), written.chat_templates());
    Ok(bytes)
}

fn added(id: u32, content: &str, special: bool) -> Json {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": special})
}

/// A byte-level vocabulary: 256 bytes, four merges, three added tokens, and a hole between them.
fn byte_level(pre_tokenizer: &Json, ignore_merges: bool, merges: &Json) -> Json {
    let spelled = |byte: u32| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte,
        0..=0x20 => 256 + byte,
        0x7f..=0xa0 => 256 + 33 + byte - 0x7f,
        _ => 256 + 67,
    };
    let bytes = (0..256).map(|byte| char::from_u32(spelled(byte)).unwrap().to_string());
    let words = bytes.chain(["th", "the", "Ġt", "in"].map(str::to_owned));
    let vocab: serde_json::Map<_, _> = words.enumerate().map(|(id, word)| (word, json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(262, "<|begin|>", true), added(263, "<|end|>", true), added(264, "<|user|>", false)],
        "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges},
    })
}

fn byte_level_pre(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn split_pre(regex: &str) -> Json {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
        byte_level_pre(false),
    ]})
}

fn pairs() -> Json {
    json!([["t", "h"], ["th", "e"], ["Ġ", "t"], ["i", "n"]])
}

fn strings(header: &Header, key: &str) -> Strings {
    header.metadata().strings(&format!("tokenizer.ggml.{key}")).unwrap().unwrap().clone()
}

#[test]
fn byte_level_with_each_known_splitting_rule() {
    let digits = json!({"type": "Sequence",
                        "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level_pre(true)]});
    let old_merges = json!(["t h", "th e", "Ġ t", "i n"]);
    let config =
        json!({"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": true, "chat_template": "{{x}}"});
    for (pre_tokenizer, ignore_merges, merges, name) in [
        (byte_level_pre(true), false, pairs(), "gpt-2"),
        (byte_level_pre(true), false, old_merges.clone(), "gpt-2"),
        (split_pre(LLAMA3), true, pairs(), "llama-bpe"),
        (split_pre(LLAMA3), false, old_merges, "smaug-bpe"),
        (split_pre(&LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")), false, pairs(), "qwen2"),
        (split_pre(GPT2_SPLIT), false, pairs(), "gpt-2"),
        (digits, false, pairs(), "smollm"),
    ] {
        let file = convert(&byte_level(&pre_tokenizer, ignore_merges, &merges), &config).unwrap();
        let header = Header::parse(&file).unwrap();
        let metadata = header.metadata();
        assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("gpt2"));
        assert_eq!(metadata.string("tokenizer.ggml.pre").unwrap(), Some(name));
        assert_eq!(metadata.unsigned("tokenizer.ggml.bos_token_id").unwrap(), Some(262));
        assert_eq!(metadata.unsigned("tokenizer.ggml.eos_token_id").unwrap(), Some(263));
        assert_eq!(metadata.boolean("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
        assert_eq!(metadata.boolean("tokenizer.ggml.add_eos_token").unwrap(), Some(false));
        let tokens = strings(&header, "tokens");
        assert_eq!(tokens.len(), ROWS, "llama.cpp takes their number for the embedding's rows");
        assert_eq!((tokens.at(257), tokens.at(260), tokens.at(299)), (Some("the"), Some("[PAD260]"), Some("[PAD299]")));
        let types = metadata.integers("tokenizer.ggml.token_type").unwrap().unwrap();
        assert_eq!(types[255..266], [1, 1, 1, 1, 1, 5, 5, 3, 3, 4, 5]);
        let merges = strings(&header, "merges");
        assert_eq!(merges.iter().collect::<Vec<_>>(), ["t h", "th e", "Ġ t", "i n"]);
    }
}

/// Qwen's tokenizers compose a text first, for which GGUF has no word: this project's key says it.
#[test]
fn composed_texts() {
    let mut tokenizer = byte_level(&split_pre(&LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")), false, &pairs());
    tokenizer["normalizer"] = json!({"type": "NFC"});
    let file = convert(&tokenizer, &json!({"eos_token": "<|end|>"})).unwrap();
    assert_eq!(Header::parse(&file).unwrap().metadata().string("tritwise.normalizer").unwrap(), Some("NFC"));
    // To another file, and to a folder.
    let source = tritwise_loader::open_bytes("a.gguf", file, &Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for linear in [TernaryEncoding::Base3, TernaryEncoding::HfPacked] {
        let mut conversion = Conversion::default();
        conversion.linear = linear;
        let path = folder.path().join(linear.name());
        tritwise_loader::convert(&source, &path, &conversion, &mut |_| {}).unwrap();
        let written = tritwise_loader::open(&path, &Options::default()).unwrap().tokenizer().unwrap().unwrap();
        // e and a combining acute are one character of two bytes, spelled Ã©.
        let ids = written.encode("e\u{301}", Special::Text).unwrap();
        assert_eq!(ids.iter().map(|&id| written.token_text(id).unwrap()).collect::<String>(), "Ã©");
    }
}

#[test]
fn sentence_piece() {
    let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["▁", "t", "h", "e", "i", "n", "th", "the", "▁the", "▁t", "in"].map(str::to_owned);
    let vocab: serde_json::Map<_, _> =
        specials.chain(bytes).chain(words).enumerate().map(|(id, word)| (word, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
                  "merges": [["t", "h"], ["i", "n"], ["th", "e"], ["▁", "the"], ["▁", "t"]]},
    });
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": true});
    let file = convert(&tokenizer, &config).unwrap();
    let header = Header::parse(&file).unwrap();
    let metadata = header.metadata();
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("llama"));
    assert_eq!(metadata.value("tokenizer.ggml.pre"), None);
    assert_eq!(metadata.unsigned("tokenizer.ggml.unknown_token_id").unwrap(), Some(0));
    assert_eq!(metadata.boolean("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
    let types = metadata.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((&types[..4], types[258], types[259], types[299]), (&[2, 3, 3, 6][..], 6, 1, 5));
    let scores = metadata.floats("tokenizer.ggml.scores").unwrap().unwrap();
    let of = |word: &str| scores[strings(&header, "tokens").iter().position(|token| token == word).unwrap()];
    assert!(of("th") > of("in") && of("in") > of("the") && of("the") > of("▁the") && of("▁the") > of("▁t"));
}

#[test]
fn tokenizers_that_gguf_cannot_express() {
    let refusal = |tokenizer: &Json| match convert(tokenizer, &json!({})) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    let mut normalized = byte_level(&byte_level_pre(true), false, &pairs());
    normalized["normalizer"] = json!({"type": "NFKC"});
    let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let mut many = byte_level(&byte_level_pre(true), false, &pairs());
    many["added_tokens"].as_array_mut().unwrap().push(added(ROWS as u32, "<|row|>", true));
    let says = ["tokenizer.json", "leave the tokenizer out"];
    assert_refusals(vec![
        ("another expression", refusal(&byte_level(&split_pre(r"\w+|\W+"), false, &pairs())), &says),
        ("no splitting at all", refusal(&byte_level(&byte_level_pre(false), false, &pairs())), &says),
        ("Llama 3's name implies whole tokens", refusal(&byte_level(&split_pre(r"\p{N}"), true, &pairs())), &says),
        ("a space in front", refusal(&byte_level(&prefixed, false, &pairs())), &["tokenizer.json"]),
        ("a normalizer", refusal(&normalized), &["tokenizer.json", "normalizer"]),
        ("more tokens than rows", refusal(&many), &["tokenizer.json", "301 tokens for 300 rows"]),
    ]);
}
