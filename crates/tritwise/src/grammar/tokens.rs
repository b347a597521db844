//! A model's tokenizer as `llguidance` takes it: a trie of what tokens spell, and the encoding of a piece of text.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use tritwise_tokenizer::{Special, Tokenizer};

/// A model's tokens as `llguidance` takes them.
pub(super) struct Tokens {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

/// Tokens of more bytes are left out, and never made: the trie has no room for their depth.
const MAX_TOKEN_BYTES: usize = 1000;

/// Most bytes of all tokens: the trie numbers its nodes in 22 bits.
const MAX_TRIE_BYTES: usize = (1 << 22) - 1;

impl Tokens {
    /// The tokens of a model whose logits are `vocab`.
    pub(super) fn new(tokenizer: Arc<Tokenizer>, vocab: usize) -> Result<Self, String> {
        let size = u32::try_from(tokenizer.vocab_size().min(vocab)).map_err(|_| "it has too many tokens")?;
        let ends: Vec<u32> = tokenizer.eog().iter().copied().filter(|end| *end < size).collect();
        let first = *ends.first().ok_or("none of its tokens ends a text")?;
        let words: Vec<Vec<u8>> = (0..size).map(|id| word(&tokenizer, id)).collect();
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > MAX_TRIE_BYTES {
            return Err(format!("its tokens have {bytes} bytes, and {MAX_TRIE_BYTES} is the limit"));
        }
        let trie = TokTrie::from(&TokRxInfo::new(size, first), &words).with_eos_tokens(&ends);
        Ok(Self { tokenizer, trie })
    }

    /// The tokenizer's tokens of a piece of text inside another one.
    fn encode(&self, text: &str) -> Vec<u32> {
        let spells = |ids: &[u32], text: &[u8]| {
            let mut bytes = ids.iter().flat_map(|id| self.tokenizer.token_bytes(*id)).copied();
            text.iter().all(|byte| bytes.next() == Some(*byte)) && bytes.next().is_none()
        };
        let encode = |text: &str| self.tokenizer.encode(text, Special::Text).ok();
        if let Some(ids) = encode(text).filter(|ids| spells(ids, text.as_bytes())) {
            return ids;
        }
        // A SentencePiece vocabulary puts a space before a text. It does so before this line's end, too, which no
        // vocabulary joins to a letter.
        let behind_line = |mut ids: Vec<u32>| {
            let line = (1..=ids.len()).find(|&count| ids.get(..count).is_some_and(|ids| spells(ids, b" \n")))?;
            ids.drain(..line);
            Some(ids)
        };
        let ids = encode(&format!("\n{text}")).and_then(behind_line).filter(|ids| spells(ids, text.as_bytes()));
        ids.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }
}

/// What token `id` is to a grammar: its bytes; behind a byte that is in no text, the name of a control token; or nothing,
/// if it can never be part of the text.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let bytes = tokenizer.token_bytes(id);
    match tokenizer.token_text(id) {
        Some(name) if tokenizer.is_special(id) || tokenizer.is_eog(id) => [&[MARKER], name.as_bytes()].concat(),
        _ if bytes.len() > MAX_TOKEN_BYTES || bytes.first() == Some(&MARKER) => Vec::new(),
        _ => bytes.to_vec(),
    }
}

/// How much of what a grammar leaves no choice about is looked at to find its next token.
const MAX_FORCED_BYTES: usize = 2048;

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // Only the first tokens are asked for, again after each: of a long text, its beginning will do.
        let bytes = bytes.get(..MAX_FORCED_BYTES).unwrap_or(bytes);
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }
}

#[cfg(test)]
mod tests {
    use tritwise_tokenizer::GgufVocab;

    use super::*;

    fn tokens(pieces: &[&str], types: &[i32], vocab: usize) -> Result<Tokens, String> {
        let scores = (0..pieces.len()).map(|i| -(i as f32)).collect();
        let tokens = pieces.iter().map(|piece| String::from(*piece)).collect();
        let vocab_of =
            GgufVocab { model: "llama".into(), tokens, token_types: types.to_vec(), scores, ..Default::default() };
        Tokens::new(Arc::new(Tokenizer::from_gguf(vocab_of).unwrap()), vocab)
    }

    /// A SentencePiece vocabulary, whose texts begin with a space: not so a piece of text inside another one.
    #[test]
    fn a_piece_of_text_is_encoded_without_a_space_before_it() {
        let pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab", "<0x0A>", "<0xFF>", "<0xC3>"];
        let types = [2, 3, 3, 1, 1, 1, 1, 1, 1, 6, 6, 6];
        let tokens = tokens(&pieces, &types, 100).unwrap();
        assert_eq!(tokens.encode("a"), [4]);
        assert_eq!(tokens.encode(" a"), [6]);
        assert_eq!(tokens.encode("ab ab"), [7, 8]);
        assert_eq!(tokens.encode("\na"), [9, 4]);
        assert!(tokens.encode("").is_empty());
        assert_eq!(tokens.tokenize_bytes(b"a\xc3"), [4, 11]);
        // Control tokens have names and no bytes, and the byte that marks them is no token.
        assert_eq!(tokens.trie.token(2), b"\xff</s>");
        assert!(tokens.trie.token(10).is_empty());
        assert_eq!(tokens.trie.eos_tokens(), [2]);
    }

    #[test]
    fn tokens_that_cannot_be_followed_are_refused() {
        let error = |pieces: &[&str], types: &[i32], vocab| tokens(pieces, types, vocab).map(|_| ()).unwrap_err();
        assert!(error(&["<unk>", "a"], &[2, 1], 9).contains("ends a text"));
        // The end has no logit.
        assert!(error(&["<unk>", "a", "</s>"], &[2, 1, 3], 2).contains("ends a text"));
    }
}
