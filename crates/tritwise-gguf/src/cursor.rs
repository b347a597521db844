//! Bounds-checked reading of little-endian fields.

use crate::Error;

/// A position in the file's bytes. Every read says what it reads, for the error.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], Error> {
        let truncated =
            || Error::Truncated { what: what.to_owned(), at: self.at, need: len, left: self.bytes.len() - self.at };
        let len = usize::try_from(len).map_err(|_| truncated())?;
        let taken = self.bytes[self.at..].get(..len).ok_or_else(truncated)?;
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let bytes = self.take(N as u64, what)?;
        Ok(*bytes.first_chunk().expect("take returns as many bytes as asked"))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length-prefixed UTF-8 string.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a str, Error> {
        let len = self.u64(what)?;
        let at = self.at;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| Error::Utf8 { what: what.to_owned(), at })
    }

    /// A count of things of which each takes at least `smallest` bytes.
    pub(crate) fn count(&mut self, what: &'static str, smallest: u64, cap: u64) -> Result<u64, Error> {
        let count = self.u64(what)?;
        self.check_count(count, what, smallest, cap)?;
        Ok(count)
    }

    /// Refuses a count that what is left of the file cannot hold.
    pub(crate) fn check_count(&self, count: u64, what: &'static str, smallest: u64, cap: u64) -> Result<(), Error> {
        let most = (self.left() as u64 / smallest).min(cap);
        if count > most { Err(Error::Count { what, count, most }) } else { Ok(()) }
    }
}
