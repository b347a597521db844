//! A file's bytes, mapped into memory or read: the only unsafe code of this crate.
//!
//! Both begin with a shared advisory lock (`flock(2)`), which programs that write in place and ask for an exclusive one see. A map
//! keeps it for as long as it lives; what was read needs none.
#![allow(unsafe_code, reason = "mapping a file into memory cannot be checked by the compiler")]

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tritwise_tensor::Storage;

/// The bytes of the file at `path`: mapped, or with `no_mmap`, and where there are no maps (WebAssembly), read.
///
/// # Errors
/// It cannot be read, somebody holds an exclusive lock on it, or its size changes meanwhile.
pub(crate) fn open(path: &Path, no_mmap: bool) -> io::Result<Arc<dyn Storage>> {
    let file = File::open(path)?;
    match file.try_lock_shared() {
        // Not every system and file system has locks.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::other(LOCKED)),
    }
    let len = file.metadata()?.len();
    // What is longer now was cut short then: a download in progress, say. What is shorter would be deadly to touch.
    let check = |bytes: &[u8]| match file.metadata()?.len() {
        now if now == len && bytes.len() as u64 == len => Ok(()),
        now => Err(io::Error::other(format!(
            "its size went from {len} to {now} bytes while it was opened: somebody is writing it; open it when that has ended"
        ))),
    };
    // Some systems refuse to map nothing.
    if no_mmap || len == 0 || cfg!(not(any(unix, windows))) {
        let read = AlignedRead::new(&file, len)?;
        check(read.bytes())?;
        return Ok(Arc::new(read));
    }
    // SAFETY: the map is read-only and is dropped with its owner. It would be unsound if the file were
    // changed while it is mapped; that is a rule for the user, in the documentation of `Options::no_mmap`, which
    // no program can enforce (advisory locks do not bind other programs).
    let map = unsafe { Mmap::map(&file)? };
    check(&map)?;
    Ok(Arc::new(Mapped { map, _locked: file }))
}

/// Where the bytes that were read begin: as a map's, at a multiple of what any layout asks for that is computed with in place.
const ALIGNMENT: usize = 64;

/// A file's bytes in memory of this process's own.
struct AlignedRead {
    memory: Vec<u8>,
    /// The first of them.
    start: usize,
}

impl AlignedRead {
    /// As many as `len`, or one more if there are.
    fn new(file: &File, len: u64) -> io::Result<Self> {
        let mut memory = Vec::<u8>::new();
        // With room to begin later and to see the end, so that the memory is not moved while it is read to.
        let room = usize::try_from(len).ok().and_then(|len| len.checked_add(2 * ALIGNMENT));
        memory.try_reserve_exact(room.ok_or(io::Error::from(io::ErrorKind::OutOfMemory))?)?;
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        memory.resize(start, 0);
        file.take(len.saturating_add(1)).read_to_end(&mut memory)?;
        Ok(Self { memory, start })
    }
}

impl Storage for AlignedRead {
    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }
}

/// Why a file is not opened that may be in the middle of a change.
const LOCKED: &str =
    "another program holds an exclusive lock on it, and so may be writing it; open it when that has ended";

/// Pages of a file.
struct Mapped {
    map: Mmap,
    /// Holds the lock.
    _locked: File,
}

impl Storage for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Takes the pages out of this process (`madvise(2)`, `MADV_DONTNEED`). They stay in the system's
    /// cache of the file while there is room, from where a later read has them back without the disk.
    fn release(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if range.start < range.end && range.end <= self.map.len() {
            // SAFETY: the map is a shared one of a file, and read-only, so no page of it can hold anything
            // that the file does not. The next read of a page that was dropped finds the file's bytes there
            // again: the ones before, by the rule for `map`. References to them stay valid all along.
            let advised = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
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

    /// What is computed with in place must not depend on where an allocator puts it.
    #[test]
    fn what_was_read_begins_at_a_multiple_of_its_alignment() {
        let path = std::env::temp_dir().join(format!("tritwise-aligned-{}", std::process::id()));
        let mut held = Vec::new();
        for len in [0, 1, 63, 1000, 40_000, 200_000, 5_000_000] {
            let expected = vec![5; len];
            std::fs::write(&path, &expected).unwrap();
            let file = open(&path, true).unwrap();
            assert_eq!(file.bytes(), expected);
            assert!(file.bytes().as_ptr().addr().is_multiple_of(ALIGNMENT), "{len} bytes");
            held.push(file);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn released_bytes_can_be_read_again() {
        let path = std::env::temp_dir().join(format!("tritwise-released-{}", std::process::id()));
        let expected: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &expected).unwrap();
        let file = open(&path, false).unwrap();
        for range in [0..5_000_000, 1..2, 4096..8192, 4_999_999..5_000_000, 7..4_000_000, 0..5_000_001, 9..9] {
            assert_eq!(file.bytes(), expected);
            file.release(range);
        }
        assert_eq!(file.bytes(), expected);
        drop(file);
        std::fs::remove_file(path).unwrap();
    }

    /// Pages of this process's own, given back to the system, would read as zeros.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_part_of_a_map_is_not_released() {
        const LEN: usize = 1 << 16;
        let path = std::env::temp_dir().join(format!("tritwise-neighbour-{}", std::process::id()));
        std::fs::write(&path, [7; LEN]).unwrap();
        // The system puts each map below the last one where there is room, so that some pair are neighbours.
        let mut pairs = Vec::new();
        for _ in 0..100 {
            let mut own = memmap2::MmapMut::map_anon(LEN).unwrap();
            own.fill(9);
            pairs.push((own, open(&path, false).unwrap()));
        }
        std::fs::remove_file(path).unwrap();
        let neighbours = |(own, file): &&(memmap2::MmapMut, Arc<dyn Storage>)| {
            std::ptr::eq(file.bytes().as_ptr_range().end, own.as_ptr())
        };
        let (own, file) = pairs.iter().find(neighbours).expect("the system leaves no gaps everywhere");
        file.release(0..2 * LEN);
        file.release(LEN..LEN + 1);
        assert!(own.iter().all(|byte| *byte == 9) && *file.bytes() == [7; LEN]);
    }
}
