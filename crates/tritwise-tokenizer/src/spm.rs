//! SentencePiece's BPE: merge the best-scored pair until nothing merges.
//!
//! ```text
//! symbols      ▁ t h e          pairs in the vocabulary: "▁t" -2, "th" -5, "he" -1
//! best pair    ▁ t he           "the" -3: merge again …
//! ```
//!
//! A symbol starts as one character. The pair of neighbours whose
//! concatenation has the highest score is merged, the leftmost among equals,
//! and so on (Kudo and Richardson, arXiv 1808.06226; google/sentencepiece
//! `bpe_model.cc`). A heap of candidate pairs makes that O(n log n).
//!
//! The `tokenizers` crate can do the same with a list of merges rebuilt from
//! the vocabulary by splitting each piece at each place; that list is several
//! times the vocabulary and took most of the loading time. The tests compare the two.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Error;
use crate::vocabulary::{Kind, Vocabulary};

/// The scores of a SentencePiece BPE vocabulary.
#[derive(Debug)]
pub(crate) struct Spm {
    scores: Vec<f32>,
    /// The token of each byte, when there is one for all 256.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
}

impl Spm {
    /// The merger for `vocabulary` with one score per token.
    ///
    /// # Errors
    /// Another number of scores than tokens, or a score that is no number.
    pub(crate) fn new(vocabulary: &Vocabulary, scores: Vec<f32>, unknown: Option<u32>) -> Result<Self, Error> {
        if scores.len() != vocabulary.len() {
            return Err(Error::Length {
                table: "tokenizer.ggml.scores",
                found: scores.len(),
                tokens: vocabulary.len(),
            });
        }
        if let Some((id, text, _)) = vocabulary.iter().find(|&(id, ..)| scores[id as usize].is_nan()) {
            return Err(Error::Token {
                id,
                text: text.to_owned(),
                problem: "its score is NaN".to_owned(),
            });
        }
        let mut bytes: Vec<Option<u32>> = vec![None; 256];
        for (id, _, kind) in vocabulary.iter() {
            if let Kind::Byte(byte) = kind {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        let bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        let bytes = bytes.and_then(|bytes| bytes.into_boxed_slice().try_into().ok());
        Ok(Self { scores, bytes, unknown })
    }

    /// Appends the tokens of `text`, in which spaces are already U+2581.
    ///
    /// # Errors
    /// [`Error::Unencodable`] for a character without a token in a vocabulary
    /// that has neither byte tokens nor an unknown token.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        let symbols = self.merge(vocabulary, text);
        let mut after_unknown = false;
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = symbol.of(text);
            if let Some(id) = mergeable(vocabulary, piece) {
                ids.push(id);
                after_unknown = false;
            } else if let Some(bytes) = &self.bytes {
                ids.extend(piece.bytes().map(|byte| bytes[usize::from(byte)]));
                after_unknown = false;
            } else if let Some(unknown) = self.unknown {
                // A run of unknown characters is one unknown token, as in SentencePiece.
                if !after_unknown {
                    ids.push(unknown);
                }
                after_unknown = true;
            } else {
                return Err(Error::Unencodable(piece.to_owned()));
            }
        }
        Ok(())
    }

    /// The symbols of `text` after all merges; those merged into their left neighbour have length 0.
    fn merge(&self, vocabulary: &Vocabulary, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Symbol {
                start,
                len: c.len_utf8(),
                left: i.wrapping_sub(1),
                right: i + 1,
            })
            .collect();
        let mut heap = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<Pair>, symbols: &[Symbol], left: usize| {
            let Some(a) = symbols.get(left) else { return };
            let Some(b) = symbols.get(a.right) else { return };
            let len = a.len + b.len;
            if let Some(id) = mergeable(vocabulary, &text[a.start..a.start + len]) {
                heap.push(Pair {
                    score: self.scores[id as usize],
                    left,
                    len,
                });
            }
        };
        for left in 0..symbols.len() {
            push(&mut heap, &symbols, left);
        }
        while let Some(pair) = heap.pop() {
            let left = symbols[pair.left];
            let Some(&right) = symbols.get(left.right) else {
                continue;
            };
            // Lengths only grow, so another sum means that one side has merged since.
            if left.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            symbols[left.right].len = 0;
            symbols[pair.left].len = pair.len;
            symbols[pair.left].right = right.right;
            if let Some(next) = symbols.get_mut(right.right) {
                next.left = pair.left;
            }
            push(&mut heap, &symbols, left.left);
            push(&mut heap, &symbols, pair.left);
        }
        symbols
    }
}

/// The piece's token, if it is one that text may lead to.
fn mergeable(vocabulary: &Vocabulary, piece: &str) -> Option<u32> {
    let id = vocabulary.id(piece)?;
    matches!(vocabulary.kind(id), Kind::Normal | Kind::Added).then_some(id)
}

/// A stretch of the text, linked to its neighbours; an index outside the list means none.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    left: usize,
    right: usize,
}

impl Symbol {
    fn of<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.start + self.len]
    }
}

/// Two neighbours that could merge into a piece of `len` bytes.
#[derive(Debug, Clone, Copy)]
struct Pair {
    score: f32,
    left: usize,
    len: usize,
}

impl Ord for Pair {
    /// The greatest pair merges first: the highest score, then the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.score + 0.0)
            .total_cmp(&(other.score + 0.0))
            .then(other.left.cmp(&self.left))
            .then(self.len.cmp(&other.len))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}
