//! The table of tokens: text as the file spells it, the bytes it stands for, and its kind.

use std::collections::HashMap;

use crate::limits::{MAX_TOKEN_BYTES, MAX_TOKENS};
use crate::{Error, alphabet};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A piece of text.
    Normal,
    /// A piece of text that is looked for before the text is split.
    Added,
    /// A control token; its text is a name, not something said.
    Special,
    /// One byte, for characters that have no token.
    Byte(u8),
    /// A place in the table that no text leads to.
    Unused,
}

/// How the texts of normal tokens are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// In GPT-2's alphabet of bytes.
    ByteLevel,
    /// In plain characters, with U+2581 for a space.
    SentencePiece,
}

/// All tokens, by id and by text.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// All bytes, one token after the other; `ends[id]` is where token `id` ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    texts: Vec<String>,
    kinds: Vec<Kind>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The table of `tokens` in the order of their ids.
    ///
    /// A token without text becomes [`Kind::Unused`]: some converters fill gaps so.
    ///
    /// # Errors
    /// Too many tokens, a token too long, or a text that two ids share.
    pub(crate) fn new(tokens: Vec<(String, Kind)>, spelling: Spelling) -> Result<Self, Error> {
        let limit = |what, found, limit| Err(Error::Limit { what, found, limit });
        if tokens.len() > MAX_TOKENS {
            return limit("the number of tokens", tokens.len(), MAX_TOKENS);
        }
        let mut vocabulary = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(tokens.len()),
            texts: Vec::with_capacity(tokens.len()),
            kinds: Vec::with_capacity(tokens.len()),
            ids: HashMap::with_capacity(tokens.len()),
        };
        for ((text, kind), id) in tokens.into_iter().zip(0u32..) {
            if text.len() > MAX_TOKEN_BYTES {
                return limit("the length of a token in bytes", text.len(), MAX_TOKEN_BYTES);
            }
            let kind = if text.is_empty() { Kind::Unused } else { kind };
            if !text.is_empty()
                && let Some(other) = vocabulary.ids.insert(text.clone(), id)
            {
                return Err(Error::Token { id, text, problem: format!("token {other} has the same text") });
            }
            append_bytes(&mut vocabulary.bytes, &text, kind, spelling);
            vocabulary.ends.push(vocabulary.bytes.len());
            vocabulary.texts.push(text);
            vocabulary.kinds.push(kind);
        }
        Ok(vocabulary)
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The text as the file spells it; none for a gap.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The bytes the token adds to a text; none for special and unknown ids.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// What the token is for; [`Kind::Unused`] outside the table.
    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }

    /// The token with this text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Every token.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0u32..).zip(self.texts.iter().zip(&self.kinds)).map(|(id, (text, &kind))| (id, text.as_str(), kind))
    }
}

/// The byte of a token spelled `<0xHH>`, and of nothing that merely resembles it:
/// a lenient parser once indexed a table with the -1 of `<0x-1>` (llama.cpp pull request 25969).
pub(crate) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let &[high, low] = digits.as_bytes() else { return None };
    u8::try_from(hex(high)? * 16 + hex(low)?).ok()
}

fn append_bytes(bytes: &mut Vec<u8>, text: &str, kind: Kind, spelling: Spelling) {
    match (kind, spelling) {
        (Kind::Special | Kind::Unused, _) => {}
        (Kind::Byte(byte), _) => bytes.push(byte),
        (Kind::Normal | Kind::Added, Spelling::SentencePiece) => {
            bytes.extend_from_slice(text.replace(SPACE, " ").as_bytes());
        }
        (Kind::Added, Spelling::ByteLevel) => bytes.extend_from_slice(text.as_bytes()),
        (Kind::Normal, Spelling::ByteLevel) => {
            let start = bytes.len();
            for c in text.chars() {
                let Some(byte) = alphabet::byte(c) else {
                    // Not in the alphabet, so not spelled in it: a token added after training.
                    bytes.truncate(start);
                    bytes.extend_from_slice(text.as_bytes());
                    return;
                };
                bytes.push(byte);
            }
        }
    }
}

/// What SentencePiece writes for a space.
pub(crate) const SPACE: char = '\u{2581}';
