//! The bytes of a tensor, and who keeps them.
//!
//! ```text
//! Storage    a mapped file ┌────────┬──────────────────┬──────────────┬────
//!                          │ header │ token_embd       │ blk.0.attn_q │ …
//! SharedBytes              └────────┴──────────────────┴──────────────┴────
//!                                    range ─────────────
//! ```
//!
//! A tensor that is copied into another layout needs its bytes only for as long as the copying
//! takes, and gives the memory back as it goes ([`Bytes::release`]). One that is computed with where
//! it lies needs them for as long as it lives, so it must keep the file open ([`SharedBytes`]).

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Memory that tensors have parts of: a mapped file, or a copy of one.
///
/// ```
/// use std::sync::Arc;
/// use tritwise_tensor::{SharedBytes, Storage};
///
/// let file: Arc<dyn Storage> = Arc::new(vec![0, 1, 2, 3, 4, 5]);
/// let tensor = SharedBytes::new(file, 2..5);
/// assert_eq!(*tensor, [2, 3, 4]);
/// ```
pub trait Storage: Send + Sync {
    /// All the bytes, the same ones every time.
    fn bytes(&self) -> &[u8];

    /// Says that bytes `range` will not be read for a while.
    ///
    /// What can be had again, as a file's pages can, may leave memory. Reading it later is right all
    /// the same, and slower. A range beyond the end does nothing.
    fn release(&self, range: Range<usize>) {
        let _ = range;
    }
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Part of a [`Storage`], which lives for as long as any of its parts does.
#[derive(Clone)]
pub struct SharedBytes {
    storage: Arc<dyn Storage>,
    range: Range<usize>,
}

impl SharedBytes {
    /// Bytes `range` of `storage`.
    ///
    /// # Panics
    /// The range is not in the storage.
    pub fn new(storage: Arc<dyn Storage>, range: Range<usize>) -> Self {
        let len = storage.bytes().len();
        assert!(range.start <= range.end && range.end <= len, "bytes {range:?} of {len}");
        Self { storage, range }
    }

    /// Bytes `range` of these.
    ///
    /// # Panics
    /// The range is not in them.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let len = self.range.len();
        assert!(range.start <= range.end && range.end <= len, "bytes {range:?} of {len}");
        let start = self.range.start;
        Self { storage: Arc::clone(&self.storage), range: start + range.start..start + range.end }
    }

    /// [`Storage::release`] for a range that is counted from the first of these bytes.
    pub fn release(&self, range: Range<usize>) {
        let end = self.range.len().min(range.end);
        if range.start < end {
            self.storage.release(self.range.start + range.start..self.range.start + end);
        }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[expect(clippy::indexing_slicing, reason = "`new` compared the range with the bytes, and `slice` with the range")]
    fn deref(&self) -> &[u8] {
        &self.storage.bytes()[self.range.clone()]
    }
}

/// How many; the bytes would fill screens.
impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({})", self.range.len())
    }
}

/// The bytes of one tensor.
///
/// Made by `into()` from any of the three, so that nobody names the variants to make a matrix.
#[derive(Debug, Clone)]
pub enum Bytes<'a> {
    /// The caller's.
    Borrowed(&'a [u8]),
    /// The tensor's own.
    Owned(Vec<u8>),
    /// Part of a file that stays open with the tensor.
    Shared(SharedBytes),
}

impl Bytes<'_> {
    /// Says that bytes `range` will not be read for a while: where they are a file's, its pages may
    /// leave memory. Reading them later is right all the same, and slower.
    pub fn release(&self, range: Range<usize>) {
        if let Self::Shared(bytes) = self {
            bytes.release(range);
        }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Bytes<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::Borrowed(bytes.as_ref())
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<SharedBytes> for Bytes<'_> {
    fn from(bytes: SharedBytes) -> Self {
        Self::Shared(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Remembers what was released.
    struct Pages(Vec<u8>, Mutex<Vec<Range<usize>>>);

    impl Storage for Pages {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn release(&self, range: Range<usize>) {
            self.1.lock().unwrap().push(range);
        }
    }

    #[test]
    fn a_part_releases_its_own_bytes_and_no_others() {
        let pages = Arc::new(Pages((0..100).collect(), Mutex::default()));
        let part = Bytes::from(SharedBytes::new(pages.clone(), 10..30));
        assert_eq!(*part, (10..30).collect::<Vec<u8>>());
        if let Bytes::Shared(part) = &part {
            assert_eq!(*part.slice(3..6), [13, 14, 15]);
            part.slice(3..6).slice(1..3).release(0..9);
        }
        part.release(0..5);
        part.release(15..500);
        part.release(20..21);
        part.release(7..7);
        assert_eq!(*pages.1.lock().unwrap(), [14..16, 10..15, 25..30]);
    }

    #[test]
    #[should_panic(expected = "bytes 5..7 of 6")]
    fn a_part_beyond_the_end_panics() {
        SharedBytes::new(Arc::new(vec![0; 6]), 5..7);
    }
}
