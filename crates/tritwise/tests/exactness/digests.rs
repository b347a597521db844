//! SHA-256 of logits, and the values recorded in `digests.txt`, to which every processor is held.
//!
//! A line is the subject's name and encoding, the mode, and the digest of the logits of its whole text: their
//! bits, little-endian, in order. `TRITWISE_RECORD=1` writes the lines of what runs anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

const RECORDED: &str = include_str!("digests.txt");

/// Tests run side by side and write the same file.
static RECORDING: Mutex<()> = Mutex::new(());

/// Holds the digests of logits, by subject and mode, against those recorded.
pub(crate) fn check(found: &BTreeMap<String, String>) {
    if std::env::var_os("TRITWISE_RECORD").is_some() {
        return record(found);
    }
    let recorded = lines(RECORDED);
    let differ: Vec<String> = found
        .iter()
        .filter(|(name, digest)| recorded.get(*name) != Some(digest))
        .map(|(name, digest)| format!("{name}: {digest}, recorded {}", recorded.get(name).map_or("nothing", |d| d)))
        .collect();
    assert!(differ.is_empty(), "logits have other bits than those recorded\n{}", differ.join("\n"));
}

fn record(found: &BTreeMap<String, String>) {
    let _one_at_a_time = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exactness/digests.txt");
    let mut all = lines(&std::fs::read_to_string(&path).expect("the file is there"));
    all.extend(found.clone());
    let text = all.iter().fold(String::new(), |mut text, (name, digest)| {
        writeln!(text, "{name} {digest}").expect("a string can be written to");
        text
    });
    std::fs::write(path, text).expect("the file can be written");
}

fn lines(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, digest)| (name.into(), digest.into())).collect()
}

/// The digest of the bits of logits.
pub(crate) fn of(bits: &[u32]) -> String {
    let mut sha = Sha256::new();
    bits.iter().for_each(|bits| sha.update(bits.to_le_bytes()));
    sha.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string can be written to");
        text
    })
}
