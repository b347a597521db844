//! Models that the tests of sessions run.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::path::{Path, PathBuf};

use tritwise::{Model, ModelBuilder, Session};

/// A random Llama of a few thousand weights.
pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-bitlinear-divide")
}

/// The trained model in the repository.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/stories-8m.gguf")
}

pub(crate) fn open(builder: ModelBuilder, path: &Path) -> Model {
    builder.open(path).unwrap_or_else(|e| panic!("{e}"))
}

/// Tokens without meaning, each below the vocabulary's size.
pub(crate) fn tokens(model: &Model, count: usize) -> Vec<u32> {
    let vocab = model.config().vocab;
    (0..count).map(|i| ((i * i * 7 + i * 31 + 3) % vocab) as u32).collect()
}

/// The bits of a session's next logits.
pub(crate) fn bits(session: &mut Session) -> Vec<u32> {
    let logits = session.logits().unwrap_or_else(|e| panic!("{e}"));
    assert!(logits.iter().all(|x| x.is_finite()));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The same of a session of its own that reads `tokens` from the beginning.
pub(crate) fn fresh(model: &Model, like: &Session, tokens: &[u32]) -> Vec<u32> {
    let mut session = model.session_with(like.kv_type());
    session.push_tokens(tokens).expect("tokens fit");
    bits(&mut session)
}
