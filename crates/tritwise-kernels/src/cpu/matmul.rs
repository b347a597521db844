//! `y = x · Wᵀ` for quantised activations and packed ternary weights.
//!
//! With activations `q / s` and weights `w · trit`, where `w` is constant over
//! each group of columns, an output is
//!
//! ```text
//! y = (w₀·Σ₀ trit·q + w₁·Σ₁ trit·q + …) / s
//! ```
//!
//! The sums are exact integers, rounded once to `f32`; products are added from
//! left to right, each step rounded (no fused operation: plain multiplications
//! and additions are fast and the same everywhere). One scale for a matrix or a
//! row is the case of one group. Each output is a chain of its own, so it has
//! the same bits for one token or many, on any instruction set and any number
//! of threads.

use std::ops::Range;

use crate::arch::{Activations, Isa, LINE_COLS, Line, PANEL_ROWS, Panels};
use crate::packed::{PackedMatrix, PackedScales};
use crate::parallel::{ColumnShard, ColumnShards, Pool};

use super::{Quantized, Rows};

/// Matrices that one parallel region takes at most; q, k and v are three.
const MATRICES: usize = 4;

/// Panels that a kernel call takes at most.
const CALL_PANELS: usize = 4;

/// Tokens that a kernel call takes at most: some tiles of the widest kernel, so
/// that weights come from memory once and then from the nearest cache.
const CALL_TOKENS: usize = 48;

/// The sums of one kernel call, which lie on the worker's stack.
type Sums = [i32; CALL_TOKENS * CALL_PANELS * PANEL_ROWS];

/// Weights of a shard, in bytes: some microseconds of streaming, so that taking
/// a shard costs little and waiting for the last one too.
const SHARD_BYTES: usize = 64 << 10;

/// Work below which the other threads are not woken, in bytes of weights times
/// tokens: what one core does in about the time of a hand-off.
const INLINE_BYTES: usize = 32 << 10;

/// `outs[i] = x · weights[i]ᵀ`.
///
/// # Panics
/// The numbers of matrices and outputs differ, or a matrix does not fit its input or output.
pub(super) fn matmul(isa: &dyn Isa, pool: &Pool, x: &Quantized, weights: &[&PackedMatrix], outs: &mut [&mut Rows]) {
    assert_eq!(weights.len(), outs.len(), "one output per matrix");
    for (weights, out) in weights.iter().zip(outs.iter_mut()) {
        assert_eq!(x.width(), weights.cols(), "input features");
        assert_eq!(out.width(), weights.rows(), "output features");
        out.set_tokens(x.tokens());
    }
    for (weights, outs) in weights.chunks(MATRICES).zip(outs.chunks_mut(MATRICES)) {
        let mut outs = outs.iter_mut().zip(weights);
        let outs: [Option<ColumnShards<'_, f32>>; MATRICES] = std::array::from_fn(|_| {
            let (out, weights) = outs.next()?;
            let width = out.width();
            Some(ColumnShards::new(
                out.as_mut_slice(),
                width,
                shard_panels(weights) * PANEL_ROWS,
            ))
        });
        let region = |_worker| {
            let mut sums: Sums = [0; _];
            for (weights, out) in weights.iter().zip(outs.iter().flatten()) {
                while let Some(mut shard) = out.next() {
                    multiply(isa, x, weights, &mut sums, &mut shard);
                }
            }
        };
        let bytes: usize = weights.iter().map(|weights| weights.bytes()).sum();
        if bytes.saturating_mul(x.tokens()) < INLINE_BYTES {
            region(0)
        } else {
            pool.run(&region)
        }
    }
}

/// Panels per shard: an even number, since kernels take two at a time.
fn shard_panels(weights: &PackedMatrix) -> usize {
    let panel_bytes = weights.lines_per_panel() * size_of::<Line>();
    (SHARD_BYTES / panel_bytes).next_multiple_of(2).max(2)
}

/// The outputs of one shard's rows, for all tokens.
fn multiply(isa: &dyn Isa, x: &Quantized, weights: &PackedMatrix, sums: &mut Sums, out: &mut ColumnShard<'_, f32>) {
    for start in (0..x.tokens()).step_by(CALL_TOKENS) {
        let tokens = start..x.tokens().min(start + CALL_TOKENS);
        match weights.scales() {
            PackedScales::Tensor(scale) => one_scale(isa, x, tokens, weights, *scale, sums, out),
            PackedScales::Groups { lines, values } => grouped(isa, x, tokens, weights, *lines, values, sums, out),
        }
    }
}

/// [`multiply`] for a matrix with one scale: whole panels, several at a time.
fn one_scale(
    isa: &dyn Isa,
    x: &Quantized,
    tokens: Range<usize>,
    weights: &PackedMatrix,
    scale: f32,
    sums: &mut Sums,
    out: &mut ColumnShard<'_, f32>,
) {
    let first = out.start() / PANEL_ROWS;
    let panels = out.len().div_ceil(PANEL_ROWS);
    for panel in (0..panels).step_by(CALL_PANELS) {
        let packed = weights.panels_at(first + panel, CALL_PANELS.min(panels - panel));
        let rows = packed.len() * PANEL_ROWS;
        let sums = code_sums(isa, packed, x, 0, tokens.clone(), sums);
        for (token, sums) in tokens.clone().zip(sums.chunks_exact(rows)) {
            let (q_sum, q_scale) = (x.sums()[token], x.scales()[token]);
            // The rows of padding in the last panel have sums but no outputs.
            for (y, sum) in out.row_mut(token)[panel * PANEL_ROWS..].iter_mut().zip(sums) {
                *y = sum.wrapping_sub(q_sum) as f32 * scale / q_scale;
            }
        }
    }
}

/// [`multiply`] for a matrix whose scales come in groups of `lines` lines: one
/// panel and one group at a time, with the outputs themselves as accumulators.
#[allow(
    clippy::too_many_arguments,
    reason = "the operands of `multiply`, and the scales taken apart"
)]
fn grouped(
    isa: &dyn Isa,
    x: &Quantized,
    tokens: Range<usize>,
    weights: &PackedMatrix,
    lines: usize,
    scales: &[[f32; PANEL_ROWS]],
    sums: &mut Sums,
    out: &mut ColumnShard<'_, f32>,
) {
    let first = out.start() / PANEL_ROWS;
    let panels = out.len().div_ceil(PANEL_ROWS);
    let groups = weights.lines_per_panel().div_ceil(lines);
    for panel in 0..panels {
        let row = panel * PANEL_ROWS;
        let packed = weights.panels_at(first + panel, 1);
        for (group, group_lines) in packed.lines().chunks(lines).enumerate() {
            let cols = group_lines.len() * LINE_COLS;
            let col = group * lines * LINE_COLS;
            let scales = &scales[(first + panel) * groups + group];
            let sums = code_sums(
                isa,
                Panels::new(group_lines, group_lines.len()),
                x,
                col,
                tokens.clone(),
                sums,
            );
            for (token, sums) in tokens.clone().zip(sums.chunks_exact(PANEL_ROWS)) {
                let q = &x.values()[token * x.padded_width() + col..][..cols];
                let q_sum: i32 = q.iter().map(|q| i32::from(*q)).sum();
                for ((y, sum), scale) in out.row_mut(token)[row..].iter_mut().zip(sums).zip(scales) {
                    let product = sum.wrapping_sub(q_sum) as f32 * scale;
                    *y = if group == 0 { product } else { *y + product };
                }
            }
        }
        for token in tokens.clone() {
            let q_scale = x.scales()[token];
            for y in out.row_mut(token)[row..].iter_mut().take(PANEL_ROWS) {
                *y /= q_scale;
            }
        }
    }
}

/// `Σ code·q` of `packed` with the columns of `x` from `col`, token after token.
fn code_sums<'a>(
    isa: &dyn Isa,
    packed: Panels<'_>,
    x: &Quantized,
    col: usize,
    tokens: Range<usize>,
    sums: &'a mut Sums,
) -> &'a [i32] {
    let out = &mut sums[..tokens.len() * packed.len() * PANEL_ROWS];
    let q = &x.values()[tokens.start * x.padded_width() + col..];
    match tokens.len() {
        1 => isa.gemv(packed, &q[..packed.cols()], out),
        tokens => isa.gemm(packed, Activations::new(q, x.padded_width(), tokens), out),
    }
    out
}
