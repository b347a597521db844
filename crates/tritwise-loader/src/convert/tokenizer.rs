//! `tokenizer.json` as `tokenizer.ggml.*` metadata.
//!
//! GGUF keeps less than `tokenizer.json`: tokens, their kinds, merges or
//! scores, and the name of a rule for splitting text. So a tokenizer is taken
//! over only if it has one of the shapes listed here, and the result must then
//! encode a set of awkward texts exactly as the original does.

use serde_json::Value;
use tritwise_gguf::{Strings, Writer};
use tritwise_tensor::{CheckpointError, Config};
use tritwise_tokenizer::{GPT2_SPLIT, GgufVocab, Special, Tokenizer, splitting_rule};

use super::OUTPUT;
use crate::error::file_error;
use crate::vocabulary::{CHAT_TEMPLATE, DEFAULT_TEMPLATE, Folder, NORMALIZER};

/// Token kinds of GGUF.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Writes the tokenizer of `folder`, if it has one.
pub(super) fn write(folder: &Folder, config: &Config, writer: &mut Writer) -> Result<(), CheckpointError> {
    let (Some(json), Some(tokenizer)) = (&folder.tokenizer, folder.tokenizer()?) else {
        return Ok(());
    };
    let label = folder.tokenizer_label();
    let refuse = |message: String| {
        file_error(&label, format_args!("{message}; to convert the weights alone, leave the tokenizer out"))
    };
    let root: Value = serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))?;
    let vocab = translate(&root, &tokenizer, config.vocab).map_err(refuse)?;
    let translated = Tokenizer::from_gguf(vocab.clone()).map_err(|error| refuse(error.to_string()))?;
    compare(&tokenizer, &translated).map_err(refuse)?;
    put(&vocab, &folder.chat_templates(), writer).map_err(|error| file_error(OUTPUT, error))
}

fn translate(root: &Value, tokenizer: &Tokenizer, rows: usize) -> Result<GgufVocab, String> {
    let model = &root["model"];
    let byte_level = !model["byte_fallback"].as_bool().unwrap_or(false);
    let merges = merges(&model["merges"])?;
    let mut vocab = GgufVocab { bos: tokenizer.bos(), eos: tokenizer.eos(), ..GgufVocab::default() };
    vocab.add_bos = Some(tokenizer.add_bos());
    vocab.add_eos = Some(tokenizer.add_eos());
    let mut ends = tokenizer.eog().iter().copied().filter(|&id| Some(id) != vocab.eos);
    (vocab.eot, vocab.eom) = (ends.next(), ends.next());
    if tokenizer.vocab_size() > rows {
        return Err(format!("{} tokens for {rows} rows of the embedding", tokenizer.vocab_size()));
    }
    fill_tokens(&mut vocab, root, tokenizer, rows, byte_level);
    if byte_level {
        vocab.model = "gpt2".to_owned();
        vocab.pre = Some(rule_of(root)?.to_owned());
        vocab.normalizer = normalizer(root)?;
        vocab.merges = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    } else {
        vocab.model = "llama".to_owned();
        vocab.add_space_prefix = Some(prepends_space(root));
        vocab.unknown = model["unk_token"].as_str().and_then(|unknown| tokenizer.id_of(unknown));
        vocab.scores = scores(&vocab.tokens, &merges);
    }
    Ok(vocab)
}

/// Token texts and kinds, one for each row of the embedding: llama.cpp counts rows by them.
fn fill_tokens(vocab: &mut GgufVocab, root: &Value, tokenizer: &Tokenizer, rows: usize, byte_level: bool) {
    let added: Vec<u64> =
        root["added_tokens"].as_array().into_iter().flatten().filter_map(|token| token["id"].as_u64()).collect();
    let unknown = root.pointer("/model/unk_token").and_then(Value::as_str);
    for id in (0..).take(rows) {
        let text = tokenizer.token_text(id);
        vocab.token_types.push(match text {
            None => UNUSED,
            Some(text) if !byte_level && unknown == Some(text) => UNKNOWN,
            Some(_) if tokenizer.is_special(id) => CONTROL,
            Some(_) if added.contains(&u64::from(id)) => USER_DEFINED,
            Some(text) if !byte_level && is_byte_token(text) => BYTE,
            Some(_) => NORMAL,
        });
        vocab.tokens.push(text.map_or_else(|| format!("[PAD{id}]"), str::to_owned));
    }
}

/// `<0x0A>`
fn is_byte_token(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Pairs, in older files as one string each.
fn merges(value: &Value) -> Result<Vec<(String, String)>, String> {
    let merges = value.as_array().map_or(&[][..], Vec::as_slice);
    let pair = |merge: &Value| {
        if let Some((left, right)) = merge.as_str().and_then(|merge| merge.split_once(' ')) {
            return Some((left.to_owned(), right.to_owned()));
        }
        Some((merge[0].as_str()?.to_owned(), merge[1].as_str()?.to_owned()))
    };
    let malformed = |merge: &Value| format!("the merge {merge} is not a pair of tokens");
    merges.iter().map(|merge| pair(merge).ok_or_else(|| malformed(merge))).collect()
}

/// SentencePiece's scores order merges; the rank of the merge that makes a token orders them alike.
fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks = std::collections::HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    #[expect(clippy::cast_precision_loss, reason = "ranks stay below 2²⁴, up to where f32 tells whole numbers apart")]
    tokens.iter().map(|token| ranks.get(token).map_or(0.0, |&rank| -(rank as f32) - 1.0)).collect()
}

/// The name in `tokenizer.ggml.pre` for the way `root` splits text.
fn rule_of(root: &Value) -> Result<&'static str, String> {
    let unknown = || "the way it splits text has no name in GGUF that is known here".to_owned();
    let steps = steps(&root["pre_tokenizer"], "pretokenizers");
    let Some((&bytes, before)) = steps.split_last() else {
        return Err(unknown());
    };
    let expression = |step: &&Value| match step["type"].as_str() {
        Some("Split") if step["behavior"] == "Isolated" && step["invert"] != true => {
            step.pointer("/pattern/Regex").and_then(Value::as_str).map(str::to_owned)
        }
        Some("Digits") if step["individual_digits"] == true => Some(r"\p{N}".to_owned()),
        _ => None,
    };
    let mut splits: Vec<String> = before.iter().map(expression).collect::<Option<_>>().ok_or_else(unknown)?;
    let flag = |key: &str| bytes[key].as_bool().unwrap_or(true);
    if bytes["type"] != "ByteLevel" || flag("add_prefix_space") {
        return Err(unknown());
    }
    if flag("use_regex") {
        splits.push(GPT2_SPLIT.to_owned());
    }
    let splits: Vec<&str> = splits.iter().map(String::as_str).collect();
    let ignore_merges = root.pointer("/model/ignore_merges").and_then(Value::as_bool).unwrap_or(false);
    splitting_rule(&splits, ignore_merges).ok_or_else(unknown)
}

/// What is done to a text before it is split: nothing, or what this project has a key for.
fn normalizer(root: &Value) -> Result<Option<String>, String> {
    let normalizer = &root["normalizer"];
    match (normalizer, normalizer["type"].as_str()) {
        (Value::Null, _) => Ok(None),
        (_, Some("NFC")) => Ok(Some("NFC".to_owned())),
        _ => Err("its normalizer cannot be expressed in GGUF".to_owned()),
    }
}

/// The members of a sequence, or the one thing itself.
fn steps<'a>(value: &'a Value, members: &str) -> Vec<&'a Value> {
    match value["type"] == "Sequence" {
        true => value[members].as_array().into_iter().flatten().collect(),
        false => vec![value],
    }
}

fn prepends_space(root: &Value) -> bool {
    let normalizes = steps(&root["normalizer"], "normalizers").iter().any(|step| step["type"] == "Prepend");
    let splits = &root["pre_tokenizer"];
    normalizes || (splits["type"] == "Metaspace" && splits["prepend_scheme"] != "never")
}

/// Texts on which splitting rules, byte spellings and special tokens differ.
const PROBES: &[&str] = &[
    "",
    " ",
    "  two  spaces  ",
    "Once upon a time, there was a dragon.",
    "I'm, you're, he's; I'LL, WE'VE, it'd",
    "12 123 1234 12345 3.14159 ٣٤٥",
    "tab\tnewline\nreturn\r\n\n\n three \n \n",
    "naïve café Ünïcödé ÅÇÉ e\u{301}a\u{308}",
    "日本語のテキスト 中文 한국어 ไทย हिन्दी",
    "🙂👩‍👩‍👧‍👦 ✓ → ∑∫ «guillemets» “quotes” —dash…",
    "fn main() { let x = a[0] + b->c; } // <|end|> </s> <s>",
    "http://example.org/?q=a%20b&c=d#e_f-g",
    "\u{feff}\u{200b}\u{a0}\u{3000}x\u{7f}\u{1}",
    "aaaaaaaaaaaaaaaa !!!!!!!!???? ........ ________",
];

/// Whether two tokenizers agree on everything that can be asked of them here.
pub(super) fn compare(original: &Tokenizer, translated: &Tokenizer) -> Result<(), String> {
    for &probe in PROBES {
        for special in [Special::Text, Special::Parse] {
            let (wanted, found) = (original.encode_prompt(probe, special), translated.encode_prompt(probe, special));
            if wanted.as_ref().ok() != found.as_ref().ok() {
                return Err(format!(
                    "the text {probe:?} is {wanted:?} by the original and {found:?} by what GGUF can say of it"
                ));
            }
        }
    }
    if original.eog() != translated.eog() {
        return Err(format!(
            "text ends with the tokens {:?}, of which GGUF can say {:?}",
            original.eog(),
            translated.eog()
        ));
    }
    Ok(())
}

fn put(vocab: &GgufVocab, templates: &[(String, String)], writer: &mut Writer) -> Result<(), tritwise_gguf::Error> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    writer.metadata(&key("model"), vocab.model.as_str())?;
    if let Some(pre) = &vocab.pre {
        writer.metadata(&key("pre"), pre.as_str())?;
    }
    if let Some(normalizer) = &vocab.normalizer {
        writer.metadata(NORMALIZER, normalizer.as_str())?;
    }
    writer.metadata(&key("tokens"), vocab.tokens.iter().collect::<Strings>())?;
    writer.metadata(&key("token_type"), vocab.token_types.clone())?;
    if !vocab.scores.is_empty() {
        writer.metadata(&key("scores"), vocab.scores.clone())?;
    }
    if !vocab.merges.is_empty() {
        writer.metadata(&key("merges"), vocab.merges.iter().collect::<Strings>())?;
    }
    let ids =
        [("bos", vocab.bos), ("eos", vocab.eos), ("eot", vocab.eot), ("eom", vocab.eom), ("unknown", vocab.unknown)];
    for (name, id) in ids {
        if let Some(id) = id {
            writer.metadata(&key(&format!("{name}_token_id")), id)?;
        }
    }
    let flags = [
        ("add_bos_token", vocab.add_bos),
        ("add_eos_token", vocab.add_eos),
        ("add_space_prefix", vocab.add_space_prefix),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            writer.metadata(&key(name), flag)?;
        }
    }
    let (default, named): (Vec<_>, Vec<_>) = templates.iter().partition(|(name, _)| name == DEFAULT_TEMPLATE);
    for (_, source) in default {
        writer.metadata(CHAT_TEMPLATE, source.as_str())?;
    }
    if !named.is_empty() {
        writer.metadata("tokenizer.chat_templates", named.iter().map(|(name, _)| name).collect::<Strings>())?;
    }
    for (name, source) in named {
        writer.metadata(&format!("{CHAT_TEMPLATE}.{name}"), source.as_str())?;
    }
    Ok(())
}
