//! One safetensors file, or several and their index, as one container.
//!
//! A safetensors file is a u64 header length, a JSON header that gives each
//! tensor's type, shape and byte range, and the data. The `safetensors` crate
//! checks that ranges are contiguous, match the shapes and fill the file, and
//! that the header is at most 100 MB. `model.safetensors.index.json` names the
//! shard of every tensor.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::{Component, Path};

use safetensors::{Dtype, SafeTensors};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tritwise_tensor::{CheckpointError, DenseEncoding};

use super::{folder_of, read_json};
use crate::bytes;
use crate::container::{Container, Encoding};
use crate::error::{file_error, io_error, tensor_error};
use crate::limits;

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The tensors of `weights`: a folder, or one safetensors file.
///
/// A file that its folder's index names stands for all of them.
pub(crate) fn read(label: &str, weights: &Path, no_mmap: bool) -> Result<Container, CheckpointError> {
    let folder = folder_of(weights);
    let mut container = Container::new(label.to_owned());
    if weights.is_dir() && folder.join(SINGLE).exists() {
        add(&mut container, &folder.join(SINGLE), no_mmap)?;
        return Ok(container);
    }
    let index_path = folder.join(INDEX);
    if let Some(index) = read_json::<Index>(&index_path)? {
        let index_label = index_path.display().to_string();
        let shards = shard_names(&index_label, &index)?;
        let named = weights.file_name().and_then(|name| name.to_str()).is_some_and(|name| shards.contains(name));
        if weights.is_dir() || named {
            for shard in shards {
                add(&mut container, &folder.join(shard), no_mmap)?;
            }
            check_index(&container, &index_label, &index)?;
            return Ok(container);
        }
    }
    if weights.is_dir() {
        return Err(file_error(label, no_weights(weights)));
    }
    add(&mut container, weights, no_mmap)?;
    Ok(container)
}

/// The files that the index at `path` names.
#[cfg(feature = "download")]
pub(crate) fn shards_in(path: &Path) -> Result<Vec<String>, CheckpointError> {
    let index = read_json(path)?.unwrap_or_else(|| Index { weight_map: BTreeMap::new() });
    let shards = shard_names(&path.display().to_string(), &index)?;
    Ok(shards.into_iter().map(str::to_owned).collect())
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files an index names; each must be in the index's own folder.
fn shard_names<'a>(label: &str, index: &'a Index) -> Result<BTreeSet<&'a str>, CheckpointError> {
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    for shard in &shards {
        let mut components = Path::new(shard).components();
        // On Windows a name may also hold a drive or a stream; on others, a backslash is only odd.
        let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\', ':']) || !shard.ends_with(".safetensors") {
            return Err(file_error(
                label,
                format_args!("names {shard:?} as a shard; only .safetensors files in its own folder are opened"),
            ));
        }
    }
    match shards.len() {
        0 => Err(file_error(label, "names no shard; download it again")),
        count if count > limits::SHARDS => {
            Err(file_error(label, format_args!("names {count} shards; at most {} are opened", limits::SHARDS)))
        }
        _ => Ok(shards),
    }
}

/// Every tensor of the index must be in its shard. (Tensors it leaves out are found unread later.)
fn check_index(container: &Container, label: &str, index: &Index) -> Result<(), CheckpointError> {
    for (name, shard) in &index.weight_map {
        let found = container.find(name).map(|stored| container.file_of(stored));
        if found.and_then(|file| Path::new(file).file_name()).is_none_or(|file| file != shard.as_str()) {
            return Err(tensor_error(
                label,
                name,
                format_args!(
                    "is said to be in {shard}, but is not; the shards and the index are of different downloads"
                ),
            ));
        }
    }
    Ok(())
}

fn add(container: &mut Container, path: &Path, no_mmap: bool) -> Result<(), CheckpointError> {
    let label = path.display().to_string();
    let storage = bytes::open(path, no_mmap).map_err(|error| io_error(path, &error))?;
    let bytes = storage.bytes();
    let (header_len, header) = SafeTensors::read_metadata(bytes).map_err(|error| {
        file_error(
            &label,
            format_args!("is not a whole safetensors file ({error}); it is cut short or corrupt, download it again"),
        )
    })?;
    // The safetensors crate lets the last of two equal names win.
    let data_start = 8 + header_len;
    let header_json = bytes.get(8..data_start).unwrap_or_default();
    serde_json::from_slice::<UniqueKeys>(header_json).map_err(|error| file_error(&label, error))?;
    let mut tensors: Vec<_> = header
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let range = data_start + info.data_offsets.0..data_start + info.data_offsets.1;
            (name, info.shape.clone(), encoding(info.dtype), range)
        })
        .collect();
    tensors.sort_by(|a, b| (a.3.start, &a.0).cmp(&(b.3.start, &b.0)));
    let file = container.add_file(label, storage);
    for (name, shape, encoding, range) in tensors {
        container.push(&file, name, shape, encoding, range)?;
    }
    Ok(())
}

/// A JSON object without two equal keys, whatever the values.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueKeys)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("tensor {twice:?} is described twice; the file is corrupt")));
            }
        }
        Ok(self)
    }
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::F32 => Encoding::Dense(DenseEncoding::F32),
        Dtype::F16 => Encoding::Dense(DenseEncoding::F16),
        Dtype::BF16 => Encoding::Dense(DenseEncoding::Bf16),
        Dtype::U8 => Encoding::Packed,
        other => Encoding::Unreadable {
            name: format!("{other:?}"),
            why: format!("is stored as {other:?}; expected F32, F16, BF16 or packed U8"),
        },
    }
}

/// What to say about a folder without safetensors, by what else is in it.
fn no_weights(folder: &Path) -> String {
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut message = format!("has neither {SINGLE} nor {INDEX}");
    if let Some(gguf) = names.iter().find(|name| name.ends_with(".gguf")) {
        message += &format!("; to open {gguf}, name the file itself");
    } else if names.iter().any(|name| name.ends_with(".bin") || name.ends_with(".pt")) {
        message += "; PyTorch files are not read: save the model with safe_serialization=True";
    } else if let Some(file) = names.iter().find(|name| name.ends_with(".safetensors")) {
        message += &format!("; to open {file}, name the file itself");
    }
    message
}
