//! Short ways to build a [`CheckpointError`].

use std::fmt::Display;
use std::io;
use std::path::Path;

use tritwise_tensor::CheckpointError;

/// Why `file` as a whole is refused.
pub(crate) fn file_error(file: &str, message: impl Display) -> CheckpointError {
    CheckpointError { file: file.to_owned(), tensor: None, message: message.to_string() }
}

/// Why `tensor` in `file` is refused.
pub(crate) fn tensor_error(file: &str, tensor: &str, message: impl Display) -> CheckpointError {
    CheckpointError { file: file.to_owned(), tensor: Some(tensor.to_owned()), message: message.to_string() }
}

/// The file at `path` could not be read.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> CheckpointError {
    file_error(&path.display().to_string(), format_args!("cannot be read: {error}"))
}
