//! Floating-point operations of the scalar reference.

use tritwise_tensor::{Activation, RopeStyle};

use super::Scalar;
use crate::arch::generic::{attend, elementwise, exp, kv, norm, rotate, sketch, softmax, table, trits};
use crate::arch::{
    Angles, FloatOps, KvChunk, KvLayout, KvLine, NormWeight, Panels, Queries, RowSketch, Softmax, TableRows,
};

impl FloatOps for Scalar {
    fn exp(&self, x: &mut [f32]) {
        exp::exp_row(*self, x);
    }

    fn normalize(&self, x: &[f32], norm: NormWeight<'_>, out: &mut [f32]) {
        norm::normalize(*self, x, norm, out);
    }

    fn quantize(&self, x: &[f32], norm: Option<NormWeight<'_>>, out: &mut [i8]) -> (f32, i32) {
        norm::quantize(*self, x, norm, out)
    }

    fn quantize16(
        &self,
        x: &[f32],
        norm: Option<NormWeight<'_>>,
        high: &mut [i8],
        low: &mut [i8],
        sums: &mut [i32],
    ) -> f32 {
        norm::quantize16(*self, x, norm, high, low, sums)
    }

    fn trit_sums(&self, panels: Panels<'_>, x: &[f32], stride: usize, out: &mut [f32]) {
        trits::trit_sums(*self, panels, x, stride, out);
    }

    fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        elementwise::gate(*self, activation, gate, up);
    }

    fn scale_sums(&self, sums: &[i32], less: i32, scale: f32, by: f32, out: &mut [f32]) {
        elementwise::scale_sums(*self, sums, less, scale, by, out);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        elementwise::add(*self, x, y);
    }

    fn rotate(&self, style: RopeStyle, angles: Angles<'_>, heads: &mut [f32]) {
        rotate::rotate(*self, style, angles, heads);
    }

    fn store_kv(&self, layout: KvLayout, lines: &mut [KvLine], pos: usize, key: &[f32], value: &[f32]) {
        kv::store_kv(*self, layout, lines, pos, key, value);
    }

    fn round_query(&self, query: &[f32], codes: &mut [i16]) -> f32 {
        kv::round_query(*self, query, codes)
    }

    fn sketch(&self, row: &[f32], codes: &mut [u8], steps: &mut [u8]) -> RowSketch {
        sketch::sketch(*self, row, codes, steps)
    }

    fn prefetch(&self, bytes: &[u8]) {
        sketch::prefetch(*self, bytes);
    }

    fn attend_chunk(&self, chunk: KvChunk<'_>, queries: Queries<'_>, softmax: &mut [Softmax], out: &mut [f32]) {
        attend::attend_chunk(*self, chunk, queries, softmax, out);
    }

    fn join_chunks(&self, parts: &[f32], heads: usize, out: &mut [f32]) {
        softmax::join_chunks(*self, parts, heads, out);
    }

    fn divide(&self, x: &mut [f32], by: f32) {
        softmax::divide(*self, x, by);
    }

    fn decode(&self, row: TableRows<'_>, out: &mut [f32]) {
        table::decode(*self, row, out);
    }

    fn project(&self, table: TableRows<'_>, x: &[f32], out: &mut [f32]) {
        table::project(*self, table, x, out);
    }
}
