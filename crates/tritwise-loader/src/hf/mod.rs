//! Hugging Face folders: `config.json` beside safetensors files.

mod config;
mod names;
mod pooling;
mod rope;
mod shards;

use std::io::Read;
use std::path::{Path, PathBuf};

use tritwise_tensor::CheckpointError;

use crate::error::{file_error, io_error};
use crate::source::{Names, Source};
use crate::vocabulary::{Folder, Vocabulary};
use crate::{Options, limits};

pub(crate) use config::architecture;
pub(crate) use names::Naming;
pub(crate) use rope::yarn_magnitude;
pub(crate) use shards::read;
#[cfg(feature = "download")]
pub(crate) use shards::{INDEX, SINGLE, shards_in};

/// Opens the checkpoint whose weights are `weights`, a folder or one file in it.
pub(crate) fn open(label: &str, weights: &Path, options: &Options) -> Result<Source, CheckpointError> {
    let container = read(label, weights, options.no_mmap)?;
    let folder = folder_of(weights);
    let (config, linear, naming) = config::read(&folder.join("config.json"), &container, options)?;
    Ok(Source {
        container,
        config,
        names: Names::HuggingFace(naming),
        linear,
        tiles: Vec::new(),
        vocabulary: Vocabulary::Folder(Box::new(Folder::read(&folder)?)),
        format: "safetensors".to_owned(),
    })
}

/// `weights` itself if it is a folder, else the folder it is in.
pub(crate) fn folder_of(weights: &Path) -> PathBuf {
    match weights.parent() {
        Some(parent) if !weights.is_dir() => parent.to_owned(),
        _ => weights.to_owned(),
    }
}

/// The whole of a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| io_error(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(file_error(
            &path.display().to_string(),
            format_args!("is larger than {most} bytes, which no such file is"),
        ));
    }
    Ok(Some(bytes))
}

/// A JSON file of a type; `None` if there is none.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let Some(bytes) = read_small(path, limits::JSON_BYTES)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes);
    value
        .map(Some)
        .map_err(|error| file_error(&path.display().to_string(), format_args!("is not as expected: {error}")))
}
