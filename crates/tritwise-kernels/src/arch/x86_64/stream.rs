//! How weights come from memory: in one stream or several, asked for in time.
//!
//! Hardware sees that lines are read one after the other and reads ahead, on Intel's twenty lines in each
//! stream. On a server of theirs a line takes so long to come that this is 10 GB/s, half of what a core can read. Four
//! streams, each asked for 2 KiB before it is needed, come as fast as they can be read at all. AMD's Zen 4 reads
//! further ahead, and a single stream is faster than several; but a loop that has something to do with each line still waits
//! for memory, a sixth of its time or more on a server of theirs, unless lines are asked for 8 KiB ahead, into the second-level
//! cache and not the nearest. Zen 3, which has AVX2 and no more, reads the weights of one token faster in three streams and the
//! head's sketch in two, asked for 2 KiB ahead. docs/speed.md has the measurements.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use crate::arch::Line;

/// How far ahead of its reader a line is asked for.
pub(super) const AHEAD: usize = 2048;
const AHEAD_LINES: usize = AHEAD / size_of::<Line>();

/// The same where there is one stream.
pub(super) const AHEAD_ALONE: usize = 4096;

/// The same into the second-level cache, which has room for it.
const FAR_AHEAD: usize = 8192;

/// Panels that are read side by side at most.
pub(super) const STREAMS: usize = 4;

/// Panels that this CPU reads fastest side by side.
pub(super) fn streams() -> usize {
    if is_amd() { 1 } else { STREAMS }
}

/// Whether this is one of AMD's CPUs, all of which have an extension that no others have.
pub(super) fn is_amd() -> bool {
    is_x86_feature_detected!("sse4a")
}

/// The lines of `P` panels of `lines` lines that are read side by side, and how far behind each lies the one to ask for: in
/// the same panel, and towards its end in the panel that is read after it.
#[inline(always)]
pub(super) fn pieces<const P: usize>(lines: usize) -> [(Range<usize>, usize); 2] {
    let last = lines.saturating_sub(AHEAD_LINES);
    [(0..last, AHEAD), (last..lines, AHEAD + (P - 1) * lines * size_of::<Line>())]
}

/// Asks for the cache line `ahead` bytes behind the start of `bytes`, which need not be there.
#[inline(always)]
pub(super) fn prefetch(bytes: &[u8], ahead: usize) {
    prefetch_to::<_MM_HINT_T0>(bytes, ahead);
}

/// [`prefetch_far`], or else [`prefetch`].
#[inline(always)]
pub(super) fn ask<const FAR: bool>(bytes: &[u8], ahead: usize) {
    if FAR { prefetch_far(bytes) } else { prefetch(bytes, ahead) }
}

/// Asks for the line that AMD's CPUs want to be asked for when they read `bytes` in a single stream.
#[inline(always)]
pub(super) fn prefetch_far(bytes: &[u8]) {
    prefetch_to::<_MM_HINT_T1>(bytes, FAR_AHEAD);
}

/// Into the cache that `HINT` names: `_MM_HINT_T0` the nearest, `_MM_HINT_T1` the second-level one.
#[inline(always)]
fn prefetch_to<const HINT: i32>(bytes: &[u8], ahead: usize) {
    #[allow(unused_unsafe, reason = "an unsafe function up to Rust 1.89")]
    // SAFETY: a prefetch of any address has no effect but on time.
    unsafe {
        _mm_prefetch::<HINT>(bytes.as_ptr().wrapping_add(ahead).cast());
    }
}
