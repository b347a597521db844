//! Short ways to build a [`CheckpointError`].

use std::fmt::Display;
use std::io;
use std::path::Path;

use tritwise_tensor::CheckpointError;

/// Why `file` as a whole is refused.
pub(crate) fn file_error(file: &str, message: impl Display) -> CheckpointError {
    CheckpointError { file: file.to_owned(), tensor: None, message: clip(&message.to_string()) }
}

/// Why `tensor` in `file` is refused.
pub(crate) fn tensor_error(file: &str, tensor: &str, message: impl Display) -> CheckpointError {
    CheckpointError { file: file.to_owned(), tensor: Some(printable(tensor)), message: clip(&message.to_string()) }
}

/// The file at `path` could not be read.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> CheckpointError {
    let label = path.display().to_string();
    match error.kind() {
        // `wasm32-unknown-unknown` has none.
        io::ErrorKind::Unsupported => file_error(
            &label,
            "cannot be read: there are no files on this platform; open a GGUF file's bytes (`open_bytes`)",
        ),
        _ => file_error(&label, format_args!("cannot be read: {error}")),
    }
}

/// The file or folder at `path` could not be written.
pub(crate) fn unwritten(path: &Path, error: &io::Error) -> CheckpointError {
    let label = path.display().to_string();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            file_error(&label, "is there already, perhaps from a run that was interrupted; delete it")
        }
        _ => file_error(&label, format_args!("cannot be written: {error}")),
    }
}

/// A name from a file, fit for a terminal: control characters escaped, and not longer than a line or two.
pub(crate) fn printable(name: &str) -> String {
    const MOST: usize = 150;
    let mut printable = String::new();
    for (n, c) in name.chars().enumerate() {
        match c {
            _ if n == MOST => return printable + "…",
            c if c.is_control() => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    printable
}

/// Messages quote what they found, and a hostile file may hold a string of any length.
fn clip(message: &str) -> String {
    const MOST: usize = 900;
    let mut clipped: String = message.chars().take(MOST).collect();
    if clipped.len() < message.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_cannot_flood_or_steer_a_terminal() {
        let error = tensor_error("f", "a\x1b[2Jb\nc", "x".repeat(1 << 20));
        assert!(error.to_string().starts_with("f: tensor a\\u{1b}[2Jb\\nc: xxx"), "{error}");
        assert!(error.to_string().len() < 1000);
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), 151);
        assert_eq!(file_error("f", "é".repeat(1000)).message.chars().count(), 901);
    }
}
