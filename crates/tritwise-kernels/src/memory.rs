//! Buffers that begin on a cache line.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use crate::arch::Line;

/// A fixed number of elements, zero at first, whose first byte begins a 64-byte line.
///
/// Memory is held as [`Line`]s, whose alignment does the work, so that this needs no `unsafe`.
pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// `T` is wider than a line or its size does not divide one.
    pub(crate) fn zeroed(len: usize) -> Self {
        let per_line = const {
            assert!(size_of::<T>() > 0 && size_of::<Line>().is_multiple_of(size_of::<T>()));
            size_of::<Line>() / size_of::<T>()
        };
        Self {
            lines: vec![Line([0; 64]); len.div_ceil(per_line)],
            len,
            elements: PhantomData,
        }
    }
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            len: self.len,
            elements: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
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

    #[test]
    fn begins_a_line_and_is_zero() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut buffer = Buffer::<f32>::zeroed(len);
            assert_eq!(buffer.as_ptr().addr() % 64, 0);
            assert_eq!(*buffer, vec![0.0; len]);
            buffer.fill(1.0);
            assert_eq!(*buffer, vec![1.0; len]);
        }
    }
}
