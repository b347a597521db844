//! Which files of a repository are the model.

use std::path::PathBuf;

use super::Failure;
use super::name::Name;
use crate::error::printable;
use crate::{hf, limits};

/// The files beside a folder's weights that are read, or that say what kind of model it is.
const BESIDE: [&str; 9] = [
    "config.json",
    hf::INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
];

/// A repository at one revision: on the hub, or what the cache has of it.
pub(crate) trait Repository {
    /// The names of its files, which may be anything.
    fn files(&mut self) -> Result<Vec<String>, Failure>;
    /// The file of that name, in the cache's snapshot of the revision's commit.
    fn place(&mut self, file: &str) -> Result<PathBuf, Failure>;
}

/// Has the model's files placed in the cache and returns what to open.
pub(crate) fn collect(name: &Name, repository: &mut dyn Repository) -> Result<PathBuf, Failure> {
    match name.file.as_deref() {
        Some(file) if has_extension(file, "gguf") => gguf(repository, file),
        Some(file) if has_extension(file, "safetensors") => {
            let files = repository.files()?;
            let (folder, file) = file.split_at(file.rfind('/').map_or(0, |slash| slash + 1));
            folder_of(name, repository, &files, folder, Some(file))
        }
        Some(_) => {
            Err(name.refuse("is neither a .gguf nor a .safetensors file: name one, or the repository alone").into())
        }
        None => {
            let files = repository.files()?;
            let is_model = |file: &&str| has_extension(file, "gguf") && part_of(file).is_none_or(|part| part.no == 1);
            let models: Vec<&str> = files.iter().map(String::as_str).filter(is_model).collect();
            match models.as_slice() {
                [] => folder_of(name, repository, &files, "", None),
                [file] => gguf(repository, file),
                several => {
                    Err(name.refuse(format_args!("has several models: name one, of {}", listed(several))).into())
                }
            }
        }
    }
}

/// Has a GGUF file placed, and the others if it is part of a split model.
fn gguf(repository: &mut dyn Repository, file: &str) -> Result<PathBuf, Failure> {
    if let Some(part) = part_of(file) {
        for no in (1..=part.count).filter(|&no| no != part.no) {
            repository.place(&format!("{}-{no:05}-of-{:05}.gguf", part.stem, part.count))?;
        }
    }
    repository.place(file)
}

/// What the name of a part of a split model says.
struct Part<'a> {
    stem: &'a str,
    /// Counted from 1.
    no: usize,
    count: usize,
}

/// `…-0000n-of-0000N.gguf` is part n of N (`gguf/split.rs`).
fn part_of(file: &str) -> Option<Part<'_>> {
    let (rest, count) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<usize>().ok().filter(|_| plain)
    };
    let (no, count) = (number(no)?, number(count)?);
    // What says that it has more parts is refused when it is opened.
    (count <= limits::SHARDS && (1..=count).contains(&no)).then_some(Part { stem, no, count })
}

/// Has a folder's weights placed, all or `named`, and what is beside them.
///
/// Weights come last, so that a snapshot that has them has everything.
fn folder_of(
    name: &Name,
    repository: &mut dyn Repository,
    files: &[String],
    folder: &str,
    named: Option<&str>,
) -> Result<PathBuf, Failure> {
    let in_folder = |file: &str| format!("{folder}{file}");
    let has = |file: &str| files.contains(&in_folder(file));
    let safetensors: Vec<&str> =
        files.iter().map(String::as_str).filter(|file| has_extension(file, "safetensors")).collect();
    if safetensors.is_empty() {
        return Err(name.refuse("has neither .gguf nor .safetensors files, and no others are read").into());
    }
    if let Some(file) = named.filter(|file| !has(file)) {
        return Err(name.refuse(format_args!("has no {}; there is {}", printable(file), listed(&safetensors))).into());
    }
    if !has(BESIDE[0]) {
        return Err(name.refuse(format_args!("has no {} beside its safetensors", in_folder(BESIDE[0]))).into());
    }
    let mut shards = Vec::new();
    for file in BESIDE.into_iter().filter(|file| has(file)) {
        let path = repository.place(&in_folder(file))?;
        if file == hf::INDEX {
            shards = hf::shards_in(&path)?;
        }
    }
    let weights = match named {
        Some(file) if !shards.iter().any(|shard| shard == file) => vec![file.to_owned()],
        None if has(hf::SINGLE) => vec![hf::SINGLE.to_owned()],
        _ => shards,
    };
    let mut open = None;
    for file in &weights {
        let path = repository.place(&in_folder(file))?;
        match named {
            Some(named) if named == file => open = Some(path),
            Some(_) => {}
            None => open = path.parent().map(PathBuf::from),
        }
    }
    open.ok_or_else(|| {
        name.refuse(format_args!("has no {}: name a file, of {}", hf::SINGLE, listed(&safetensors))).into()
    })
}

fn has_extension(file: &str, extension: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

/// A few of `files`, for an error.
fn listed(files: &[&str]) -> String {
    const MOST: usize = 12;
    let mut listed: Vec<String> = files.iter().take(MOST).map(|file| printable(file)).collect();
    if files.len() > MOST {
        listed.push(format!("{} more", files.len() - MOST));
    }
    listed.join(", ")
}
