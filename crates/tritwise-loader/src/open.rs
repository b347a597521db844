//! From a path to a [`Source`].

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tritwise_gguf::Header;
use tritwise_gguf::types::Project;
use tritwise_tensor::{Activation, CheckpointError, I2sLayout, Inputs, Tile};

use crate::container::Container;
use crate::describe::gguf_format;
use crate::error::{file_error, io_error};
use crate::source::{Linear, Names, Source};
use crate::vocabulary::Vocabulary;
use crate::{gguf, hf};

/// What names on the Hugging Face hub begin with, which are no paths.
pub(crate) const HUB_PREFIX: &str = "hf:";

/// What a checkpoint does not say, or says wrongly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The byte order of I2_S tensors, for which files have no mark. All published files use the default.
    pub i2s_layout: I2sLayout,
    /// Who wrote a GGUF file. Forks of ggml gave the same type numbers to different encodings; where a tensor's size
    /// fits several of them, it is in that of this project, and with `None` it is refused. Sizes that fit one are
    /// enough without.
    pub written_by: Option<Project>,
    /// How matrices of a shape, `[rows, cols]`, are cut in TL1 and TL2, of which files have no mark: what
    /// `kernel_config.ini` of the build of bitnet.cpp says that wrote the file. Shapes that are not here have the tile
    /// that bitnet.cpp's own scripts give them ([`Tile::tl1`], [`Tile::tl2`]), if it is one.
    pub tiles: Vec<([usize; 2], Tile)>,
    /// The gate's activation; `None` for what the checkpoint's architecture or configuration implies.
    pub activation: Option<Activation>,
    /// What linear layers are multiplied with; `None` for what the checkpoint's encoding or configuration implies.
    pub inputs: Option<Inputs>,
    /// Read files of weights into memory instead of mapping them.
    ///
    /// Mapped, which is the default, a file is opened in milliseconds, its weights are read when they are first used,
    /// and all processes that use it share its memory. In return **it must not be changed or cut short while it is open**: numbers then change under
    /// whoever computes with them, and touching what is no longer there ends the process (`SIGBUS`). Replacing the file by
    /// renaming another into its place is fine.
    ///
    /// Read, a file may do what it likes once it is open. That takes the file's size in memory, beside the packed model, for as
    /// long as it is being loaded (or used, where weights are computed with in place).
    ///
    /// Either way, a shared advisory lock is held on the file, where the system and the file system have such: while it is
    /// read, or for as long as it is mapped. Programs that write in place and ask for an exclusive lock first are thus kept
    /// from it, and a file that one of them holds is refused.
    pub no_mmap: bool,
}

/// Opens the checkpoint at `path`: a GGUF file, any part of a split one, a Hugging Face folder, or a `.safetensors`
/// file in one.
///
/// Files are mapped into memory, not read, so **they must not be changed or cut short while they are open**, on
/// pain of a crash: see [`Options::no_mmap`], which is how to do without.
///
/// ```no_run
/// use tritwise_tensor::Checkpoint;
/// let source = tritwise_loader::open("model.gguf", &Default::default())?;
/// println!("{} layers", source.config().layers);
/// # Ok::<(), tritwise_tensor::CheckpointError>(())
/// ```
///
/// # Errors
/// The file cannot be read, changes meanwhile or is locked by whoever writes it, is damaged, or is a model that is not
/// supported; the error says which, names the file, and says what to do.
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Source, CheckpointError> {
    let path = path.as_ref();
    let label = path.display().to_string();
    match kind_of(path)? {
        Kind::Gguf => {
            let (container, header) = gguf::open(&label, path, options)?;
            understand(container, header, options)
        }
        Kind::Folder => hf::open(&label, path, options),
    }
}

/// Opens a GGUF file that is in memory; `name` stands for it in errors.
///
/// # Errors
/// As [`open`].
pub fn open_bytes(name: &str, bytes: Vec<u8>, options: &Options) -> Result<Source, CheckpointError> {
    let (container, header) = gguf::read(name, Arc::new(bytes), options.written_by)?;
    understand(container, header, options)
}

fn understand(container: Container, header: Header, options: &Options) -> Result<Source, CheckpointError> {
    let (config, floats) = gguf::understand(&container, header.metadata(), options)?;
    Ok(Source {
        container,
        config,
        names: Names::Gguf,
        linear: Linear::ByType { i2s: options.i2s_layout, floats },
        tiles: options.tiles.clone(),
        format: gguf_format(header.version()),
        vocabulary: Vocabulary::Gguf(header),
    })
}

/// What is at a path.
pub(crate) enum Kind {
    Gguf,
    /// A folder, or a safetensors file in one.
    Folder,
}

/// By content for files, as names lie more often than first bytes do.
pub(crate) fn kind_of(path: &Path) -> Result<Kind, CheckpointError> {
    if path.to_str().is_some_and(|path| path.starts_with(HUB_PREFIX)) {
        let remedy = if cfg!(feature = "download") {
            "fetch it (download::Hub::fetch) and open what that gives"
        } else {
            "build with features = [\"download\"], or download it and name the file"
        };
        let message = format_args!("is on the Hugging Face hub and not a path: {remedy}");
        return Err(file_error(&path.display().to_string(), message));
    }
    let io = |error: std::io::Error| io_error(path, &error);
    if std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(Kind::Folder);
    }
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(4).read_to_end(&mut start).map_err(io)?;
    if start == b"GGUF" {
        return Ok(Kind::Gguf);
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
        return Ok(Kind::Folder);
    }
    Err(file_error(
        &path.display().to_string(),
        format_args!(
            "begins with \"{}\": it is neither a GGUF file nor a .safetensors file; \
             name one of those, or a folder with config.json and safetensors",
            start.escape_ascii()
        ),
    ))
}
