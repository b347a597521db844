//! The device seam: what a transformer of this family asks of a machine.
//!
//! A model is written once against [`Backend`] and never sees how a matrix is
//! laid out, which instruction set runs or how many threads there are. The
//! associated types are whatever suits the device; a backend on a GPU would put
//! them in its own memory. The operations are few and named as the papers name
//! them, and each works on a *batch of rows*: row `t` of every [`Backend::Rows`]
//! belongs to token `t` of the batch.
//!
//! The law of this project holds for every implementation: a row's result
//! depends on that row (and its sequence's past) alone, never on how many rows
//! came with it, so that a prompt in one piece, the same prompt token by token,
//! and eight prompts side by side all give the same bits.

use std::fmt;
use std::ops::Range;

use tritwise_tensor::{Activation, Config, DenseMatrix, Inputs, Rope, TernaryMatrix};

/// A device that can run the graph.
///
/// Shapes are fixed when weights are packed and buffers are made; the model
/// checks that they fit together. Passing values whose shapes disagree is a
/// bug of the caller and panics.
pub trait Backend: fmt::Debug + Send + Sync {
    /// A packed ternary matrix with its scales.
    type Matrix: Send + Sync;
    /// A dense table whose rows are looked up or multiplied with.
    type Table: Send + Sync;
    /// An RMSNorm: its weight and ε.
    type Norm: Send + Sync;
    /// `f32` activations, one row per token.
    type Rows: Send + Sync;
    /// Rows as linear layers take them: rounded, each with its scale.
    type Quantized: Send + Sync;
    /// The rotary angles of one model.
    type Rotary: Send + Sync;
    /// The keys and values of one sequence, for all layers.
    type Cache: Send + Sync;

    /// Packs a ternary matrix into this device's layout, and [releases](tritwise_tensor::Bytes::release) its bytes;
    /// or keeps them, where the device computes with them as they are.
    ///
    /// # Errors
    /// The device was asked to compute with what it cannot.
    fn pack(&self, weights: &TernaryMatrix<'_>) -> Result<Self::Matrix, PackError>;

    /// Takes over a dense table, and [releases](tritwise_tensor::Bytes::release) or keeps its bytes.
    fn table(&self, weights: &DenseMatrix<'_>) -> Self::Table;

    /// Takes over a dense table as the output head, which [`logits`](Self::logits) and
    /// [`top_logits`](Self::top_logits) multiply with. A `tied` one is the embedding too.
    fn head(&self, weights: &DenseMatrix<'_>, tied: bool) -> Self::Table;

    /// Takes over a norm of `weight.len()` features.
    fn norm(&self, weight: &[f32], eps: f32) -> Self::Norm;

    /// An empty batch of rows, `width` features each.
    fn rows(&self, width: usize) -> Self::Rows;

    /// An empty batch of rows for the linear layers, `width` features each, of a model whose inputs are such.
    fn quantized(&self, width: usize, inputs: Inputs) -> Self::Quantized;

    /// Rotary angles for heads of `head_dim`, at positions below `context`.
    fn rotary(&self, rope: &Rope, head_dim: usize, context: usize) -> Self::Rotary;

    /// Room for `capacity` positions of a model of this shape.
    fn cache(&self, config: &Config, capacity: usize) -> Self::Cache;

    /// An independent copy of a cache's first `positions` positions, with the same capacity.
    fn fork(&self, cache: &Self::Cache, positions: usize) -> Self::Cache;

    /// Bytes of the record of one position of `cache`: its keys and values in a form that depends on nothing
    /// but the model's shape and the type of the numbers, to be kept in files.
    fn record_bytes(&self, cache: &Self::Cache) -> usize;

    /// Writes the keys and values of `position` to `record`.
    fn read_record(&self, cache: &Self::Cache, position: usize, record: &mut [u8]);

    /// Makes `record` the keys and values of `position`; whether it is one that [`read_record`](Self::read_record)
    /// can have written. If not, what the position holds is lost.
    fn write_record(&self, cache: &mut Self::Cache, position: usize, record: &[u8]) -> bool;

    /// Bytes of memory that multiplying with `matrix` reads.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;

    /// Bytes of memory that `table` takes.
    fn table_bytes(&self, table: &Self::Table) -> usize;

    /// Bytes of memory that one row of [`logits`](Self::logits) reads.
    fn logits_bytes(&self, table: &Self::Table) -> usize;

    /// Bytes of memory that a cache of `capacity` positions takes when full.
    fn cache_bytes(&self, config: &Config, capacity: usize) -> usize;

    /// Makes `out` the rows of `table` that belong to `tokens`, as `f32`, times `scale`.
    fn embed(&self, table: &Self::Table, tokens: &[u32], scale: f32, out: &mut Self::Rows);

    /// Makes `out` the rows of `x`, in which each run of as many features as the norm has is normalised:
    /// whole rows, or the heads of a row.
    fn normalize(&self, x: &Self::Rows, norm: &Self::Norm, out: &mut Self::Rows);

    /// Normalises each row (where a norm is given) and rounds it with its own absmax scale: to `i8` for
    /// [`Inputs::Int8`], BitNet's activation quantisation; for [`Inputs::Float`] so finely that nobody sees it, if at all.
    fn quantize(&self, x: &Self::Rows, norm: Option<&Self::Norm>, out: &mut Self::Quantized);

    /// `outs[i] = x · weights[i]ᵀ` for several matrices that share an input.
    fn matmul(&self, x: &Self::Quantized, weights: &[&Self::Matrix], outs: &mut [&mut Self::Rows]);

    /// `out = activation(x · gateᵀ) ⊙ (x · upᵀ)`, the bits of [`matmul`](Self::matmul) with both and [`gate`](Self::gate).
    /// `scratch` is of the same width; what it holds afterwards is unspecified.
    fn gated_matmul(
        &self,
        x: &Self::Quantized,
        gate_up: [&Self::Matrix; 2],
        activation: Activation,
        out: &mut Self::Rows,
        scratch: &mut Self::Rows,
    ) {
        self.matmul(x, &gate_up, &mut [&mut *out, &mut *scratch]);
        self.gate(activation, out, scratch);
    }

    /// Rotates the heads of rows `rows`, which stand at positions `start`, `start + 1`, ….
    fn rope(&self, x: &mut Self::Rows, rows: Range<usize>, start: usize, rotary: &Self::Rotary);

    /// Stores the keys and values of rows `rows` at positions `start…` of `cache`,
    /// then writes each row's attention over the last `window` positions up to its own (`usize::MAX`: all)
    /// to the same rows of `out`, which gets as many rows as `q` and keeps its others.
    #[allow(clippy::too_many_arguments, reason = "the operands of attention; a struct would only rename them")]
    fn attend(
        &self,
        layer: usize,
        cache: &mut Self::Cache,
        start: usize,
        window: usize,
        rows: Range<usize>,
        q: &Self::Rows,
        k: &Self::Rows,
        v: &Self::Rows,
        out: &mut Self::Rows,
    );

    /// `gate = activation(gate) ⊙ up`.
    fn gate(&self, activation: Activation, gate: &mut Self::Rows, up: &Self::Rows);

    /// `x = x + y`.
    fn add(&self, x: &mut Self::Rows, y: &Self::Rows);

    /// For each row listed in `rows`, normalises it and writes it to `out`, one row after the other.
    fn hidden(&self, x: &Self::Rows, rows: &[usize], norm: &Self::Norm, out: &mut [f32]);

    /// For each row listed in `rows`, normalises it and multiplies it with the
    /// whole table: `out[i * vocab..][..vocab]` are the logits of row `rows[i]`.
    fn logits(&self, x: &Self::Rows, rows: &[usize], norm: &Self::Norm, table: &Self::Table, out: &mut [f32]);

    /// As [`logits`](Self::logits), but a logit of row `rows[i]` that does not matter by
    /// `keeps[i]` may be −∞ instead, and one that is −∞ is NaN; those that matter have the same bits. Says what was read,
    /// which is less for several rows together than one by one.
    fn top_logits(
        &self,
        x: &Self::Rows,
        rows: &[usize],
        norm: &Self::Norm,
        table: &Self::Table,
        keeps: &[Keep<'_>],
        out: &mut [f32],
    ) -> HeadReads {
        let _ = keeps;
        self.logits(x, rows, norm, table, out);
        HeadReads { exact: out.len(), bytes: self.logits_bytes(table) * rows.len(), ..HeadReads::default() }
    }
}

/// Which logits of a row matter to whoever draws from it.
///
/// Those of `always` do; of all others that are `allowed`, those that are among the `best` best of them
/// and at most `within` below the best of them. Where several tie for the
/// last place, all of them do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep<'a> {
    /// How many of the best; `usize::MAX` for no limit, 0 for all logits.
    pub best: usize,
    /// How far below the best; infinity for no limit.
    pub within: f32,
    /// Logits that matter whatever they are, because something will be added to them.
    pub always: &'a [u32],
    /// A bit for each logit, the lowest of the first word for the first one: those whose bit is not set don't matter,
    /// unless `always` names them. `None` allows all.
    pub allowed: Option<&'a [u32]>,
}

impl Keep<'static> {
    /// The best `k` logits.
    pub fn best(k: usize) -> Self {
        Self { best: k, within: f32::INFINITY, always: &[], allowed: None }
    }
}

impl Keep<'_> {
    /// Whether `allowed` has the bit of `row`. Rows that it has no bit for are not allowed.
    pub(crate) fn allows(&self, row: usize) -> bool {
        self.allowed.is_none_or(|words| words.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1))
    }
}

/// What computing logits read of the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadReads {
    /// Rows estimated from the first plane of their sketch.
    pub screened: usize,
    /// Rows estimated from the second plane as well.
    pub refined: usize,
    /// Rows read from the table itself.
    pub exact: usize,
    /// Bytes of all these.
    pub bytes: usize,
}

impl std::ops::AddAssign for HeadReads {
    fn add_assign(&mut self, other: Self) {
        self.screened += other.screened;
        self.refined += other.refined;
        self.exact += other.exact;
        self.bytes += other.bytes;
    }
}

/// Why a backend refuses a matrix: what it found, and what to do.
///
/// The caller, who knows the tensor's name, puts it in front.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PackError(pub String);
