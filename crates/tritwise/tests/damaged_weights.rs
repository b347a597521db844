//! Weights that come to no numbers: an error that says so, from every call, and for the texts concerned alone.

use std::path::PathBuf;

use tritwise::transformer::{self, Turn, Wanted};
use tritwise::{Error, HeadMode, KvType, Model, Pooling, Sampling};

/// A random Gemma that embeds, whose embedding rows of some tokens are NaN. Other tokens' logits are numbers, as the head
/// is tied, unless one of these is in the text: then all are none; and theirs never are.
fn damaged(untied: bool, tokens: &[usize]) -> Model {
    // NaN.
    let folder = with_rows(untied, tokens, &[0xff]);
    Model::builder().threads(1).no_mmap(true).open(folder.path()).unwrap_or_else(|e| panic!("{e}"))
}

/// The folder of such a model, with `fill` in place of NaN, again and again.
fn with_rows(untied: bool, tokens: &[usize], fill: &[u8]) -> tempfile::TempDir {
    let name = if untied { "llama-bitlinear-divide" } else { "gemma3-embedding" };
    let sound: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name].iter().collect();
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(sound.join(file), folder.path().join(file)).expect("a copy");
    }
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("the copy");
    let len = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).expect("a header");
    let tensors = header.as_object().expect("an object");
    let (_, table) = tensors.iter().find(|(name, _)| name.contains("embed_tokens")).expect("an embedding");
    let (start, end) = (&table["data_offsets"][0], &table["data_offsets"][1]);
    let (start, end) = (start.as_u64().expect("a number") as usize, end.as_u64().expect("a number") as usize);
    let row = (end - start) / table["shape"][0].as_u64().expect("a number") as usize;
    for token in tokens {
        let row = &mut bytes[8 + len + start + token * row..][..row];
        row.iter_mut().zip(fill.iter().cycle()).for_each(|(byte, fill)| *byte = *fill);
    }
    std::fs::write(&path, bytes).expect("the copy");
    folder
}

fn is_no_number(error: &Error) -> bool {
    let text = error.to_string();
    let names = text.contains("the logit of token") && text.contains("the file's weights are damaged");
    names && matches!(error, Error::Model(transformer::Error::Logit { .. }))
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let model = damaged(true, &[7]);
    for kv in [KvType::F16, KvType::F32, KvType::Int8] {
        let mut session = model.session_with(kv);
        session.push_tokens(&[3, 7, 4]).expect("there is room");
        assert!(is_no_number(&session.logits().unwrap_err()), "{kv:?}");
        let mut generation = session.generate(&Sampling::greedy().max_tokens(4)).expect("it begins");
        assert!(is_no_number(&generation.next().expect("an error").unwrap_err()), "{kv:?}");
        assert!(generation.next().is_none(), "a generation that failed has ended");
        drop(generation);
        // Without the damaged token the session goes on as if nothing had happened.
        session.truncate(1);
        session.push_tokens(&[4]).expect("there is room");
        let logits = session.logits().expect("numbers").to_vec();
        let mut fresh = model.session_with(kv);
        fresh.push_tokens(&[3, 4]).expect("there is room");
        assert_eq!(logits, fresh.logits().expect("numbers"), "{kv:?}");
    }
    let error = model.negative_log_likelihood(&[3, 7, 4]).unwrap_err();
    assert!(is_no_number(&error), "{error}");
}

#[test]
fn a_logit_that_is_no_number_is_named() {
    // The head is tied, so the row makes a logit.
    let model = damaged(false, &[7]);
    let mut session = model.session();
    session.push_tokens(&[3, 4]).expect("there is room");
    let error = session.logits().unwrap_err();
    assert!(matches!(error, Error::Model(transformer::Error::Logit { turn: 0, token: 7 })), "{error:?}");
    assert!(error.to_string().starts_with("the logit of token 7 is not a finite number"), "{error}");
}

#[test]
fn a_logit_below_all_numbers_is_an_error_of_every_head() {
    // In each column the largest BF16 and its negative, among zeros. Where the hidden vector has more than one, a logit is infinite; and −∞
    // in place of another would say that it does not matter.
    let mut refused = 0;
    for (col, high) in (0..64).flat_map(|col| [(col, 0x7f), (col, 0xff)]) {
        let mut row = [0; 128];
        row[2 * col..][..2].copy_from_slice(&[0x7f, high]);
        let folder = with_rows(false, &[7], &row);
        for head in [HeadMode::Screened, HeadMode::Full] {
            let builder = Model::builder().threads(1).no_mmap(true).head(head);
            let model = builder.open(folder.path()).unwrap_or_else(|e| panic!("{e}"));
            let mut session = model.session();
            session.push_tokens(&[3, 4]).expect("there is room");
            let wrong = session.logits().is_err_and(|error| is_no_number(&error));
            refused += usize::from(wrong);
            for sampling in [Sampling::greedy(), Sampling::default()] {
                session.truncate(2);
                let mut generation = session.generate(&sampling.max_tokens(1)).expect("it begins");
                let piece = generation.next().expect("a token or an error");
                assert_eq!(piece.is_err_and(|error| is_no_number(&error)), wrong, "column {col}, {high:x}, {head:?}");
            }
        }
    }
    assert!(refused > 0 && refused % 4 == 0, "{refused} refused: one sign as the other, one head as the other");
}

#[test]
fn embeddings_that_are_no_numbers_are_an_error() {
    let model = damaged(false, &[7]);
    let token = String::from_utf8_lossy(model.tokenizer().expect("one").token_bytes(7)).into_owned();
    for pooling in [Pooling::Mean, Pooling::Last] {
        let error = model.embed_with(&[token.as_str()], pooling).unwrap_err();
        assert!(matches!(error, Error::Model(transformer::Error::Hidden { turn: 0, .. })), "{error:?}");
        assert!(error.to_string().contains("of a hidden vector is not a finite number"), "{error}");
    }
}

#[test]
fn other_texts_of_a_batch_are_as_if_they_were_alone() {
    let model = damaged(true, &[7]);
    let tokenizer = model.tokenizer().expect("one");
    let damaging = String::from_utf8_lossy(tokenizer.token_bytes(7)).into_owned();
    let prompts = ["a".to_owned(), damaging.clone(), "b".to_owned(), format!("a{damaging}"), "ab".to_owned()];
    let sampling = Sampling::greedy().max_tokens(3);
    let alone = |prompt: &String| {
        let mut session = model.session();
        session.push(prompt).expect("there is room");
        let pieces = session.generate(&sampling).expect("it begins");
        pieces.map(|piece| piece.map(|piece| piece.text)).collect::<Result<String, _>>()
    };
    let mut failed = 0;
    for (index, completion) in model.complete(&prompts, &sampling).in_flight(4) {
        match (completion, alone(&prompts[index])) {
            (Ok(completion), Ok(text)) => assert_eq!(completion.text, text),
            (Err(error), Err(_)) => {
                assert!(is_no_number(&error), "{error}");
                failed += 1;
            }
            (batch, alone) => panic!("{index}: {batch:?} and {alone:?}"),
        }
    }
    assert!((2..5).contains(&failed), "{failed} of {}", prompts.len());
}

#[test]
fn a_wrong_guess_at_a_damaged_token_changes_nothing() {
    let model = damaged(true, &[7]);
    let mut plain = model.session();
    // What repeats invites the guess that 7 comes again; the model says something else, or comes to it by itself.
    plain.push_tokens(&[3, 4, 5, 6, 3, 4]).expect("there is room");
    let sampling = Sampling::greedy().max_tokens(6);
    let run = |draft: Option<u32>| {
        let mut session = model.session();
        session.push_tokens(&[3, 4, 5, 6, 3, 4]).expect("there is room");
        let mut generation = session.generate(&sampling).expect("it begins");
        if let Some(token) = draft {
            generation = generation.drafting(Guess(token));
        }
        let failed = generation.find_map(Result::err).map(|error| error.to_string());
        (session.tokens().to_vec(), failed)
    };
    let expected = run(None);
    assert_eq!(run(Some(7)), expected);
    assert_eq!(run(Some(8)), expected);
}

/// Always guesses the same token.
#[derive(Debug)]
struct Guess(u32);

impl tritwise::Draft for Guess {
    fn draft(&mut self, _: &[u32], most: usize, guesses: &mut Vec<u32>) -> Result<(), Error> {
        guesses.extend([self.0; 3].iter().take(most));
        Ok(())
    }
}

#[test]
fn a_forward_call_that_fails_changes_no_sequence() {
    let model = damaged(true, &[7]);
    let network = model.network();
    let mut workspace = network.workspace();
    let [mut sound, mut broken] = [network.sequence(8), network.sequence(8)];
    let error = {
        let turn = |sequence, tokens, wanted| Turn { sequence, tokens, wanted };
        let mut batch = [turn(&mut sound, &[3, 4][..], Wanted::All), turn(&mut broken, &[3, 7], Wanted::Last)];
        network.forward(&mut workspace, &mut batch).unwrap_err()
    };
    assert!(matches!(error, transformer::Error::Logit { turn: 1, token: 0 }), "{error:?}");
    assert_eq!((sound.len(), broken.len()), (0, 0));
}
