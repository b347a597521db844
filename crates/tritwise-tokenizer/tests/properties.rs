//! What holds for every text: nothing is lost, and cuts don't matter.

mod support;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use support::{Fixture, byte_level, sentence_piece};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};
use tritwise_tokenizer::{GgufVocab, Special, StopStrings, Tokenizer, Utf8Stream};

static BYTE_LEVEL: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let fixture = byte_level();
    let names = fixture.cases.ids.keys();
    let gguf = |name: &String| GgufVocab { pre: Some(name.clone()), ..fixture.gguf.clone() };
    let mut tokenizers: Vec<Tokenizer> = names.map(|name| Tokenizer::from_gguf(gguf(name)).unwrap()).collect();
    tokenizers.push(fixture.json());
    tokenizers
});

static SENTENCE_PIECE: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let fixture: Fixture = sentence_piece();
    vec![fixture.gguf(), fixture.json()]
});

/// Texts of any characters, of letters that merge, and of what control tokens are made of.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        any::<String>(),
        "[a-e ]{0,12}",
        "[ \\t\\r\\n]{0,9}",
        "[0-9.,]{0,9}",
        "\\PC{0,6}",
        prop::sample::select(vec![
            "<|end|>", "<|tool|>", "<|", "|>", "<s>", "the", " the", "🦀", "e\u{301}", "▁", "Grün"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(word, 0..8).prop_map(|words| words.concat())
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn byte_level_decodes_what_it_encoded(text in text()) {
        for tokenizer in BYTE_LEVEL.iter() {
            let ids = tokenizer.encode(&text, Special::Text).unwrap();
            prop_assert!(ids.iter().all(|&id| !tokenizer.is_special(id)));
            prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
            let parsed = tokenizer.encode(&text, Special::Parse).unwrap();
            prop_assert_eq!(tokenizer.decode_with_special(&parsed), text.as_str());
        }
    }

    #[test]
    fn sentence_piece_decodes_what_it_encoded(text in text()) {
        let text = text.replace('▁', " ").replace("<|tool|>", "tool");
        for tokenizer in SENTENCE_PIECE.iter() {
            let ids = tokenizer.encode(&text, Special::Text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
        }
    }

    #[test]
    fn both_file_forms_encode_alike(text in text()) {
        let [gguf, json] = &SENTENCE_PIECE[..] else { unreachable!() };
        for special in [Special::Text, Special::Parse] {
            prop_assert_eq!(gguf.encode(&text, special).unwrap(), json.encode(&text, special).unwrap());
        }
    }

    #[test]
    fn streamed_tokens_are_the_decoded_text(text in text(), ids in prop::collection::vec(0u32..700, 0..40)) {
        for tokenizer in BYTE_LEVEL.iter().take(1).chain(SENTENCE_PIECE.iter()) {
            for ids in [&tokenizer.encode(&text, Special::Parse).unwrap(), &ids] {
                let mut stream = Utf8Stream::new();
                let mut streamed = String::new();
                for &id in ids {
                    stream.push(tokenizer.token_bytes(id), &mut streamed);
                }
                stream.finish(&mut streamed);
                // A space at the very front belongs to SentencePiece, not to the text.
                let front = streamed.strip_prefix(' ').unwrap_or(&streamed);
                let decoded = tokenizer.decode(ids);
                prop_assert!(decoded == streamed || decoded == front, "{decoded:?} {streamed:?}");
            }
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_stream_like_a_lossy_conversion(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            any::<String>().prop_map(String::into_bytes),
            // Starts, ends and middles of characters, where the rules are.
            prop::collection::vec(prop::sample::select(b"a\x80\xBF\xC3\xE2\x82\xED\xA0\xF0\x9F\x98\x80\xF4\x90\xFF".to_vec()), 0..40),
        ],
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut stream = Utf8Stream::new();
        let mut text = String::new();
        for cut in cuts.windows(2) {
            stream.push(&bytes[cut[0]..cut[1]], &mut text);
        }
        stream.finish(&mut text);
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn stop_strings_are_found_wherever_the_text_is_cut(
        text in "[abé🦀]{0,30}",
        stops in prop::collection::vec("[abé🦀]{1,4}", 0..4),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        // Obviously: the shortest beginning of the text that ends with a stop string, and of those the longest.
        let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
        let expected = ends.clone().find_map(|end| {
            let found = stops.iter().enumerate().filter(|(_, stop)| text[..end].ends_with(stop.as_str()));
            found.max_by_key(|(index, stop)| (stop.len(), std::cmp::Reverse(*index))).map(|(index, stop)| (end - stop.len(), index))
        });

        let borders: Vec<usize> = ends.chain([0]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.get(&borders)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut matcher = StopStrings::new(stops).unwrap();
        let mut released = String::new();
        let found = cuts.windows(2).find_map(|cut| matcher.push(&text[cut[0]..cut[1]], &mut released));
        match expected {
            Some((start, index)) => {
                prop_assert_eq!(found, Some(index));
                prop_assert_eq!(released, &text[..start]);
            }
            None => {
                prop_assert_eq!(found, None);
                matcher.finish(&mut released);
                prop_assert_eq!(released, text);
            }
        }
    }

    /// Merges in the order of a list, against the crate's, on vocabularies at random.
    #[test]
    fn list_order_is_the_crates(pieces in pieces(), order: u64, text in "[abc]{1,40}") {
        let (tokens, merges) = vocabulary(pieces, order, usize::MAX);
        prop_assume!(!merges.is_empty());
        let ours = Tokenizer::from_gguf(GgufVocab {
            model: "gpt2".into(),
            pre: Some("gpt-2".into()),
            tokens: tokens.clone(),
            merges: merges.iter().map(|(left, right)| format!("{left} {right}")).collect(),
            ..GgufVocab::default()
        });
        prop_assert_eq!(ours.unwrap().encode(&text, Special::Text).unwrap(), reference(&tokens, merges, &text));
    }

    /// Merges in the order of scores, against the crate's in the order of the list that says the same.
    /// A piece with two splits is one score here and two ranks there, so it has only one.
    #[test]
    fn score_order_is_the_crates(pieces in pieces(), order: u64, text in "[abc]{1,40}") {
        let (tokens, merges) = vocabulary(pieces, order, 1);
        let ours = Tokenizer::from_gguf(GgufVocab {
            model: "llama".into(),
            scores: (0..tokens.len()).map(|rank| -(rank as f32)).collect(),
            tokens: tokens.clone(),
            add_space_prefix: Some(false),
            ..GgufVocab::default()
        });
        prop_assert_eq!(ours.unwrap().encode(&text, Special::Text).unwrap(), reference(&tokens, merges, &text));
    }
}

fn pieces() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set("[abc]{2,5}", 0..40)
}

/// Tokens, best first, and a merge for every split of each; pieces with more than `splits` are left out.
fn vocabulary(pieces: BTreeSet<String>, order: u64, splits: usize) -> (Vec<String>, Vec<(String, String)>) {
    let mut pieces: Vec<String> = pieces.into_iter().collect();
    pieces.sort_by_key(|piece| order.rotate_left(piece.len() as u32 * 7).wrapping_mul(hash(piece)));
    let mut tokens = ["a", "b", "c"].map(str::to_owned).to_vec();
    // Short ones first, so that the halves of a piece are known when it is looked at.
    let mut known: BTreeSet<String> = tokens.iter().cloned().collect();
    let mut by_length = pieces.clone();
    by_length.sort_by_key(String::len);
    let halves = |piece: &str, known: &BTreeSet<String>| -> Vec<(String, String)> {
        let halves = (1..piece.len()).map(|at| (piece[..at].to_owned(), piece[at..].to_owned()));
        halves.filter(|(left, right)| known.contains(left) && known.contains(right)).collect()
    };
    known.extend(by_length.iter().fold(known.clone(), |mut known, piece| {
        if (1..=splits).contains(&halves(piece, &known).len()) {
            known.insert(piece.clone());
        }
        known
    }));
    pieces.retain(|piece| known.contains(piece));
    let merges = pieces.iter().flat_map(|piece| halves(piece, &known)).collect();
    tokens.extend(pieces);
    (tokens, merges)
}

fn hash(piece: &str) -> u64 {
    piece.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

fn reference(tokens: &[String], merges: Vec<(String, String)>, text: &str) -> Vec<u32> {
    let words: Vocab = tokens.iter().cloned().zip(0u32..).collect();
    let bpe = BPE::builder().vocab_and_merges(words, merges).build().unwrap();
    bpe.tokenize(text).unwrap().iter().map(|token| token.id).collect()
}
