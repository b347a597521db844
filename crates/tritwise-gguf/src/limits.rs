//! Every cap on what a file may claim, and the attack it stops.
//!
//! Counts and lengths that have no constant here are bounded by the bytes that
//! are left in the file: `n` entries of at least `m` bytes each need `n * m`
//! bytes, so a claim beyond that is a lie and is refused before anything is
//! allocated. What a parsed header occupies is thereby bounded by a small
//! multiple of the file's size.

/// Largest `general.alignment`, in bytes; a huge one would make the padded
/// start of the data wrap around or leave the file (ggml pull request 1516).
pub const ALIGNMENT: u32 = 1 << 20;

/// Most dimensions of a tensor; readers with a four-element shape array were
/// written past its end by files that claimed more (ggml pull request 709).
pub const DIMS: u32 = 4;

/// Longest dimension; factors such as 2⁴² + 1 make a wrapping product come out
/// small (llama.cpp pull request 18674).
pub const DIM: u64 = 1 << 31;

/// Most elements per byte of a tensor's window, as no encoding is denser than
/// one bit: a tensor whose dimensions exceed its bytes makes careless readers
/// run past the end of the file (CVE-2026-7482).
pub const ELEMENTS_PER_BYTE: u64 = 8;

/// Longest tensor name in bytes, ggml's own limit: a name copied into a fixed
/// buffer overruns it, and a megabyte of name floods an error message.
pub const NAME: usize = 63;

/// Longest metadata key in bytes, the limit of the GGUF specification: as for
/// names.
pub const KEY: usize = 65_535;

/// Most metadata entries; each costs this library several times its 14 bytes
/// in the file, so a large file of tiny entries would multiply in memory
/// (CVE-2024-21836).
pub const ENTRIES: u64 = 1 << 16;

/// Most tensors, for the same reason (CVE-2024-23605); the largest published models
/// have a few thousand.
pub const TENSORS: u64 = 1 << 17;
