//! Encoding, beside Hugging Face's `tokenizers`.
//!
//! `cargo bench --bench tokenizer`, or `… -- prose` for one text. Both crates have the same `tokenizer.json`, run on
//! one thread, and must give the same ids before they are timed. Throughput is bytes of text.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tritwise_loader::{Conversion, Options};
use tritwise_tensor::TernaryEncoding;
use tritwise_tokenizer::{Special, SpecialTokens, Tokenizer};

/// English, with some code: this project's own pages.
fn prose() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = std::fs::read_dir(root.join("docs")).unwrap().map(|page| page.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.iter().map(|page| std::fs::read_to_string(page).unwrap()).collect()
}

/// Short lines in many scripts: what the tests' corpus is made of.
fn scripts() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/tritwise-tokenizer/tests/fixtures/corpus.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts: Vec<&str> = fixture["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    // Seven is prime to their number, so that each has others beside it.
    (0..20_000)
        .map(|n| (0..6).map(|k| texts[(n * 7 + k * k * 31) % texts.len()]).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The files: a vocabulary of each kind that the tests have, and that of the bundled model.
fn vocabularies() -> Vec<(&'static str, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = |name: &str| {
        let path = root.join("crates/tritwise-tokenizer/tests/fixtures").join(format!("{name}.tokenizer.json"));
        std::fs::read(path).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("folder");
    let source = tritwise_loader::open(root.join("assets/stories-8m.gguf"), &Options::default()).unwrap();
    let mut conversion = Conversion::default();
    conversion.linear = TernaryEncoding::HfPacked;
    tritwise_loader::convert(&source, &folder, &conversion, &mut |_| {}).unwrap();
    let bundled = std::fs::read(folder.join("tokenizer.json")).unwrap();
    vec![("bundled", bundled), ("byte-level", fixture("byte-level")), ("sentence-piece", fixture("sentence-piece"))]
}

fn encode(c: &mut Criterion) {
    for (name, json) in vocabularies() {
        let ours = Tokenizer::from_json(&json, &SpecialTokens::default()).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        for (text, lines) in [("prose", prose()), ("scripts", scripts())] {
            for line in &lines {
                let expected = theirs.encode_fast(line.as_str(), false).unwrap();
                assert_eq!(ours.encode(line, Special::Parse).unwrap(), expected.get_ids(), "{name}: {line:?}");
            }
            let mut group = c.benchmark_group(format!("{text}/{name}"));
            group.throughput(Throughput::Bytes(lines.iter().map(String::len).sum::<usize>() as u64));
            group.sample_size(10).measurement_time(Duration::from_secs(2));
            group.bench_function("tritwise", |b| {
                b.iter(|| {
                    lines.iter().map(|line| ours.encode(black_box(line), Special::Parse).unwrap().len()).sum::<usize>()
                });
            });
            group.bench_function("tokenizers", |b| {
                let ids = |line: &String| theirs.encode_fast(black_box(line.as_str()), false).unwrap().len();
                b.iter(|| lines.iter().map(ids).sum::<usize>());
            });
            group.finish();
        }
    }
}

criterion_group!(benches, encode);
criterion_main!(benches);
