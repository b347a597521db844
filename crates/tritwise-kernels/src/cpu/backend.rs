//! [`Backend`] on this machine's CPU: each operation is a file of this folder.

use std::ops::Range;

use tritwise_tensor::{Activation, Config, DenseMatrix, Inputs, Rope, TernaryMatrix};

use crate::{Backend, HeadReads, Keep, PackError, PackedMatrix};

use super::{
    Cache, CpuBackend, Norm, Quantized, Rotary, Rounding, Rows, Table, attend, elementwise, gated, head, matmul, norm,
    quantize, rope,
};

impl Backend for CpuBackend {
    type Matrix = PackedMatrix;
    type Table = Table;
    type Norm = Norm;
    type Rows = Rows;
    type Quantized = Quantized;
    type Rotary = Rotary;
    type Cache = Cache;

    fn pack(&self, weights: &TernaryMatrix<'_>) -> Result<PackedMatrix, PackError> {
        if self.in_place {
            return PackedMatrix::in_place(weights, self.isa.layouts());
        }
        let packed = PackedMatrix::pack(weights, self.layout, &self.pool, &self.arena);
        weights.bytes().release(0..weights.bytes().len());
        Ok(packed)
    }

    fn table(&self, weights: &DenseMatrix<'_>) -> Table {
        Table::new(weights, self.in_place, &self.pool)
    }

    fn head(&self, weights: &DenseMatrix<'_>, tied: bool) -> Table {
        Table::head(self.isa, &self.pool, self.head, weights, tied, self.in_place)
    }

    fn matrix_bytes(&self, matrix: &PackedMatrix) -> usize {
        matrix.bytes()
    }

    fn table_bytes(&self, table: &Table) -> usize {
        table.bytes()
    }

    fn logits_bytes(&self, table: &Table) -> usize {
        table.logits_bytes()
    }

    fn cache_bytes(&self, config: &Config, capacity: usize) -> usize {
        Cache::bytes_for(config, capacity, self.kv)
    }

    fn norm(&self, weight: &[f32], eps: f32) -> Norm {
        Norm::new(weight, eps)
    }

    fn rows(&self, width: usize) -> Rows {
        Rows::new(width)
    }

    fn quantized(&self, width: usize, inputs: Inputs) -> Quantized {
        let rounding = match inputs {
            Inputs::Int8 => Rounding::Int8,
            Inputs::Float if self.exact_inputs => Rounding::Float,
            Inputs::Float => Rounding::Int16,
        };
        Quantized::new(width, rounding)
    }

    fn rotary(&self, rope: &Rope, head_dim: usize, context: usize) -> Rotary {
        Rotary::new(rope, head_dim, context)
    }

    fn cache(&self, config: &Config, capacity: usize) -> Cache {
        Cache::new(config, capacity, self.kv)
    }

    fn fork(&self, cache: &Cache, positions: usize) -> Cache {
        cache.fork(positions)
    }

    fn record_bytes(&self, cache: &Cache) -> usize {
        cache.record_bytes()
    }

    fn read_record(&self, cache: &Cache, position: usize, record: &mut [u8]) {
        cache.read_record(position, record);
    }

    fn write_record(&self, cache: &mut Cache, position: usize, record: &[u8]) -> bool {
        cache.write_record(position, record)
    }

    fn embed(&self, table: &Table, tokens: &[u32], scale: f32, out: &mut Rows) {
        head::embed(self.isa, table, tokens, scale, out);
    }

    fn normalize(&self, x: &Rows, norm: &Norm, out: &mut Rows) {
        norm::normalize(self.isa, self.pool(x.tokens()), x, norm, out);
    }

    fn quantize(&self, x: &Rows, norm: Option<&Norm>, out: &mut Quantized) {
        quantize::quantize(self.isa, self.pool(x.tokens()), x, norm, out);
    }

    fn matmul(&self, x: &Quantized, weights: &[&PackedMatrix], outs: &mut [&mut Rows]) {
        matmul::matmul(self.isa, self.pool(x.tokens()), x, weights, outs);
    }

    fn gated_matmul(
        &self,
        x: &Quantized,
        gate_up: [&PackedMatrix; 2],
        activation: Activation,
        out: &mut Rows,
        scratch: &mut Rows,
    ) {
        if let Some(gate_up) = gated::gated(x, gate_up) {
            return gated::gated_matmul(self.isa, self.pool(x.tokens()), x, gate_up, activation, out);
        }
        self.matmul(x, &gate_up, &mut [&mut *out, &mut *scratch]);
        self.gate(activation, out, scratch);
    }

    fn rope(&self, x: &mut Rows, rows: Range<usize>, start: usize, rotary: &Rotary) {
        rope::rope(self.isa, self.pool(x.tokens()), x, rows, start, rotary);
    }

    fn attend(
        &self,
        layer: usize,
        cache: &mut Cache,
        start: usize,
        window: usize,
        rows: Range<usize>,
        q: &Rows,
        k: &Rows,
        v: &Rows,
        out: &mut Rows,
    ) {
        attend::attend(self.isa, self.pool(q.tokens()), layer, cache, start, window, rows, q, k, v, out);
    }

    fn gate(&self, activation: Activation, gate: &mut Rows, up: &Rows) {
        elementwise::gate(self.isa, self.pool(up.tokens()), activation, gate, up);
    }

    fn add(&self, x: &mut Rows, y: &Rows) {
        elementwise::add(self.isa, self.pool(y.tokens()), x, y);
    }

    fn hidden(&self, x: &Rows, rows: &[usize], norm: &Norm, out: &mut [f32]) {
        norm::hidden(self.isa, x, rows, norm, out);
    }

    fn logits(&self, x: &Rows, rows: &[usize], norm: &Norm, table: &Table, out: &mut [f32]) {
        head::logits(self.isa, self.pool(x.tokens()), &self.head_input, x, rows, norm, table, out);
    }

    fn top_logits(
        &self,
        x: &Rows,
        rows: &[usize],
        norm: &Norm,
        table: &Table,
        keeps: &[Keep<'_>],
        out: &mut [f32],
    ) -> HeadReads {
        head::top_logits(self.isa, self.pool(x.tokens()), &self.head_input, x, rows, norm, table, keeps, out)
    }
}
