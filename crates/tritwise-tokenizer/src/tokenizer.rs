//! The tokenizer: text to ids and back.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Token,
};

use crate::Error;
use crate::bpe::Bpe;
use crate::chat::{Rendered, borders};
use crate::limits::MAX_ADDED_BYTES;
use crate::normalize::{Marked, Normalizers};
use crate::vocabulary::{Kind, Vocabulary};

/// What the names of control tokens mean when they stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They are text like any other: right for whatever a user typed.
    Text,
    /// They are the control tokens: right for a rendered chat template.
    Parse,
}

/// Turns text into token ids and ids into text.
///
/// Built by [`from_json`](Self::from_json) or [`from_gguf`](Self::from_gguf);
/// immutable and shareable between threads afterwards.
///
/// ```
/// use tritwise_tokenizer::{GgufVocab, Special, Tokenizer};
///
/// // A SentencePiece vocabulary of four pieces; real ones come from a file.
/// let vocab = GgufVocab {
///     model: "llama".into(),
///     tokens: ["<unk>", "<s>", "</s>", "▁", "a", "▁a"].map(String::from).to_vec(),
///     token_types: vec![2, 3, 3, 1, 1, 1],
///     scores: vec![0.0, 0.0, 0.0, -3.0, -2.0, -1.0],
///     ..GgufVocab::default()
/// };
/// let tokenizer = Tokenizer::from_gguf(vocab)?;
/// let ids = tokenizer.encode_prompt("a a", Special::Text)?;
/// assert_eq!(ids, [1, 5, 5]);
/// assert_eq!(tokenizer.decode(&ids), "a a");
/// # Ok::<(), tritwise_tokenizer::Error>(())
/// ```
pub struct Tokenizer {
    vocabulary: Vocabulary,
    bpe: Bpe,
    normalizers: Normalizers,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    /// Tokens found in text whoever wrote it.
    added: AddedVocabulary,
    /// Those and the control tokens.
    added_and_special: AddedVocabulary,
    /// Whether a control token is looked for in the normalised text.
    normalized_control: bool,
    space_prefix: bool,
    control: Control,
}

impl Tokenizer {
    /// The ids of `text`, without BOS and EOS.
    ///
    /// # Errors
    /// [`Error::Unencodable`] for a character that the vocabulary cannot express; never in one that has all 256 bytes.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let added = match special {
            Special::Text => &self.added,
            Special::Parse => &self.added_and_special,
        };
        self.encode_pieces(added.extract_and_normalize(Some(&self.normalizers), text))
    }

    fn encode_pieces(&self, mut pieces: PreTokenizedString) -> Result<Vec<u32>, Error> {
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(|error| Error::Encode(error.to_string()))?;
        }
        let mut ids = Vec::new();
        for (piece, _, found) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match found {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.bpe.encode(&self.vocabulary, piece, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// The ids of `text` as the start of a sequence: with BOS in front and EOS
    /// behind where the file asks for them, but no second BOS before one that
    /// `text` already starts with.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode(text, special)?;
        self.put_bos(&mut ids);
        if let Some(eos) = self.control.eos.filter(|_| self.control.add_eos) {
            ids.push(eos);
        }
        Ok(ids)
    }

    fn put_bos(&self, ids: &mut Vec<u32>) {
        let bos = self.control.bos.filter(|_| self.control.add_bos);
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
    }

    /// The ids of a rendered conversation: with BOS in front where the file asks for it and the template did not write
    /// it, never with EOS behind.
    ///
    /// Control tokens are those that the template wrote; names of them in messages are text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode_within(&rendered.text, &rendered.borders)?;
        self.put_bos(&mut ids);
        Ok(ids)
    }

    /// The ids of `text` with control tokens parsed, but for those that span one of `borders`: bytes of the text, in
    /// rising order. Such a one is text like any other.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`Error::NoMark`].
    ///
    /// # Panics
    /// A border is inside a character or outside the text.
    pub fn encode_within(&self, text: &str, borders: &[usize]) -> Result<Vec<u32>, Error> {
        if borders.is_empty() {
            return self.encode(text, Special::Parse);
        }
        let mark = borders::absent_mark([text]).ok_or(Error::NoMark)?;
        let marked = borders::insert(text, borders.iter().copied(), mark);
        let mut pieces = self.find_marked(&marked, mark);
        let unmark = |piece: NormalizedString| NormalizedString::from(piece.get().replace(mark, ""));
        pieces.split(|_, piece| Ok([unmark(piece)])).map_err(|error| Error::Encode(error.to_string()))?;
        self.encode_pieces(pieces)
    }

    /// Finds added and control tokens in a text with marks, which are still in the pieces.
    fn find_marked(&self, marked: &str, mark: char) -> PreTokenizedString {
        let normalizer = Marked { normalizers: &self.normalizers, mark };
        self.added_and_special.extract_and_normalize(Some(&normalizer), marked)
    }

    /// The names of control tokens that are looked for in texts.
    pub(crate) fn control_names(&self) -> impl Iterator<Item = &str> {
        self.vocabulary.iter().filter(|&(.., kind)| kind == Kind::Special).map(|(_, text, _)| text)
    }

    /// Whether normalisation makes control tokens of what does not spell them.
    pub(crate) fn has_hidden_control(&self, text: &str) -> bool {
        if !self.normalized_control {
            return false;
        }
        let pieces = self.added_and_special.extract_and_normalize(Some(&self.normalizers), text);
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        splits
            .iter()
            .any(|(.., found)| found.iter().flat_map(|tokens| tokens.iter()).any(|token| self.is_special(token.id)))
    }

    /// The text of `ids`, control tokens left out.
    ///
    /// The inverse of [`encode`](Self::encode) for a whole text, unless the file has texts normalised (NFC, NFKC, lower
    /// case: then of the normalised one) or has characters without a token become `<unk>`: the space that
    /// a SentencePiece vocabulary puts in front of a text is taken away again
    /// (not so the one after each token found inside a text, nor is a U+2581 in
    /// the text told from the space it stands for).
    /// Bytes that are no UTF-8, as when `ids` were cut inside a character,
    /// become U+FFFD. For a text that grows token by token use
    /// [`token_bytes`](Self::token_bytes) with a [`Utf8Stream`](crate::Utf8Stream).
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_by(ids, |id| self.vocabulary.bytes(id))
    }

    /// As [`decode`](Self::decode), with the names of control tokens where they stand.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decode_by(ids, |id| match self.vocabulary.kind(id) {
            Kind::Special => self.vocabulary.text(id).unwrap_or_default().as_bytes(),
            _ => self.vocabulary.bytes(id),
        })
    }

    /// The bytes that token `id` adds to a text: possibly part of a character,
    /// none for control tokens and for ids outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// The token's text as the file spells it (`Ġthe`, `▁the`, `<0x0A>`, `<|eot_id|>`), for people to read;
    /// `None` for an id that stands for nothing.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// The token that the file spells `text`.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Whether `id` is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == Kind::Special
    }

    /// How many tokens there are. The model's embedding may have more rows, for padding.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.control.bos
    }

    /// The token that ends a text, as the file names it; generation ends at any of [`eog`](Self::eog).
    pub fn eos(&self) -> Option<u32> {
        self.control.eos
    }

    /// Whether [`encode_prompt`](Self::encode_prompt) puts BOS in front.
    pub fn add_bos(&self) -> bool {
        self.control.add_bos
    }

    /// Whether [`encode_prompt`](Self::encode_prompt) puts EOS behind.
    pub fn add_eos(&self) -> bool {
        self.control.add_eos
    }

    /// The tokens that end a generation, in rising order: end of text, of turn, of message.
    pub fn eog(&self) -> &[u32] {
        &self.control.eog
    }

    /// Whether `id` ends a generation.
    pub fn is_eog(&self, id: u32) -> bool {
        self.control.eog.binary_search(&id).is_ok()
    }

    fn decode_by<'a>(&self, ids: &[u32], bytes_of: impl Fn(u32) -> &'a [u8]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| bytes_of(id)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.space_prefix => rest.to_owned(),
            _ => text.into_owned(),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("tokens", &self.vocabulary.len())
            .field("bpe", &self.bpe)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// The tokens around a text.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
    /// Sorted, without repetition.
    pub(crate) eog: Vec<u32>,
}

/// What the readers of the two file formats deliver.
pub(crate) struct Parts {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) bpe: Bpe,
    pub(crate) normalizers: Normalizers,
    pub(crate) pre_tokenizer: Option<PreTokenizerWrapper>,
    /// Tokens looked for before splitting; which are control tokens is the vocabulary's to say.
    pub(crate) added: Vec<AddedToken>,
    /// Whether encoding put a space before the text.
    pub(crate) space_prefix: bool,
    pub(crate) control: Control,
}

impl Parts {
    pub(crate) fn assemble(self) -> Result<Tokenizer, Error> {
        let bytes: usize = self.added.iter().map(|token| token.content.len()).sum();
        if bytes > MAX_ADDED_BYTES {
            return Err(Error::Limit { what: "the length of all added tokens", found: bytes, limit: MAX_ADDED_BYTES });
        }
        for token in self.added.iter().filter(|token| token.normalized) {
            let mut text = NormalizedString::from(token.content.as_str());
            let normalized = self.normalizers.normalize(&mut text);
            // The search would find it everywhere, even inside characters.
            if normalized.is_err() || text.is_empty() {
                let id = self.vocabulary.id(&token.content).unwrap_or_default();
                let problem = "nothing is left of it after normalisation".to_owned();
                return Err(Error::Token { id, text: token.content.clone(), problem });
            }
        }
        let names = Names(&self.vocabulary);
        let searched = |tokens: Vec<AddedToken>| {
            let mut added = AddedVocabulary::new();
            added
                .add_tokens(tokens, &names, Some(&self.normalizers))
                .map_err(|error| Error::Encode(format!("the added tokens clash: {error}")))?;
            Ok(added)
        };
        let normalized_control = self.added.iter().any(|token| token.special && token.normalized);
        let plain = self.added.iter().filter(|token| !token.special).cloned().collect();
        let (added, added_and_special) = (searched(plain)?, searched(self.added)?);
        Ok(Tokenizer {
            added,
            added_and_special,
            vocabulary: self.vocabulary,
            bpe: self.bpe,
            normalizers: self.normalizers,
            pre_tokenizer: self.pre_tokenizer,
            normalized_control,
            space_prefix: self.space_prefix,
            control: self.control,
        })
    }
}

/// The vocabulary in the form in which the crate looks up the ids of added tokens.
struct Names<'a>(&'a Vocabulary);

impl Model for Names<'_> {
    type Trainer = BpeTrainer;

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.text(id).map(str::to_owned)
    }

    fn get_vocab_size(&self) -> usize {
        self.0.len()
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.iter().map(|(id, text, _)| (text.to_owned(), id)).collect()
    }

    fn tokenize(&self, _: &str) -> tokenizers::Result<Vec<Token>> {
        Err("only names are looked up here".into())
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("only names are looked up here".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}

/// Names under which published models end a turn or a text: of control tokens, and of added ones, as which some files
/// type them.
pub(crate) const END_NAMES: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
];
