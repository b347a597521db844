//! A tokenizer from a Hugging Face `tokenizer.json`.
//!
//! The `tokenizers` crate could read the whole file by itself, but it panics
//! on some malformed ones, accepts a dozen models that no checkpoint of this
//! family has, and says little about what it refused. So the file is read
//! here; the crate gets the checked parts, of the types listed, and nothing else:
//!
//! ```text
//! { added_tokens, normalizer, pre_tokenizer, model: { type: BPE, vocab, merges, … }, post_processor, decoder }
//!                 └─ to the crate ─────────┘                                          └ read, not run ──────┘
//! ```
//!
//! Of the post-processor only BOS and EOS matter, of the decoder only how
//! tokens are spelled: both are ours, since they must work token by token.

use serde_json::{Map, Value};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use crate::bpe::{Bpe, Order};
use crate::limits::MAX_TOKENS;
use crate::normalize::Normalizers;
use crate::tokenizer::{Control, END_NAMES, Parts};
use crate::vocabulary::{Kind, SPACE, Spelling, Vocabulary, byte_token};
use crate::{Error, Tokenizer};

/// What the files beside `tokenizer.json` say about the tokens around a text.
///
/// `tokenizer_config.json` gives texts, `generation_config.json` and
/// `config.json` give ids; a loader passes on all it finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The token that begins a text.
    pub bos: Option<TokenRef>,
    /// The tokens that end a text; the first is *the* EOS.
    pub eos: Vec<TokenRef>,
    /// `add_bos_token`; `None` leaves it to `tokenizer.json`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; `None` leaves it to `tokenizer.json`.
    pub add_eos: Option<bool>,
}

/// A token, by id or by text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// By id.
    Id(u32),
    /// By its text, as in `<|eot_id|>`.
    Text(String),
}

impl Tokenizer {
    /// Builds the tokenizer of a Hugging Face folder: `bytes` are `tokenizer.json`, `special` the facts beside it.
    ///
    /// Whether BOS and EOS are added is what `special` says, or else what the
    /// file's post-processor does, or else no. Truncation and padding in the
    /// file are left over from training and ignored.
    ///
    /// # Errors
    /// Invalid JSON, a model other than BPE, a part this crate does not know,
    /// ids or merges outside the vocabulary, sizes beyond any real vocabulary.
    pub fn from_json(bytes: &[u8], special: &SpecialTokens) -> Result<Self, Error> {
        let root: Value = serde_json::from_slice(bytes).map_err(|error| Error::Json(error.to_string()))?;
        let model = object(&root, "model")?;
        // Files from before the field (GPT-2's is one) are known by their merges.
        if model.contains_key("type") || !model.contains_key("merges") {
            supported("model", model, &["BPE"], "BPE")?;
        }
        refuse_options(model)?;
        let part = |name: &str| root.get(name).unwrap_or(&Value::Null);
        let (spelling, strips_space) = spelling(part("decoder"))?;
        let byte_fallback = flag(model, "byte_fallback");
        let added = added_tokens(&root)?;

        let words = words(model)?;
        let vocabulary = Vocabulary::new(table(&words, &added, byte_fallback)?, spelling)?;
        let merges = array(model, "model.merges", "merges")?.iter().enumerate();
        let order = Order::list(&vocabulary, merges.map(|(index, merge)| halves(index, merge)))?;
        let mut bpe = Bpe::new(&vocabulary, order);
        bpe.whole_pieces = flag(model, "ignore_merges");
        bpe.fuse_unknown = flag(model, "fuse_unk");
        if let Some(text) = model.get("unk_token").and_then(Value::as_str) {
            let tokens = vocabulary.len();
            let id = vocabulary.id(text);
            bpe.unknown =
                Some(id.ok_or_else(|| Error::Special { role: "unknown", found: format!("{text:?}"), tokens })?);
        }
        let control = control(&vocabulary, special, &Template::read(part("post_processor"))?)?;
        Parts {
            normalizers: Normalizers::new(normalizer(part("normalizer"))?),
            pre_tokenizer: pre_tokenizer(part("pre_tokenizer"))?,
            vocabulary,
            bpe,
            added: added.into_iter().map(|(_, token)| token).collect(),
            space_prefix: strips_space,
            control,
        }
        .assemble()
    }
}

/// Options of BPE that change what tokens mean and that no checkpoint of this family uses.
fn refuse_options(model: &Map<String, Value>) -> Result<(), Error> {
    for option in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        let neutral = match &model.get(option) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            Some(_) => false,
        };
        if !neutral {
            return Err(Error::Part { part: "BPE option", found: option.to_owned(), supported: "BPE without it" });
        }
    }
    Ok(())
}

/// `model.vocab`, with ids known to be below the limit.
fn words(model: &Map<String, Value>) -> Result<Vec<(String, u32)>, Error> {
    let vocab = model.get("vocab").and_then(Value::as_object).ok_or_else(|| field("model.vocab", "an object"))?;
    vocab.iter().map(|(text, id)| Ok((text.clone(), token_id(id, "model.vocab")?))).collect()
}

/// `added_tokens`: ids, and the tokens as the crate looks for them.
fn added_tokens(root: &Value) -> Result<Vec<(u32, AddedToken)>, Error> {
    let list = match &root["added_tokens"] {
        Value::Null => return Ok(Vec::new()),
        list => list.as_array().ok_or_else(|| field("added_tokens", "an array"))?,
    };
    let token = |entry: &Value| {
        let entry = entry.as_object().ok_or_else(|| field("added_tokens[…]", "an object"))?;
        let text = entry.get("content").and_then(Value::as_str);
        let text = text.ok_or_else(|| field("added_tokens[…].content", "a string"))?;
        let id = token_id(entry.get("id").unwrap_or(&Value::Null), "added_tokens[…].id")?;
        let token = AddedToken::from(text, flag(entry, "special"))
            .single_word(flag(entry, "single_word"))
            .lstrip(flag(entry, "lstrip"))
            .rstrip(flag(entry, "rstrip"))
            .normalized(flag(entry, "normalized"));
        Ok((id, token))
    };
    list.iter().map(token).collect()
}

/// All tokens by id; ids that nothing has are unused.
fn table(
    words: &[(String, u32)],
    added: &[(u32, AddedToken)],
    byte_fallback: bool,
) -> Result<Vec<(String, Kind)>, Error> {
    let ids = words.iter().map(|(_, id)| *id).chain(added.iter().map(|(id, _)| *id));
    let size = ids.max().map_or(0, |id| (id as usize).saturating_add(1));
    let entries = words.len() + added.len();
    // A few gaps are usual, a table of little else is not: it would be memory by an untrusted number.
    if size > entries.saturating_mul(2).saturating_add(1024) {
        return Err(Error::Limit { what: "the highest token id", found: size - 1, limit: entries * 2 + 1024 });
    }
    let mut table = vec![(String::new(), Kind::Unused); size];
    let mut place = |id: u32, text: &str, kind: Kind| {
        let Some(slot) = table.get_mut(id as usize) else {
            return Err(Error::Limit { what: "a token id", found: id as usize, limit: size });
        };
        if !slot.0.is_empty() && slot.0 != text {
            let problem = format!("token {:?} has the same id", slot.0);
            return Err(Error::Token { id, text: text.to_owned(), problem });
        }
        *slot = (text.to_owned(), kind);
        Ok(())
    };
    for (text, id) in words {
        let byte = byte_token(text).filter(|_| byte_fallback);
        place(*id, text, byte.map_or(Kind::Normal, Kind::Byte))?;
    }
    for (id, token) in added {
        place(*id, &token.content, if token.special { Kind::Special } else { Kind::Added })?;
    }
    Ok(table)
}

/// The halves of a merge, written `["left", "right"]` or `"left right"`.
fn halves(index: usize, merge: &Value) -> Result<(&str, &str), Error> {
    let pair = match merge {
        Value::String(text) => text.split_once(' ').filter(|(_, right)| !right.contains(' ')),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
            _ => None,
        },
        _ => None,
    };
    let problem = "it is neither \"left right\" nor [\"left\", \"right\"]";
    pair.ok_or_else(|| Error::Merge { index, merge: merge.to_string(), problem })
}

fn normalizer(value: &Value) -> Result<Option<NormalizerWrapper>, Error> {
    const KNOWN: &[&str] = &["Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "Lowercase"];
    let names = "Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase";
    if value.is_null() {
        return Ok(None);
    }
    check("normalizer", value, "normalizers", KNOWN, names)?;
    refuse_patterns(value)?;
    serde_json::from_value(value.clone()).map(Some).map_err(|error| Error::Json(format!("normalizer: {error}")))
}

/// The crate's `Replace` panics on an expression that matches the empty string, and no
/// checkpoint of this family replaces anything but a literal.
fn refuse_patterns(normalizer: &Value) -> Result<(), Error> {
    if normalizer["type"] == "Replace"
        && normalizer.pointer("/pattern/String").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        return Err(field("normalizer.pattern", "a string that is not empty: expressions are not supported here"));
    }
    normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(refuse_patterns)
}

fn pre_tokenizer(value: &Value) -> Result<Option<PreTokenizerWrapper>, Error> {
    const KNOWN: &[&str] = &["Sequence", "ByteLevel", "Split", "Digits", "Punctuation", "Metaspace"];
    let names = "Sequence, ByteLevel, Split, Digits, Punctuation, Metaspace";
    if value.is_null() {
        return Ok(None);
    }
    check("pre-tokenizer", value, "pretokenizers", KNOWN, names)?;
    serde_json::from_value(value.clone()).map(Some).map_err(|error| Error::Json(format!("pre_tokenizer: {error}")))
}

/// Whether a part, and the parts in its list `children`, are of known types.
fn check(part: &'static str, value: &Value, children: &str, known: &[&str], names: &'static str) -> Result<(), Error> {
    let map = value.as_object().ok_or_else(|| field(part, "an object or null"))?;
    supported(part, map, known, names)?;
    let inner = map.get(children).and_then(Value::as_array);
    inner.into_iter().flatten().try_for_each(|value| check(part, value, children, known, names))
}

/// How the decoder says that tokens are spelled, and whether it takes a space from the front of the text.
fn spelling(decoder: &Value) -> Result<(Spelling, bool), Error> {
    const KNOWN: &str = "ByteLevel, Metaspace, Sequence of Replace ▁ by space, ByteFallback, Fuse, Strip of one space";
    let one = std::slice::from_ref(decoder);
    let steps = match decoder["type"].as_str() {
        Some("Sequence") => decoder["decoders"].as_array().map_or(one, Vec::as_slice),
        _ => one,
    };
    let mut spelling = None;
    let mut strips = false;
    for step in steps {
        let name = step["type"].as_str().unwrap_or("null");
        match name {
            "ByteLevel" => spelling = Some(Spelling::ByteLevel),
            "Replace"
                if step.pointer("/pattern/String").is_some_and(|text| *text == SPACE.to_string())
                    && step["content"] == " " =>
            {
                spelling = Some(Spelling::SentencePiece);
            }
            "ByteFallback" | "Fuse" => {}
            "Strip" if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => strips = true,
            "Metaspace" if step["replacement"] == SPACE.to_string() => {
                spelling = Some(Spelling::SentencePiece);
                strips = step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
            }
            _ => {
                return Err(Error::Part { part: "decoder", found: name.to_owned(), supported: KNOWN });
            }
        }
    }
    match spelling {
        Some(spelling) => Ok((spelling, strips)),
        None => Err(Error::Part { part: "decoder", found: "Sequence".to_owned(), supported: KNOWN }),
    }
}

/// The tokens that a post-processor puts around a text.
#[derive(Debug, Default)]
struct Template {
    before: Option<String>,
    after: Option<String>,
}

impl Template {
    fn read(value: &Value) -> Result<Self, Error> {
        const KNOWN: &str = "ByteLevel, Sequence, TemplateProcessing with at most one token on each side";
        let unknown = |found: &str| Error::Part { part: "post-processor", found: found.to_owned(), supported: KNOWN };
        let mut template = Self::default();
        if value.is_null() {
            return Ok(template);
        }
        match value["type"].as_str().unwrap_or("null") {
            "ByteLevel" => {}
            "Sequence" => {
                for step in value["processors"].as_array().into_iter().flatten() {
                    let inner =
                        if step["type"] == "Sequence" { Err(unknown("nested Sequence")) } else { Self::read(step) }?;
                    template.before = template.before.or(inner.before);
                    template.after = template.after.or(inner.after);
                }
            }
            "TemplateProcessing" => {
                let mut seen_text = false;
                for piece in value["single"].as_array().into_iter().flatten() {
                    if !piece["Sequence"].is_null() {
                        seen_text = true;
                        continue;
                    }
                    let token = piece.pointer("/SpecialToken/id").and_then(Value::as_str);
                    let token =
                        token.ok_or_else(|| field("post_processor.single", "Sequence and SpecialToken pieces"))?;
                    let side = if seen_text { &mut template.after } else { &mut template.before };
                    if side.replace(token.to_owned()).is_some() {
                        return Err(unknown("TemplateProcessing with several tokens on one side"));
                    }
                }
            }
            other => return Err(unknown(other)),
        }
        Ok(template)
    }
}

fn control(vocabulary: &Vocabulary, special: &SpecialTokens, template: &Template) -> Result<Control, Error> {
    let tokens = vocabulary.len();
    let find = |role, token: &TokenRef| match token {
        TokenRef::Id(id) if (*id as usize) < tokens => Ok(*id),
        TokenRef::Id(id) => Err(Error::Special { role, found: id.to_string(), tokens }),
        TokenRef::Text(text) => {
            vocabulary.id(text).ok_or_else(|| Error::Special { role, found: format!("{text:?}"), tokens })
        }
    };
    let before = template.before.clone().map(TokenRef::Text);
    let after = template.after.clone().map(TokenRef::Text);
    let bos = special.bos.as_ref().or(before.as_ref()).map(|token| find("bos", token)).transpose()?;
    let ends: Vec<u32> = special.eos.iter().map(|token| find("eos", token)).collect::<Result<_, _>>()?;
    let after = after.as_ref().map(|token| find("eos", token)).transpose()?;
    let eos = ends.first().copied().or(after);
    let add_bos = special.add_bos.unwrap_or(template.before.is_some());
    let add_eos = special.add_eos.unwrap_or(template.after.is_some());
    if add_bos && bos.is_none() {
        return Err(Error::NoSuchToken { role: "bos" });
    }
    if add_eos && eos.is_none() {
        return Err(Error::NoSuchToken { role: "eos" });
    }
    let named = END_NAMES.iter().filter_map(|name| vocabulary.id(name));
    let named = named.filter(|&id| matches!(vocabulary.kind(id), Kind::Special | Kind::Added));
    let mut eog: Vec<u32> = named.chain(ends).chain(eos).collect();
    eog.sort_unstable();
    eog.dedup();
    Ok(Control { bos, eos, add_bos, add_eos, eog })
}

fn supported(part: &'static str, map: &Map<String, Value>, known: &[&str], names: &'static str) -> Result<(), Error> {
    let found = map.get("type").and_then(Value::as_str).unwrap_or("null");
    if known.contains(&found) {
        return Ok(());
    }
    Err(Error::Part { part, found: found.to_owned(), supported: names })
}

fn object<'a>(root: &'a Value, name: &str) -> Result<&'a Map<String, Value>, Error> {
    root[name].as_object().ok_or_else(|| field(name, "an object"))
}

fn array<'a>(map: &'a Map<String, Value>, path: &str, name: &str) -> Result<&'a [Value], Error> {
    map.get(name).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| field(path, "an array"))
}

fn flag(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A token id below the limit on the size of a vocabulary.
fn token_id(value: &Value, path: &str) -> Result<u32, Error> {
    let id = value.as_u64().ok_or_else(|| field(path, "a token id"))?;
    match u32::try_from(id) {
        Ok(id) if (id as usize) < MAX_TOKENS => Ok(id),
        _ => Err(Error::Limit {
            what: "a token id",
            found: usize::try_from(id).unwrap_or(usize::MAX),
            limit: MAX_TOKENS - 1,
        }),
    }
}

fn field(name: &str, expected: &'static str) -> Error {
    Error::Field { field: name.to_owned(), expected }
}
