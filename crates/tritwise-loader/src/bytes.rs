//! A file's bytes, mapped or owned: the only unsafe code of this crate.
#![allow(unsafe_code, reason = "mapping a file into memory cannot be checked by the compiler")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a checkpoint file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Pages of the file, read from disk when first touched and shared by every process that maps it.
    Mapped(Mmap),
    /// A copy.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps the file at `path`.
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            // Some systems refuse to map nothing.
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and is dropped with `self`. It would be unsound if the file were
        // changed while it is mapped; that is a rule for the user, in the documentation of `open`, which
        // no program can enforce (advisory locks do not bind other programs).
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
