//! Keys and values as they lie in memory.
//!
//! A cache is cut into chunks of 256 positions, and a chunk holds, for each
//! layer and kv head, what this module draws: one run of 64-byte lines that
//! attention reads from its beginning to its end.
//!
//! ```text
//! keys     a block of 32 positions    F16     [head_dim][32]            a line is 32 lanes, one per position
//!                                     F32     [head_dim][32]            two lines
//!                                     Int8    [head_dim / 2][32][2]     a line is 32 lanes of two features
//! values   a tile of 32 features      F16     [positions][32]           a line is 32 lanes, one per feature
//!                                     F32     [positions][32]           two lines
//!                                     Int8    [positions / 2][32][2]    a line is 32 lanes of two positions
//! scales   Int8 only, binary32        keys' [positions], values' [positions]
//! ```
//!
//! So the lanes of q·k run over keys, those of p·v over features, and in `Int8` a
//! lane holds the two numbers that one 16-bit dot product takes. The last tile is
//! padded to 32 features, the last pair of an odd `head_dim` to two.

/// Sixty-four bytes of keys or values.
pub type KvLine = [u8; 64];

/// Positions whose attention is one softmax; longer pasts are merged from chunks of this many.
pub const ATTEND_CHUNK: usize = 256;

/// Positions of a block of keys, and features of a tile of values.
pub const KV_BLOCK: usize = 32;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvType {
    /// Rounded to binary16: half the memory of binary32, and what other engines do.
    #[default]
    F16,
    /// Not rounded, for comparison with references that keep binary32.
    F32,
    /// Lossy: rounded to `i8`, each key and each value with its own scale. Half the memory of `F16`,
    /// and so up to twice the speed where a long past is most of what a token reads. Attention
    /// multiplies integers. Like every mode it gives the same bits on every instruction set, on
    /// any number of threads and however a prompt is cut; only they are others than `F16`'s.
    Int8,
}

/// The places of some positions' keys and values, for one kv head of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    kv: KvType,
    head_dim: usize,
    positions: usize,
}

impl KvLayout {
    /// Room for `positions` positions, at most [`ATTEND_CHUNK`], in whole blocks.
    ///
    /// # Panics
    /// There are more, or heads without features.
    pub fn new(kv: KvType, head_dim: usize, positions: usize) -> Self {
        assert!(positions <= ATTEND_CHUNK, "{positions} positions of {ATTEND_CHUNK}");
        assert!(head_dim > 0, "a head has features");
        Self { kv, head_dim, positions: positions.next_multiple_of(KV_BLOCK) }
    }

    /// How numbers are kept.
    pub fn kv(&self) -> KvType {
        self.kv
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Positions there is room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Length of the whole, saturating.
    pub fn lines(&self) -> usize {
        self.key_lines().saturating_add(self.value_lines()).saturating_add(2 * self.scale_lines())
    }

    /// Length of the keys.
    pub(super) fn key_lines(&self) -> usize {
        (self.positions / KV_BLOCK).saturating_mul(self.block_lines())
    }

    /// Length of a block of keys.
    pub(super) fn block_lines(&self) -> usize {
        match self.kv {
            KvType::F16 => self.head_dim,
            KvType::F32 => self.head_dim.saturating_mul(2),
            KvType::Int8 => self.head_dim.div_ceil(2),
        }
    }

    /// Length of the values.
    pub(super) fn value_lines(&self) -> usize {
        self.head_dim.div_ceil(KV_BLOCK).saturating_mul(self.tile_lines())
    }

    /// Length of a tile of values.
    pub(super) fn tile_lines(&self) -> usize {
        match self.kv {
            KvType::F16 => self.positions,
            KvType::F32 => 2 * self.positions,
            KvType::Int8 => self.positions / 2,
        }
    }

    /// Length of one of the two runs of scales.
    pub(super) fn scale_lines(&self) -> usize {
        match self.kv {
            KvType::F16 | KvType::F32 => 0,
            KvType::Int8 => self.positions * size_of::<f32>() / size_of::<KvLine>(),
        }
    }
}

/// One kv head's keys and values of a chunk of positions.
#[derive(Debug, Clone, Copy)]
pub struct KvChunk<'a> {
    /// What lies where.
    pub layout: KvLayout,
    /// The chunk's first position, counted from the sequence's.
    pub base: usize,
    /// As many as [`KvLayout::lines`] says.
    pub lines: &'a [KvLine],
}

/// Queries of consecutive positions that share a kv head.
///
/// Row `r`, head `h` has its output at `r * stride + h * head_dim`.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// Their numbers.
    pub values: QueryValues<'a>,
    /// Elements from a row's outputs to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Query heads per row that share the kv head.
    pub heads: usize,
    /// The first row's position; it sees positions `0..=start`, or the end of them.
    pub start: usize,
    /// Positions that a query sees at most, its own included; `usize::MAX` for all.
    pub window: usize,
}

/// The numbers of [`Queries`].
#[derive(Debug, Clone, Copy)]
pub enum QueryValues<'a> {
    /// For binary16 and binary32: each query at the place of its output.
    Plain(&'a [f32]),
    /// For int8: what [`FloatOps::round_query`](super::FloatOps::round_query) made of the
    /// queries, row after row and head after head.
    Rounded {
        /// `head_dim` codes per query and, if that is odd, a zero.
        codes: &'a [i16],
        /// One per query.
        scales: &'a [f32],
    },
}

/// What the softmax over some positions has come to; the positions' weighted values are elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    /// The largest score.
    pub max: f32,
    /// `Σ exp(score − max)`; zero before the first position, and then at least one, or NaN.
    pub sum: f32,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}
