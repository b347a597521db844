//! A tokenizer from the metadata of a GGUF file.
//!
//! The container's reader is another crate; this one takes the values of the
//! `tokenizer.ggml.*` keys as a plain [`GgufVocab`].

use tokenizers::normalizers::{NFC, Prepend, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::bpe::{Bpe, Order};
use crate::normalize::Normalizers;
use crate::pre::{self, Rule};
use crate::tokenizer::{Control, END_NAMES, Parts};
use crate::vocabulary::{Kind, SPACE, Spelling, Vocabulary, byte_token};
use crate::{Error, Tokenizer};

/// The `tokenizer.ggml.*` values of a GGUF file; an absent key is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocab {
    /// `model`: `gpt2` for byte-level BPE, `llama` for SentencePiece BPE.
    pub model: String,
    /// `pre`: the name of the splitting rule of byte-level BPE.
    pub pre: Option<String>,
    /// `tritwise.normalizer`, this project's key: `NFC` where texts are composed before they are split, as Qwen's are. No
    /// other program's files or readers have it.
    pub normalizer: Option<String>,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `scores`, by id; needed for `llama`, ignored for `gpt2`.
    pub scores: Vec<f32>,
    /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all normal.
    pub token_types: Vec<i32>,
    /// `merges`, best first, as `left right`; needed for `gpt2`.
    pub merges: Vec<String>,
    /// `bos_token_id`: the beginning of a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: the end of a text.
    pub eos: Option<u32>,
    /// `eot_token_id`: the end of a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: the end of a message.
    pub eom: Option<u32>,
    /// `unknown_token_id`: what has no token.
    pub unknown: Option<u32>,
    /// `padding_token_id`; only checked.
    pub padding: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`; only for `llama`.
    pub add_space_prefix: Option<bool>,
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// Two traps of published files are dealt with. Microsoft's BitNet
    /// b1.58-2B-4T file has no `pre` and types its control tokens as text: a
    /// vocabulary of 128256 tokens whose number 128000 is `<|begin_of_text|>`
    /// is Llama 3's, so it is split as `llama-bpe` and its `<|…|>` tokens from
    /// 128000 on are control tokens. Any other byte-level file without `pre`
    /// is refused, where llama.cpp would guess `default` and warn: about one
    /// text in seven would silently become other tokens.
    ///
    /// Generation ends ([`eog`](Self::eog)) at the file's `eos`, `eot` and
    /// `eom` and at tokens with the usual names for an end.
    ///
    /// # Errors
    /// An unknown model or `pre`, tables of different lengths, ids or merges
    /// outside the vocabulary, byte tokens not spelled `<0xHH>`, two tokens of
    /// the same text, sizes beyond any real vocabulary.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, Error> {
        match vocab.model.as_str() {
            "gpt2" => byte_level(vocab),
            "llama" => sentence_piece(vocab),
            _ => Err(Error::Model(vocab.model)),
        }
    }
}

fn byte_level(mut vocab: GgufVocab) -> Result<Tokenizer, Error> {
    let (rule, kinds) = byte_level_kinds(&vocab)?;
    let normalizers = match vocab.normalizer.as_deref() {
        None => Normalizers::default(),
        Some("NFC") => Normalizers::new([NFC.into()]),
        Some(other) => return Err(Error::Normalizer(other.to_owned())),
    };
    // A vocabulary of single bytes has none; in any other the table is lost, and text would fall to pieces.
    let merged = |(text, kind): (&String, &Kind)| *kind == Kind::Normal && text.chars().nth(1).is_some();
    if vocab.merges.is_empty() && vocab.tokens.iter().zip(&kinds).any(merged) {
        return Err(Error::Length { table: "tokenizer.ggml.merges", found: 0, tokens: vocab.tokens.len() });
    }
    let control = control(&vocab, &kinds, rule.add_bos)?;

    let tokens = std::mem::take(&mut vocab.tokens).into_iter().zip(kinds).collect();
    let vocabulary = Vocabulary::new(tokens, Spelling::ByteLevel)?;
    let merges = vocab.merges.iter().enumerate().map(|(index, merge)| halves(index, merge));
    let mut bpe = Bpe::new(&vocabulary, Order::list(&vocabulary, merges)?);
    bpe.whole_pieces = rule.ignore_merges;
    let mut steps = Vec::with_capacity(rule.splits.len() + 1);
    for expression in rule.splits {
        let pattern = SplitPattern::Regex((*expression).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(PreTokenizerWrapper::from(split.map_err(|error| Error::Encode(error.to_string()))?));
    }
    steps.push(ByteLevel::new(false, true, false).into());
    Parts {
        added: added(&vocabulary),
        vocabulary,
        bpe,
        normalizers,
        pre_tokenizer: Some(PreTokenizerSequence::new(steps).into()),
        space_prefix: false,
        control,
    }
    .assemble()
}

fn sentence_piece(mut vocab: GgufVocab) -> Result<Tokenizer, Error> {
    if let Some(normalizer) = vocab.normalizer {
        return Err(Error::Normalizer(normalizer));
    }
    let kinds = sentence_piece_kinds(&mut vocab)?;
    let control = control(&vocab, &kinds, true)?;

    let tokens = std::mem::take(&mut vocab.tokens).into_iter().zip(kinds).collect();
    let vocabulary = Vocabulary::new(tokens, Spelling::SentencePiece)?;
    let mut bpe = Bpe::new(&vocabulary, Order::scores(&vocabulary, &vocab.scores)?);
    bpe.unknown = vocab.unknown;
    let space = Replace::new(" ", SPACE.to_string()).map_err(|error| Error::Encode(error.to_string()))?;
    let space_prefix = vocab.add_space_prefix.unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if space_prefix {
        steps.push(Prepend::new(SPACE.to_string()).into());
    }
    steps.push(space.into());
    Parts {
        added: added(&vocabulary),
        vocabulary,
        bpe,
        normalizers: Normalizers::new(steps),
        pre_tokenizer: None,
        space_prefix,
        control,
    }
    .assemble()
}

/// How a byte-level vocabulary splits text, and what its tokens are for.
pub(crate) fn byte_level_kinds(vocab: &GgufVocab) -> Result<(Rule, Vec<Kind>), Error> {
    let llama3 = is_llama3(&vocab.tokens);
    let rule = match &vocab.pre {
        Some(name) => pre::rule(name).ok_or_else(|| Error::Pre(name.clone()))?,
        None if llama3 => pre::rule("llama-bpe").ok_or(Error::MissingPre)?,
        None => return Err(Error::MissingPre),
    };
    let mut kinds = kinds(vocab)?;
    // Control tokens that the file calls text: no merge leads to them, and they are named like an end.
    let merged = |text: &str| vocab.merges.iter().any(|merge| merge.len() == text.len() + 1 && is_split(merge, text));
    for (id, (text, kind)) in vocab.tokens.iter().zip(&mut kinds).enumerate() {
        let named = END_NAMES.contains(&text.as_str()) && !merged(text);
        let reserved = llama3 && id >= LLAMA3_BASE && text.starts_with("<|") && text.ends_with("|>");
        if *kind == Kind::Normal && (named || reserved) {
            *kind = Kind::Special;
        }
    }
    Ok((rule, kinds))
}

/// What the tokens of a SentencePiece vocabulary are for; the ids of its control tokens are filled in.
pub(crate) fn sentence_piece_kinds(vocab: &mut GgufVocab) -> Result<Vec<Kind>, Error> {
    let mut kinds = kinds(vocab)?;
    for (text, kind) in vocab.tokens.iter().zip(&mut kinds) {
        if *kind == Kind::Normal && END_NAMES.contains(&text.as_str()) {
            *kind = Kind::Special;
        }
    }
    // llama.cpp's defaults for this model.
    let present = |id: u32| Some(id).filter(|&id| kinds.get(id as usize) == Some(&Kind::Special));
    vocab.unknown = vocab.unknown.or_else(|| present(0));
    vocab.bos = vocab.bos.or_else(|| present(1));
    vocab.eos = vocab.eos.or_else(|| present(2));
    Ok(kinds)
}

/// Whether the tokens are Llama 3's, which the official BitNet 2B file uses without saying so.
fn is_llama3(tokens: &[String]) -> bool {
    tokens.len() == 128_256 && tokens.get(LLAMA3_BASE).is_some_and(|text| text == "<|begin_of_text|>")
}

/// The first of Llama 3's control tokens.
const LLAMA3_BASE: usize = 128_000;

fn kinds(vocab: &GgufVocab) -> Result<Vec<Kind>, Error> {
    if vocab.token_types.is_empty() {
        return Ok(vec![Kind::Normal; vocab.tokens.len()]);
    }
    if vocab.token_types.len() != vocab.tokens.len() {
        return Err(Error::Length {
            table: "tokenizer.ggml.token_type",
            found: vocab.token_types.len(),
            tokens: vocab.tokens.len(),
        });
    }
    let kind = |((text, &number), id): ((&String, &i32), u32)| {
        let wrong = |problem| Error::Token { id, text: text.clone(), problem };
        match number {
            1 => Ok(Kind::Normal),
            2 | 3 => Ok(Kind::Special),
            4 => Ok(Kind::Added),
            5 => Ok(Kind::Unused),
            6 => byte_token(text).map(Kind::Byte).ok_or_else(|| wrong("a byte token must read <0xHH>".to_owned())),
            _ => Err(wrong(format!("token type {number} is not one of 1 to 6"))),
        }
    };
    vocab.tokens.iter().zip(&vocab.token_types).zip(0u32..).map(kind).collect()
}

pub(crate) fn control(vocab: &GgufVocab, kinds: &[Kind], add_bos: bool) -> Result<Control, Error> {
    let tokens = vocab.tokens.len();
    let roles = [
        ("bos", vocab.bos),
        ("eos", vocab.eos),
        ("eot", vocab.eot),
        ("eom", vocab.eom),
        ("unknown", vocab.unknown),
        ("padding", vocab.padding),
    ];
    for (role, id) in roles {
        if let Some(id) = id.filter(|&id| id as usize >= tokens) {
            return Err(Error::Special { role, found: id.to_string(), tokens });
        }
    }
    let named = vocab.tokens.iter().zip(kinds).zip(0u32..);
    let named = named
        .filter(|((text, kind), _)| matches!(kind, Kind::Special | Kind::Added) && END_NAMES.contains(&text.as_str()));
    let mut eog: Vec<u32> = named.map(|(_, id)| id).chain(vocab.eos).chain(vocab.eot).chain(vocab.eom).collect();
    eog.sort_unstable();
    eog.dedup();
    if vocab.add_bos == Some(true) && vocab.bos.is_none() {
        return Err(Error::NoSuchToken { role: "bos" });
    }
    if vocab.add_eos == Some(true) && vocab.eos.is_none() {
        return Err(Error::NoSuchToken { role: "eos" });
    }
    Ok(Control {
        bos: vocab.bos,
        eos: vocab.eos,
        add_bos: vocab.add_bos.unwrap_or(add_bos && vocab.bos.is_some()),
        add_eos: vocab.add_eos.unwrap_or(false),
        eog,
    })
}

/// The tokens that are looked for in a text before it is split.
fn added(vocabulary: &Vocabulary) -> Vec<AddedToken> {
    vocabulary
        .iter()
        .filter(|(_, _, kind)| matches!(kind, Kind::Special | Kind::Added))
        .map(|(_, text, kind)| AddedToken::from(text, kind == Kind::Special).normalized(false))
        .collect()
}

/// The halves of `left right`: split at the first space after the first character, which may itself be a space.
pub(crate) fn halves(index: usize, merge: &str) -> Result<(&str, &str), Error> {
    let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
    let pair = space.and_then(|(at, _)| Some((merge.get(..at)?, merge.get(at + 1..)?)));
    let problem = "it is not two tokens with a space between";
    pair.ok_or_else(|| Error::Merge { index, merge: merge.to_owned(), problem })
}

/// Whether `merge` is `text` with a space somewhere in it.
fn is_split(merge: &str, text: &str) -> bool {
    halves(0, merge).is_ok_and(|(left, right)| text.strip_prefix(left) == Some(right))
}
