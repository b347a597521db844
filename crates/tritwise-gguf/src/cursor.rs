//! Bounds-checked reading of little-endian fields.

use crate::Error;

/// A position in the file's bytes. Every read says what it reads, for the error.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], Error> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (taken, rest) = split.ok_or_else(|| self.truncated(what, len))?;
        self.at += taken.len();
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(what, N as u64))?;
        self.at += N;
        self.rest = rest;
        Ok(*taken)
    }

    fn truncated(&self, what: &str, need: u64) -> Error {
        Error::Truncated { what: what.to_owned(), at: self.at, need, left: self.left() }
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
