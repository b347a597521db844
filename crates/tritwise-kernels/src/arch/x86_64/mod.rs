//! Instruction sets of x86-64.

mod avx2;
mod avx512vnni;

pub(super) use avx2::Avx2;
pub(super) use avx512vnni::Avx512Vnni;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::Line;

/// Asks for line `i` from the first of `lines`, which may lie past their end.
#[inline(always)]
fn prefetch(lines: &[Line], i: usize) {
    // SAFETY: a prefetch has no effect but on caches and faults at no address;
    // SSE, which it belongs to, is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(lines.as_ptr().wrapping_add(i).cast()) }
}
