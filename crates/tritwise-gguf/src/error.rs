//! What can be wrong with a GGUF file.

use std::io;

use crate::limits;

/// Why bytes are not a GGUF file that this crate reads.
///
/// The text does not name the file: the caller knows what the user called it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first four bytes are not `GGUF`.
    #[error(
        "not a GGUF file: it begins with \"{found}\" instead of \"GGUF\"; is this the right file, fully downloaded?"
    )]
    Magic {
        /// The first bytes, escaped.
        found: String,
    },
    /// A version that is not 2 or 3.
    #[error("GGUF version {version} is {}; this reader knows 2 and 3: {}",
        if *version < 2 { "too old" } else { "too new" },
        if *version < 2 { "convert the original checkpoint again with a current converter" } else { "a newer release may know it" })]
    Version {
        /// The version the file claims.
        version: u32,
    },
    /// The version word is byte-swapped.
    #[error(
        "this GGUF file is big-endian (version word {word:#010x}); only little-endian files are read: convert it with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version word, read as little-endian.
        word: u32,
    },
    /// The file ends too early.
    #[error(
        "the file ends inside {what}: {need} bytes wanted at byte {at}, {left} left; it is cut short or corrupt, download it again"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where in the file.
        at: usize,
        /// Bytes it takes.
        need: u64,
        /// Bytes there are.
        left: usize,
    },
    /// A count that the rest of the file cannot hold, or beyond a limit.
    #[error("the file claims {count} {what}, but at most {most} are possible; it is corrupt or hostile")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The claim.
        count: u64,
        /// The limit.
        most: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    Utf8 {
        /// Which string.
        what: String,
        /// Where in the file.
        at: usize,
    },
    /// A metadata entry breaks a rule.
    #[error("metadata key {key}: {problem}")]
    Metadata {
        /// The key, quoted and clipped.
        key: String,
        /// What was found and what the rule is.
        problem: String,
    },
    /// A tensor's description breaks a rule.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor's name, quoted and clipped.
        name: String,
        /// What was found and what the rule is.
        problem: String,
    },
}

impl Error {
    pub(crate) fn metadata(key: &str, problem: impl Into<String>) -> Self {
        Self::Metadata { key: quote(key), problem: problem.into() }
    }

    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { name: quote(name), problem: problem.into() }
    }
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The header would not be read back.
    #[error(transparent)]
    Invalid(#[from] Error),
    /// Data for another tensor than the one whose turn it is.
    #[error("data for tensor {found} while {expected} is next: data follow the order in which tensors were declared")]
    Order {
        /// The tensor whose turn it is; "none" after the last.
        expected: String,
        /// The tensor that was given.
        found: String,
    },
    /// A tensor has other bytes than declared.
    #[error("tensor {name} was declared with {declared} bytes and given {given}")]
    Length {
        /// The tensor.
        name: String,
        /// Bytes declared.
        declared: u64,
        /// Bytes given; at least so many, if too many.
        given: u64,
    },
}

/// `text` in quotes, escaped, and short enough for a message.
pub(crate) fn quote(text: &str) -> String {
    let clipped: String = text.chars().take(limits::NAME).collect();
    let dots = if clipped.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", clipped.escape_debug())
}
