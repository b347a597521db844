//! Files that somebody changes while they are open: what is read does not notice, and what is mapped is locked.

mod support;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use support::*;
use tempfile::TempDir;
use tritwise_loader::{Options, Source};

fn no_mmap() -> Options {
    let mut options = Options::default();
    options.no_mmap = true;
    options
}

/// A GGUF file, two parts of one, and a folder, and in each the file of weights that tests change.
fn checkpoints(folder: &TempDir) -> Vec<(PathBuf, PathBuf)> {
    let gguf = folder.path().join("model.gguf");
    std::fs::write(&gguf, Gguf::new("bitnet-b1.58", I2S).bytes()).unwrap();
    let whole = Gguf::new("llama", I2S);
    let part = |no: u16| folder.path().join(format!("split-{:05}-of-00002.gguf", no + 1));
    for no in 0..2u16 {
        let mut half = whole.clone();
        let middle = half.tensors.len() / 2;
        half.tensors = if no == 0 { half.tensors[..middle].to_vec() } else { half.tensors[middle..].to_vec() };
        half.set("split.no", no);
        half.set("split.count", 2u16);
        half.set("split.tensors.count", whole.tensors.len() as i32);
        std::fs::write(part(no), half.bytes()).unwrap();
    }
    let hf = folder.path().join("hf");
    std::fs::create_dir(&hf).unwrap();
    Folder::new("LlamaForCausalLM", Stored::Divide).write(&hf);
    vec![(gguf.clone(), gguf), (part(0), part(1)), (hf.clone(), hf.join("model.safetensors"))]
}

fn open(path: &Path, options: &Options) -> Source {
    tritwise_loader::open(path, options).unwrap_or_else(|e| panic!("{e}"))
}

fn for_writing(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn what_was_read_is_right_though_the_file_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    for (path, weights) in checkpoints(&folder) {
        let source = open(&path, &no_mmap());
        for_writing(&weights).set_len(100).unwrap();
        read_all(&source).unwrap_or_else(|e| panic!("{e}"));
        if path == weights {
            assert_reads_right(&source, scale);
        }
    }
}

#[test]
fn mapped_files_are_locked_for_as_long_as_they_are_open() {
    let folder = tempfile::tempdir().unwrap();
    for (path, weights) in checkpoints(&folder) {
        let other = for_writing(&weights);
        let source = open(&path, &Options::default());
        let again = open(&path, &Options::default());
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)), "{}", path.display());
        drop(source);
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)), "{}", path.display());
        drop(again);
        other.try_lock().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn files_that_were_read_are_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    for (path, weights) in checkpoints(&folder) {
        let source = open(&path, &no_mmap());
        for_writing(&weights).try_lock().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        drop(source);
    }
}

#[test]
fn a_file_that_somebody_writes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (path, weights) in checkpoints(&folder) {
        let writer = for_writing(&weights);
        writer.lock().unwrap();
        for options in [Options::default(), no_mmap()] {
            let error = tritwise_loader::open(&path, &options).unwrap_err().to_string();
            let name = weights.display().to_string();
            assert!(error.starts_with(&name) && error.contains("exclusive lock"), "{error}");
            assert!(error.contains("open it when that has ended"), "{error}");
        }
        writer.unlock().unwrap();
        open(&path, &Options::default());
    }
}

#[test]
fn a_file_that_another_is_renamed_over_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, Gguf::new("bitnet-b1.58", I2S).bytes()).unwrap();
    let source = open(&path, &Options::default());
    let new = folder.path().join("new.gguf");
    std::fs::write(&new, b"GGUF").unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert_reads_right(&source, scale);
}
