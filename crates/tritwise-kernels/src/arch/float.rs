//! The floating-point half of an instruction set.

use tritwise_tensor::{Activation, DenseEncoding, RopeStyle};

use super::kv::{KvChunk, KvLayout, KvLine, Queries, Softmax};
use super::sealed::Sealed;
use super::{Panels, RowSketch};

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
    let (block_cols, block_bytes) = encoding.block();
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

    /// The same to 16 bits: `s = L / max(max|x|, 1e-30)` with `L = min(32639, ⌊(2³¹ − 1) / len⌋)`, so that a
    /// sum of ±`q` fits `i32`. `q = 256 · high + low`, and 127 · 257 is the largest that two such bytes hold.
    ///
    /// Returns `s`; `sums[i]` is the sum of the first `16 (i + 1)` codes.
    fn quantize16(
        &self,
        x: &[f32],
        norm: Option<NormWeight<'_>>,
        high: &mut [i8],
        low: &mut [i8],
        sums: &mut [i32],
    ) -> f32;

    /// `out[t * panels.rows() + r] = Σ_c trit[r][c] · x[t][c]`: from zero, columns ascending, each step rounded.
    /// A product with a trit is exact, so a step is an addition of `x`, `-x` or 0.
    ///
    /// Row `t` of `x` begins at `x[t * stride]`. Panics also for another layout than [`TwoBit`](super::Layout::TwoBit).
    fn trit_sums(&self, panels: Panels<'_>, x: &[f32], stride: usize, out: &mut [f32]);

    /// `gate = activation(gate) · up`, where SiLU is `x / (1 + e^-x)`, squared
    /// ReLU `max(x, 0)²`, and GELU `x / (1 + e^-u)` with `u = x · fma(x·x, b, a)`; NaN for NaN.
    fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]);

    /// `x = x + y`.
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// `out = (sums - less) · scale / by`: the difference modulo 2³² and rounded to `f32`, then each step rounded.
    fn scale_sums(&self, sums: &[i32], less: i32, scale: f32, by: f32, out: &mut [f32]);

    /// Rotates every head of a row: `x'[i] = fma(x[i], cos[i], x[partner(i)] · sin[i])`.
    fn rotate(&self, style: RopeStyle, angles: Angles<'_>, heads: &mut [f32]);

    /// Stores the key and the value of position `pos` of a chunk, rounded as its layout says.
    fn store_kv(&self, layout: KvLayout, lines: &mut [KvLine], pos: usize, key: &[f32], value: &[f32]);

    /// Rounds a query for attention over int8 keys, to 16 bits (fewer in heads wider than 516, whose
    /// sums would leave 32 bits), and returns its scale; an odd last code gets a zero beside it.
    fn round_query(&self, query: &[f32], codes: &mut [i16]) -> f32;

    /// Causal attention of each query over the positions of one chunk up to its own.
    ///
    /// `score = (Σ_d q[d]·k[d]) · 1/√head_dim`, `e = exp(score − m)` with the largest score `m`,
    /// `l = Σ e` in sixteen partials, `o = Σ_j e_j·v_j`; over int8, sums of integers in their place.
    /// With `softmax` (`m` and `l`, one per query) and `out` (`o`) of earlier chunks it is merged,
    /// rescaled to the larger `m` (Milakov and Gimelshein, arXiv 1805.02867); where `softmax` is
    /// the default there are none, and `out` is not read. Positions behind a query are not read; those
    /// before its [window](Queries::window) have a score of −∞.
    ///
    /// Chunks come in ascending order; attention is [`divide`](Self::divide)d by `l` in the end.
    fn attend_chunk(&self, chunk: KvChunk<'_>, queries: Queries<'_>, softmax: &mut [Softmax], out: &mut [f32]);

    /// Merges what [`attend_chunk`](Self::attend_chunk) made of each of a row's chunks alone, in
    /// ascending order, and divides, to the bits of one after the other.
    ///
    /// A part is `o` of every head (`heads * head_dim`), then their `m`, then their `l`.
    fn join_chunks(&self, parts: &[f32], heads: usize, out: &mut [f32]);

    /// `x = x / by`.
    fn divide(&self, x: &mut [f32], by: f32);

    /// The weights of one table row, as `f32`.
    fn decode(&self, row: TableRows<'_>, out: &mut [f32]);

    /// `out[t * rows + r] = row r · x[t]`, the sum over columns in sixteen partials with
    /// fused multiply-add.
    ///
    /// `x` is rows of `table.cols()`, each padded with zeros to a multiple of sixteen.
    /// Weights are exact `f32`s, `d·q` with a block's scale and a code (and `(d·scale)·q` for Q6_K), but for
    /// Q4_K, whose `(d·scale)·q − e·offset` is rounded once.
    fn project(&self, table: TableRows<'_>, x: &[f32], out: &mut [f32]);

    /// Six-bit codes and steps of a row of weights that is padded with zeros to whole groups
    /// of [`SKETCH_GROUP`](super::SKETCH_GROUP), and the norms of what they leave out, rounded up.
    ///
    /// A row that is not finite, or of a size far from one, has no sketch: its residuals are infinite.
    fn sketch(&self, row: &[f32], codes: &mut [u8], steps: &mut [u8]) -> RowSketch;

    /// Asks for the cache lines of `bytes`, which will be read or written soon. Has no result.
    fn prefetch(&self, bytes: &[u8]);
}
