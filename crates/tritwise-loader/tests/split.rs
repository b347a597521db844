//! Models in several GGUF files: read from any part, or refused by the name of the part that is wrong.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::*;
use tempfile::TempDir;
use tritwise_loader::{Conversion, Error, Options, Source};
use tritwise_tensor::Checkpoint;

const PARTS: usize = 3;

/// The test model in parts, as gguf-split writes them.
struct Split {
    folder: TempDir,
}

fn part_name(no: usize) -> String {
    format!("model-{:05}-of-{PARTS:05}.gguf", no + 1)
}

impl Split {
    /// The parts of `whole`; `change` is told each one's number.
    fn with(whole: &Gguf, change: impl Fn(usize, &mut Gguf)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let each = whole.tensors.len().div_ceil(PARTS);
        for (no, tensors) in whole.tensors.chunks(each).enumerate() {
            let metadata = if no == 0 { whole.metadata.clone() } else { Vec::new() };
            let mut part = Gguf { metadata, tensors: tensors.to_vec() };
            part.set("split.no", no as u16);
            part.set("split.count", PARTS as u16);
            part.set("split.tensors.count", whole.tensors.len() as i32);
            change(no, &mut part);
            fs::write(folder.path().join(part_name(no)), part.bytes()).unwrap();
        }
        Self { folder }
    }

    fn new() -> Self {
        Self::with(&Gguf::new("llama", I2S).with_tokenizer(), |_, _| ())
    }

    fn path(&self, no: usize) -> PathBuf {
        self.folder.path().join(part_name(no))
    }

    /// What is said when part `no` is opened.
    fn refusal(&self, no: usize) -> String {
        match open(&self.path(no)).and_then(|source| read_all(&source)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

fn open(path: &Path) -> Result<Source, Error> {
    tritwise_loader::open(path, &Options::default())
}

#[test]
fn any_part_stands_for_all() {
    let whole = Gguf::new("llama", I2S).with_tokenizer().open().unwrap();
    let split = Split::new();
    for no in 0..PARTS {
        let source = open(&split.path(no)).unwrap();
        assert_eq!(source.config(), whole.config());
        assert_eq!(source.chat_templates(), whole.chat_templates());
        assert_eq!(source.tokenizer().unwrap().unwrap().vocab_size(), VOCAB);
        assert_reads_right(&source, scale);
        let description = tritwise_loader::describe(split.path(no)).unwrap();
        assert_eq!(description.tensors, whole.describe().tensors);
        assert_eq!(description.architecture.as_deref(), Some("llama"));
    }
}

#[test]
fn a_first_part_without_tensors_is_one() {
    // gguf-split --no-tensor-first-split
    let whole = Gguf::new("llama", I2S);
    let split = Split::with(&whole, |no, part| match no {
        0 => part.tensors.clear(),
        1 => part.tensors = whole.tensors[..10].to_vec(),
        _ => part.tensors = whole.tensors[10..].to_vec(),
    });
    assert_reads_right(&open(&split.path(1)).unwrap(), scale);
}

#[test]
fn parts_are_converted_into_one_file() {
    let split = Split::new();
    let to = split.folder.path().join("whole.gguf");
    tritwise_loader::convert(&open(&split.path(2)).unwrap(), &to, &Conversion::default(), &mut |_| {}).unwrap();
    let written = open(&to).unwrap();
    assert_reads_right(&written, scale);
    assert!(written.describe().metadata.iter().all(|(key, _)| !key.starts_with("split.")));
}

#[test]
fn a_part_that_is_not_as_it_should_be() {
    let missing = Split::new();
    fs::remove_file(missing.path(1)).unwrap();

    let truncated = Split::new();
    let bytes = fs::read(truncated.path(2)).unwrap();
    fs::write(truncated.path(2), &bytes[..bytes.len() / 2]).unwrap();

    let repeated = Split::new();
    fs::copy(repeated.path(0), repeated.path(1)).unwrap();

    let renamed = Split::new();
    fs::rename(renamed.path(0), renamed.folder.path().join("model.gguf")).unwrap();
    let renamed = open(&renamed.folder.path().join("model.gguf")).unwrap_err().to_string();

    let alone = Split::new();
    fs::write(alone.path(2), Gguf::new("llama", I2S).bytes()).unwrap();

    let foreign = Split::new();
    fs::copy(Split::with(&Gguf::new("bitnet", I2S), |_, _| ()).path(2), foreign.path(2)).unwrap();

    // A part of another model that counts as many tensors.
    let stale = Split::new();
    fs::copy(
        Split::with(&Gguf::new("llama", I2S), |no, part| {
            if no == 2 {
                part.tensors.pop();
            }
        })
        .path(2),
        stale.path(2),
    )
    .unwrap();
    let overlapping = Split::new();
    fs::copy(
        Split::with(&Gguf::new("llama", I2S), |no, part| {
            if no == 2 {
                part.tensors[0] = Gguf::new("llama", I2S).tensors[0].clone();
            }
        })
        .path(2),
        overlapping.path(2),
    )
    .unwrap();

    let many = Split::with(&Gguf::new("llama", I2S), |_, part| part.set("split.count", 2000u16));
    let wrong_type = Split::with(&Gguf::new("llama", I2S), |_, part| part.set("split.no", "first"));
    let endless = Split::with(&Gguf::new("llama", I2S), |_, part| part.set("split.no", u64::MAX));
    assert_refusals(vec![
        ("all in order", Split::new().refusal(0), &["accepted"]),
        ("a missing part", missing.refusal(0), &["model-00002-of-00003.gguf", "cannot be read", "all 3 parts"]),
        ("the same from the last", missing.refusal(2), &["model-00002-of-00003.gguf", "all 3 parts"]),
        ("a part cut short", truncated.refusal(0), &["model-00003-of-00003.gguf"]),
        ("a part twice", repeated.refusal(0), &["model-00002-of-00003.gguf", "says that it is part 1"]),
        ("a part under another name", renamed, &["model.gguf", "-00001-of-00003.gguf"]),
        ("a whole model for a part", alone.refusal(0), &["model-00003-of-00003.gguf", "nothing of being a part"]),
        (
            "another model's part",
            foreign.refusal(0),
            &["model-00003-of-00003.gguf", "of a model of 21 tensors", "another"],
        ),
        ("a part that lacks a tensor", stale.refusal(0), &["a model of 21 tensors", "hold 20"]),
        (
            "a tensor in two parts",
            overlapping.refusal(0),
            &["model-00003-of-00003.gguf", "token_embd.weight", "also in"],
        ),
        ("more parts than are opened", many.refusal(0), &["split.count is 2000", "1024"]),
        ("a part's number that is none", wrong_type.refusal(0), &["model-00001-of-00003.gguf", "split.no"]),
        ("a part beyond all counting", endless.refusal(0), &["does not end in"]),
    ]);
}
