//! The floating-point half of an instruction set.

use tritwise_tensor::{Activation, DenseEncoding, RopeStyle};

use super::RowSketch;
use super::sealed::Sealed;

/// Sixteen little-endian binary16 numbers: the usual unit of the key/value cache.
pub type Halves = [u8; 32];

/// Sixteen little-endian binary32 numbers: the unit of an exact key/value cache.
pub type Singles = [u8; 64];

/// Positions that share a block of keys, one per lane.
pub const KEY_BLOCK: usize = 16;

/// Positions whose attention is one softmax; longer pasts are merged from chunks of this many.
pub const ATTEND_CHUNK: usize = 256;

/// An RMSNorm's weight and ε.
#[derive(Debug, Clone, Copy)]
pub struct NormWeight<'a> {
    /// One weight per feature.
    pub weight: &'a [f32],
    /// What is added to the mean square.
    pub eps: f32,
}

/// The rotary angles of one position, for each element of a head.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a> {
    /// Cosines, `head_dim` of them.
    pub cos: &'a [f32],
    /// Sines, negative for the first element of a pair.
    pub sin: &'a [f32],
}

/// The keys and values of one kv head in one layer.
///
/// ```text
/// keys     block of positions 16b .. 16b + 15:   [head_dim][16]
/// values   position p:                           [head_dim, padded with zeros to a multiple of 16]
/// ```
///
/// A lane of a score belongs to a key, a lane of an output to a feature.
#[derive(Debug, Clone, Copy)]
pub struct KvHead<'a, U = Halves> {
    /// Width of a head.
    pub head_dim: usize,
    /// `head_dim` units per block of [`KEY_BLOCK`] positions.
    pub keys: &'a [U],
    /// `head_dim.div_ceil(16)` units per position.
    pub values: &'a [U],
}

/// Queries of consecutive positions that share a kv head.
///
/// Row `r`, head `h` is `values[r * stride + h * head_dim..][..head_dim]`, and
/// its output has the same place.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// The queries, starting with the first head of the first row.
    pub values: &'a [f32],
    /// Elements from a row to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Query heads per row that share the kv head.
    pub heads: usize,
    /// The first row's position; it sees positions `0..=start`.
    pub start: usize,
}

/// Consecutive rows of a dense table, in the bytes of their file.
#[derive(Debug, Clone, Copy)]
pub struct TableRows<'a> {
    encoding: DenseEncoding,
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
}

impl<'a> TableRows<'a> {
    /// `bytes` as `rows` rows of `cols` columns.
    ///
    /// # Panics
    /// The byte count does not fit, or `cols` is no multiple of the encoding's block.
    pub fn new(encoding: DenseEncoding, rows: usize, cols: usize, bytes: &'a [u8]) -> Self {
        let row_bytes = row_bytes(encoding, cols);
        assert_eq!(Some(bytes.len()), rows.checked_mul(row_bytes), "{rows} rows of {row_bytes} bytes");
        Self { encoding, rows, cols, bytes }
    }

    /// How the rows are stored.
    pub fn encoding(&self) -> DenseEncoding {
        self.encoding
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The stored bytes, row after row.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Rows `start..start + rows`.
    ///
    /// # Panics
    /// They are out of range.
    pub fn slice(&self, start: usize, rows: usize) -> Self {
        let row_bytes = row_bytes(self.encoding, self.cols);
        Self { rows, bytes: &self.bytes[start * row_bytes..][..rows * row_bytes], ..*self }
    }
}

/// Bytes of a row of `cols` columns.
fn row_bytes(encoding: DenseEncoding, cols: usize) -> usize {
    let (block_cols, block_bytes) = match encoding {
        DenseEncoding::F32 => (1, 4),
        DenseEncoding::F16 | DenseEncoding::Bf16 => (1, 2),
        DenseEncoding::Q8_0 => (32, 34),
        DenseEncoding::Q6K => (256, 210),
    };
    assert!(cols.is_multiple_of(block_cols), "{cols} columns in blocks of {block_cols}");
    cols / block_cols * block_bytes
}

/// Floating-point operations, the same bits on every instruction set.
///
/// Each call is a row, a chunk or a run of table rows: coarse enough that the
/// call costs nothing, and single-threaded. The algorithms are in
/// `arch/generic`, once; an implementation only says with which lanes they
/// are compiled. Results are IEEE 754 binary32 in a fixed order of operations,
/// so they agree to the bit, but for the sign and payload of a NaN.
///
/// All of them panic when slices disagree in length.
pub trait FloatOps: Sealed {
    /// `x = e^x`, within 1.01 ulp; zero, subnormal or infinite where the exact value is.
    fn exp(&self, x: &mut [f32]);

    /// RMSNorm: `out = (x · r) · weight` with `r = 1 / √(Σx² / len + ε)`.
    fn normalize(&self, x: &[f32], norm: NormWeight<'_>, out: &mut [f32]);

    /// BitNet's activation quantisation of a row, or of its norm:
    /// `q = clamp(round_half_even(x · s), −128, 127)` with `s = 127 / max(max|x|, 1e-5)`
    /// (`activation_quant` in arXiv 2402.17764's reference code).
    ///
    /// Returns `s` and `Σ q`. A row that holds NaN or infinity has no scale: its
    /// codes are zero and `s` is NaN, which makes NaN of all that depends on it.
    fn quantize(&self, x: &[f32], norm: Option<NormWeight<'_>>, out: &mut [i8]) -> (f32, i32);

    /// `gate = activation(gate) · up`, where SiLU is `x / (1 + e^-x)` and squared
    /// ReLU `max(x, 0)²`, NaN for NaN.
    fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]);

    /// `x = x + y`.
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// Rotates every head of a row: `x'[i] = fma(x[i], cos[i], x[partner(i)] · sin[i])`.
    fn rotate(&self, style: RopeStyle, angles: Angles<'_>, heads: &mut [f32]);

    /// Rounds a key to binary16, as lane `slot` of a block of keys (`head_dim` × [`Halves`]).
    fn store_key(&self, key: &[f32], slot: usize, block: &mut [Halves]);

    /// Rounds a value to binary16, padded with zeros to whole [`Halves`].
    fn store_value(&self, value: &[f32], out: &mut [Halves]);

    /// As [`store_key`](Self::store_key), without rounding.
    fn store_key_f32(&self, key: &[f32], slot: usize, block: &mut [Singles]);

    /// As [`store_value`](Self::store_value), without rounding.
    fn store_value_f32(&self, value: &[f32], out: &mut [Singles]);

    /// Causal attention of each query over the positions up to its own.
    ///
    /// In chunks of [`ATTEND_CHUNK`] positions: `score = (Σ_d q[d]·k[d]) · 1/√head_dim`,
    /// `e = exp(score − m)` with the chunk's largest score `m`, `l = Σ e` in sixteen partials,
    /// `o = Σ_j e_j·v_j`. Chunks merge in ascending order, rescaled to the larger
    /// `m` (Milakov and Gimelshein, arXiv 1805.02867), and the result is `o / l`.
    /// Positions behind a query are not read.
    fn attend(&self, past: KvHead<'_>, queries: Queries<'_>, out: &mut [f32]);

    /// One chunk of [`attend`](Self::attend) for the heads of one row, so that
    /// several threads can share a long past.
    ///
    /// `part` becomes `o` of every head (`heads * head_dim`), then their `m`, then their `l`.
    fn attend_chunk(&self, past: KvHead<'_>, queries: Queries<'_>, chunk: usize, part: &mut [f32]);

    /// Merges the parts of a row's chunks, in ascending order, to what [`attend`](Self::attend)
    /// gives, to the bit.
    fn join_chunks(&self, parts: &[f32], heads: usize, out: &mut [f32]);

    /// As [`attend`](Self::attend), over keys and values that were not rounded.
    fn attend_f32(&self, past: KvHead<'_, Singles>, queries: Queries<'_>, out: &mut [f32]);

    /// The weights of one table row, as `f32`.
    fn decode(&self, row: TableRows<'_>, out: &mut [f32]);

    /// `out[t * rows + r] = row r · x[t]`, the sum over columns in sixteen partials with
    /// fused multiply-add.
    ///
    /// `x` is rows of `table.cols()`, each padded with zeros to a multiple of sixteen.
    /// Weights are exact `f32`s, for Q8_0 `d·q` and for Q6_K `(d·scale)·q`.
    fn project(&self, table: TableRows<'_>, x: &[f32], out: &mut [f32]);

    /// Six-bit codes and steps of a row of weights that is padded with zeros to whole groups
    /// of [`SKETCH_GROUP`](super::SKETCH_GROUP), and the norms of what they leave out, rounded up.
    ///
    /// A row that is not finite, or of a size far from one, has no sketch: its residuals are infinite.
    fn sketch(&self, row: &[f32], codes: &mut [u8], steps: &mut [u8]) -> RowSketch;
}
