//! A vocabulary of any kind and any text: the vocabulary is refused, or the text becomes tokens of it, and they a text.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tritwise::tokenizer::{GgufVocab, Special, SpecialTokens, Tokenizer, Utf8Stream};

/// A zero byte between the text and the vocabulary, whose kind the first byte says.
fn parts(bytes: &[u8]) -> Option<(u8, String, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some((*kind, String::from_utf8_lossy(&rest[..end]).into_owned(), &rest[end + 1..]))
}

/// The keys of a GGUF file that are about its tokens; the lists are lines of `words`.
#[derive(Debug, Arbitrary)]
struct Keys {
    pre: u8,
    nfc: bool,
    ids: [Option<u8>; 6],
    flags: [Option<bool>; 3],
    types: Vec<u8>,
    scores: Vec<f32>,
    merges: Vec<(u8, u8)>,
    words: String,
}

const PRE: [&str; 6] = ["llama-bpe", "gpt-2", "falcon", "qwen2", "smollm", "default"];

fn gguf(model: &str, keys: Keys) -> GgufVocab {
    let tokens: Vec<String> = keys.words.split('\n').map(str::to_owned).collect();
    let token = |index: u8| tokens[usize::from(index) % tokens.len()].as_str();
    let cycled = |list: &[u8], i: usize| list.get(i % list.len().max(1)).map_or(1, |kind| i32::from(*kind % 8));
    let [bos, eos, eot, eom, unknown, padding] = keys.ids.map(|id| id.map(u32::from));
    let [add_bos, add_eos, add_space_prefix] = keys.flags;
    GgufVocab {
        model: model.to_owned(),
        pre: PRE.get(usize::from(keys.pre)).map(|pre| (*pre).to_owned()),
        normalizer: keys.nfc.then(|| "NFC".to_owned()),
        scores: (0..tokens.len()).map(|i| keys.scores.get(i).copied().unwrap_or(-(i as f32))).collect(),
        token_types: (0..tokens.len()).map(|i| cycled(&keys.types, i)).collect(),
        merges: keys.merges.iter().map(|&(left, right)| format!("{} {}", token(left), token(right))).collect(),
        tokens,
        bos,
        eos,
        eot,
        eom,
        unknown,
        padding,
        add_bos,
        add_eos,
        add_space_prefix,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, text, rest)) = parts(bytes) else { return };
    let tokenizer = match kind % 3 {
        0 => Tokenizer::from_json(rest, &SpecialTokens::default()),
        kind => {
            let Ok(keys) = Keys::arbitrary_take_rest(arbitrary::Unstructured::new(rest)) else { return };
            Tokenizer::from_gguf(gguf(if kind == 1 { "llama" } else { "gpt2" }, keys))
        }
    };
    let Ok(tokenizer) = tokenizer else { return };
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    for ids in [
        tokenizer.encode(&text, Special::Text),
        tokenizer.encode_prompt(&text, Special::Parse),
        tokenizer.encode_within(&text, &[middle]),
    ] {
        let Ok(ids) = ids else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "an id that is no token: {ids:?}");
        let _ = tokenizer.decode_with_special(&ids);
        let (mut stream, mut streamed) = (Utf8Stream::new(), String::new());
        ids.iter().for_each(|&id| stream.push(tokenizer.token_bytes(id), &mut streamed));
        stream.finish(&mut streamed);
        // A stream leaves the first space to whoever began the text.
        let whole = tokenizer.decode(&ids);
        assert!(streamed == whole || streamed.strip_prefix(' ') == Some(whole.as_str()), "{streamed:?} and {whole:?}");
    }
});
