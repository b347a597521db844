//! `Model::open("hf:owner/name")`, from a hub on this machine to text.
#![cfg(feature = "download")]

#[path = "../../tritwise-loader/tests/support/hub.rs"]
mod hub;

use std::path::Path;

use hub::{COMMIT, TestHub};
use tritwise::download::Hub;
use tritwise::{Model, Sampling};

const FOLDER: &str = "llama-bitlinear-divide";
const FILE: &str = "bitnet-1bitllm.i2_s.gguf";

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The text that a model writes, or at least its ids where there is no tokenizer.
fn text(model: &Model) -> String {
    let mut session = model.session();
    match model.tokenizer() {
        Ok(_) => session.push("Hello").unwrap(),
        Err(_) => session.push_tokens(&[1, 2, 3]).unwrap(),
    }
    let pieces = session.generate(&Sampling::greedy().max_tokens(12)).unwrap();
    pieces.map(|piece| piece.unwrap().text).collect()
}

#[test]
fn a_folder_on_the_hub_is_the_folder() {
    let files = std::fs::read_dir(fixtures().join(FOLDER)).unwrap().map(|entry| entry.unwrap());
    let server = TestHub::new(
        files.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())),
    );
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path()).endpoint(&server.url);
    let open = |hub: &Hub| Model::builder().threads(1).hub(hub.clone()).open("hf:tests/model").unwrap();
    let model = open(&hub);
    let local = Model::builder().threads(1).open(fixtures().join(FOLDER)).unwrap();
    assert!(!text(&local).is_empty());
    assert_eq!(text(&model), text(&local));
    let fetched = model.fetched().unwrap();
    assert_eq!((fetched.commit.as_str(), &fetched.unconfirmed), (COMMIT, &None));
    assert!(local.fetched().is_none());
    // The expected logits beside the fixture are none of the model's files.
    assert!(!fetched.path.join("logits.bin").exists());

    drop(server);
    let offline = open(&hub);
    assert_eq!(text(&offline), text(&local));
    assert!(offline.fetched().unwrap().unconfirmed.as_ref().unwrap().contains("cannot be reached"));
}

#[test]
fn a_file_on_the_hub_is_the_file() {
    let path = fixtures().join("gguf").join(FILE);
    let server = TestHub::new([(FILE.to_owned(), std::fs::read(&path).unwrap())]);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(cache.path()).endpoint(&server.url);
    let local = Model::builder().threads(1).open(path).unwrap();
    for name in ["hf:tests/model", &format!("hf:tests/model@{COMMIT}/{FILE}")] {
        let model = Model::builder().threads(1).hub(hub.clone()).open(name).unwrap();
        assert_eq!(text(&model), text(&local));
    }
    let why = Model::builder().hub(hub).open("hf:tests/model/none.gguf").unwrap_err().to_string();
    assert!(why.starts_with("hf:tests/model/none.gguf: is not there at revision main"), "{why}");
}
