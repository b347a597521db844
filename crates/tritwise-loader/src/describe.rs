//! What is in a checkpoint, for people, whether it can be run or not.

use std::path::Path;

use tritwise_tensor::CheckpointError;

use crate::Options;
use crate::container::Container;
use crate::open::{Kind, kind_of};
use crate::vocabulary::{Folder, Vocabulary};
use crate::{gguf, hf};

/// A checkpoint's files, metadata and tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The container: `GGUF v3` or `safetensors`.
    pub format: String,
    /// The architecture as the checkpoint names it, if it does.
    pub architecture: Option<String>,
    /// Size of all weight files together, in bytes.
    pub file_bytes: u64,
    /// Key and value, in file order; long values are clipped.
    pub metadata: Vec<(String, String)>,
    /// The tensors, in file order.
    pub tensors: Vec<TensorDescription>,
}

/// One tensor of a [`Description`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDescription {
    /// The name in the file.
    pub name: String,
    /// Outermost dimension first: `[rows, cols]`.
    pub shape: Vec<usize>,
    /// The name of the encoding, such as `TQ2_0`.
    pub encoding: String,
    /// Size in the file, in bytes.
    pub bytes: usize,
    /// Why the tensor cannot be read, if it cannot.
    pub unreadable: Option<String>,
}

/// Describes the checkpoint at `path`, which need not be one that [`open`](crate::open) accepts.
///
/// # Errors
/// The container itself is damaged, or `path` is no checkpoint.
pub fn describe(path: impl AsRef<Path>) -> Result<Description, CheckpointError> {
    let path = path.as_ref();
    let label = path.display().to_string();
    match kind_of(path)? {
        Kind::Gguf => {
            let (container, header) = gguf::open(&label, path, &Options::default())?;
            let architecture = header.metadata().value("general.architecture").and_then(|value| value.as_str());
            let architecture = architecture.map(str::to_owned);
            let format = gguf_format(header.version());
            let metadata = Vocabulary::Gguf(header).describe();
            Ok(Description::new(&container, &format, architecture, metadata))
        }
        Kind::Folder => {
            let container = hf::read(&label, path, false)?;
            let folder = Folder::read(&hf::folder_of(path))?;
            let architecture = hf::architecture(&folder.config);
            let metadata = Vocabulary::Folder(Box::new(folder)).describe();
            Ok(Description::new(&container, "safetensors", architecture, metadata))
        }
    }
}

pub(crate) fn gguf_format(version: u32) -> String {
    format!("GGUF v{version}")
}

impl Description {
    pub(crate) fn new(
        container: &Container,
        format: &str,
        architecture: Option<String>,
        metadata: Vec<(String, String)>,
    ) -> Self {
        let tensors = container.tensors().iter().map(|stored| TensorDescription {
            name: stored.name.clone(),
            shape: stored.shape.clone(),
            encoding: stored.encoding.name().to_owned(),
            bytes: stored.range.len(),
            unreadable: stored.encoding.problem().map(str::to_owned),
        });
        Self {
            format: format.to_owned(),
            architecture,
            file_bytes: container.file_bytes(),
            metadata,
            tensors: tensors.collect(),
        }
    }
}
