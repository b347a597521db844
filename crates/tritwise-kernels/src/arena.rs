//! Memory for buffers that are read one after the other: packed in the order of
//! their use, they are one stream.
//!
//! A matrix of a small model is less than a large page ([`crate::memory`]), and
//! with a mapping each, matrices would lie mostly in small ones: only those
//! parts of a mapping that are whole, aligned 2 MiB can be large pages. (Measured so: a third of the
//! weights of a 2B model were.) So buffers share chunks of memory. A chunk is filled first and
//! read later; from the first read on it is shared and takes no more. That order is
//! what makes it safe without `unsafe`: until then the chunk is behind a lock, and
//! afterwards nobody can write.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::MmapMut;

use crate::arch::Line;
use crate::memory::{Buffer, pages};

/// Bytes of a chunk, unless a buffer is larger. What is not filled is not touched, so it takes no memory.
const CHUNK: usize = 64 << 20;

/// Hands out memory from chunks, in order.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    current: Mutex<Option<Arc<Chunk>>>,
}

/// Memory of several buffers.
pub(crate) struct Chunk {
    filling: Mutex<Option<Filling>>,
    filled: OnceLock<MmapMut>,
}

/// A chunk before anybody reads it.
struct Filling {
    pages: MmapMut,
    used: usize,
}

impl Arena {
    /// A buffer of `lines` lines, which are zero before `write` gets them.
    ///
    /// Where the system gives no mapping, it is memory of its own.
    pub(crate) fn fill(&self, lines: usize, write: impl FnOnce(&mut [Line])) -> Buffer<Line> {
        let bytes = lines * size_of::<Line>();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |chunk: &Arc<Chunk>| {
            chunk.filling().as_ref().is_some_and(|filling| bytes <= filling.pages.len() - filling.used)
        };
        if !current.as_ref().is_some_and(has_room) {
            *current = pages(bytes.max(CHUNK)).map(|pages| Arc::new(Chunk::new(pages)));
        }
        if let Some(chunk) = &*current
            && let Some(filling) = &mut *chunk.filling()
        {
            let start = filling.used;
            filling.used += bytes;
            write(bytemuck::cast_slice_mut(&mut filling.pages[start..][..bytes]));
            return Buffer::part(chunk.clone(), start, lines);
        }
        let mut own = Buffer::zeroed(lines);
        write(&mut own);
        own
    }
}

impl Chunk {
    fn new(pages: MmapMut) -> Self {
        Self { filling: Mutex::new(Some(Filling { pages, used: 0 })), filled: OnceLock::new() }
    }

    fn filling(&self) -> MutexGuard<'_, Option<Filling>> {
        // A writer that panicked left numbers, not a broken chunk.
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes, of which no more are filled from now on.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.filled.get_or_init(|| match self.filling().take() {
            Some(filling) => filling.pages,
            None => unreachable!("taken here alone, and once"),
        })
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({})", if self.filled.get().is_some() { "filled" } else { "filling" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(arena: &Arena, lines: usize, byte: u8) -> Buffer<Line> {
        arena.fill(lines, |out| {
            assert!(out.len() == lines && out.iter().all(|line| *line == Line([0; 64])));
            out.fill(Line([byte; 64]));
        })
    }

    #[test]
    fn buffers_follow_one_another_and_keep_what_was_written() {
        let arena = Arena::default();
        let sizes = [5, 0, 1000, 1, 77];
        let buffers: Vec<_> = sizes.iter().zip(1..).map(|(lines, byte)| filled(&arena, *lines, byte)).collect();
        let first = buffers[0].as_ptr().addr();
        assert_eq!(first % 64, 0);
        for (i, buffer) in buffers.iter().enumerate() {
            assert_eq!(buffer.as_ptr().addr() - first, 64 * sizes[..i].iter().sum::<usize>());
            assert_eq!(**buffer, vec![Line([i as u8 + 1; 64]); sizes[i]]);
        }
    }

    #[test]
    fn a_chunk_that_was_read_takes_no_more() {
        let arena = Arena::default();
        let first = filled(&arena, 10, 1);
        assert_eq!(first[9], Line([1; 64]));
        let second = filled(&arena, 10, 2);
        assert_eq!((first[9], second[0]), (Line([1; 64]), Line([2; 64])));
    }

    #[test]
    fn a_buffer_larger_than_a_chunk_has_one_of_its_own() {
        let arena = Arena::default();
        let large = filled(&arena, CHUNK / 64 + 1, 3);
        let small = filled(&arena, 1, 4);
        assert_eq!((large[CHUNK / 64], small[0]), (Line([3; 64]), Line([4; 64])));
    }
}
