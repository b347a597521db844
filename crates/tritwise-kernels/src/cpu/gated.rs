//! The products of gate and up, and the gate where they come out.
//!
//! `gate` and `up` of a piece of a prompt are larger than the nearer caches (3.5 MB for 64 tokens of BitNet b1.58 2B-4T),
//! so that [`elementwise::gate`](super::elementwise) waits for them to come back. Here a panel of both is multiplied
//! before the next, and only what the gate lets through is written. The operations on an output are the same.

use std::ops::Range;

use tritwise_tensor::Activation;

use crate::arch::Isa;
use crate::packed::{PackedMatrix, PackedScales};
use crate::parallel::{ColumnShard, ColumnShards, Columns, Pool};

use super::matmul::{CALL_INPUTS, CALL_ROWS, INLINE_BYTES, Sums, kernel_sums, shard_panels};
use super::{Quantized, Rounding, Rows};

/// A matrix with the scale of all its weights.
type Scaled<'a> = (&'a PackedMatrix, f32);

/// Gate and up, if [`gated_matmul`] can take them with such an input: several tokens of `i8`, and one scale for each matrix.
pub(super) fn gated<'a>(x: &Quantized, [gate, up]: [&'a PackedMatrix; 2]) -> Option<[Scaled<'a>; 2]> {
    match (gate.scales(), up.scales()) {
        (PackedScales::Tensor(gate_scale), PackedScales::Tensor(up_scale))
            if x.tokens() > 1 && x.rounding() == Rounding::Int8 && gate.layout() == up.layout() =>
        {
            Some([(gate, *gate_scale), (up, *up_scale)])
        }
        _ => None,
    }
}

/// `out = activation(x · gateᵀ) ⊙ (x · upᵀ)`.
///
/// # Panics
/// A matrix does not fit its input or output.
pub(super) fn gated_matmul(
    isa: &dyn Isa,
    pool: &Pool,
    x: &Quantized,
    gate_up: [Scaled<'_>; 2],
    activation: Activation,
    out: &mut Rows,
) {
    for (weights, _) in gate_up {
        assert_eq!(x.width(), weights.cols(), "input features");
        assert_eq!(out.width(), weights.rows(), "output features");
    }
    out.set_tokens(x.tokens());
    let ([(gate, _), (up, _)], width) = (gate_up, out.width());
    let shard_rows = shard_panels(gate, x.tokens()) * gate.layout().rows();
    let shards = ColumnShards::new([Some(Columns::new(out.as_mut_slice(), width, shard_rows))], pool.threads());
    let region = |worker| {
        let mut sums = Sums::default();
        while let Some(mut shard) = shards.next(worker) {
            for start in (0..x.tokens()).step_by(CALL_INPUTS) {
                let tokens = start..x.tokens().min(start + CALL_INPUTS);
                multiply(isa, x, tokens, gate_up, activation, &mut sums, &mut shard);
            }
        }
    };
    let bytes = gate.bytes() + up.bytes();
    if bytes.saturating_mul(x.tokens()) < INLINE_BYTES { region(0) } else { pool.run(&region) }
}

/// The outputs of one shard's rows for some tokens.
fn multiply(
    isa: &dyn Isa,
    x: &Quantized,
    tokens: Range<usize>,
    [(gate, gate_scale), (up, up_scale)]: [Scaled<'_>; 2],
    activation: Activation,
    sums: &mut Sums,
    out: &mut ColumnShard<'_, f32>,
) {
    let rows = gate.layout().rows();
    let first = out.start() / rows;
    let (panels, call_panels) = (out.len().div_ceil(rows), CALL_ROWS / rows);
    for panel in (0..panels).step_by(call_panels) {
        let (at, count) = (first + panel, call_panels.min(panels - panel));
        // The rows of padding in the last panel have sums but no outputs.
        let outs = panel * rows..out.len().min((panel + count) * rows);
        for token in tokens.clone() {
            isa.prefetch(bytemuck::cast_slice(&out.row_mut(token)[outs.clone()]));
        }
        let gates = kernel_sums(isa, gate.panels_at(at, count), x, tokens.clone(), sums);
        for (token, gates) in tokens.clone().zip(gates.chunks_exact(count * rows)) {
            let (q_sum, q_scale) = (x.sum(token, 0..x.padded_width()), x.scales()[token]);
            isa.scale_sums(&gates[..outs.len()], q_sum, gate_scale, q_scale, &mut out.row_mut(token)[outs.clone()]);
        }
        let ups = kernel_sums(isa, up.panels_at(at, count), x, tokens.clone(), sums);
        for (token, ups) in tokens.clone().zip(ups.chunks_exact(count * rows)) {
            let (q_sum, q_scale) = (x.sum(token, 0..x.padded_width()), x.scales()[token]);
            let scaled = &mut [0.0; CALL_ROWS][..outs.len()];
            isa.scale_sums(&ups[..outs.len()], q_sum, up_scale, q_scale, scaled);
            isa.gate(activation, &mut out.row_mut(token)[outs.clone()], scaled);
        }
    }
}
