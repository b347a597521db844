//! Models that are spread over several GGUF files.
//!
//! Part `n` of `N` is named `…-0000n-of-0000N.gguf`, counted from 1, and is a whole GGUF file. Its keys say which it is:
//!
//! ```text
//! split.no              u16   this part, counted from 0
//! split.count           u16   all parts
//! split.tensors.count   i32   the tensors of all parts together
//! ```
//!
//! The model's own metadata is in the first part only. Source: llama.cpp's `tools/gguf-split/gguf-split.cpp`, and
//! `src/llama-model-loader.cpp` for what is made of it. Unlike there, any part may be the one that is named.

use std::path::Path;

use tritwise_gguf::{Header, Metadata};
use tritwise_tensor::CheckpointError;

use super::{add, parse};
use crate::Options;
use crate::container::Container;
use crate::error::file_error;
use crate::limits;

/// What a part says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    no: u64,
    pub(super) count: u64,
    tensors: Option<u64>,
}

impl Part {
    /// `None` for a file that is a model by itself.
    pub(super) fn of(label: &str, metadata: &Metadata) -> Result<Option<Self>, CheckpointError> {
        let number = |key: &str| metadata.unsigned(key).map_err(|error| file_error(label, error));
        let (no, count, tensors) = (number("split.no")?, number("split.count")?, number("split.tensors.count")?);
        match count {
            None | Some(0 | 1) => Ok(None),
            Some(count) if count > limits::SHARDS as u64 => Err(file_error(
                label,
                format_args!("metadata key split.count is {count}; at most {} parts are opened", limits::SHARDS),
            )),
            Some(count) => Ok(Some(Self { no: no.unwrap_or(0), count, tensors })),
        }
    }

    /// How the name of a file of this part ends.
    fn suffix(self) -> String {
        // Written before it is compared with the count, which a damaged file may not honour.
        format!("-{:05}-of-{:05}.gguf", self.no.saturating_add(1), self.count)
    }
}

/// All parts of a model, of which `path` is one: their tensors, and the header of the first.
pub(super) fn open(
    label: &str,
    path: &Path,
    part: Part,
    options: &Options,
) -> Result<(Container, Header), CheckpointError> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(part.suffix().as_str()) else {
        return Err(file_error(
            label,
            format_args!(
                "is part {} of {} of a split model by its metadata, but its name does not end in {}, so the others \
                 cannot be found; give it the name it was published under",
                part.no.saturating_add(1),
                part.count,
                part.suffix()
            ),
        ));
    };
    let mut container = Container::new(label.to_owned());
    let mut first = None;
    for no in 0..part.count {
        let expected = Part { no, ..part };
        let path = path.with_file_name(format!("{stem}{}", expected.suffix()));
        let part_label = path.display().to_string();
        let storage = crate::bytes::open(&path, options.no_mmap).map_err(|error| {
            file_error(
                &part_label,
                format_args!(
                    "cannot be read ({error}), and the model that {label} is part of needs it: all {} parts must lie \
                     in one folder",
                    part.count
                ),
            )
        })?;
        let header = parse(&part_label, &*storage)?;
        let found = Part::of(&part_label, header.metadata())?;
        if found != Some(expected) {
            return Err(file_error(&part_label, misplaced(found, expected)));
        }
        add(&mut container, &part_label, &header, storage, options.written_by)?;
        first.get_or_insert(header);
    }
    match (first, part.tensors) {
        (Some(_), Some(tensors)) if tensors != container.tensors().len() as u64 => Err(file_error(
            label,
            format_args!(
                "belongs to a model of {tensors} tensors, but its {} parts hold {}; one of them is of another model: \
                 download them again",
                part.count,
                container.tensors().len()
            ),
        )),
        (Some(first), _) => Ok((container, first)),
        (None, _) => Err(file_error(label, "has no parts")),
    }
}

/// Why a file in the place of part `expected` is not it.
fn misplaced(found: Option<Part>, expected: Part) -> String {
    let place = format!("is named as part {} of {}", expected.no + 1, expected.count);
    match found {
        None => {
            format!("{place}, but its metadata says nothing of being a part; it is another model's: download it again")
        }
        Some(found) if found.no != expected.no && found.count == expected.count => format!(
            "{place}, but its metadata says that it is part {}; a part was copied or renamed: download it again",
            found.no.saturating_add(1)
        ),
        Some(found) => format!(
            "{place} of a model of {} tensors, but its metadata says part {} of {} and {} tensors; it is another \
             model's: download it again",
            count(expected.tensors),
            found.no.saturating_add(1),
            found.count,
            count(found.tensors)
        ),
    }
}

fn count(tensors: Option<u64>) -> String {
    tensors.map_or_else(|| "an unknown number of".to_owned(), |tensors| tensors.to_string())
}
