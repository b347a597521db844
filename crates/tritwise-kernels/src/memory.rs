//! Buffers that begin on a cache line, large ones in large pages.
//!
//! Decoding reads all weights once per token, one after the other. In pages of
//! 4 KiB the hardware looks up an address every 64 lines, and its prefetcher
//! stops at each page's end; one thread then reads a tenth less per second. So
//! a large buffer is mapped on its own and the system is asked to back it with
//! pages of 2 MiB, where it knows such a thing (`madvise(2)`, `MADV_HUGEPAGE`).
//!
//! A buffer can also be part of a chunk that several share ([`crate::arena`]), or of a mapped file. Nobody sees the difference but for
//! the memory it takes: writing to such a buffer makes a copy first.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::MmapMut;
use tritwise_tensor::SharedBytes;

use crate::arena::Chunk;

/// Bytes from which a buffer is mapped on its own.
const LARGE: usize = 1 << 20;

/// A fixed number of elements, the first of which begins a 64-byte line if they are this process's own.
pub(crate) struct Buffer<T> {
    memory: Memory,
    len: usize,
    elements: PhantomData<T>,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

enum Memory {
    /// Cache lines, whose alignment does the work, so that this needs no `unsafe`.
    Lines(Vec<CacheLine>),
    /// Whole pages.
    Pages(MmapMut),
    /// From that byte of a chunk on.
    Part(Arc<Chunk>, usize),
    /// What somebody else keeps, aligned for the elements.
    Shared(SharedBytes),
}

impl<T: Pod> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// `T` is wider than a line or its size does not divide one.
    pub(crate) fn zeroed(len: usize) -> Self {
        let per_line = const {
            assert!(size_of::<T>() > 0 && size_of::<CacheLine>().is_multiple_of(size_of::<T>()));
            size_of::<CacheLine>() / size_of::<T>()
        };
        let lines = len.div_ceil(per_line);
        let memory = pages(lines * size_of::<CacheLine>())
            .map_or_else(|| Memory::Lines(vec![CacheLine([0; 64]); lines]), Memory::Pages);
        Self { memory, len, elements: PhantomData }
    }

    /// The elements that lie in `bytes`, without a copy; `None` if they are not whole or not aligned.
    pub(crate) fn shared(bytes: SharedBytes) -> Option<Self> {
        let len = bytemuck::try_cast_slice::<u8, T>(&bytes).ok()?.len();
        Some(Self { memory: Memory::Shared(bytes), len, elements: PhantomData })
    }

    /// The `len` elements from byte `start` of `chunk`.
    pub(crate) fn part(chunk: Arc<Chunk>, start: usize, len: usize) -> Self {
        Self { memory: Memory::Part(chunk, start), len, elements: PhantomData }
    }

    /// Whether nobody else sees the elements.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.memory, Memory::Lines(_) | Memory::Pages(_))
    }
}

/// A mapping of at least [`LARGE`] bytes; `None` where there is no such thing.
pub(crate) fn pages(bytes: usize) -> Option<MmapMut> {
    let pages = (bytes >= LARGE).then(|| MmapMut::map_anon(bytes).ok()).flatten()?;
    #[cfg(target_os = "linux")]
    {
        // Refused where the system has no such pages; then small ones have to do.
        let _ = pages.advise(memmap2::Advice::HugePage);
    }
    Some(pages)
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let bytes: &[u8] = match &self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice(lines),
            Memory::Pages(pages) => pages,
            Memory::Part(chunk, start) => &chunk.bytes()[*start..],
            Memory::Shared(bytes) => bytes,
        };
        bytemuck::cast_slice(&bytes[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if !self.is_own() {
            *self = self.clone();
        }
        let bytes: &mut [u8] = match &mut self.memory {
            Memory::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Pages(pages) => pages,
            Memory::Part(..) | Memory::Shared(_) => unreachable!("copied above"),
        };
        bytemuck::cast_slice_mut(&mut bytes[..self.len * size_of::<T>()])
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer<{}>({})", std::any::type_name::<T>(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Line;

    #[test]
    fn begins_a_line_and_is_zero() {
        for len in [0, 1, 15, 16, 17, 1000, LARGE / 4, LARGE / 4 + 5] {
            let mut buffer = Buffer::<f32>::zeroed(len);
            assert_eq!(buffer.as_ptr().addr() % 64, 0);
            assert_eq!(*buffer, vec![0.0; len]);
            buffer.fill(1.0);
            assert_eq!(*buffer, vec![1.0; len]);
        }
    }

    #[test]
    fn a_shared_one_is_copied_when_it_is_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        let file = SharedBytes::new(Arc::new(bytes.clone()), 0..256);
        let mut buffer = Buffer::<u8>::shared(file.clone()).unwrap();
        assert_eq!((&*buffer, buffer.is_own()), (&bytes[..], false));
        assert_eq!(buffer.as_ptr(), file.as_ptr());
        buffer[7] = 0;
        assert_eq!((buffer[7], buffer[8], buffer.is_own()), (0, 8, true));
        assert_eq!(*file, bytes);
    }

    #[test]
    fn what_is_not_aligned_or_not_whole_is_not_shared() {
        let storage = Arc::new(vec![0; 300]);
        let start = storage.as_ptr().align_offset(64);
        let part = |from: usize, len: usize| SharedBytes::new(storage.clone(), start + from..start + from + len);
        assert!(Buffer::<Line>::shared(part(0, 128)).is_some());
        assert!(Buffer::<Line>::shared(part(0, 100)).is_none());
        assert!(Buffer::<Line>::shared(part(1, 128)).is_none());
    }
}
