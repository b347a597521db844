//! Floating-point operations of the scalar reference.

use tritwise_tensor::{Activation, RopeStyle};

use super::Scalar;
use crate::arch::generic::{attend, elementwise, exp, norm, rotate, sketch, table};
use crate::arch::{Angles, FloatOps, Halves, KvHead, NormWeight, Queries, RowSketch, Singles, TableRows};

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

    fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        elementwise::gate(*self, activation, gate, up);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        elementwise::add(*self, x, y);
    }

    fn rotate(&self, style: RopeStyle, angles: Angles<'_>, heads: &mut [f32]) {
        rotate::rotate(*self, style, angles, heads);
    }

    fn store_key(&self, key: &[f32], slot: usize, block: &mut [Halves]) {
        attend::store_key(*self, key, slot, block);
    }

    fn store_value(&self, value: &[f32], out: &mut [Halves]) {
        attend::store_value(*self, value, out);
    }

    fn attend(&self, past: KvHead<'_>, queries: Queries<'_>, out: &mut [f32]) {
        attend::attend(*self, past, queries, out);
    }

    fn sketch(&self, row: &[f32], codes: &mut [u8], steps: &mut [u8]) -> RowSketch {
        sketch::sketch(*self, row, codes, steps)
    }

    fn store_key_f32(&self, key: &[f32], slot: usize, block: &mut [Singles]) {
        attend::store_key(*self, key, slot, block);
    }

    fn store_value_f32(&self, value: &[f32], out: &mut [Singles]) {
        attend::store_value(*self, value, out);
    }

    fn attend_chunk(&self, past: KvHead<'_>, queries: Queries<'_>, chunk: usize, part: &mut [f32]) {
        attend::attend_chunk(*self, past, queries, chunk, part);
    }

    fn join_chunks(&self, parts: &[f32], heads: usize, out: &mut [f32]) {
        attend::join_chunks(*self, parts, heads, out);
    }

    fn attend_f32(&self, past: KvHead<'_, Singles>, queries: Queries<'_>, out: &mut [f32]) {
        attend::attend(*self, past, queries, out);
    }

    fn decode(&self, row: TableRows<'_>, out: &mut [f32]) {
        table::decode(*self, row, out);
    }

    fn project(&self, table: TableRows<'_>, x: &[f32], out: &mut [f32]) {
        table::project(*self, table, x, out);
    }
}
