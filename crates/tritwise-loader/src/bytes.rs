//! A file's bytes, mapped into memory: the only unsafe code of this crate.
#![allow(unsafe_code, reason = "mapping a file into memory cannot be checked by the compiler")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tritwise_tensor::Storage;

/// Maps the file at `path`: its pages are read from disk when first touched, and shared by every
/// process that maps it.
pub(crate) fn map(path: &Path) -> io::Result<Arc<dyn Storage>> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        // Some systems refuse to map nothing.
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: the map is read-only and is dropped with its owner. It would be unsound if the file were
    // changed while it is mapped; that is a rule for the user, in the documentation of `open`, which
    // no program can enforce (advisory locks do not bind other programs).
    let map = unsafe { Mmap::map(&file)? };
    Ok(Arc::new(Mapped(map)))
}

/// Pages of a file.
struct Mapped(Mmap);

impl Storage for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the pages out of this process (`madvise(2)`, `MADV_DONTNEED`). They stay in the system's
    /// cache of the file while there is room, from where a later read has them back without the disk.
    fn release(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if range.start < range.end && range.end <= self.0.len() {
            // SAFETY: the map is a shared one of a file, and read-only, so no page of it can hold anything
            // that the file does not. The next read of a page that was dropped finds the file's bytes there
            // again: the ones before, by the rule for `map`. References to them stay valid all along.
            let advised =
                unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            // Refused, the pages only stay longer.
            let _ = advised;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_can_be_read_again() {
        let path = std::env::temp_dir().join(format!("tritwise-released-{}", std::process::id()));
        let expected: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &expected).unwrap();
        let file = map(&path).unwrap();
        for range in [0..5_000_000, 1..2, 4096..8192, 4_999_999..5_000_000, 7..4_000_000, 0..5_000_001, 9..9] {
            assert_eq!(file.bytes(), expected);
            file.release(range);
        }
        assert_eq!(file.bytes(), expected);
        std::fs::remove_file(path).unwrap();
    }
}
