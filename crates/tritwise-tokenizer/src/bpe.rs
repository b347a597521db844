//! Byte-pair encoding: merge the best pair of neighbours until none merges.
//!
//! ```text
//! symbols    ▁ t h e          pairs that are tokens: "▁t" rank 7, "th" rank 4, "he" rank 0
//! best pair  ▁ t he           "the" rank 5: merge again …
//! ```
//!
//! A symbol starts as one character (in byte-level vocabularies: as one byte,
//! spelled as a character). The two kinds of file differ in what ranks a pair:
//!
//! * a list of merges ranks it by its place in the list (Sennrich et al.,
//!   arXiv 1508.07909), whatever its text;
//! * SentencePiece ranks it by the score of the token it makes, whatever its
//!   halves (arXiv 1808.06226; `bpe_model.cc` in google/sentencepiece).
//!
//! Of equal ranks the leftmost merges first. A heap of pairs makes this O(n log n).
//!
//! The `tokenizers` crate has a BPE too, used here first and now the tests'
//! reference. It passes over characters that have no token without a word,
//! panics on a merge longer than the longest token, lets a list of merges spell
//! control tokens, and keeps a cache of words in thread-local storage that
//! outlives the tokenizer. It was no faster, and needs SentencePiece's scores
//! rewritten as a list several times the vocabulary.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::Error;
use crate::vocabulary::{Kind, Vocabulary};

/// The merges of a vocabulary, and what becomes of characters that have no token.
#[derive(Debug)]
pub(crate) struct Bpe {
    pub(crate) order: Order,
    /// A piece that is a token as a whole skips the merges (`ignore_merges`).
    pub(crate) whole_pieces: bool,
    /// What stands for a character without a token or bytes.
    pub(crate) unknown: Option<u32>,
    /// A run of unknown characters is one unknown token.
    pub(crate) fuse_unknown: bool,
    /// The token of each byte, for characters without a token.
    bytes: Box<[Option<u32>; 256]>,
}

/// What ranks a pair of neighbours; the lowest rank merges first.
pub(crate) enum Order {
    /// The two tokens: their rank, and the token they make.
    List(HashMap<(u32, u32), (u32, u32)>),
    /// The token they make: its rank by score, for each id.
    Scores(Vec<u32>),
}

impl Bpe {
    /// Merges in `order`; no unknown token, no skipping.
    pub(crate) fn new(vocabulary: &Vocabulary, order: Order) -> Self {
        let mut bytes = Box::new([None; 256]);
        for (id, _, kind) in vocabulary.iter() {
            if let Kind::Byte(byte) = kind
                && let Some(slot) = bytes.get_mut(usize::from(byte))
            {
                *slot = Some(id);
            }
        }
        Self { order, whole_pieces: false, unknown: None, fuse_unknown: true, bytes }
    }

    /// Appends the tokens of `piece`.
    ///
    /// # Errors
    /// [`Error::Unencodable`] for a character that has no token, while the
    /// vocabulary has neither its bytes nor an unknown token.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, piece: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        if self.whole_pieces
            && let Some(id) = reachable(vocabulary, piece)
        {
            ids.push(id);
            return Ok(());
        }
        let mut after_unknown = false;
        for symbol in self.merge(vocabulary, piece).iter().filter(|symbol| symbol.len > 0) {
            let text = symbol.text(piece);
            if let Some(id) = symbol.id {
                ids.push(id);
            } else if text.bytes().all(|byte| self.byte(byte).is_some()) {
                ids.extend(text.bytes().filter_map(|byte| self.byte(byte)));
            } else if let Some(unknown) = self.unknown {
                if !(after_unknown && self.fuse_unknown) {
                    ids.push(unknown);
                }
                after_unknown = true;
                continue;
            } else {
                return Err(Error::Unencodable(text.to_owned()));
            }
            after_unknown = false;
        }
        Ok(())
    }

    fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes.get(usize::from(byte)).copied().flatten()
    }

    /// The symbols of `piece` after all merges; those merged into a left neighbour have length 0.
    fn merge(&self, vocabulary: &Vocabulary, piece: &str) -> Vec<Symbol> {
        let symbol = |(index, (start, c)): (usize, (usize, char))| {
            let symbol = Symbol { start, len: c.len_utf8(), id: None, left: index.wrapping_sub(1), right: index + 1 };
            Symbol { id: reachable(vocabulary, symbol.text(piece)), ..symbol }
        };
        let mut symbols: Vec<Symbol> = piece.char_indices().enumerate().map(symbol).collect();
        let candidate = |symbols: &[Symbol], left: usize| {
            let a = symbols.get(left)?;
            let b = symbols.get(a.right)?;
            let len = a.len + b.len;
            let (rank, id) = match &self.order {
                Order::List(merges) => *merges.get(&(a.id?, b.id?))?,
                Order::Scores(ranks) => {
                    let id = reachable(vocabulary, Symbol { len, ..*a }.text(piece))?;
                    (*ranks.get(id as usize)?, id)
                }
            };
            Some(Reverse(Candidate { rank, left, len, id }))
        };
        let mut heap: BinaryHeap<_> = (0..symbols.len()).filter_map(|left| candidate(&symbols, left)).collect();
        while let Some(Reverse(best)) = heap.pop() {
            let Some(&left) = symbols.get(best.left) else {
                continue;
            };
            let Some(&right) = symbols.get(left.right) else {
                continue;
            };
            // Symbols only grow, so another sum of lengths means that one of the two has merged since.
            if left.len == 0 || left.len + right.len != best.len {
                continue;
            }
            if let Some(merged) = symbols.get_mut(left.right) {
                merged.len = 0;
            }
            if let Some(merged) = symbols.get_mut(best.left) {
                *merged = Symbol { len: best.len, id: Some(best.id), right: right.right, ..left };
            }
            if let Some(next) = symbols.get_mut(right.right) {
                next.left = best.left;
            }
            heap.extend(candidate(&symbols, left.left));
            heap.extend(candidate(&symbols, best.left));
        }
        symbols
    }
}

impl Order {
    /// The order of a list of merges, best first, each as its two halves.
    ///
    /// A merge of or into a control token is passed over, so that no text can
    /// spell one; the files that have such merges got them from a converter
    /// that split every entry of the vocabulary.
    ///
    /// # Errors
    /// A half or a result that is not in the vocabulary.
    pub(crate) fn list<'a>(
        vocabulary: &Vocabulary,
        merges: impl ExactSizeIterator<Item = Result<(&'a str, &'a str), Error>>,
    ) -> Result<Self, Error> {
        let mut order = HashMap::with_capacity(merges.len());
        let mut joined = String::new();
        for (merge, index) in merges.zip(0u32..) {
            let (left, right) = merge?;
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let find = |text: &str, problem| {
                let merge = || format!("{left} {right}");
                vocabulary.id(text).ok_or_else(|| Error::Merge { index: index as usize, merge: merge(), problem })
            };
            let a = find(left, "its left half is not a token")?;
            let b = find(right, "its right half is not a token")?;
            let made = find(&joined, "its result is not a token")?;
            if [a, b, made].iter().all(|&id| is_reachable(vocabulary.kind(id))) {
                order.insert((a, b), (index, made));
            }
        }
        Ok(Self::List(order))
    }

    /// The order of scores, highest first, one for each token; equal scores have equal ranks.
    ///
    /// # Errors
    /// Another number of scores than tokens, or a score that is NaN.
    pub(crate) fn scores(vocabulary: &Vocabulary, scores: &[f32]) -> Result<Self, Error> {
        if scores.len() != vocabulary.len() {
            return Err(Error::Length {
                table: "tokenizer.ggml.scores",
                found: scores.len(),
                tokens: vocabulary.len(),
            });
        }
        if let Some(((id, text, _), _)) = vocabulary.iter().zip(scores).find(|(_, score)| score.is_nan()) {
            return Err(Error::Token { id, text: text.to_owned(), problem: "its score is NaN".to_owned() });
        }
        let mut distinct = scores.to_vec();
        distinct.sort_unstable_by(|a, b| b.total_cmp(a));
        distinct.dedup();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "there are as many at most as there are ids, which are u32"
        )]
        let rank = |score: &f32| distinct.partition_point(|other| other > score) as u32;
        Ok(Self::Scores(scores.iter().map(rank).collect()))
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(merges) => write!(f, "List of {}", merges.len()),
            Self::Scores(ranks) => write!(f, "Scores of {}", ranks.len()),
        }
    }
}

/// The token of `text`, if text may lead to it.
fn reachable(vocabulary: &Vocabulary, text: &str) -> Option<u32> {
    vocabulary.id(text).filter(|&id| is_reachable(vocabulary.kind(id)))
}

/// Control tokens, bytes and unused places are not spelled by text.
fn is_reachable(kind: Kind) -> bool {
    matches!(kind, Kind::Normal | Kind::Added)
}

/// A stretch of the piece, linked to its neighbours; an index outside the list means none.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    id: Option<u32>,
    left: usize,
    right: usize,
}

impl Symbol {
    #[expect(clippy::string_slice, reason = "symbols are runs of the piece's characters")]
    fn text(self, piece: &str) -> &str {
        &piece[self.start..self.start + self.len]
    }
}

/// Two neighbours that could merge into token `id` of `len` bytes; ordered by rank, then place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    len: usize,
    id: u32,
}
