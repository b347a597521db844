//! A model whose file is cut short while it is in use, which a mapped file must not be.

mod support;

use std::fs::OpenOptions;
use std::path::Path;

use support::{bits, bundled, open, tokens};
use tritwise::loader::{self, Conversion};
use tritwise::tensor::TernaryEncoding;
use tritwise::{Model, Sampling};

fn text(model: &Model) -> String {
    let mut session = model.session();
    session.push("Once upon a time").expect("there is room");
    let pieces = session.generate(&Sampling::greedy().max_tokens(16)).expect("it begins");
    pieces.map(|piece| piece.expect("a piece").text).collect()
}

fn cut_short(path: &Path) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(64)).expect("a file of the test's own");
}

#[test]
fn a_model_that_was_read_goes_on_with_the_right_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::copy(bundled(), &path).expect("a copy");
    let expected = text(&open(Model::builder(), &path));
    let model = open(Model::builder().no_mmap(true), &path);
    cut_short(&path);
    assert_eq!(text(&model), expected);
}

#[test]
fn weights_that_were_read_are_computed_with_in_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("i2_s.gguf");
    let source = loader::open(bundled(), &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut conversion = Conversion::default();
    conversion.linear = TernaryEncoding::I2S(Default::default());
    loader::convert(&source, &path, &conversion, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let logits = |model: &Model| {
        let mut session = model.session();
        session.push_tokens(&tokens(model, 20)).expect("there is room");
        bits(&mut session)
    };
    let expected = logits(&open(Model::builder(), &path));
    let model = open(Model::builder().in_place(true).no_mmap(true), &path);
    cut_short(&path);
    assert_eq!(logits(&model), expected);
}
